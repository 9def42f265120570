"""Say what the observed lines do that costs memory or changes an input."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from copycost.studies.explain.observe import OUTPUTS, WRITERS, Observation, Seen, Use, Written

#: Dtypes that results become when a float64 is among the operands.
_DOUBLE = ("float64", "complex128")

#: Functions that copy if the layout of their argument does not suit them.
_LAYOUT = ("ascontiguousarray", "asfortranarray", "reshape", "ravel", "require", "contiguous", "view")

#: Libraries whose arrays can be written to.
_MUTABLE = ("numpy", "cupy", "torch")

#: Names of libraries for people.
_LIBRARIES = {"numpy": "NumPy", "tensorflow": "TensorFlow", "torch": "PyTorch", "jax": "JAX", "cupy": "CuPy"}


#: End of the text of a change of an argument.
GIVEN = ", which the caller has given"


class Kind(StrEnum):
    """Kind of a finding.

    Attributes
    ----------
    COPY
        An array is copied as it is.
    CAST
        An array is copied into another dtype, or into the dtype that it has.
    FLOAT64
        A result has float64, although an operand has a smaller dtype.
    TEMPORARY
        A new array where an existing one could hold the result.
    LAYOUT
        A copy because an array is not contiguous.
    CONVERSION
        An array of one library becomes one of another library.
    TRANSFER
        An array goes from the host's memory to a device's, or back.
    CHANGE
        An array that the function was given, or that a variable names, is changed.
    RETRACE
        A `tf.function` is traced again.
    """

    COPY = "copy"
    CAST = "cast"
    FLOAT64 = "float64"
    TEMPORARY = "temporary"
    LAYOUT = "layout"
    CONVERSION = "conversion"
    TRANSFER = "transfer"
    CHANGE = "change"
    RETRACE = "retrace"


@dataclass(frozen=True)
class Finding:
    """What a line does.

    Attributes
    ----------
    line : int
        Number of the line, from 1.
    kind : Kind
    text : str
    nbytes : int
        Bytes of the array that the line makes; 0 if it makes none.
    times : int
        Number of times that it does so.
    node : int
        Number of the expression or statement.
    """

    line: int
    kind: Kind
    text: str
    nbytes: int
    times: int
    node: int


def find(observation: Observation, requests: Mapping[int, int]) -> list[Finding]:
    """Return the findings in the order of the lines.

    Parameters
    ----------
    observation : Observation
    requests : mapping of int to int
        Number of requests by line, of the size of the line's largest result or larger, where the line makes one.
    """
    found: list[Finding] = []
    for number, use in observation.uses.items():
        node = observation.nodes[number]
        assert isinstance(node, ast.expr)
        found += [
            Finding(node.lineno, kind, text, nbytes, 1 if kind == Kind.RETRACE else use.times, number)
            for kind, text, nbytes in _of(node, use, observation)
        ]
    found += _temporaries(observation, requests)
    found += _changes(observation)
    return sorted(dict.fromkeys(found), key=lambda finding: (finding.line, finding.node))


def _of(node: ast.expr, use: Use, observation: Observation) -> Iterator[tuple[Kind, str, int]]:
    """Yield kind, text and bytes of what an expression does."""
    if use.traced is not None:
        before, after = use.traced
        if after - before > (0 if observation.is_warm else 1):
            times = f"{after - before} times in {use.times} calls" if use.times > 1 else "again"
            yield Kind.RETRACE, f"{_source(node)} is traced {times}: a new Python value or shape is traced anew", 0
    result = use.result
    if result is None or not isinstance(node, ast.Call | ast.BinOp | ast.Compare):
        return
    arrays = [seen for _, seen in use.operands]
    name = _called(node)
    source = next((seen for position, seen in use.operands if position in (-1, 0)), None)
    elsewhere = [seen for seen in arrays if (seen.library, seen.place) != (result.library, result.place)]
    if elsewhere and len(elsewhere) == len(arrays):
        yield from _conversion(elsewhere[0], result, use)
    elif name == "astype" or (name in ("array", "asarray") and source is not None and source.dtype != result.dtype):
        yield from _cast(source, result, use)
    elif use.is_fresh and source is not None and source.dtype == result.dtype and source.nbytes == result.nbytes:
        if name in ("copy", "array", "clone", "deepcopy"):
            yield Kind.COPY, f"copies {_source(_operand(node))}", result.nbytes
        elif name == "flatten":
            yield Kind.COPY, "flatten always copies, and ravel only where it must", result.nbytes
        elif name in _LAYOUT and not source.contiguous:
            yield Kind.LAYOUT, _why_not_contiguous(node, source, observation), result.nbytes
    if name != "astype" and result.dtype in _DOUBLE and use.is_fresh and arrays:
        yield from _double(node, use, result)


def _conversion(source: Seen, result: Seen, use: Use) -> Iterator[tuple[Kind, str, int]]:
    copied = result.nbytes if use.is_fresh else 0
    if source.place != result.place:
        to = "the device" if result.place == "gpu" else "the host"
        yield Kind.TRANSFER, f"copies to {to}", copied
    elif source.library != result.library:
        how = "a copy" if copied else "which shares its memory"
        yield Kind.CONVERSION, f"makes an array of {_LIBRARIES[result.library]}, {how}", copied


def _cast(source: Seen | None, result: Seen, use: Use) -> Iterator[tuple[Kind, str, int]]:
    if source is None or not use.is_fresh:
        return
    if source.dtype == result.dtype:
        yield Kind.CAST, f"copies an array that has {result.dtype} already", result.nbytes
    elif result.dtype in _DOUBLE:
        yield Kind.FLOAT64, f"converts {source.dtype} to {result.dtype}", result.nbytes
    else:
        yield Kind.CAST, f"converts {source.dtype} to {result.dtype}", result.nbytes


def _double(node: ast.expr, use: Use, result: Seen) -> Iterator[tuple[Kind, str, int]]:
    """Yield that a result has float64 although an operand of its size has a smaller dtype."""
    smaller = [seen for _, seen in use.operands if seen.dtype not in _DOUBLE and seen.nbytes * 8 >= result.nbytes]
    if not smaller:
        return
    double = [(position, seen) for position, seen in use.operands if seen.dtype in _DOUBLE]
    if double and isinstance(node, ast.BinOp) and double[0][0] is not None:
        cause = f"{_source((node.left, node.right)[double[0][0]])} has float64"
    elif double:
        cause = "an argument has float64"
    else:
        cause = f"an operation of {smaller[0].dtype} gives float64"
    yield Kind.FLOAT64, f"becomes float64: {cause}", result.nbytes


def _why_not_contiguous(node: ast.expr, source: Seen, observation: Observation) -> str:
    """Return that a copy is made because of a layout, and the line that has made the layout."""
    numbers = [
        (use.number, observation.nodes[number])
        for number, use in observation.uses.items()
        if use.result is not None and use.result == source and observation.nodes[number] is not node
    ]
    if not numbers:
        return "copies, because the array is not contiguous"
    _, maker = max(numbers, key=lambda pair: pair[0])
    assert isinstance(maker, ast.expr)
    return f"copies, because {_source(maker)} of line {maker.lineno} is not contiguous"


def _temporaries(observation: Observation, requests: Mapping[int, int]) -> Iterator[Finding]:
    """Yield results that an array of the same shape and dtype could hold, which nothing needs any more."""
    by_node = {id(node): number for number, node in observation.nodes.items()}
    for number, use in observation.uses.items():
        node, result = observation.nodes[number], use.result
        if not isinstance(node, ast.BinOp) or result is None or not use.is_fresh:
            continue
        for side in (node.left, node.right):
            inner = observation.uses.get(by_node.get(id(side), -1))
            if (
                isinstance(side, ast.BinOp | ast.Call)
                and inner is not None
                and inner.result is not None
                and inner.is_fresh
                and _alike(inner.result, result)
                and requests.get(node.lineno, 0) > use.times
            ):
                text = f"a second array of this size beside {_source(side)}, which is not needed any more"
                yield Finding(node.lineno, Kind.TEMPORARY, text, result.nbytes, use.times, number)
                break


def is_overwritable(statement: ast.stmt, observation: Observation) -> bool:
    """Return whether a statement is ``y = y ∘ e`` or ``y[:] = y ∘ e``, where the operation could write to y.

    The first form must not if y is a parameter's memory, which it leaves as it was.
    """
    by_node = {id(node): number for number, node in observation.nodes.items()}
    if not (
        isinstance(statement, ast.Assign)
        and len(statement.targets) == 1
        and (name := _overwritten(statement.targets[0]))
        and isinstance(value := statement.value, ast.BinOp)
        and not isinstance(value.op, ast.MatMult)  # PyTorch has no such operation in place
        and isinstance(value.left, ast.Name)
        and value.left.id == name
    ):
        return False
    use = observation.uses.get(by_node.get(id(value), -1))
    if use is None or use.result is None or not use.is_fresh:
        return False
    left = next((seen for position, seen in use.operands if position == 0), None)
    if left is None or not _alike(left, use.result):
        return False
    return isinstance(statement.targets[0], ast.Subscript) or not _of_parameter(left, observation)


def _overwritten(place: ast.expr) -> str:
    """Return the name of the array in ``y``, ``y[:]`` or ``y[...]``, or an empty text for any other place."""
    if isinstance(place, ast.Subscript):
        part = place.slice
        is_whole = isinstance(part, ast.Slice) and part.lower is part.upper is part.step is None
        if not is_whole and not (isinstance(part, ast.Constant) and part.value is Ellipsis):
            return ""
        place = place.value
    return place.id if isinstance(place, ast.Name) else ""


def _alike(a: Seen, b: Seen) -> bool:
    """Return whether one array could hold the values of the other one."""
    alike = (a.library, a.place, a.dtype, a.shape) == (b.library, b.place, b.dtype, b.shape)
    return alike and a.library in _MUTABLE


def overwritable(tree: ast.AST, observation: Observation) -> Iterator[Finding]:
    """Yield the statements of `is_overwritable`."""
    by_node = {id(node): number for number, node in observation.nodes.items()}
    for statement in ast.walk(tree):
        if isinstance(statement, ast.Assign) and is_overwritable(statement, observation):
            number = by_node[id(statement.value)]
            use = observation.uses[number]
            assert use.result is not None
            name = _overwritten(statement.targets[0])
            text = f"makes a new array where {name} could be written over"
            yield Finding(statement.lineno, Kind.TEMPORARY, text, use.result.nbytes, use.times, number)


def _of_parameter(seen: Seen, observation: Observation) -> bool:
    return any(seen.overlaps(parameter) for parameter in observation.parameters.values())


def _changes(observation: Observation) -> Iterator[Finding]:
    """Yield the lines that write to an array that the function was given, or pass an array to code that changes it."""
    found = list(_writes(observation))
    yield from found
    named = {finding.text.partition("writes to ")[2].partition(",")[0] for finding in found}
    for number, changed in observation.written.items():
        node = observation.nodes[number]
        assert isinstance(node, ast.expr)
        for written in changed:
            parameters = _overlapping(written.seen, observation)
            if written.is_observed and named.intersection(parameters):
                continue  # its own line is listed
            names = [f"{name}{GIVEN}" for name in parameters]
            for name in names or _variables(node, written, observation):
                text = f"{_called(node) or _source(node)} writes to {name}"
                yield Finding(node.lineno, Kind.CHANGE, text, 0, observation.uses[number].times, number)


def _variables(node: ast.expr, written: Written, observation: Observation) -> list[str]:
    """Return the variables whose array a call has changed. There are none if it was made for the call.

    The variable may be the argument, in a list or dict that is, or a view of it may be: ``f(np.expand_dims(x, 0))``.
    """
    argument = _argument(node, written.place)
    if isinstance(argument, ast.List | ast.Tuple) and (index := re.match(r"\[(\d+)\]", written.path)):
        argument = argument.elts[int(index[1])] if int(index[1]) < len(argument.elts) else None
    elif isinstance(argument, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in argument.keys]
        argument = argument.values[keys.index(written.path)] if written.path in keys else None
    if argument is None:
        return []
    if _is_variable(argument):
        return [_source(argument)]
    by_node = {id(known): number for number, known in observation.nodes.items()}
    names: dict[str, None] = {}
    for part in ast.walk(argument):
        use = observation.uses.get(by_node.get(id(part), -1))
        if use is None or not isinstance(part, ast.Call):
            continue
        for position, seen in use.operands:
            source = _argument(part, position) if position is not None else None
            if source is not None and seen.overlaps(written.seen) and _is_variable(source):
                names[_source(source)] = None
    return list(names)


def _argument(node: ast.expr, place: int | str) -> ast.expr | None:
    """Return an argument of a call by its position (−1 for the object of a method) or name, if the source shows it."""
    if not isinstance(node, ast.Call):
        return None
    if place == -1:
        return node.func.value if isinstance(node.func, ast.Attribute) else None
    if isinstance(place, str):
        return next((word.value for word in node.keywords if word.arg == place), None)
    if place >= len(node.args) or any(isinstance(one, ast.Starred) for one in node.args):
        return None
    return node.args[place]


def _is_variable(node: ast.expr) -> bool:
    """Return whether an expression is a name, or an attribute or item of one."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return isinstance(node, ast.Name)


def _writes(observation: Observation) -> Iterator[Finding]:
    """Yield the lines that write to an array that the function was given."""
    for number, seen in observation.stores.items():
        node = observation.nodes[number]
        assert isinstance(node, ast.stmt)
        for name in _overlapping(seen, observation):
            yield Finding(node.lineno, Kind.CHANGE, f"writes to {name}{GIVEN}", 0, 1, number)
    for number, use in observation.uses.items():
        node = observation.nodes[number]
        assert isinstance(node, ast.expr)
        targets = list(use.out)
        if _called(node) in WRITERS:
            targets += [seen for position, seen in use.operands if position in (-1, 0)][:1]
        elif _called(node).endswith("_") and not _called(node).startswith("_"):  # PyTorch's names
            targets += [seen for position, seen in use.operands if position == -1]
        for name in dict.fromkeys(name for seen in targets for name in _overlapping(seen, observation)):
            if name.partition("[")[0].partition(".")[0] not in OUTPUTS:
                text = f"writes to {name}{GIVEN}"
                yield Finding(node.lineno, Kind.CHANGE, text, 0, use.times, number)


def _overlapping(seen: Seen, observation: Observation) -> list[str]:
    return [name for name, parameter in observation.parameters.items() if seen.overlaps(parameter)]


def _called(node: ast.AST) -> str:
    """Return the last part of the name of a called function: ``astype``."""
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _operand(node: ast.expr) -> ast.expr:
    """Return the first argument of a function, or the object of a method."""
    assert isinstance(node, ast.Call)
    if node.args:
        return node.args[0]
    return node.func.value if isinstance(node.func, ast.Attribute) else node


def _source(node: ast.AST) -> str:
    """Return the source of an expression, shortened."""
    text = ast.unparse(node)
    return text if len(text) <= 40 else text[:39] + "…"
