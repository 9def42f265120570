"""Timing: the first call, samples, and a check of the last result."""

from __future__ import annotations

import contextlib
import math
import random
from collections.abc import Sequence
from time import perf_counter_ns, process_time_ns, sleep, thread_time_ns

from copycost.engine import clock
from copycost.engine.prepared_call import PreparedCall
from copycost.engine.records import Calibration, Sample
from copycost.machine import disturbance
from copycost.machine.memory import free_memory
from copycost.machine.nvtx_range import nvtx_range
from copycost.model.vocabulary import DeviceKind
from copycost.stats.intervals import ROUNDS

#: Fraction of the free memory that the calls of a block may leak in total.
_GROWTH = 0.1

#: Number of calls before each sample that are not timed, and nanoseconds after which no further one is made. Other
#: cases have used the caches since the last sample. The first call then takes 1.4 to 3.6 times as long as later ones,
#: whatever their duration, and the twelfth 1.02 times as long (peers/turns.py).
WARM_CALLS, _WARM_NS = 12, 20_000_000

#: CPU time of other threads, in nanoseconds, from which a call counts as multithreaded. A fraction of the call's
#: duration would not be meaningful: on a busy machine a thread that waits for another thread spins for a long time.
_OTHER_THREADS_NS = 10_000

#: Seconds for other threads to become idle: those of GNU's OpenMP spin for 16 ms after their work. A thread's CPU time
#: becomes visible to other threads when it goes to sleep, or at the kernel's next tick.
_REST_SECONDS = 0.03


class WrongResult(Exception):
    """Raised if a timed result is wrong or the clock was replaced.

    It is also raised if timed calls change an input that audited calls did not.
    """


def try_out(prepared: PreparedCall) -> tuple[bool, float]:
    """Call once; return whether the call returned a value, and its duration in seconds."""
    prepared.x = prepared.fresh_input(0)
    start = perf_counter_ns()
    value = prepared.call(*prepared.arguments())
    prepared.runtime.fence()
    return value is not None, (perf_counter_ns() - start) * 1e-9


def make_inputs(prepared: PreparedCall, changes: bool, leaked_bytes: int, rounds: int = ROUNDS) -> None:
    """Make the inputs of the timed calls.

    Parameters
    ----------
    changes : bool
        Whether the audit saw the input change. The input is then restored before every call.
    leaked_bytes : int
        Bytes that each call leaks.
    rounds : int, optional
        Number of samples that follow.
    """
    prepared.changes_input = changes
    prepared.input_indices = list(range(len(prepared.pixels)))
    # Each input has arrays of its own, since inputs must not share a variable. If calls change their input, one set of
    # arrays is enough for all inputs: it is restored before every call.
    indices = prepared.input_indices[:1] if changes else prepared.input_indices
    prepared.inputs = [prepared.fresh_input(k) for k in indices]
    prepared.samples = 2 * rounds  # as many again for finding `n` and warming up
    if leaked_bytes > 0:
        prepared.calls_left = max(prepared.samples, _GROWTH * free_memory() / leaked_bytes)


def calibrate(prepared: PreparedCall) -> Calibration:
    """Time the first call, warm up, and find the number of calls in a sample.

    Raises
    ------
    WrongResult
        If the clock was replaced: the number of calls, which is that of all sides of a case, would be wrong.
    """
    seconds_first = timed_calls(prepared, 1).seconds
    n = 1
    while True:
        trial = timed_calls(prepared, n)
        if trial.seconds * n * 1e9 >= clock.SAMPLE_NS or 2 * n > prepared.most_per_sample():
            if reason := clock.replaced():
                raise WrongResult(reason)
            return Calibration(seconds_first, n)
        # Grow at most tenfold: the first calls are slow.
        n = int(min(10 * n, prepared.most_per_sample(), max(2 * n, clock.SAMPLE_NS * 1.2e-9 / trial.seconds)))


def sample(prepared: PreparedCall, n: int, warm_calls: int = WARM_CALLS) -> Sample:
    """Take a sample of `n` timed calls, after calls that are not timed, unless calls leak memory.

    Parameters
    ----------
    prepared : PreparedCall
    n : int
    warm_calls : int, optional
        Number of calls that are not timed.

    Raises
    ------
    WrongResult
        If the last result is wrong. It is checked in about one sample of a block, chosen at random.
    """
    if prepared.calls_left == math.inf and warm_calls:
        _warm_up(prepared, min(n, warm_calls, len(prepared.inputs)), warm_calls)
    with nvtx_range(prepared.name) if prepared.device != DeviceKind.CPU else contextlib.nullcontext():
        result = timed_calls(prepared, n)
    if random.SystemRandom().randrange(ROUNDS) == 0:
        _check_last(prepared)
    return result


def _warm_up(prepared: PreparedCall, step: int, number: int) -> None:
    """Make calls until there were so many, or for `_WARM_NS`, some at a time."""
    calls, start = 0, perf_counter_ns()
    while calls < number and perf_counter_ns() - start < _WARM_NS:
        timed_calls(prepared, step)
        calls += step


def check(prepared: PreparedCall) -> None:
    """Compare the last timed call's result and the inputs with their expected values.

    Raises
    ------
    WrongResult
    """
    _check_last(prepared)
    if not prepared.changes_input and any(map(prepared.changed, prepared.inputs, prepared.input_indices)):
        raise WrongResult("the timed calls changed the input, but the audited calls did not")


def last_bytes(prepared: PreparedCall) -> int:
    """Return the total size of the arrays of the last timed call's result, in bytes."""
    return sum(array.nbytes for array in prepared.values(prepared.last_result))


def use_one_thread(cases: Sequence[PreparedCall]) -> list[bool]:
    """Return for each case whether a warmed-up call does all its work in the calling thread."""
    calls = [prepared.fenced_call(0) for prepared in cases]
    sleep(_REST_SECONDS)
    alone = []
    for call in calls:
        # The thread's interval encloses the process's. Time between two readings, such as an interrupt, is then never
        # attributed to another thread.
        thread, process = thread_time_ns(), process_time_ns()
        call()
        sleep(_REST_SECONDS)
        process = process_time_ns() - process
        alone.append(process - (thread_time_ns() - thread) < _OTHER_THREADS_NS)
    return alone


def _check_last(prepared: PreparedCall) -> None:
    if reason := clock.replaced():
        raise WrongResult(reason)
    if prepared.last_result is None:
        return
    try:
        values = prepared.values(prepared.last_result)
        reason = prepared.truth.refuse(prepared.last_k, values) if prepared.truth else None
        if reason and prepared.truth:
            reason = prepared.truth.explain(prepared.last_k, values, reason)
    except TypeError as exception:
        reason = str(exception)
    if reason:
        raise WrongResult(f"{reason} (in a timed call)")


def timed_calls(prepared: PreparedCall, n: int) -> Sample:
    """Time `n` calls, without any calls before them."""
    prepared.last_result = None
    prepared.turn_inputs()
    state = disturbance.state()
    if prepared.changes_input:
        timed_ns, reset_ns, result = clock.one_by_one(prepared.call, prepared.next_arguments, n, prepared.runtime.fence)
    else:
        reset_ns = 0
        turn = next(prepared.turns)
        order = [(turn + i) % len(prepared.inputs) for i in range(len(prepared.inputs))]
        inputs = [prepared.build(prepared.inputs[i]) for i in order]
        out = () if prepared.out is None else (prepared.out_argument(),)
        timed_ns, result = clock.batched(prepared.call, inputs, out, n, prepared.runtime.fence)
        last_index = order[(n - 1) % len(order)]
        prepared.x, prepared.k = prepared.inputs[last_index], prepared.input_indices[last_index]
    prepared.calls_left -= n
    mark = disturbance.mark(state, disturbance.state(), timed_ns)
    prepared.last_result, prepared.last_k = prepared.completed_result(result), prepared.k
    return Sample(timed_ns / n * 1e-9, n, reset_ns * 1e-9, mark)
