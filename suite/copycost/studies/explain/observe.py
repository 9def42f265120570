"""Run a target with every expression observed: which arrays go in, which come out, and whose memory they have.

The syntax tree is rewritten so that calls, operators, subscripts and assignments go through functions that note what
they see. Calls of functions that are known to look at their caller's frame are left alone.
"""

from __future__ import annotations

import ast
import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost_meter.arrays import digest_of, found_arrays, library_of, nbytes_of, place_of

#: Names of the functions through which the observed code goes.
_CALL, _METHOD, _BINARY, _SEEN, _STORE = (
    "_copycost_call", "_copycost_method", "_copycost_binary", "_copycost_seen", "_copycost_store",
)  # fmt: skip

#: Functions and methods that look at the frame that calls them, or at the number of references to an array.
_FRAMES = {
    "super", "locals", "globals", "vars", "dir", "eval", "exec", "compile", "breakpoint", "__import__", "input",
    "evaluate", "query", "_getframe", "currentframe", "resize",
}  # fmt: skip

_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow, ast.MatMult: operator.matmul,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip

#: Functions and methods of libraries of arrays that say that they write to their object or first argument.
WRITERS = (
    "copyto", "put", "place", "putmask", "put_along_axis", "fill_diagonal", "shuffle", "fill", "sort", "partition",
    "at",
)  # fmt: skip

#: Names of the arguments to which a function is asked to write.
OUTPUTS = ("out", "output", "dst")

#: Number of evaluations of a call in which the arguments are compared with what they were before it.
_COMPARED = 3

#: Attributes whose value may be another array.
_VIEWS = {"T", "mT", "real", "imag", "flat", "values", "data"}


@dataclass(frozen=True)
class Seen:
    """An array, as it was seen.

    Attributes
    ----------
    library, dtype : str
    shape : tuple of int
    nbytes : int
    contiguous : bool
    extent : tuple of int or None
        First and last address + 1 of its memory, if it is known.
    place : str
        ``"cpu"`` or ``"gpu"``.
    """

    library: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    contiguous: bool
    extent: tuple[int, int] | None
    place: str

    def overlaps(self, other: Seen) -> bool:
        """Return whether two arrays have memory in common."""
        a, b = self.extent, other.extent
        return a is not None and b is not None and self.place == other.place and a[0] < b[1] and b[0] < a[1]


@dataclass
class Use:
    """What an expression has done.

    Attributes
    ----------
    operands : tuple of (int or None, Seen)
        Arrays that went in: the position of the argument (−1 for the object of a method), or None for one deeper.
    result : Seen or None
    out : tuple of Seen
        Arrays of the argument ``out``.
    times : int
        Number of times that the expression was evaluated.
    traced : tuple of int or None
        Number of traces of a ``tf.function`` before its first call here and after its last one.
    number : int
        Order of the first evaluation.
    """

    operands: tuple[tuple[int | None, Seen], ...]
    result: Seen | None
    out: tuple[Seen, ...] = ()
    times: int = 1
    traced: tuple[int, int] | None = None
    number: int = 0

    @property
    def is_fresh(self) -> bool:
        """Whether the result has memory of its own."""
        result = self.result
        return result is not None and not any(result.overlaps(seen) for _, seen in (*self.operands, *_pairs(self.out)))


def _pairs(arrays: tuple[Seen, ...]) -> tuple[tuple[None, Seen], ...]:
    return tuple((None, seen) for seen in arrays)


@dataclass(frozen=True)
class Written:
    """An array that a call has changed.

    Attributes
    ----------
    place : int or str
        Position or name of the argument.
    path : str
        Place of the array in a container: ``[0]``, ``image``. Empty if it is the argument.
    seen : Seen
    is_observed : bool
        Whether the called function is one of the target's file, whose own lines are observed.
    """

    place: int | str
    path: str
    seen: Seen
    is_observed: bool


@dataclass
class Observation:
    """What a target has done.

    Attributes
    ----------
    nodes : dict
        Expression of the original tree, by its number.
    uses : dict
        What each evaluated expression has done, by its number.
    stores : dict
        Array that a statement writes to in place, by the statement's number.
    written : dict
        Arguments that a call has changed, by the call's number.
    parameters : dict
        Arrays that the function was given, by their names.
    is_warm : bool
        Whether the target had run before.
    """

    nodes: dict[int, ast.AST] = field(default_factory=dict)
    uses: dict[int, Use] = field(default_factory=dict)
    stores: dict[int, Seen] = field(default_factory=dict)
    written: dict[int, tuple[Written, ...]] = field(default_factory=dict)
    parameters: dict[str, Seen] = field(default_factory=dict)
    is_warm: bool = False


def see(value: Any) -> Seen | None:
    """Return what is seen of an array, or None for any other value, and for arrays without elements or axes."""
    name = library_of(value)
    if not name or not len(value.shape) or 0 in value.shape:
        return None
    runtime = discovery.runtime(name)
    try:
        extent, contiguous, place = runtime.extent(value), runtime.contiguous(value), place_of(value)
    except Exception:  # a symbolic tensor, or one that a call has consumed
        return None
    dtype = getattr(value.dtype, "name", None) or str(value.dtype).rpartition(".")[2]
    return Seen(name, dtype, tuple(map(int, value.shape)), nbytes_of(value), contiguous, extent, place)


class Recorder:
    """The functions through which observed code goes."""

    def __init__(self) -> None:
        self.observation = Observation()
        self.is_on = True
        self._number = 0

    def names(self) -> Mapping[str, Any]:
        """Return the functions by their names in the observed code."""
        return {
            _CALL: self.call, _METHOD: self.method, _BINARY: self.binary, _SEEN: self.seen, _STORE: self.store,
        }  # fmt: skip

    def call(self, node: int, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function."""
        return self._note(node, function, None, args, kwargs)

    def method(self, node: int, owner: Any, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Call a method of an object, or a function of a module."""
        return self._note(node, getattr(owner, name), owner, args, kwargs)

    def binary(self, node: int, symbol: str, left: Any, right: Any) -> Any:
        """Apply an operator."""
        function = next(f for kind, f in _OPERATORS.items() if kind.__name__ == symbol)
        return self._note(node, function, None, (left, right), {}, compares=False)

    def seen(self, node: int, value: Any) -> Any:
        """Note the value of an expression."""
        if self.is_on:
            self._add(node, Use((), see(value)))
        return value

    def store(self, node: int, array: Any) -> None:
        """Note an array that was written to."""
        if self.is_on and (array_seen := see(array)) is not None:
            self.observation.stores.setdefault(node, array_seen)

    def _note(
        self,
        node: int,
        function: Any,
        owner: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        compares: bool = True,
    ) -> Any:
        if not self.is_on:
            return function(*args, **kwargs)
        operands = tuple(_operands(owner, args, kwargs))
        out = [part for key in OUTPUTS for part in _as_list_of(kwargs.get(key))]
        outs = tuple(filter(None, map(see, out)))
        if isinstance(function, np.ufunc):
            outs += tuple(filter(None, map(see, args[function.nin :])))
        count = getattr(function, "experimental_get_tracing_count", None)
        before = count() if count is not None else 0
        known = self.observation.uses.get(node)
        compares = compares and (known is None or known.times < _COMPARED)
        values = _values_before(function, args, kwargs) if compares else []
        result = function(*args, **kwargs)
        traced = (before, count()) if count is not None else None
        changed = [
            written
            for written, array, was in values
            if _values(array) != was and not any(written.seen.overlaps(output) for output in outs)
        ]
        if changed:
            self.observation.written.setdefault(node, tuple(changed))
        self._add(node, Use(operands, see(result), outs, traced=traced))
        return result

    def _add(self, node: int, use: Use) -> None:
        known = self.observation.uses.get(node)
        if known is None:
            use.number = self._number = self._number + 1
            self.observation.uses[node] = use
            return
        known.times += 1
        if known.traced is not None and use.traced is not None:
            known.traced = known.traced[0], use.traced[1]


def _operands(owner: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[int | None, Seen]]:
    found: list[tuple[int | None, Seen]] = []
    if (seen := see(owner)) is not None:
        found.append((-1, seen))
    for position, value in enumerate(args):
        if (seen := see(value)) is not None:
            found.append((position, seen))
        elif isinstance(value, list | tuple):
            found += [(None, part) for part in map(see, found_arrays({"": value}).values()) if part is not None]
    found += [(None, part) for key, value in kwargs.items() if key not in OUTPUTS and (part := see(value)) is not None]
    return found


def _as_list_of(value: Any) -> list[Any]:
    return list(value) if isinstance(value, tuple) else [value]


def _values_before(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[Written, Any, bytes | None]]:
    """Return the arrays that a call has no reason to change, each with its values.

    An argument that is named as an output is left out, and a call of a function that is known to write.
    """
    name, module = getattr(function, "__name__", ""), getattr(function, "__module__", None)
    is_writer = name in WRITERS and (module is None or module.partition(".")[0] in ("numpy", "cupy", "torch", "random"))
    if isinstance(function, np.ufunc) or is_writer or (name.endswith("_") and not name.startswith("_")):
        return []
    is_observed = _CALL in getattr(function, "__globals__", {})
    places: list[tuple[int | str, Any]] = [*enumerate(args)]
    places += [(key, value) for key, value in kwargs.items() if key not in OUTPUTS]
    found: list[tuple[Written, Any, bytes | None]] = []
    for place, value in places:
        for path, array in found_arrays({"": value}).items():
            seen = see(array)
            if seen is not None and (values := _values(array)) is not None:
                found.append((Written(place, path, seen, is_observed), array, values))
    return found


def _values(array: Any) -> bytes | None:
    """Return a digest of the values of an array, or None if they cannot be read."""
    try:
        return digest_of(array)
    except Exception:  # a dtype that NumPy does not know, or an array that a call has consumed
        return None


def instrument(tree: ast.Module, recorder: Recorder) -> ast.Module:
    """Return a tree whose expressions go through the functions of a recorder; the original is unchanged."""
    instrumented = _Instrument(recorder.observation.nodes).visit(_copied(tree))
    return ast.fix_missing_locations(instrumented)


def _copied(tree: ast.Module) -> ast.Module:
    """Return a copy of a tree whose nodes know their originals."""
    copied = copy.deepcopy(tree)
    for node, original in zip(ast.walk(copied), ast.walk(tree), strict=True):
        node._original = original  # type: ignore[attr-defined]
    return copied


class _Instrument(ast.NodeTransformer):
    def __init__(self, nodes: dict[int, ast.AST]) -> None:
        self.nodes = nodes

    def _number(self, node: ast.AST) -> ast.Constant:
        number = len(self.nodes)
        self.nodes[number] = getattr(node, "_original", node)
        return ast.Constant(number)

    def _through(self, name: str, node: ast.AST, *arguments: ast.expr, keywords: Sequence[ast.keyword] = ()) -> Any:
        call = ast.Call(ast.Name(name, ast.Load()), [self._number(node), *arguments], list(keywords))
        return ast.copy_location(call, node)

    def visit_Call(self, node: ast.Call) -> Any:
        if (node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")) in _FRAMES:
            return node
        args: list[ast.expr] = [self.visit(arg) for arg in node.args]
        keywords = [ast.keyword(keyword.arg, self.visit(keyword.value)) for keyword in node.keywords]
        function = node.func
        if isinstance(function, ast.Attribute):
            if function.attr.startswith("__") and not function.attr.endswith("__"):  # the class changes its name
                return ast.copy_location(ast.Call(function, args, keywords), node)
            owner = self.visit(function.value)
            return self._through(_METHOD, node, owner, ast.Constant(function.attr), *args, keywords=keywords)
        return self._through(_CALL, node, self.visit(function), *args, keywords=keywords)

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        symbol = ast.Constant(type(node.op).__name__)
        return self._through(_BINARY, node, symbol, self.visit(node.left), self.visit(node.right))

    def visit_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) > 1 or type(node.ops[0]) not in _OPERATORS:
            return self.generic_visit(node)
        symbol = ast.Constant(type(node.ops[0]).__name__)
        return self._through(_BINARY, node, symbol, self.visit(node.left), self.visit(node.comparators[0]))

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        visited = self.generic_visit(node)
        return self._through(_SEEN, node, visited) if isinstance(node.ctx, ast.Load) else visited  # type: ignore[arg-type]

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        visited = self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load) or node.attr not in _VIEWS:
            return visited
        return self._through(_SEEN, node, visited)  # type: ignore[arg-type]

    def visit_AugAssign(self, node: ast.AugAssign) -> Any:
        node.value = self.visit(node.value)
        if isinstance(node.target, ast.Subscript):
            node.target.slice = self.visit(node.target.slice)
        return [node, *self._stored(node, node.target)]

    def visit_Assign(self, node: ast.Assign) -> Any:
        visited = self.generic_visit(node)
        places = [place for place in node.targets if isinstance(place, ast.Subscript)]
        return [visited, *(statement for place in places for statement in self._stored(node, place))]

    def _stored(self, node: ast.stmt, place: ast.expr) -> list[ast.stmt]:
        base = place
        while isinstance(base, ast.Subscript):
            base = base.value
        if not isinstance(base, ast.Name):
            return []
        call = self._through(_STORE, node, ast.Name(base.id, ast.Load()))
        return [ast.copy_location(ast.Expr(call), node)]

    def visit_AnnAssign(self, node: ast.AnnAssign) -> Any:
        if node.value is not None:
            node.value = self.visit(node.value)
        return node

    def visit_arg(self, node: ast.arg) -> Any:
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        node.body = [part for statement in node.body for part in _as_list(self.visit(statement))]
        return node

    def visit_match_case(self, node: ast.match_case) -> Any:
        node.body = [part for statement in node.body for part in _as_list(self.visit(statement))]
        return node


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
