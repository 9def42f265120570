"""Audit: check the results of calls, and what they do to their input."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from copycost.cases.images import swap
from copycost.engine.compare_arrays import same
from copycost.engine.prepared_call import Places, PreparedCall
from copycost.engine.records import Audit
from copycost.engine.references import larger_error
from copycost.engine.source_code import code
from copycost_meter.errors import describe
from copycost_meter.library import ConsumedArrayError

#: Calls in an audit, which cycle through the three inputs of the case: once in new arrays, then in a reused one.
AUDIT_CALLS = 9

#: Total numbers of rounds after which calls on new values are compared with calls on known values. A comparison with
#: more rounds follows only if the earlier ones could not tell. A round is one call of each kind.
_COMPARED_AFTER = (3, 7, 15, 40)

#: Calls that take less than this many seconds are not compared.
_SHORTEST_NEW = 20e-6

#: Results count as remembered if calls on new values take at least `_SEEN_BEFORE` times as long as calls on known
#: values, and `_LEAST_GAIN` seconds longer (the noise of a few calls is often smaller, a smaller advantage hardly worth
#: it, and a processor predicts the branches of a short call better on values that it has seen), and if the standard
#: score of Mann and Whitney's U of all durations reaches `_SCORE`. Chance gives that score once in 800,000 times with
#: 15 calls of each kind, and once in 136,000 times with 40. Single calls that were disturbed decide nothing.
_SEEN_BEFORE, _LEAST_GAIN, _SCORE = 1.25, 10e-6, 4.2


#: No places in an array.
_NOWHERE: np.ndarray = np.empty(0, np.intp)


@dataclass
class _Results:
    """Results of the audited calls so far.

    Attributes
    ----------
    values : dict of int to list of ndarray
        Values of the first result for each input.
    first : array or None
        The result of the first call, during the second one, which must not change it.
    """

    values: dict[int, list[np.ndarray]] = field(default_factory=dict)
    first: Any = None


def audit(prepared: PreparedCall, calls: int = AUDIT_CALLS) -> Audit:
    """Audit calls on all inputs, first in new arrays and then in a reused one, and check every result."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    if prepared.truth is None:
        findings = Audit("unchecked", "no reference was given", now)
    else:
        findings = Audit("ok", None, now, max_abs_error=0.0, max_ulp=0.0)
    results = _Results()
    for i in range(calls):
        findings = _audit_call(prepared, findings, results, i)
        if findings.status not in ("ok", "unchecked"):
            return replace(findings, reason=f"{findings.reason} (call {i + 1})")
    try:
        reason = _remembers(prepared)
    except Exception as exception:  # any call may raise
        return replace(findings, status="failed", reason=describe(exception))
    if reason:
        return replace(findings, status="wrong", reason=reason)
    return replace(findings, code=code(*prepared.definition))


def _audit_call(prepared: PreparedCall, findings: Audit, results: _Results, i: int) -> Audit:
    """Return the findings after call `i`; their status is that of the case if the call is not right."""
    k = i % len(prepared.pixels)
    try:
        _renew_arguments(prepared, i, k)
    except KeyboardInterrupt:  # from the user, if this is the user's own process
        raise
    except BaseException as exception:  # a call may have made its array read-only or changed its shape
        return replace(findings, status="failed", reason=f"{describe(exception)} while restoring its input")
    places = prepared.places()
    try:
        result = prepared.completed_result(prepared.call(*prepared.arguments()))
    except KeyboardInterrupt:
        raise
    except BaseException as exception:  # a variant may raise anything
        return replace(_without_errors(findings), status="failed", reason=describe(exception))
    try:
        # Read the values immediately: a result that is computed later counts as wrong.
        known_values = results.values.get(k)
        snapshot = _snapshot(prepared, result, known_values)
    except TypeError as exception:
        return replace(_without_errors(findings), status="wrong", reason=str(exception))
    findings = _with_properties(prepared, findings, result, k, places)
    prepared.changes_input = bool(findings.input_changed)
    reason = None
    if prepared.truth is not None and snapshot is not known_values:
        verdict = prepared.truth.judge(k, snapshot)
        reason = verdict.reason and prepared.truth.explain(k, snapshot, verdict.reason)
        findings = replace(
            findings,
            max_abs_error=larger_error(findings.max_abs_error, verdict.max_abs_error),
            max_ulp=larger_error(findings.max_ulp, verdict.max_ulp),
        )
    results.values.setdefault(k, snapshot)
    reason = reason or _misplacement(prepared, result, k, snapshot, places)
    if (
        results.first is not None
        and not reason
        and not all(map(same, prepared.values(results.first), results.values[0]))
    ):
        reason = "an earlier result was changed by a later call"
    results.first = result if i == 0 and findings.result_shares == "nothing" else None
    if i > 0:
        _spoil(prepared, result, places)
    return replace(findings, status="wrong", reason=reason) if reason else findings


def _renew_arguments(prepared: PreparedCall, i: int, k: int) -> None:
    """Set the arguments of call `i`: input `k`, and an empty buffer.

    Each input comes in a new array first. Then one array is reused for other pixels: a variant that remembers results
    by array returns the old one.
    """
    prepared.x = prepared.fresh_input(k) if i < len(prepared.pixels) else prepared.restored(prepared.x, prepared.k, k)
    prepared.k = k
    prepared.clear_out()
    prepared.runtime.fence()


def _snapshot(prepared: PreparedCall, result: Any, known_values: list[np.ndarray] | None) -> list[np.ndarray]:
    """Return a copy of a result's values, or `known_values`, those of an earlier result, if they are the same.

    Raises
    ------
    TypeError
        If the result is not an array of numbers.
    """
    values = prepared.values(result)
    if known_values is not None and all(map(same, values, known_values)):
        return known_values
    for array in values:
        if array.dtype.kind not in "biufc":
            raise TypeError(f"returned an array of {array.dtype}, not of numbers")
    return [np.array(array, order="C") for array in values]


def _remembers(prepared: PreparedCall) -> str | None:
    """Return why results seem to be remembered by the values of the input, or None.

    As many calls on new values as on known values are timed. If nothing is remembered, disturbances affect both alike.
    """
    pairs = _pairs(prepared)
    if pairs is None:  # the elements of an encoded file cannot be swapped
        return None
    seconds_by_kind: dict[bool, list[float]] = {True: [], False: []}  # key: whether the values are new
    for rounds in _COMPARED_AFTER:
        while len(seconds_by_kind[True]) < rounds:
            for is_new, seconds in zip((True, False), next(pairs), strict=True):
                seconds_by_kind[is_new].append(seconds)
        new_median, known_median = median(seconds_by_kind[True]), median(seconds_by_kind[False])
        gain = new_median - known_median
        if new_median < _SHORTEST_NEW or new_median < _SEEN_BEFORE * known_median or gain < _LEAST_GAIN:
            return None
        if _score(seconds_by_kind[True], seconds_by_kind[False]) >= _SCORE:
            break
    else:
        return None
    return (
        f"a call on new values takes {new_median * 1e6:,.0f} µs, but a call on known values takes "
        f"{known_median * 1e6:,.0f} µs: it remembers results"
    )


def _pairs(prepared: PreparedCall) -> Iterator[tuple[float, float]] | None:
    """Return an endless iterator over the seconds of a call on new values and of one on known values.

    Return None if no new values can be made that are as valid as the known ones.
    """
    if prepared.renew is not None:
        kinds = [(array.shape, array.dtype) for array in prepared.pixels[0]]
        if [(array.shape, array.dtype) for array in prepared.renew()] == kinds:  # other shapes may be compiled anew
            return _renewed_pairs(prepared, prepared.renew)
    return _swapped_pairs(prepared) if any(prepared.swapped) else None


def _renewed_pairs(
    prepared: PreparedCall, renew: Callable[[], tuple[np.ndarray, ...]]
) -> Iterator[tuple[float, float]]:
    """Call on a new input and, in random order, on the one that was new the time before."""
    timed = _seconds_after_other(prepared)
    known_values = renew()
    timed(prepared.input_of(known_values))
    while True:
        values = renew()
        inputs = {True: prepared.input_of(values), False: prepared.input_of(known_values)}
        seconds = {is_new: timed(inputs[is_new]) for is_new in random.sample((True, False), 2)}
        yield seconds[True], seconds[False]
        known_values = values


def _swapped_pairs(prepared: PreparedCall) -> Iterator[tuple[float, float]]:
    """Swap elements of the first input and call, and call on what it was, in random order."""
    values = [array.copy() for array in prepared.pixels[0]]
    x, timed = prepared.fresh_input(0), _seconds_after_other(prepared)
    while True:
        places = [swap(array) if may else _NOWHERE for array, may in zip(values, prepared.swapped, strict=True)]
        seconds = {}
        for is_new in random.sample((True, False), 2):
            x = prepared.changed_to(x, values if is_new else prepared.pixels[0], places)
            seconds[is_new] = timed(x)
            x = prepared.changed_to(x, prepared.pixels[0], places)
        for array, original, place in zip(values, prepared.pixels[0], places, strict=True):
            array.reshape(-1)[place] = original.reshape(-1)[place]
        yield seconds[True], seconds[False]


def _seconds_after_other(prepared: PreparedCall) -> Callable[[tuple[Any, ...]], float]:
    """Return what times a call, after one on another input, so that threads and caches are in the same state."""
    last_k = len(prepared.pixels) - 1
    other_input = prepared.fresh_input(last_k)

    def timed(x: tuple[Any, ...]) -> float:
        nonlocal other_input
        if prepared.changes_input:
            other_input = prepared.restored(other_input, last_k, last_k)
        for arrays in (other_input, x):
            prepared.clear_out()
            seconds = _seconds(prepared, arrays)
        return seconds

    return timed


def _score(longer: Sequence[float], shorter: Sequence[float]) -> float:
    """Return the standard score of Mann and Whitney's U for two samples of the same size."""
    n = len(longer)
    u = sum(value > other_value for value in longer for other_value in shorter)
    return (u - n * n / 2) / math.sqrt(n * n * (2 * n + 1) / 12)


def _seconds(prepared: PreparedCall, x: tuple[Any, ...]) -> float:
    """Return the duration of one call in seconds."""
    args = prepared.arguments(x)
    prepared.runtime.fence()
    start = perf_counter_ns()
    prepared.call(*args)
    prepared.runtime.fence()
    return (perf_counter_ns() - start) * 1e-9


def _with_properties(prepared: PreparedCall, findings: Audit, result: Any, k: int, places: Places) -> Audit:
    """Add the properties of a result, and any change of the input, to earlier findings."""
    shares = prepared.shares(result, places)
    return replace(
        findings,
        input_changed=bool(findings.input_changed) or prepared.changed(prepared.x, k),
        result_shares=shares if shares != "nothing" else findings.result_shares or shares,
        result_dtype=", ".join(str(array.dtype) for array in prepared.values(result)),
        result_contiguous=findings.result_contiguous is not False
        and all(map(prepared.runtime.contiguous, prepared.parts(result))),
    )


def _spoil(prepared: PreparedCall, result: Any, places: Places) -> None:
    """Overwrite a caller-owned result to detect variants that return a cached result."""
    if prepared.writes != "new" or prepared.shares(result, places) != "nothing":
        return
    for part in prepared.parts(result):
        if prepared.runtime.spoil is not None and prepared.device != "cpu":
            prepared.runtime.spoil(part)
            continue
        values = prepared.runtime.to_numpy(part)
        if values.flags.writeable:
            values[...] = np.nan if values.dtype.kind in "fc" else np.invert(values)


def _misplacement(
    prepared: PreparedCall, result: Any, k: int, snapshot: list[np.ndarray], places: Places
) -> str | None:
    """Return why the array that the variant must write to does not hold the result, or None."""
    if prepared.writes == "new" or prepared.shares(result, places) == prepared.writes:
        return None
    try:
        values = prepared.values(prepared.target())
        is_right = prepared.truth.refuse(k, values) is None if prepared.truth else all(map(same, values, snapshot))
    except (ConsumedArrayError, TypeError):
        is_right = False
    if is_right:
        return None
    return "the result is not in the " + ("buffer passed as out" if prepared.writes == "out" else "input")


def _without_errors(findings: Audit) -> Audit:
    """Return the findings, without deviations if no call has returned a result yet."""
    return findings if findings.result_dtype else replace(findings, max_abs_error=None, max_ulp=None)
