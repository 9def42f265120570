"""Prove that a rewritten function computes the same, and measure that it costs less."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost.studies.explain.observe import Seen, see
from copycost_meter.arrays import found_arrays, library_of, values_of, with_copies
from copycost_meter.call_count import CallCount
from copycost_meter.counting import count

#: Calls of the original and of the rewritten function, by turns, that are timed.
_ROUNDS = 15

#: Seconds after which no further round is begun.
_SECONDS = 3.0

#: Maximum error of a result, in units of the largest value times the dtype's eps.
_ULPS = 4

#: A rewritten function that requests less must not surely take longer than this multiple of the original's time.
_SLOWER = 1.05

#: A rewritten function that requests as much must take no longer than this multiple.
_FASTER = 0.9


@dataclass(frozen=True)
class Proof:
    """What was shown of a rewritten function.

    Attributes
    ----------
    reason : str or None
        Why it is not proposed. None if it is.
    bytes_before, bytes_after : int or None
        Bytes that a call requests.
    peak_before, peak_after : int or None
    ratio : float or None
        Time of a call as a multiple of the original's: the median of pairs.
    low, high : float or None
        95 % interval of that median.
    is_equal : bool
        Whether all results have the same bits. Otherwise they differ by less than `_ULPS`.
    """

    reason: str | None
    bytes_before: int | None = None
    bytes_after: int | None = None
    peak_before: int | None = None
    peak_after: int | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    is_equal: bool = True


def prove(
    original: Callable[..., Any],
    rewritten: Callable[..., Any],
    inputs: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
) -> Proof:
    """Compare two functions on some inputs, and count and time their calls on the first one.

    Parameters
    ----------
    original, rewritten : callable
    inputs : sequence of (tuple, mapping)
        Arguments of calls. Each call is given copies of the arrays in them.
    """
    is_equal = True
    for args, kwargs in inputs:
        try:
            reason, same = _differs(original, rewritten, args, kwargs)
        except Exception as error:  # the original has succeeded on these arguments before
            return Proof(f"it raises {type(error).__name__}")
        if reason is not None:
            return Proof(reason)
        is_equal = is_equal and same
    args, kwargs = inputs[0]
    before, after = count(original, *args, **kwargs), count(rewritten, *args, **kwargs)
    ratio, low, high = _ratio(original, rewritten, args, kwargs)
    return Proof(
        _no_better(before, after, low, high),
        before.allocated_bytes,
        after.allocated_bytes,
        before.peak_bytes,
        after.peak_bytes,
        ratio,
        low,
        high,
        is_equal,
    )


def _differs(
    original: Callable[..., Any], rewritten: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[str | None, bool]:
    """Return how a call of the rewritten function differs, or None, and whether all bits are equal."""
    outcomes = []
    for function in (original, rewritten):
        copies: dict[int, Any] = {}
        own_args, own_kwargs = with_copies(args, copies), with_copies(dict(kwargs), copies)
        given = found_arrays({"args": own_args, "kwargs": own_kwargs})
        result = function(*own_args, **own_kwargs)
        results = found_arrays({"": result})
        if not results and result is not None:
            return "its result is no array", False
        seen = {name: see(array) for name, array in results.items()}
        seen_given = {name: see(array) for name, array in given.items()}
        shares = {(name, other) for name in seen for other in seen_given if _overlap(seen[name], seen_given[other])}
        values = {name: _numpy(array) for name, array in results.items()}
        outcomes.append((values, shares, {name: values_of(array) for name, array in given.items()}))
    (values, shares, given), (new_values, new_shares, new_given) = outcomes
    if given != new_given:
        return "it changes other arguments", False
    if shares != new_shares:
        return "its result has memory in common with other arguments", False
    if values.keys() != new_values.keys():
        return "it returns other arrays", False
    is_equal = True
    for name, array in values.items():
        new = new_values[name]
        if new.dtype != array.dtype or new.shape != array.shape:
            return f"its result is {new.dtype}, and not {array.dtype}", False
        if array.tobytes() == new.tobytes():
            continue
        is_equal = False
        if array.dtype.kind != "f" or not _is_close(array, new):
            return "its result differs", False
    return None, is_equal


def _is_close(array: np.ndarray, new: np.ndarray) -> bool:
    """Return whether two results differ by a few roundings of their largest value."""
    if not np.array_equal(np.isfinite(array), np.isfinite(new)):
        return False
    finite = np.isfinite(array)
    largest = float(np.abs(array[finite]).max(initial=0))
    error = float(np.abs(array[finite].astype(np.float64) - new[finite]).max(initial=0))
    return error <= _ULPS * float(np.finfo(array.dtype).eps) * largest


def _numpy(array: Any) -> np.ndarray:
    return np.array(discovery.runtime(library_of(array)).to_numpy(array))


def _overlap(one: Seen | None, two: Seen | None) -> bool:
    return one is not None and two is not None and one.overlaps(two)


def _ratio(
    original: Callable[..., Any], rewritten: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[float, float, float]:
    """Return the median ratio of the times of pairs of calls, and its 95 % interval."""
    logarithms: list[float] = []
    begin = perf_counter()
    while len(logarithms) < _ROUNDS and (len(logarithms) < 7 or perf_counter() - begin < _SECONDS):
        order = (original, rewritten) if len(logarithms) % 2 else (rewritten, original)
        seconds: dict[Callable[..., Any], float] = {}
        for function in order:
            copies: dict[int, Any] = {}
            own_args, own_kwargs = with_copies(args, copies), with_copies(dict(kwargs), copies)
            fences = [discovery.runtime(name).fence for name in _libraries(own_args, own_kwargs)]
            start = perf_counter()
            function(*own_args, **own_kwargs)
            for fence in fences:
                fence()
            seconds[function] = perf_counter() - start
        logarithms.append(math.log(seconds[rewritten] / seconds[original]))
    logarithms.sort()
    skipped = _skipped(len(logarithms))
    return tuple(math.exp(value) for value in (median(logarithms), logarithms[skipped], logarithms[-1 - skipped]))  # type: ignore[return-value]


def _skipped(number: int) -> int:
    """Return how many of the smallest values lie below a 95 % interval of the median (the sign test)."""
    below, probability = -1, 0.0
    while (probability := probability + math.comb(number, below + 1) / 2**number) <= 0.025:
        below += 1
    return max(below, 0)


def _libraries(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> set[str]:
    return {library_of(array) for array in found_arrays({"args": args, "kwargs": dict(kwargs)}).values()}


def _no_better(before: CallCount, after: CallCount, low: float, high: float) -> str | None:
    """Return why a rewritten function is no better, or None."""
    figures = (before.allocated_bytes, after.allocated_bytes, before.peak_bytes, after.peak_bytes)
    if None not in figures:
        requested, new_requested, peak, new_peak = (figure for figure in figures if figure is not None)
        if new_requested > requested or new_peak > peak:
            return "it requests more"
        if new_requested < requested or new_peak < peak:
            return "it takes longer" if low > _SLOWER else None
    return None if high < _FASTER else "it costs as much"
