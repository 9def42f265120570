"""Observe a target, find what its lines cost, and propose rewrites that are proven."""

from __future__ import annotations

import ast
import importlib
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np

from copycost.studies.explain import proof, rewrites, target
from copycost.studies.explain.findings import GIVEN, Finding, Kind, find, overwritable
from copycost.studies.explain.observe import Observation, Recorder, instrument, see
from copycost.studies.explain.proof import Proof
from copycost.studies.explain.rewrites import Rewrite
from copycost.studies.explain.target import Target, TargetError
from copycost_meter.arrays import found_arrays, library_of, parameters_of, with_copies
from copycost_meter.call_count import CallCount
from copycost_meter.counting import count, count_once
from copycost_meter.errors import describe

#: Library → its function that compiles another one, and the decorator that does so.
_COMPILERS = {"tensorflow": ("function", "tf.function"), "jax": ("jit", "jax.jit"), "cupy": ("fuse", "cupy.fuse()")}

#: Number of operations of a library from which on a compiled function is proposed.
_UNCOMPILED = 2

Arguments = tuple[tuple[Any, ...], Mapping[str, Any]]


@dataclass(frozen=True)
class Line:
    """Requests of one line.

    Attributes
    ----------
    number : int
    text : str
    requests : int
        Number of requests of 4,096 bytes and more.
    nbytes : int
    """

    number: int
    text: str
    requests: int
    nbytes: int


@dataclass(frozen=True)
class Proposal:
    """A rewrite that is proven.

    Attributes
    ----------
    line : int
    before, after : str
        Source of the statement.
    proof : Proof
    """

    line: int
    before: str
    after: str
    proof: Proof


@dataclass(frozen=True)
class Explanation:
    """What a target costs, line by line.

    Attributes
    ----------
    name, path : str
        Name for people, and path of the file.
    arguments : dict of str to str
        Arrays that the function was given: name → shape and dtype.
    count : CallCount
    lines : tuple of Line
        Lines of the target's file that request memory.
    elsewhere : tuple of (str, int, int)
        Lines of other files: label, number of requests and bytes, the largest first.
    findings : tuple of Finding
    proposals : tuple of Proposal
    together : Proof or None
        Proof of all proposed rewrites of lines together. None if there are fewer than two, or if it fails.
    rejected : int
        Number of rewrites that were tried and not proven.
    """

    name: str
    path: str
    arguments: dict[str, str]
    count: CallCount
    lines: tuple[Line, ...]
    elsewhere: tuple[tuple[str, int, int], ...]
    findings: tuple[Finding, ...]
    proposals: tuple[Proposal, ...]
    together: Proof | None
    rejected: int


def explain(chosen: Target, inputs: Sequence[Arguments] = (((), {}),)) -> Explanation:
    """Explain a target.

    Parameters
    ----------
    chosen : Target
    inputs : sequence of (tuple, mapping)
        Arguments of the function, several times with other values: the first are observed and measured, and a rewrite
        is proven on all.

    Raises
    ------
    TargetError
        If the target raises.
    """
    args, kwargs = inputs[0]
    why_not_observed = None
    try:
        observation = _observed(chosen, args, kwargs)  # first, so that what a script imports is not counted
    except (Exception, SystemExit) as error:
        why_not_observed = describe(error)
    try:
        original = target.function_of(chosen)
        counted = _counted(chosen, original, args, kwargs)
    except (Exception, SystemExit) as error:
        raise TargetError(f"{chosen.name} {describe(error)}") from None
    if why_not_observed is not None:
        raise TargetError(f"{chosen.name} cannot be observed: it then {why_not_observed}")
    lines = _lines(chosen, counted)
    scope = chosen.definition() or chosen.tree
    findings = find(observation, _requests(chosen, counted, observation))
    findings = sorted([*findings, *overwritable(scope, observation)], key=lambda finding: finding.line)
    if chosen.function is not None:  # what a line may write to, and what has changed
        findings = [
            f
            for f in findings
            if f.kind != Kind.CHANGE
            or not f.text.endswith(GIVEN)
            or any(f"to {name}{GIVEN}" in f.text for name in counted.changed)
        ]
    findings += [
        Finding(0, Kind.CHANGE, f"changes {name}, in a line that is not recognized", 0, 1, -1)
        for name in counted.changed
        if not any(f.kind == Kind.CHANGE and f"writes to {name}," in f.text for f in findings)
    ]
    proposals, together, rejected = _proven(chosen, original, scope, observation, findings, inputs)
    arguments = {name: _described(array) for name, array in found_arrays(_parameters(original, args, kwargs)).items()}
    return Explanation(
        chosen.name,
        str(chosen.path),
        arguments,
        counted,
        lines,
        _elsewhere(chosen, counted),
        tuple(findings),
        proposals,
        together,
        rejected,
    )


def made_input(shape: Sequence[int], dtype: str, seed: int = 0) -> np.ndarray:
    """Return an array of values: by turns pixels from 0 to 255, the same with fractions, and values of both signs.

    Integers have no fractions: their second array has values from the whole range of the dtype.
    """
    random, kind = np.random.default_rng(seed), np.dtype(dtype)
    if seed % 3 == 0 or kind == np.uint8:
        return random.integers(0, 256, tuple(shape), np.uint8).astype(dtype)
    if kind.kind == "f":
        return (random.uniform(0, 255, tuple(shape)) if seed % 3 == 1 else random.normal(0, 100, tuple(shape))).astype(
            dtype
        )
    limits = np.iinfo(kind)
    low, high = (limits.min, limits.max) if seed % 3 == 1 else (-1000, 1000)
    return random.integers(low, high, tuple(shape), kind, endpoint=True)


def _counted(
    chosen: Target, original: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> CallCount:
    if chosen.function is None:  # a script may write files, so that it runs as seldom as possible
        return count_once(chosen.name, original, {})[1]
    return count(original, *args, **kwargs)


def _observed(chosen: Target, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Observation:
    """Run the target observed: a function twice, of which the second call is noted."""
    recorder = Recorder()
    recorder.is_on = chosen.function is None
    function = target.function_of(chosen, instrument(chosen.tree, recorder), recorder.names())
    if chosen.function is not None:
        warm: dict[int, Any] = {}
        function(*with_copies(args, warm), **with_copies(dict(kwargs), warm))
        recorder.is_on = recorder.observation.is_warm = True
    copies: dict[int, Any] = {}
    own_args, own_kwargs = with_copies(args, copies), with_copies(dict(kwargs), copies)
    arrays = found_arrays(_parameters(function, own_args, own_kwargs))
    recorder.observation.parameters.update(
        {name: seen for name, array in arrays.items() if (seen := see(array)) is not None}
    )
    function(*own_args, **own_kwargs)
    return recorder.observation


def _parameters(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return parameters_of(getattr(function, "python_function", function), args, kwargs)


def _line_of(chosen: Target, label: str, *, is_direct: bool = False) -> int | None:
    """Return the number of the line of the target's file that a label names, or None for another file.

    Parameters
    ----------
    chosen : Target
    label : str
    is_direct : bool, optional
        Whether requests that a library has made for the line are left out.
    """
    match = re.search(r"\(([^():]+):(\d+)(, in [^()]+)?\)$", label)
    if match is None or match[1] != chosen.path.name or (is_direct and match[3]):
        return None
    number = int(match[2])
    # Another file may have the same name.
    return number if label.startswith(target.line(chosen, number)) else None


def _lines(chosen: Target, counted: CallCount) -> tuple[Line, ...]:
    requests: Counter[int] = Counter()
    nbytes: Counter[int] = Counter()
    for size, label in counted.lines:
        if (number := _line_of(chosen, label)) is not None:
            requests[number] += 1
            nbytes[number] += size
    return tuple(Line(n, target.line(chosen, n), requests[n], nbytes[n]) for n in sorted(requests))


def _elsewhere(chosen: Target, counted: CallCount) -> tuple[tuple[str, int, int], ...]:
    requests: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for size, label in counted.lines:
        if _line_of(chosen, label) is None:
            requests[label] += 1
            nbytes[label] += size
    return tuple((label, requests[label], size) for label, size in nbytes.most_common())


def _requests(chosen: Target, counted: CallCount, observation: Observation) -> dict[int, int]:
    """Return the number of requests by line that are as large as the line's largest result."""
    largest: dict[int, int] = {}
    for number, use in observation.uses.items():
        if use.result is not None:
            line = observation.nodes[number].lineno  # type: ignore[attr-defined]
            largest[line] = max(largest.get(line, 0), use.result.nbytes)
    found: Counter[int] = Counter()
    for size, label in counted.lines:
        line_number = _line_of(chosen, label, is_direct=True)
        if line_number is not None and size >= largest.get(line_number, 0) > 0:
            found[line_number] += 1
    return dict(found)


def _proven(
    chosen: Target,
    original: Callable[..., Any],
    scope: ast.AST,
    observation: Observation,
    findings: Sequence[Finding],
    inputs: Sequence[Arguments],
) -> tuple[tuple[Proposal, ...], Proof | None, int]:
    """Return the rewrites that are proven, each alone, the proof of all together, and the number of the others."""
    if chosen.function is None:
        return (), None, 0
    proven: list[tuple[Rewrite, Proof]] = []
    rejected = 0
    try:
        candidates = rewrites.propose(scope, observation, findings, rewrites.numpy_name(chosen.tree))
    except Exception:  # a rule that does not expect an expression must not hide the findings
        candidates = []
    for candidate in candidates:
        found = _try(chosen, original, [candidate], inputs)
        if found.reason is None:
            proven.append((candidate, found))
        else:
            rejected += 1
    proposals = [Proposal(one.line, ast.unparse(one.statement), one.text, found) for one, found in proven]
    # Of several rewrites of one statement, the one that requests least.
    best: dict[int, tuple[Rewrite, Proof]] = {}
    for one, found in proven:
        known = best.get(id(one.statement))
        if known is None or (found.bytes_after or 0) < (known[1].bytes_after or 0):
            best[id(one.statement)] = one, found
    together = None
    if len(best) > 1:
        together = _try(chosen, original, [one for one, _ in best.values()], inputs)
    compiled = _compiled(chosen, original, observation, inputs)
    if compiled is not None:
        proposals.append(compiled)
    return tuple(proposals), together if together is not None and together.reason is None else None, rejected


def _try(
    chosen: Target, original: Callable[..., Any], candidates: Sequence[Rewrite], inputs: Sequence[Arguments]
) -> Proof:
    try:
        rewritten = target.function_of(chosen, rewrites.applied(chosen.tree, candidates))
    except Exception as error:
        return Proof(describe(error))
    return proof.prove(original, rewritten, inputs)


def _compiled(
    chosen: Target, original: Callable[..., Any], observation: Observation, inputs: Sequence[Arguments]
) -> Proposal | None:
    """Return the proposal of a compiled function in the place of one that runs operation by operation."""
    args, kwargs = inputs[0]
    libraries = {library_of(array) for array in found_arrays({"args": args, "kwargs": dict(kwargs)}).values()}
    name = libraries.pop() if len(libraries) == 1 else ""
    operations = [use for use in observation.uses.values() if use.result and use.result.library == name]
    definition = chosen.definition()
    assert definition is not None
    if rewrites.has_effects(definition):  # a compiled function has them when it is traced only
        return None
    if name not in _COMPILERS or len(operations) < _UNCOMPILED or not isinstance(original, FunctionType):
        return None
    compiler, decorator = _COMPILERS[name]
    try:
        compiled = getattr(importlib.import_module(name), compiler)(original)
    except Exception:  # the compiler refuses the function
        return None
    found = proof.prove(original, compiled, inputs)
    if found.reason is not None:
        return None
    head = f"def {definition.name}({ast.unparse(definition.args)}):"
    return Proposal(definition.lineno, head, f"@{decorator}\n{head}", found)


def _described(array: Any) -> str:
    seen = see(array)
    if seen is None:
        return type(array).__name__
    shape = "×".join(map(str, seen.shape))
    return f"{shape} {seen.dtype}"
