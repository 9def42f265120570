"""A prepared call and its arrays: audit, trace, time and profile it in this process."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from time import perf_counter, perf_counter_ns, process_time_ns, sleep, thread_time_ns
from typing import Any

import numpy as np

from copycost import registry
from copycost.cases.images import swap
from copycost.catalog import discovery, import_context
from copycost.engine import clock
from copycost.engine.compare_arrays import overlap, same
from copycost.engine.count_allocations import count
from copycost.engine.line_profiler import completed, lines, placed
from copycost.engine.records import AllocationTrace, Audit, Calibration, DeviceSample, Sample
from copycost.engine.references import ExpectedResults, argument, larger_error, load_references
from copycost.engine.source_code import code
from copycost.machine import disturbance
from copycost.machine.memory import free_memory
from copycost.model.allocation import (
    THRESHOLD,
    median_summary,
    pool,
    summarize,
)
from copycost.model.call_profile import CallProfile, Span
from copycost.model.errors import describe
from copycost.model.runtime import ConsumedArrayError, Runtime
from copycost.stats.intervals import ROUNDS

#: Name, array and address range of each argument of a call.
_Places = list[tuple[str, Any, tuple[int, int] | None]]


#: Calls in an audit. They cycle through the inputs of the case.
AUDIT_CALLS = 20


#: Fraction of the free memory that the calls of a block may leak in total.
_GROWTH = 0.1


#: Upper limit of the random allocation that each block makes first, in multiples of 16 bytes. The heap addresses of a
#: block's arrays depend on earlier allocations. Without a random one they would be the same in all blocks of one
#: commit, and differ from those of the other commit.
_DISPLACEMENTS = 4096


_displaced: bytearray | None = None


#: Maximum number of allocation events in the timeline of a call.
_LONGEST_TIMELINE = 400


#: Calls before the profiled one.
_WARM = 3


#: Bytes written to flush the cache, in multiples of its size. A write of just its size may leave older contents in it.
_FLUSHED = 2


#: Maximum number of calls in a sample of device times, and the approximate duration of such a sample in seconds.
_DEVICE_CALLS, _DEVICE_SECONDS = 20, 0.02


#: CPU time of other threads, in nanoseconds, from which a call counts as multithreaded. A fraction of the call's
#: duration would not be meaningful: on a busy machine a thread that waits for another thread spins for a long time.
_ELSEWHERE_NS = 10_000


#: Seconds for other threads to become idle: those of GNU's OpenMP spin for 16 ms after their work. A thread's CPU time
#: becomes visible to other threads when it goes to sleep, or at the kernel's next tick.
_TO_REST = 0.03


#: Rounds of a call on new values and a call on known values: initial rounds, and additional rounds if the initial ones
#: differ. Calls that take less than `_SHORTEST_NEW` seconds are not compared.
_NEW_ROUNDS, _MORE_ROUNDS, _SHORTEST_NEW = 3, 12, 20e-6


#: Results count as remembered if calls on new values take at least `_SEEN_BEFORE` times as long as calls on known
#: values, and longer in at least a fraction `_IN_ORDER` of all pairs. With 15 calls each, that many pairs are in this
#: order by chance once in 800,000 times (Mann–Whitney U of 214 or more).
_SEEN_BEFORE, _IN_ORDER = 2.0, 0.95


@dataclass(frozen=True)
class CaseJob:
    """Parameters of a block.

    Attributes
    ----------
    source, recipe, variant, runtime, writes, device : str
    threads : int
    inputs : tuple of tuple of str
        ``.npy`` files with the inputs, in the case's dtype and layout: one file per array of an input. The second
        input is the twin of the first.
    twins : tuple of str
        ``.npy`` files with the indices at which the first two inputs differ.
    references : tuple of str
        Path of each input's reference: see `save_references`.
    dtype : str
        Required dtype of a floating-point result.
    place : ImportContext or None
        Import context of the source. None if this process has imported the source already.
    cpu : int or None
        CPU that the block is pinned to. None unless the case uses a single CPU.
    """

    source: str
    recipe: str
    variant: str
    runtime: str
    writes: str
    device: str
    threads: int
    inputs: tuple[tuple[str, ...], ...]
    twins: tuple[str, ...]
    references: tuple[str, ...]
    dtype: str
    place: import_context.ImportContext | None = None
    cpu: int | None = None

    def start(self) -> PreparedCall:
        """Choose the device and prepare the call."""
        if self.cpu is not None:
            # Pin before any array exists, so that its memory is local to the CPU.
            os.sched_setaffinity(0, {self.cpu})
        global _displaced
        _displaced = bytearray(16 * random.SystemRandom().randrange(_DISPLACEMENTS))
        if self.place is not None:
            import_context.load_at(self.place, self.source)
        runtime = discovery.runtime(self.runtime)
        runtime.start(self.device, self.threads)
        prepare = registry.variants[self.recipe, self.variant].prepare
        assert prepare is not None  # it was registered in this process
        truth = ExpectedResults([load_references(name) for name in self.references], np.dtype(self.dtype))
        block = PreparedCall(
            runtime,
            prepare,
            self.writes,
            self.device,
            [tuple(np.load(name, mmap_mode="r") for name in one) for one in self.inputs],
            truth,
            truth.nothing() if self.writes == "out" else None,
            twins=tuple(np.load(name) for name in self.twins),
        )
        if self.place is not None:
            import_context.check_origin(self.place)  # after preparing, which may import more modules
        return block


class WrongResult(Exception):
    """Raised if a timed call's result, or its effect on its input, differs from the audit."""


class PreparedCall:
    """One prepared call and its arrays.

    Parameters
    ----------
    runtime : Runtime
    prepare : callable
        ``prepare(x)`` returns the call.
    writes, device : str
    pixels : list of tuple of ndarray
        Values of each input: one or two arrays.
    truth : ExpectedResults or None
        None if there is no reference.
    nothing : tuple of ndarray or None
        Contents of each `out` before a call. None if the call takes no `out`.
    mutable : bool, optional
        Whether the first array of an input is writable. By default it is if `writes` is ``"input"``.
    twins : tuple of ndarray, optional
        For each array of an input, the indices at which the first two inputs differ. The block then turns one into
        the other in place. By default they may differ everywhere.
    """

    def __init__(
        self,
        runtime: Runtime,
        prepare: Callable[[Any], Callable[..., Any]],
        writes: str,
        device: str,
        pixels: list[tuple[np.ndarray, ...]],
        truth: ExpectedResults | None,
        nothing: tuple[np.ndarray, ...] | None,
        mutable: bool | None = None,
        twins: tuple[np.ndarray, ...] | None = None,
    ) -> None:
        self.runtime, self.writes, self.device = runtime, writes, device
        self.mutable = writes == "input" if mutable is None else mutable
        self.pixels, self.truth, self.nothing, self.twins = pixels, truth, nothing, twins
        self.x: tuple[Any, ...] = ()
        self.k = 0  # index of the input that `x` holds
        self.cleared: tuple[Any, ...] = ()
        self.out = tuple(runtime.array(one, True) for one in nothing) if nothing is not None else None
        example = self._input(0)
        self.plain = isinstance(example[0], np.ndarray)
        self.pristine: dict[int, tuple[Any, ...]] = {}
        call = prepare(argument(example))
        self.prepared = call, prepare
        if not callable(call):
            raise TypeError(f"prepare returned {type(call).__name__}, not a function")
        wait = runtime.wait
        self.call: Callable[..., Any] = call if wait is None else lambda *args: wait(call(*args))
        self.inputs: list[tuple[Any, ...]] = []  # those of the timed calls, used cyclically
        self.holding: list[int] = []  # index of the input that each of them holds
        self.turns = itertools.count(random.SystemRandom().randrange(len(pixels)))
        self.last: Any = None  # the last timed call's result
        self.last_k = 0  # index of its input
        self.changes = False
        self.calls_left = math.inf  # finite if each call leaks memory
        self.samples = 2 * ROUNDS
        self._flush: Callable[[], None] | None = None

    def try_out(self) -> tuple[bool, float]:
        """Call once; return whether the call returned a value, and its duration in seconds."""
        self.x = self._input(0)
        start = perf_counter_ns()
        returned = self.call(*self._args())
        self.runtime.fence()
        return returned is not None, (perf_counter_ns() - start) * 1e-9

    def audit(self, calls: int = AUDIT_CALLS) -> Audit:
        """Audit calls on all inputs, first in new arrays and then in a reused one, and check every result."""
        right: dict[int, list[np.ndarray]] = {}
        held: Any = None
        found = Audit("ok", None, max_abs_error=0.0, max_ulp=0.0)
        if self.truth is None:
            found = Audit("unchecked", "no reference was given")
        for i in range(calls):
            k = i % len(self.pixels)
            at = f" (call {i + 1})"
            try:
                # Pass each input in a new array first, then reuse one array for other pixels: a variant that remembers
                # results by array returns the old one.
                self.x = self._input(k) if i < len(self.pixels) else self._with(self.x, self.k, k)
                self.k = k
                self._clear_out()
                self.runtime.fence()
            except KeyboardInterrupt:
                raise
            except BaseException as exception:  # a call may have made its array read-only or changed its shape
                return replace(found, status="failed", reason=f"{describe(exception)} while restoring its input" + at)
            places = self._places()
            try:
                result = self._result(self.call(*self._args()))
            except KeyboardInterrupt:  # from the user, if this is the user's own process
                raise
            except BaseException as exception:  # a variant may raise anything
                return replace(_unjudged(found), status="failed", reason=describe(exception) + at)
            try:
                # Read the values immediately: a result that is computed later counts as wrong.
                values = self._values(result)
                again = k in right and all(map(same, values, right[k]))
                snapshot = right[k] if again else [np.array(one, order="C") for one in values]
                del values  # may share the result's memory
                for one in snapshot:
                    if one.dtype.kind not in "biufc":
                        raise TypeError(f"returned an array of {one.dtype}, not of numbers")
            except TypeError as exception:
                return replace(_unjudged(found), status="wrong", reason=str(exception) + at)
            found = self._look(found, result, k, places)
            self.changes = bool(found.input_changed)
            reason = None
            if self.truth is not None and not again:
                verdict = self.truth.judge(k, snapshot)
                reason = verdict.reason
                found = replace(
                    found,
                    max_abs_error=larger_error(found.max_abs_error, verdict.max_abs_error),
                    max_ulp=larger_error(found.max_ulp, verdict.max_ulp),
                )
            if k not in right:
                right[k] = snapshot
            reason = reason or self._misplaced(result, k, snapshot, places)
            if held is not None and not reason and not all(map(same, self._values(held), right[0])):
                reason = "an earlier result was changed by a later call"
            held = result if i == 0 and found.result_shares == "nothing" else None
            if i > 0:
                self._spoil(result, places)
            result = None
            if reason:
                return replace(found, status="wrong", reason=reason + at)
        try:
            reason = self._remembers()
        except Exception as exception:  # any call may raise
            return replace(found, status="failed", reason=describe(exception))
        if reason:
            return replace(found, status="wrong", reason=reason)
        return replace(found, code=code(*self.prepared))

    def _remembers(self) -> str | None:
        """Return why results seem to be remembered by the values of the input, or None.

        The method times calls on new values and as many calls on known values, in random order. If nothing is
        remembered, disturbances affect both alike.
        """
        took: dict[bool, list[float]] = {True: [], False: []}  # key: whether the values are new
        values = [array.copy() for array in self.pixels[0]]
        last = len(self.pixels) - 1
        x, between = self._input(0), self._input(last)
        for rounds in (_NEW_ROUNDS, _MORE_ROUNDS):
            for _ in range(rounds):
                places = [swap(array) for array in values]
                for new in random.sample((True, False), 2):
                    x = self._changed_to(x, values if new else self.pixels[0], places)
                    if self.changes:
                        between = self._with(between, last, last)
                    # Call on another input first, so that threads and caches are in the same state for both.
                    for given in (between, x):
                        self._clear_out()
                        seconds = self._timed(given)
                    took[new].append(seconds)
                    x = self._changed_to(x, self.pixels[0], places)
                for array, seen, where in zip(values, self.pixels[0], places, strict=True):
                    array.reshape(-1)[where] = seen.reshape(-1)[where]
            first, later = median(took[True]), median(took[False])
            if first < _SHORTEST_NEW or first < _SEEN_BEFORE * later:
                return None
        longer = sum(new > seen for new in took[True] for seen in took[False])
        if longer < _IN_ORDER * len(took[True]) ** 2:
            return None
        return (
            f"a call on new values takes {first * 1e6:,.0f} µs, but a call on known values takes "
            f"{later * 1e6:,.0f} µs: it remembers results"
        )

    def _timed(self, x: tuple[Any, ...]) -> float:
        """Return the duration of one call in seconds."""
        args = self._args(x)
        self.runtime.fence()
        start = perf_counter_ns()
        self.call(*args)
        self.runtime.fence()
        return (perf_counter_ns() - start) * 1e-9

    def _look(self, found: Audit, result: Any, k: int, places: _Places) -> Audit:
        """Add the properties of a result, and any change of the input, to earlier findings."""
        shares = self._shares(result, places)
        return replace(
            found,
            input_changed=bool(found.input_changed) or self._changed(self.x, k),
            result_shares=shares if shares != "nothing" else found.result_shares or shares,
            result_dtype=", ".join(str(one.dtype) for one in self._values(result)),
            result_contiguous=found.result_contiguous is not False
            and all(map(self.runtime.contiguous, self._parts(result))),
        )

    def _changed(self, x: tuple[Any, ...], k: int) -> bool:
        """Return whether an input differs from its original values."""
        try:
            return not all(map(same, map(self.runtime.to_numpy, x), self.pixels[k]))
        except ConsumedArrayError:
            return True

    def _spoil(self, result: Any, places: _Places) -> None:
        """Overwrite a caller-owned result to detect variants that return a cached result."""
        if self.writes != "new" or self._shares(result, places) != "nothing":
            return
        for part in self._parts(result):
            if self.runtime.spoil is not None:
                self.runtime.spoil(part)
                continue
            values = self.runtime.to_numpy(part)
            if values.flags.writeable:
                values[...] = np.nan if values.dtype.kind in "fc" else np.invert(values)

    def _misplaced(self, result: Any, k: int, snapshot: list[np.ndarray], places: _Places) -> str | None:
        """Return why the array that the variant must write to does not hold the result, or None."""
        if self.writes == "new" or self._shares(result, places) == self.writes:
            return None
        try:
            held = self._values(self._target())
            right = (
                self.truth.judge(k, held, ulp=False).reason is None if self.truth else all(map(same, held, snapshot))
            )
        except (ConsumedArrayError, TypeError):
            right = False
        if right:
            return None
        return "the result is not in the " + ("buffer passed as out" if self.writes == "out" else "input")

    def one_thread(self) -> bool:
        """Return whether a warmed-up call does all its work in the calling thread."""
        call = self._fenced_call(0)
        sleep(_TO_REST)
        # The thread's interval encloses the process's. Time between two readings, such as an interrupt, is then never
        # attributed to another thread.
        thread, process = thread_time_ns(), process_time_ns()
        call()
        sleep(_TO_REST)
        process = process_time_ns() - process
        return process - (thread_time_ns() - thread) < _ELSEWHERE_NS

    def allocations(self) -> AllocationTrace:
        """Trace a few warmed-up calls, each on its own input, under one instrument after the other."""
        traced, agree = self._allocations()
        # A pool may have grown between the calls. Differences that persist in a second trace are real.
        return traced if agree else self._allocations()[0]

    def first(self, changes: bool, leaked_bytes: int, calls: int | None, rounds: int = ROUNDS) -> Calibration:
        """Time the first call, warm up, and find the number of calls in a sample.

        Parameters
        ----------
        changes : bool
            Whether the audit saw the input change. The input is then restored before every call.
        leaked_bytes : int
            Bytes that each call leaks.
        calls : int or None
            Calls in a sample, as found by an earlier block. None finds it here.
        rounds : int, optional
            Number of samples that follow.
        """
        self.changes = changes
        self.holding = list(range(len(self.pixels)))
        # Each input has its own arrays: a variable is never shared. An input that is restored before every call needs
        # only one copy.
        self.inputs = [self._input(k) for k in (self.holding[:1] if changes else self.holding)]
        self.samples = 2 * rounds  # as many again for finding `n` and warming up
        if leaked_bytes > 0:
            self.calls_left = max(self.samples, _GROWTH * free_memory() / leaked_bytes)
        first = self._sample(1).seconds
        if calls is not None:
            self._sample(max(2, calls))
            return Calibration(first, calls)
        n = 1
        while True:
            took = self._sample(n)
            if took.seconds * n * 1e9 >= clock.SAMPLE_NS or 2 * n > self._most_per_sample():
                return Calibration(first, n)
            # Grow at most tenfold: the first calls are slow.
            n = int(min(10 * n, self._most_per_sample(), max(2 * n, clock.SAMPLE_NS * 1.2e-9 / took.seconds)))

    def sample(self, n: int) -> Sample:
        """Take a sample of `n` timed calls.

        An untimed call precedes short calls, because other cases have used the caches since the last sample.

        Raises
        ------
        WrongResult
            If the last result is wrong. It is checked in about one sample of a block, chosen at random.
        """
        if n > 1 and self.calls_left == math.inf:
            self._sample(1)
        taken = self._sample(n)
        if random.SystemRandom().randrange(ROUNDS) == 0:
            self._check_last()
        return taken

    def device_sample(self, seconds: float) -> DeviceSample:
        """Time a few separate calls: until each is queued, by the device's clock, and with its cache flushed.

        Parameters
        ----------
        seconds : float
            Known duration of a call.
        """
        gpu, fence = self.runtime.gpu, self.runtime.fence
        assert gpu is not None
        n = max(1, min(_DEVICE_CALLS, int(_DEVICE_SECONDS / seconds), self._most_per_sample() // 4))
        self.calls_left -= 4 * n
        if self._flush is None:
            self._flush = gpu.write(_FLUSHED * gpu.cache_bytes())
        flush, i = self._flush, next(self.turns) % len(self.holding)

        def warm() -> tuple[Any, ...]:
            # Use the same input every time, so that it is in the device's cache as far as it fits.
            return self._timed_args(i)

        def cold() -> tuple[Any, ...]:
            args = warm()
            flush()
            return args

        self.last = None
        launch, result = clock.queued(self.call, warm, n, fence)
        # Time the warm calls first: the call after a flush is cold.
        device = gpu.seconds(self.call, warm, n) if gpu.seconds is not None else None
        cold_device = gpu.seconds(self.call, cold, n) if gpu.seconds is not None else None
        ns, _, result = clock.one_by_one(self.call, cold, n, fence)
        self.last, self.last_k = self._result(result), self.k
        return DeviceSample(launch / n * 1e-9, device, ns / n * 1e-9, cold_device)

    def check(self) -> None:
        """Compare the last timed call's result and the inputs with their expected values.

        Raises
        ------
        WrongResult
        """
        self._check_last()
        if not self.changes and any(map(self._changed, self.inputs, self.holding)):
            raise WrongResult("the timed calls changed the input, but the audited calls did not")

    def last_bytes(self) -> int:
        """Return the total size of the arrays of the last timed call's result, in bytes."""
        return sum(one.nbytes for one in self._values(self.last))

    def _check_last(self) -> None:
        if reason := clock.replaced():
            raise WrongResult(reason)
        if self.last is None:
            return
        try:
            values = self._values(self.last)
            reason = self.truth.judge(self.last_k, values, ulp=False).reason if self.truth else None
        except TypeError as exception:
            reason = str(exception)
        if reason:
            raise WrongResult(f"{reason} (in a timed call)")

    def _arrays(self, k: int, mutable: bool) -> tuple[Any, ...]:
        """Return input `k` in new arrays, of which only the first can be writable."""
        return tuple(self.runtime.array(one, mutable and i == 0) for i, one in enumerate(self.pixels[k]))

    def _input(self, k: int) -> tuple[Any, ...]:
        return self._arrays(k, self.mutable)

    def _with(self, x: tuple[Any, ...], k: int, to: int) -> tuple[Any, ...]:
        """Return input `to`, reusing the arrays `x` if possible: they hold input `k`, which a call may have changed."""
        if {k, to} == {0, 1} and self.twins is not None and not self.changes and self._lies_in_host_memory(x, k):
            return self._changed_to(x, self.pixels[to], self.twins)
        return tuple(map(self.runtime.restore, x, self._pristine(to)))

    def _pristine(self, k: int) -> tuple[Any, ...]:
        """Return input `k` as arrays of the runtime that are never written to."""
        # A runtime that takes NumPy arrays can use the values themselves: memory new to a process is slow to write to.
        if self.plain:
            return self.pixels[k]
        if k not in self.pristine:
            self.pristine[k] = self._arrays(k, False)
        return self.pristine[k]

    def _lies_in_host_memory(self, x: tuple[Any, ...], k: int) -> bool:
        """Return whether the values of an input are unchanged, contiguous and writable by the host."""
        if self.device != "cpu" or self.mutable:
            return False
        try:
            places = list(map(self.runtime.extent, x))
        except ConsumedArrayError:
            return False
        sizes = [one.nbytes for one in self.pixels[k]]
        return all(place and place[1] - place[0] == size for place, size in zip(places, sizes, strict=True))

    def _changed_to(self, x: tuple[Any, ...], values: Sequence[np.ndarray], places: Sequence[np.ndarray]) -> Any:
        """Return the arrays `x` with other values in some places: modified in place if possible, else new arrays."""
        if self.changes or not self._lies_in_host_memory(x, 0):
            return tuple(self.runtime.array(one, self.mutable and i == 0) for i, one in enumerate(values))
        for array, one, where in zip(x, values, places, strict=True):
            start, stop = self.runtime.extent(array) or (0, 0)
            memory = np.ctypeslib.as_array((ctypes.c_ubyte * (stop - start)).from_address(start))
            memory.view(one.dtype)[where] = one.reshape(-1)[where]
        return x

    def _turn(self) -> None:
        """Swap the twins among the timed inputs: a variant that remembers results by array then returns a wrong one."""
        for i, k in enumerate(self.holding):
            if k in (0, 1) and len(self.pixels) > 1 and not self.changes:
                self.inputs[i] = self._with(self.inputs[i], k, 1 - k)
                self.holding[i] = 1 - k

    def _clear_out(self) -> None:
        """Reset the output buffers, to erase the results of earlier calls."""
        if self.out is None or self.nothing is None:
            return
        if not self.plain and not self.cleared:
            self.cleared = tuple(self.runtime.array(one, False) for one in self.nothing)
        self.out = tuple(map(self.runtime.restore, self.out, self.nothing if self.plain else self.cleared))

    def _args(self, x: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        given = argument(self.x if x is None else x)
        return (given,) if self.out is None else (given, argument(self.out))

    def _next_args(self) -> tuple[Any, ...]:
        return self._timed_args(next(self.turns) % len(self.holding))

    def _timed_args(self, i: int) -> tuple[Any, ...]:
        """Return the arguments of a timed call: one of the inputs with its original values."""
        if self.changes:
            self.k = i
            self.inputs[0] = self._with(self.inputs[0], i, i)
            self.x = self.inputs[0]
        else:
            self.k = self.holding[i]
            self.x = self.inputs[i]
        return self._args()

    def _target(self) -> Any:
        return self.x[0] if self.out is None else argument(self.out)

    def _result(self, returned: Any) -> Any:
        """Return the result of a call: its return value or, if that is None, the array that it must write to."""
        return self._target() if returned is None and self.writes != "new" else returned

    def _parts(self, result: Any) -> tuple[Any, ...]:
        """Return the arrays of a result, which can be several if the reference has several or if there is none."""
        several = isinstance(result, tuple | list)
        if self.truth is None:
            return tuple(result) if several and all(hasattr(one, "dtype") for one in result) else (result,)
        n = len(self.truth.references[0])
        if n > 1 and not (several and len(result) == n):
            what = f"{type(result).__name__} of {len(result)}" if several else type(result).__name__
            raise TypeError(f"returned {what}, not {n} arrays")
        return tuple(result) if n > 1 else (result,)

    def _values(self, result: Any) -> list[np.ndarray]:
        """Return the current values of a result's arrays; each may share the result's memory."""
        return [self.runtime.to_numpy(part) for part in self._parts(result)]

    def _places(self) -> _Places:
        """Return the address ranges of a call's arrays before the call, which may consume one of them."""
        named = [("input", array) for array in self.x] + [("out", array) for array in self.out or ()]
        return [(name, array, self.runtime.extent(array)) for name, array in named]

    def _shares(self, result: Any, places: _Places) -> str:
        for part in self._parts(result):
            where = self.runtime.extent(part)
            for name, array, before in places:
                try:
                    place = self.runtime.extent(array)
                except ConsumedArrayError:
                    place = before
                if part is array or overlap(where, place):
                    return name
        return "nothing"

    def _sample(self, n: int) -> Sample:
        self.last = None
        self._turn()
        before = disturbance.state()
        if self.changes:
            timed, reset, result = clock.one_by_one(self.call, self._next_args, n, self.runtime.fence)
        else:
            reset = 0
            first = next(self.turns)
            order = [(first + i) % len(self.inputs) for i in range(len(self.inputs))]
            given = [argument(self.inputs[i]) for i in order]
            out = () if self.out is None else (argument(self.out),)
            timed, result = clock.batched(self.call, given, out, n, self.runtime.fence)
            at = order[(n - 1) % len(order)]
            self.x, self.k = self.inputs[at], self.holding[at]
        self.calls_left -= n
        mark = disturbance.mark(before, disturbance.state(), timed)
        self.last, self.last_k = self._result(result), self.k
        return Sample(timed / n * 1e-9, n, reset * 1e-9, mark)

    def _most_per_sample(self) -> int:
        # Calls that are timed one by one each include a fence, and a tenth of a second of them is enough.
        most = 100 if self.changes else clock.MOST_CALLS
        return max(1, int(min(most, self.calls_left / self.samples)))

    def _allocations(self) -> tuple[AllocationTrace, bool]:
        """Return the allocations of the traced calls, and whether these calls agree."""
        counted = count(self._fenced_call, self.runtime, on_host=self.device == "cpu", size=self._owned)
        host, traces, leaked = counted.library, counted.runtime, counted.leaked_bytes
        on_host = counted.host()
        instruments, missing = counted.instruments, counted.missing
        in_host = [summarize(e for e in events if e.space == "host") for events in traces]
        in_device = [summarize(e for e in events if e.space == "device") for events in traces]
        device, ranges = median_summary(in_device)
        ranges = {f"device_{name}": both for name, both in ranges.items()}
        total = None
        agree = not ranges
        if host is not None and on_host is not None:
            total, unequal = median_summary(on_host)
            peaks = (
                median_summary([summarize(events) for events in host])[0].peak_bytes,
                median_summary(in_host)[0].peak_bytes,
            )
            agree = agree and not unequal.keys() - ({"peak_bytes"} if min(peaks) else set())
            if min(peaks):
                # Two instruments watch two calls, so how their peaks coincide is not known.
                unequal["peak_bytes"] = [max(peaks), sum(peaks)]
            ranges |= {f"host_{name}": both for name, both in unequal.items()}
        seen = [*(host[-1] if host is not None else ()), *traces[-1]]
        timeline = tuple(e for e in seen if abs(e.bytes) >= THRESHOLD and e.space != "driver")[:_LONGEST_TIMELINE]
        if self.device == "cpu":
            return AllocationTrace(total, None, ranges, leaked, instruments, missing, None, timeline), agree
        sees_driver = self.runtime.gpu is not None and self.runtime.gpu.sees_driver
        pools = pool(traces[-1], sees_driver)
        return AllocationTrace(total, device, ranges, leaked, instruments, missing, pools, timeline), agree

    def _owned(self, result: Any) -> int:
        """Return the bytes of a result that lie outside the caller's arrays."""
        return sum(map(_nbytes, self._parts(result))) if self.writes == "new" else 0

    def profile(self) -> CallProfile:
        """Profile one warmed-up call."""
        for i in range(_WARM):
            self._fenced_call(i)()
        counted = count(self._fenced_call, self.runtime, windows=1, on_host=self.device == "cpu")
        library = counted.library[-1] if counted.library is not None else []
        if self.runtime.profile is not None:
            return completed(self.runtime.profile(self._fenced_call(0)), library, counted.missing)
        gpu = self.runtime.gpu if self.device != "cpu" else None
        mark = gpu.mark if gpu is not None else None
        call = self._fenced_call(0)
        begun = perf_counter()
        first = mark() if mark is not None else None
        # Leave the fence out of the profile if it has nothing to wait for.
        _, spans, marked = lines(call, mark, self.runtime.fence if gpu is None else None)
        seconds = perf_counter() - begun
        if gpu is not None and gpu.between is not None:
            for one, other, name in marked:
                took = gpu.between(one, other)
                spans.append(Span(name, "device", gpu.between(first, one), took, took))
        events = [*library, *counted.runtime[-1]]
        large = [event for event in events if abs(event.bytes) >= THRESHOLD and event.space != "driver"]
        instrument = "Python's lines" + (f", {gpu.instrument}" if gpu is not None else "")
        return CallProfile(tuple(spans), tuple(placed(large, spans)), seconds, instrument, counted.missing)

    def _fenced_call(self, i: int) -> Callable[[], Any]:
        """Return a function that calls on a fresh input, which is created now and not during the call."""
        x, wait = self._input(i % len(self.pixels)), self.runtime.wait
        args = self._args(x if wait is None else tuple(map(wait, x)))
        call, fence = self.call, self.runtime.fence

        def run() -> Any:
            result = call(*args)
            fence()
            return result

        return run


def _unjudged(found: Audit) -> Audit:
    """Return the findings, without deviations if no call has returned a result yet."""
    return found if found.result_dtype else replace(found, max_abs_error=None, max_ulp=None)


def _nbytes(result: Any) -> int:
    """Return the size of a result in bytes."""
    nbytes = getattr(result, "nbytes", None)
    if nbytes is not None:
        return int(nbytes)
    shape, dtype = getattr(result, "shape", ()), getattr(result, "dtype", None)
    size = int(np.prod(tuple(shape)))
    return size * int(getattr(dtype, "size", getattr(dtype, "itemsize", 0)) or 0)
