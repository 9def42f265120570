"""Test on some inputs that a rewritten function computes the same, and measure that it costs less."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost.studies.explain.observe import Seen, see
from copycost_meter.arrays import digest_of, found_arrays, library_of, with_copies
from copycost_meter.call_count import CallCount
from copycost_meter.counting import chosen_library, count, finish

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
    try:
        return _compared(original, rewritten, inputs)
    except Exception as error:  # of the rewritten function, or of the original on other values than those before
        return Proof(f"it raises {type(error).__name__}")


def _compared(
    original: Callable[..., Any],
    rewritten: Callable[..., Any],
    inputs: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]],
) -> Proof:
    is_equal = True
    for args, kwargs in inputs:
        reason, same = _differs(original, rewritten, args, kwargs)
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
    old, new = (_Outcome.of(function, args, kwargs) for function in (original, rewritten))
    if old.others is None or new.others is None:
        return "its result holds values that cannot be compared", False
    if old.others != new.others:
        return "its result differs", False
    if old.given != new.given:
        return "it changes other arguments", False
    if old.arrays.keys() != new.arrays.keys():
        return "it returns other arrays", False
    if old.shared != new.shared:
        return "its results have memory in common with other arrays", False
    if old.layouts != new.layouts:
        return "its result has another layout", False
    is_equal = True
    for name, array in old.arrays.items():
        other = new.arrays[name]
        if other.dtype != array.dtype or other.shape != array.shape:
            return f"its result is {other.dtype}, and not {array.dtype}", False
        if array.tobytes() == other.tobytes():
            continue
        is_equal = False
        if array.dtype.kind != "f" or not _is_close(array, other):
            return "its result differs", False
    return None, is_equal


@dataclass(frozen=True)
class _Outcome:
    """What a call returns, and what it does to its arguments.

    Attributes
    ----------
    arrays : dict of str to ndarray
        Values of the arrays in the result.
    others : list or None
        Names, types and values of what else is in the result. None if it holds values that `==` does not compare.
    layouts : dict
        Whether each array is contiguous and can be written to.
    shared : set
        Pairs of arrays with common memory: of two results, or of a result and an argument.
    given : dict
        Values of the arguments after the call.
    """

    arrays: dict[str, np.ndarray]
    others: list[tuple[str, type, Any]] | None
    layouts: dict[str, tuple[bool, bool]]
    shared: set[tuple[str, str]]
    given: dict[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> _Outcome:
        """Call a function with copies of the arrays in its arguments."""
        copies: dict[int, Any] = {}
        own_args, own_kwargs = with_copies(args, copies), with_copies(dict(kwargs), copies)
        given = found_arrays({"args": own_args, "kwargs": own_kwargs})
        result = function(*own_args, **own_kwargs)
        results = found_arrays({"": result})
        seen = {name: see(array) for name, array in (given | results).items()}
        pairs = itertools.combinations(seen, 2)
        return cls(
            {name: _numpy(array) for name, array in results.items()},
            _others(result),
            {
                name: (one is None or one.contiguous, _is_writable(array))
                for name, array in results.items()
                for one in (seen[name],)
            },
            {(name, other) for name, other in pairs if other in results and _overlap(seen[name], seen[other])},
            {name: digest_of(array) for name, array in given.items()},
        )


def _others(result: Any, name: str = "") -> list[tuple[str, type, Any]] | None:
    """Return what is in a result beside arrays, or None if a value is of a type that `==` need not compare."""
    if library_of(result):
        return []
    if isinstance(result, dict):
        parts = [(f"{name}[{key!r}]", value) for key, value in result.items()]
    elif isinstance(result, list | tuple):
        parts = [(f"{name}[{i}]", value) for i, value in enumerate(result)]
    elif result is None or isinstance(result, bool | int | float | complex | str | bytes | np.generic):
        return [(name, type(result), str(result))]  # as text, so that NaN is equal to itself
    else:
        return None
    found = [_others(value, key) for key, value in parts]
    if any(part is None for part in found):
        return None
    return [(name, type(result), len(parts)), *(one for part in found if part for one in part)]


def _is_writable(array: Any) -> bool:
    return bool(array.flags.writeable) if isinstance(array, np.ndarray) else True


def _is_close(array: np.ndarray, new: np.ndarray) -> bool:
    """Return whether two results differ by a few roundings of their largest value."""
    finite = np.isfinite(array)
    if not np.array_equal(finite, np.isfinite(new)) or not np.array_equal(array[~finite], new[~finite], equal_nan=True):
        return False
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
            library = chosen_library(_libraries(own_args, own_kwargs))
            start = perf_counter()
            finish(library, function(*own_args, **own_kwargs))
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
