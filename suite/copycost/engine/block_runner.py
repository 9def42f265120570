"""Block runner: time one more block of several cases, interleaved."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from copycost.cases.case import Case
from copycost.catalog import discovery
from copycost.engine.case_state import CaseState, Files, Group
from copycost.engine.copy_speed import CopySpeed
from copycost.engine.passes import device_timing, timing
from copycost.engine.prepared_call import CaseJob
from copycost.engine.records import BlockRecord, DeviceSample, Sample
from copycost.engine.worker import CaseFailure, Worker
from copycost.engine.worker_pool import WorkerPool
from copycost.machine import devices
from copycost.stats.intervals import FEWEST_BLOCKS


@dataclass
class _Running:
    """A case in the current block: its worker, None once it has ended, and the samples so far."""

    state: CaseState
    worker: Worker | None = None
    samples: list[Sample] = field(default_factory=list)
    device: list[DeviceSample] = field(default_factory=list)


class BlockRunner:
    """Runs blocks on the workers of a pool.

    Parameters
    ----------
    pool : WorkerPool
    threads : int
        Number of threads of every runtime.
    blocks : int
        Maximum number of blocks per case.
    order : random.Random
        Source of the random order of workers and samples, and of a block's CPU.
    on_case : callable
        Progress callback ``on_case(case, doing)``.
    """

    def __init__(
        self, pool: WorkerPool, threads: int, blocks: int, order: random.Random, on_case: Callable[[Case, str], None]
    ) -> None:
        self.pool, self.threads, self.blocks, self.random, self.on_case = pool, threads, blocks, order, on_case
        self.copy_speed = CopySpeed(pool, threads)
        self._cpus = sorted(os.sched_getaffinity(0))
        self._interrupted = False

    def start(self, state: CaseState, files: Files, cpu: int | None = None) -> Worker:
        """Start a worker in which the case's call is prepared, pinned to a CPU if one is given.

        Raises
        ------
        CaseFailure
        """
        variant = state.case.variant
        worker = self.pool.worker(variant.runtime, variant.source)
        job = CaseJob(
            variant.source, state.case.recipe.name, variant.name, variant.runtime, variant.writes, state.case.device,
            self.threads, *files, str(state.case.computed_dtype), self.pool.places.get(variant.source), cpu,
        )  # fmt: skip
        self.pool.open(state, worker, job)
        return worker

    def run(self, states: Sequence[CaseState], group: Group, rounds: int, copies: list[float] | None = None) -> None:
        """Run one more block of every case: start fresh workers, sample them in random order, check the results.

        Only complete blocks are recorded. If the block of a case fails, neither that case nor the other side of it
        (base or head) records the block.

        All cases that use a single CPU are pinned to the same one. On a shared machine, two CPUs can differ in speed
        for seconds.

        Parameters
        ----------
        states : sequence of CaseState
            This must be the first block of either all of them or none. A case that fails has a measurement afterwards.
            If it timed out with enough blocks, its `ended` is ``"timeout"`` instead.
        group : Group
        rounds : int
            Number of samples per case.
        copies : list of float, optional
            The copy speed of the cases' device, measured once per round, is appended to it if it can be measured.
        """
        # Shuffle, because the worker that starts first gets the memory that the block before has released.
        running = [_Running(state) for state in self.random.sample(list(states), len(states))]
        self._interrupted = False
        try:
            self._begin(running, group, rounds)
            for _ in range(rounds):
                self._round(running, copies)
            self._end(running)
        except BaseException:
            self._interrupted = True
            self.pool.abandon()
            self.copy_speed.forget()
            raise
        finally:
            self._close(running)

    def _begin(self, running: Sequence[_Running], group: Group, rounds: int) -> None:
        """Start the workers and make the first calls of the block."""
        account = self.pool.time_account
        first = not running[0].state.records
        cpu = self.random.choice(self._cpus)
        # Pin both sides of a case or neither, so that placement does not cause a difference between them.
        moving = {one.state.case.key for one in running if not one.state.one_thread}

        def start(one: _Running) -> None:
            if not self._interrupted:
                one.worker = self.start(one.state, group.files, None if one.state.case.key in moving else cpu)

        def begin(one: _Running) -> None:
            assert one.worker is not None
            state = one.state
            ready = self.pool.ask(
                state, one.worker, "compile and start", timing.calibrate,
                bool(state.fields["input_changed"]), state.leaked_bytes, None if first else state.n, rounds,
            )  # fmt: skip
            if first:
                state.first, state.n = ready.seconds_first, ready.calls

        with account.wall():
            self.pool.each(self._guarded(start), running, len(running))
            # The first call of the first block is reported, so nothing else may run in parallel.
            self.pool.each(self._guarded(begin), _alive(running), 1 if first else len(running))
        if first:
            _agree_on_calls([one.state for one in _alive(running)])

    def _round(self, running: Sequence[_Running], copies: list[float] | None) -> None:
        """Take one sample of every case, in random order."""

        def sample(one: _Running) -> None:
            assert one.worker is not None
            self.on_case(one.state.case, "timing")
            taken = self.pool.ask(one.state, one.worker, "timed calls", timing.sample, one.state.n)
            one.samples.append(taken)
            if has_own_clock(one.state.case):
                one.device.append(
                    self.pool.ask(one.state, one.worker, "timed calls", device_timing.sample, taken.seconds)
                )

        order = _alive(running)
        self.random.shuffle(order)
        with self.pool.time_account.wall():
            for one in order:
                self._guarded(sample)(one)
        if copies is not None:
            with self.pool.time_account.wall("copy speed"):
                copies += self.copy_speed.measure(running[0].state.case)

    def _end(self, running: Sequence[_Running]) -> None:
        """Check the last results, and record the blocks that are complete."""

        def check(one: _Running) -> None:
            assert one.worker is not None
            self.pool.ask(one.state, one.worker, "check", timing.check)

        with self.pool.time_account.wall("other"):
            condition = devices.condition() if running[0].state.case.device == "gpu" else None
        with self.pool.time_account.wall():
            self.pool.each(self._guarded(check), _alive(running), len(running))
        cut = {one.state.case.key for one in running if one.worker is None}
        for one in running:
            if one.state.case.key not in cut:
                one.state.records.append(BlockRecord(tuple(one.samples), tuple(one.device), condition))

    def _close(self, running: Sequence[_Running]) -> None:
        workers = [one.worker for one in running if one.worker is not None]
        with self.pool.time_account.wall("other"):
            for worker in workers:
                worker.kill()  # kill all before closing any: the kernel takes a while to free a process's memory
            for worker in workers:
                self.pool.close_worker(worker)

    def _guarded(self, function: Callable[[_Running], None]) -> Callable[[_Running], None]:
        """Return the function, with a failure of its case noted instead of raised."""

        def guarded(one: _Running) -> None:
            try:
                function(one)
            except CaseFailure as failure:
                if self._interrupted:  # the session itself has killed the worker
                    return
                one.worker = None
                state = one.state
                if failure.status == "timeout" and len(state.records) >= min(FEWEST_BLOCKS, self.blocks):
                    state.ended = "timeout"
                else:
                    state.end(failure.status, failure.reason)

        return guarded


def has_own_clock(case: Case) -> bool:
    """Return whether a case runs on an asynchronous device, which has its own clock."""
    return case.device != "cpu" and discovery.runtime(case.variant.runtime).gpu is not None


def _alive(running: Sequence[_Running]) -> list[_Running]:
    return [one for one in running if one.worker is not None]


def _agree_on_calls(states: Sequence[CaseState]) -> None:
    """Have both sides of a case make the same number of calls in a sample, because its first calls are slow."""
    for state in states:
        sides = [other for other in states if other.case.key == state.case.key]
        leak = any(side.leaked_bytes for side in sides)
        state.n = (min if leak else max)(side.n for side in sides)
