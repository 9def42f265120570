"""Timing: the loops that the clock runs around, and nothing else inside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from time import perf_counter_ns
from typing import Any

#: A sample of batched calls takes at least this long, in nanoseconds: tens of thousands of times the clock's own cost.
SAMPLE_NS = 3_000_000

#: Calls in a sample at most.
MOST_CALLS = 1_000_000


def batched(
    call: Callable[..., Any], inputs: Sequence[Any], out: tuple[Any, ...], n: int, fence: Callable[[], None]
) -> tuple[int, Any]:
    """Time `n` calls on the inputs in turn, each result dropped before the next call.

    Parameters
    ----------
    call : callable
        ``call(x)``, or ``call(x, out)``.
    inputs : sequence
        What `x` is, in turn, the first one first.
    out : tuple
        Empty, or the one buffer that every call is given.
    n : int
    fence : callable

    Returns
    -------
    ns : int
        For all calls, until the fence.
    result
        The last call's.
    """
    last = inputs[(n - 1) % len(inputs)]
    before = islice(cycle(inputs), n - 1)
    fence()
    if not out:  # `call(*args)` would cost more than the loop does
        start = perf_counter_ns()
        for x in before:
            call(x)
        result = call(last)
    else:
        (to,) = out
        start = perf_counter_ns()
        for x in before:
            call(x, to)
        result = call(last, to)
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


def _pieces() -> tuple[Any, ...]:
    return perf_counter_ns, *(function.__code__ for function in (batched, one_by_one, queued))


_OWN = _pieces()


def replaced() -> str | None:
    """Why what is timed here is not to be believed, or None: the clock, or what runs around it, was exchanged."""
    return None if _pieces() == _OWN else "the clock was replaced"
