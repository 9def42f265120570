"""Audit: check the results of calls, and what they do to their input."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
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
from copycost.model.errors import describe
from copycost.model.runtime import ConsumedArrayError

#: Calls in an audit, which cycle through the three inputs of the case: once in new arrays, then in a reused one.
AUDIT_CALLS = 12

#: Total numbers of rounds after which calls on new values are compared with calls on known values. A comparison with
#: more rounds follows only if the earlier ones could not tell. A round is one call of each kind.
_COMPARED_AFTER = (3, 7, 15, 40)

#: Calls that take less than this many seconds are not compared.
_SHORTEST_NEW = 20e-6

#: Results count as remembered if calls on new values take at least `_SEEN_BEFORE` times as long as calls on known
#: values (a smaller advantage is not worth remembering for), and if the order of all calls by duration is one that
#: chance gives once in a million times (standard score of Mann and Whitney's U; with 15 calls of each kind, U is at
#: least 214 of 225). Single calls that were disturbed then decide nothing.
_SEEN_BEFORE, _SCORE = 1.1, 4.2


def audit(prepared: PreparedCall, calls: int = AUDIT_CALLS) -> Audit:
    """Audit calls on all inputs, first in new arrays and then in a reused one, and check every result."""
    right: dict[int, list[np.ndarray]] = {}
    held: Any = None
    now = datetime.now(UTC).isoformat(timespec="seconds")
    found = Audit("ok", None, now, max_abs_error=0.0, max_ulp=0.0)
    if prepared.truth is None:
        found = Audit("unchecked", "no reference was given", now)
    for i in range(calls):
        k = i % len(prepared.pixels)
        at = f" (call {i + 1})"
        try:
            # Pass each input in a new array first, then reuse one array for other pixels: a variant that remembers
            # results by array returns the old one.
            prepared.x = (
                prepared.fresh_input(k) if i < len(prepared.pixels) else prepared.restored(prepared.x, prepared.k, k)
            )
            prepared.k = k
            prepared.clear_out()
            prepared.runtime.fence()
        except KeyboardInterrupt:
            raise
        except BaseException as exception:  # a call may have made its array read-only or changed its shape
            return replace(found, status="failed", reason=f"{describe(exception)} while restoring its input" + at)
        places = prepared.places()
        try:
            result = prepared.completed_result(prepared.call(*prepared.arguments()))
        except KeyboardInterrupt:  # from the user, if this is the user's own process
            raise
        except BaseException as exception:  # a variant may raise anything
            return replace(_unjudged(found), status="failed", reason=describe(exception) + at)
        try:
            # Read the values immediately: a result that is computed later counts as wrong.
            values = prepared.values(result)
            again = k in right and all(map(same, values, right[k]))
            snapshot = right[k] if again else [np.array(one, order="C") for one in values]
            del values  # may share the result's memory
            for one in snapshot:
                if one.dtype.kind not in "biufc":
                    raise TypeError(f"returned an array of {one.dtype}, not of numbers")
        except TypeError as exception:
            return replace(_unjudged(found), status="wrong", reason=str(exception) + at)
        found = _with_properties(prepared, found, result, k, places)
        prepared.changes = bool(found.input_changed)
        reason = None
        if prepared.truth is not None and not again:
            verdict = prepared.truth.judge(k, snapshot)
            reason = verdict.reason
            found = replace(
                found,
                max_abs_error=larger_error(found.max_abs_error, verdict.max_abs_error),
                max_ulp=larger_error(found.max_ulp, verdict.max_ulp),
            )
        if k not in right:
            right[k] = snapshot
        reason = reason or _misplaced(prepared, result, k, snapshot, places)
        if held is not None and not reason and not all(map(same, prepared.values(held), right[0])):
            reason = "an earlier result was changed by a later call"
        held = result if i == 0 and found.result_shares == "nothing" else None
        if i > 0:
            _spoil(prepared, result, places)
        result = None
        if reason:
            return replace(found, status="wrong", reason=reason + at)
    try:
        reason = _remembers(prepared)
    except Exception as exception:  # any call may raise
        return replace(found, status="failed", reason=describe(exception))
    if reason:
        return replace(found, status="wrong", reason=reason)
    return replace(found, code=code(*prepared.prepared))


def _remembers(prepared: PreparedCall) -> str | None:
    """Return why results seem to be remembered by the values of the input, or None.

    Calls on new values and as many calls on known values are timed, in random order. If nothing is remembered,
    disturbances affect both alike.
    """
    took: dict[bool, list[float]] = {True: [], False: []}  # key: whether the values are new
    values = [array.copy() for array in prepared.pixels[0]]
    last = len(prepared.pixels) - 1
    x, between = prepared.fresh_input(0), prepared.fresh_input(last)
    for rounds in _COMPARED_AFTER:
        while len(took[True]) < rounds:
            places = [swap(array) for array in values]
            for new in random.sample((True, False), 2):
                x = prepared.changed_to(x, values if new else prepared.pixels[0], places)
                if prepared.changes:
                    between = prepared.restored(between, last, last)
                # Call on another input first, so that threads and caches are in the same state for both.
                for given in (between, x):
                    prepared.clear_out()
                    seconds = _seconds(prepared, given)
                took[new].append(seconds)
                x = prepared.changed_to(x, prepared.pixels[0], places)
            for array, seen, where in zip(values, prepared.pixels[0], places, strict=True):
                array.reshape(-1)[where] = seen.reshape(-1)[where]
        first, later = median(took[True]), median(took[False])
        if first < _SHORTEST_NEW or first < _SEEN_BEFORE * later:
            return None
        if _score(took[True], took[False]) >= _SCORE:
            break
    else:
        return None
    return (
        f"a call on new values takes {first * 1e6:,.0f} µs, but a call on known values takes "
        f"{later * 1e6:,.0f} µs: it remembers results"
    )


def _score(longer: Sequence[float], shorter: Sequence[float]) -> float:
    """Return the standard score of Mann and Whitney's U for two samples of the same size."""
    n = len(longer)
    u = sum(one > other for one in longer for other in shorter)
    return (u - n * n / 2) / math.sqrt(n * n * (2 * n + 1) / 12)


def _seconds(prepared: PreparedCall, x: tuple[Any, ...]) -> float:
    """Return the duration of one call in seconds."""
    args = prepared.arguments(x)
    prepared.runtime.fence()
    start = perf_counter_ns()
    prepared.call(*args)
    prepared.runtime.fence()
    return (perf_counter_ns() - start) * 1e-9


def _with_properties(prepared: PreparedCall, found: Audit, result: Any, k: int, places: Places) -> Audit:
    """Add the properties of a result, and any change of the input, to earlier findings."""
    shares = prepared.shares(result, places)
    return replace(
        found,
        input_changed=bool(found.input_changed) or prepared.changed(prepared.x, k),
        result_shares=shares if shares != "nothing" else found.result_shares or shares,
        result_dtype=", ".join(str(one.dtype) for one in prepared.values(result)),
        result_contiguous=found.result_contiguous is not False
        and all(map(prepared.runtime.contiguous, prepared.parts(result))),
    )


def _spoil(prepared: PreparedCall, result: Any, places: Places) -> None:
    """Overwrite a caller-owned result to detect variants that return a cached result."""
    if prepared.writes != "new" or prepared.shares(result, places) != "nothing":
        return
    for part in prepared.parts(result):
        if prepared.runtime.spoil is not None:
            prepared.runtime.spoil(part)
            continue
        values = prepared.runtime.to_numpy(part)
        if values.flags.writeable:
            values[...] = np.nan if values.dtype.kind in "fc" else np.invert(values)


def _misplaced(prepared: PreparedCall, result: Any, k: int, snapshot: list[np.ndarray], places: Places) -> str | None:
    """Return why the array that the variant must write to does not hold the result, or None."""
    if prepared.writes == "new" or prepared.shares(result, places) == prepared.writes:
        return None
    try:
        held = prepared.values(prepared.target())
        right = prepared.truth.refuse(k, held) is None if prepared.truth else all(map(same, held, snapshot))
    except (ConsumedArrayError, TypeError):
        right = False
    if right:
        return None
    return "the result is not in the " + ("buffer passed as out" if prepared.writes == "out" else "input")


def _unjudged(found: Audit) -> Audit:
    """Return the findings, without deviations if no call has returned a result yet."""
    return found if found.result_dtype else replace(found, max_abs_error=None, max_ulp=None)
