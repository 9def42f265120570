"""Block runner: time one more block of several cases, interleaved."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from copycost.cases.case import Case
from copycost.catalog import discovery, loading
from copycost.engine.case_state import CaseState, Files, Group
from copycost.engine.copy_speed import CopySpeed
from copycost.engine.passes import device_timing, timing
from copycost.engine.prepared_call import CaseJob
from copycost.engine.records import BlockRecord, DeviceSample, Sample
from copycost.engine.worker import CaseFailure
from copycost.engine.worker_pool import OpenJob, WorkerPool
from copycost.machine import devices
from copycost.stats.intervals import FEWEST_BLOCKS


@dataclass
class _Running:
    """A case in the current block: its job in a worker, None once it has ended, and the samples so far."""

    state: CaseState
    job: OpenJob | None = None
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

    def start(self, states: Sequence[CaseState], files: Files, cpu: int | None = None) -> list[OpenJob | CaseFailure]:
        """Start one worker in which the calls of some cases are prepared, pinned to a CPU if one is given.

        Parameters
        ----------
        states : sequence of CaseState
            Several cases share the worker. They have the same runtime and source.
        files : Files
        cpu : int, optional

        Returns
        -------
        list of OpenJob or CaseFailure
            In the order of `states`: the prepared case, or why it could not be prepared.
        """
        first = states[0].case.variant
        opened: list[OpenJob | CaseFailure] = []
        try:
            worker = self.pool.worker(first.runtime, first.source, shared=len(states) > 1)
        except CaseFailure as failure:
            return [failure] * len(states)
        for number, state in enumerate(states):
            variant = state.case.variant
            job = CaseJob(
                variant.source, state.case.recipe.name, variant.name, variant.runtime, variant.writes,
                state.case.device, self.threads, *files, str(state.case.computed_dtype),
                self.pool.places.get(variant.source), cpu,
            )  # fmt: skip
            try:
                opened.append(self.pool.open(state, worker, job, number))
            except CaseFailure as failure:
                opened.append(failure)
        return opened

    def run(
        self,
        states: Sequence[CaseState],
        group: Group,
        rounds: int,
        copies: list[float] | None = None,
        most_rounds: int | None = None,
    ) -> None:
        """Run one more block of every case: start fresh workers, sample them in random order, check the results.

        After their first block, cases that may share a process do.

        Only complete blocks are recorded. If the block of a case fails, neither that case nor the other side of it
        (base or head) records the block.

        All cases that use a single CPU are pinned to the same one. On a shared machine, two CPUs can differ in speed
        for seconds.

        Parameters
        ----------
        states : sequence of CaseState
            A case that fails has a measurement afterwards. If it timed out with enough blocks, its `ended` is
            ``"timeout"`` instead. If it failed in a process that it shared, its `alone` is True.
        group : Group
        rounds : int
            Number of samples per case, in all blocks.
        copies : list of float, optional
            The copy speed of the cases' device, measured in each of these rounds, is appended to it if it can be
            measured.
        most_rounds : int, optional
            Maximum number of rounds. More than `rounds` are made until they have taken as long as the start of the
            block: most of the noise of a block's median is between its samples, and a sample costs less than a process.
        """
        most = max(rounds, most_rounds or 0)
        # Shuffle, because the worker that starts first gets the memory that the block before has released.
        running = [_Running(state) for state in self.random.sample(list(states), len(states))]
        self._interrupted = False
        try:
            begun = monotonic()
            self._begin(running, group, most)
            started = monotonic()
            for number in range(most):
                if number >= rounds and monotonic() - started >= started - begun:
                    break
                self._round(running, copies if number < rounds else None)
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
        first = any(not case.state.records for case in running)
        cpu = self.random.choice(self._cpus)
        # Pin both sides of a case or neither, so that placement does not cause a difference between them.
        moving = {case.state.case.key for case in running if not case.state.one_thread}

        def start(bundle: list[_Running]) -> None:
            if self._interrupted:
                return
            pinned = None if bundle[0].state.case.key in moving else cpu
            for case, opened in zip(
                bundle, self.start([case.state for case in bundle], group.files, pinned), strict=True
            ):
                if isinstance(opened, OpenJob):
                    case.job = opened
                else:
                    self._fail(case, opened)

        def begin(case: _Running) -> None:
            state = case.state
            assert case.job is not None
            assert state.audit is not None
            calibration = self.pool.ask(
                state, case.job, "compile and start", timing.calibrate,
                bool(state.audit.input_changed), state.leaked_bytes, state.calls if state.records else None, rounds,
            )  # fmt: skip
            if not state.records:
                state.seconds_first, state.calls = calibration.seconds_first, calibration.calls

        with account.wall():
            # The first call of a case is made in a process of its own, because it is reported.
            by_state = {id(case.state): case for case in running}
            bundles = [[case.state] for case in running] if first else bundled([case.state for case in running])
            self.pool.each(start, [[by_state[id(state)] for state in bundle] for bundle in bundles], len(running))
            # Nothing else may run in parallel to it.
            self.pool.each(self._guarded(begin), _alive(running), 1 if first else len(running))
        if first:
            _agree_on_calls([case.state for case in _alive(running)])

    def _round(self, running: Sequence[_Running], copies: list[float] | None) -> None:
        """Take one sample of every case, in random order."""

        def sample(one: _Running) -> None:
            assert one.job is not None
            self.on_case(one.state.case, "timing")
            taken = self.pool.ask(one.state, one.job, "timed calls", timing.sample, one.state.calls)
            one.samples.append(taken)
            if has_own_clock(one.state.case):
                one.device.append(self.pool.ask(one.state, one.job, "timed calls", device_timing.sample, taken.seconds))

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
            assert one.job is not None
            self.pool.ask(one.state, one.job, "check", timing.check)

        with self.pool.time_account.wall("other"):
            condition = devices.condition() if running[0].state.case.device == "gpu" else None
        with self.pool.time_account.wall():
            self.pool.each(self._guarded(check), _alive(running), len(running))
        cut = {one.state.case.key for one in running if one.job is None}
        for one in running:
            if one.state.case.key not in cut:
                one.state.records.append(BlockRecord(tuple(one.samples), tuple(one.device), condition))

    def _close(self, running: Sequence[_Running]) -> None:
        workers = {id(case.job.worker): case.job.worker for case in running if case.job is not None}.values()
        with self.pool.time_account.wall("other"):
            for worker in workers:
                worker.kill()  # kill all before closing any: the kernel takes a while to free a process's memory
            for worker in workers:
                self.pool.close_worker(worker)

    def _guarded(self, function: Callable[[_Running], None]) -> Callable[[_Running], None]:
        """Return the function, with a failure of its case noted instead of raised."""

        def guarded(case: _Running) -> None:
            try:
                function(case)
            except CaseFailure as failure:
                self._fail(case, failure)

        return guarded

    def _fail(self, case: _Running, failure: CaseFailure) -> None:
        """End a case in the current block; end its measurement if no other case can be the cause."""
        if self._interrupted:  # the session itself has killed the worker
            return
        case.job, state = None, case.state
        if failure.shared:
            state.alone = True
        elif failure.status == "timeout" and len(state.records) >= min(FEWEST_BLOCKS, self.blocks):
            state.ended = "timeout"
        else:
            state.end(failure.status, failure.reason)


def may_share(case: Case, share: str, places: Collection[str]) -> bool:
    """Return whether a case may share a process with others.

    Parameters
    ----------
    case : Case
    share : {"shipped", "all", "none"}
        See `Plan`.
    places : collection of str
        Sources that are measured in an environment of their own.
    """
    source = case.variant.source
    trusted = share == "all" or (share == "shipped" and loading.is_builtin(source))
    alike = case.device == "cpu" and source not in places
    return trusted and alike and discovery.runtime(case.variant.runtime).slow_to_start


def bundled(states: Sequence[CaseState], most: int = sys.maxsize) -> list[list[CaseState]]:
    """Divide cases into bundles, each of which one worker serves: one case, or up to `most` that may share a process.

    Cases share a process if they come from the same fork server and if all or none of them use a single thread.
    """
    bundles: dict[tuple[Any, ...], list[CaseState]] = {}
    for state in states:
        variant = state.case.variant
        source = "copycost" if loading.is_builtin(variant.source) else variant.source
        key = (variant.runtime, source, state.one_thread) if state.shares and not state.alone else (id(state),)
        if len(bundles.get(key, ())) == most:
            bundles[*key, id(state)] = bundles.pop(key)
        bundles.setdefault(key, []).append(state)
    return list(bundles.values())


def has_own_clock(case: Case) -> bool:
    """Return whether a case runs on an asynchronous device, which has its own clock."""
    return case.device != "cpu" and discovery.runtime(case.variant.runtime).gpu is not None


def _alive(running: Sequence[_Running]) -> list[_Running]:
    return [case for case in running if case.job is not None]


def _agree_on_calls(states: Sequence[CaseState]) -> None:
    """Have both sides of a case make the same number of calls in a sample, because its first calls are slow."""
    for state in states:
        sides = [other for other in states if other.case.key == state.case.key]
        leak = any(side.leaked_bytes for side in sides)
        state.calls = (min if leak else max)(side.calls for side in sides)
