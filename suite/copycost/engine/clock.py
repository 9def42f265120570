"""Timing loops, which contain nothing but the timed calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import cycle, islice
from time import perf_counter_ns
from typing import Any

#: Minimum duration of a sample of batched calls, in nanoseconds: tens of thousands of times the clock's own cost.
#: Longer samples are hardly better: the speed of a shared machine changes from one tenth of a second to the next, so
#: that only samples at other times help.
SAMPLE_NS = 3_000_000

#: Maximum number of calls in a sample.
MOST_CALLS = 1_000_000


def batched(
    call: Callable[..., Any], inputs: Sequence[Any], out: tuple[Any, ...], n: int, fence: Callable[[], None]
) -> tuple[int, Any]:
    """Time `n` calls that cycle through the inputs, dropping each result before the next call.

    Parameters
    ----------
    call : callable
        ``call(x)`` or ``call(x, out)``.
    inputs : sequence
        Values of `x`, used cyclically from the first one on.
    out : tuple
        Empty, or the buffer that every call receives.
    n : int
    fence : callable

    Returns
    -------
    ns : int
        Duration of all calls, until the fence.
    result
        Result of the last call.
    """
    last_input = inputs[(n - 1) % len(inputs)]
    earlier_inputs = islice(cycle(inputs), n - 1)
    fence()
    if not out:  # two loops, because `call(*args)` would cost more than the loop itself
        start = perf_counter_ns()
        for x in earlier_inputs:
            call(x)
        result = call(last_input)
    else:
        (buffer,) = out
        start = perf_counter_ns()
        for x in earlier_inputs:
            call(x, buffer)
        result = call(last_input, buffer)
    fence()
    return perf_counter_ns() - start, result


def one_by_one(
    call: Callable[..., Any],
    prepare: Callable[[], tuple[Any, ...]],
    n: int,
    fence: Callable[[], None],
) -> tuple[int, int, Any]:
    """Time `n` calls one by one, each on arguments that `prepare` makes before it, untimed.

    Returns
    -------
    ns : int
        Duration of all calls, each until its fence.
    reset_ns : int
        Duration of `prepare` and the fence after it.
    result
        Result of the last call.
    """
    call_ns = reset_ns = 0
    result = None
    for _ in range(n):
        result = None
        reset_start = perf_counter_ns()
        args = prepare()
        fence()
        start = perf_counter_ns()
        result = call(*args)
        fence()
        end = perf_counter_ns()
        reset_ns += start - reset_start
        call_ns += end - start
    return call_ns, reset_ns, result


def queued(
    call: Callable[..., Any],
    prepare: Callable[[], tuple[Any, ...]],
    n: int,
    fence: Callable[[], None],
) -> tuple[int, Any]:
    """Time `n` calls until each has returned, with nothing else queued: the host's part of a device's work.

    Returns
    -------
    ns : int
    result
        Result of the last call.
    """
    call_ns = 0
    result = None
    for _ in range(n):
        result = None
        args = prepare()
        fence()
        start = perf_counter_ns()
        result = call(*args)
        call_ns += perf_counter_ns() - start
    fence()
    return call_ns, result


def _pieces() -> tuple[Any, ...]:
    return perf_counter_ns, *(function.__code__ for function in (batched, one_by_one, queued))


_ORIGINAL = _pieces()


def replaced() -> str | None:
    """Return why the times cannot be trusted, or None: a variant may replace the clock or a timing loop."""
    return None if _pieces() == _ORIGINAL else "the clock was replaced"
