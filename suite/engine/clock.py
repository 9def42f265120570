"""Timing: the loops that the clock runs around, and nothing else inside."""

from __future__ import annotations

from collections.abc import Callable
from itertools import repeat
from time import perf_counter_ns
from typing import Any

#: A sample of batched calls takes at least this long, in nanoseconds: tens of thousands of times the clock's own cost.
SAMPLE_NS = 3_000_000

#: Calls in a sample at most.
MOST_CALLS = 1_000_000


def batched(call: Callable[..., Any], args: tuple[Any, ...], n: int, fence: Callable[[], None]) -> tuple[int, Any]:
    """Time `n` calls on the same arguments, each result dropped before the next call.

    Returns
    -------
    ns : int
        For all calls, until the fence.
    result
        The last call's.
    """
    fence()
    if len(args) == 1:  # `call(*args)` would cost more than the loop does
        (x,) = args
        start = perf_counter_ns()
        for _ in repeat(None, n - 1):
            call(x)
        result = call(x)
    else:
        x, out = args
        start = perf_counter_ns()
        for _ in repeat(None, n - 1):
            call(x, out)
        result = call(x, out)
    fence()
    return perf_counter_ns() - start, result


def one_by_one(
    call: Callable[..., Any],
    prepare: Callable[[], tuple[Any, ...]],
    n: int,
    fence: Callable[[], None],
) -> tuple[int, int, Any]:
    """Time `n` calls each on arguments that `prepare` makes before it, outside the clock.

    Returns
    -------
    ns : int
        For all calls, each until its fence.
    reset_ns : int
        Spent in `prepare` and the fence after it.
    result
        The last call's.
    """
    timed = reset = 0
    result = None
    for _ in range(n):
        result = None
        before = perf_counter_ns()
        args = prepare()
        fence()
        start = perf_counter_ns()
        result = call(*args)
        fence()
        end = perf_counter_ns()
        reset += start - before
        timed += end - start
    return timed, reset, result


def queued(
    call: Callable[..., Any],
    prepare: Callable[[], tuple[Any, ...]],
    n: int,
    fence: Callable[[], None],
) -> tuple[int, Any]:
    """Time `n` calls until each has returned, with nothing else queued: what the host does of a device's work.

    Returns
    -------
    ns : int
    result
        The last call's.
    """
    timed = 0
    result = None
    for _ in range(n):
        result = None
        args = prepare()
        fence()
        start = perf_counter_ns()
        result = call(*args)
        timed += perf_counter_ns() - start
    fence()
    return timed, result
