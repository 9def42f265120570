"""Block runner: time one more block of several cases, interleaved."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic, sleep

from copycost.cases.case import Case
from copycost.catalog import discovery
from copycost.engine.case_state import CaseState, Group
from copycost.engine.copy_speed import CopySpeed
from copycost.engine.group_files import Files
from copycost.engine.passes import device_timing, timing
from copycost.engine.prepared_call import CaseJob
from copycost.engine.records import BlockRecord, DeviceSample, Sample
from copycost.engine.sharing import bundle_cases
from copycost.engine.worker import CaseFailure
from copycost.engine.worker_pool import OpenJob, WorkerPool
from copycost.machine import devices
from copycost.model.vocabulary import DeviceKind
from copycost.stats.intervals import FEWEST_BLOCKS

#: Seconds for which the energy of a device is measured at least: at work on a case, and idle. The driver advances the
#: counter several times a second.
_ENERGY_SECONDS = 1.0

#: Category of the time account.
_STARTING = "compile and start"


@dataclass
class _Member:
    """A case in the current block: its job in a worker, None once it has ended, and the samples so far."""

    state: CaseState
    job: OpenJob | None = None
    samples: list[Sample] = field(default_factory=list)
    device: list[DeviceSample] = field(default_factory=list)
    conditions: list[devices.Condition] = field(default_factory=list)
    joules: float | None = None


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
        Progress callback ``on_case(case, step)``.
    energy : bool, optional
        Whether to measure the energy of calls on a GPU.
    """

    def __init__(
        self,
        pool: WorkerPool,
        threads: int,
        blocks: int,
        order: random.Random,
        on_case: Callable[[Case, str], None],
        energy: bool = False,
    ) -> None:
        self.pool, self.threads, self.blocks, self.random, self.on_case = pool, threads, blocks, order, on_case
        self.energy = energy
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
        first_variant = states[0].case.variant
        jobs: list[OpenJob | CaseFailure] = []
        try:
            worker = self.pool.worker(first_variant.runtime, first_variant.source, shared=len(states) > 1)
        except CaseFailure as failure:
            return [failure] * len(states)
        for number, state in enumerate(states):
            variant = state.case.variant
            job = CaseJob(
                variant.source, state.case.recipe.name, variant.name, variant.runtime, variant.writes,
                state.case.device, self.threads, files,
                self.pool.places.get(variant.source), cpu,
            )  # fmt: skip
            try:
                jobs.append(self.pool.open(state, worker, job, number))
            except CaseFailure as failure:
                jobs.append(failure)
        return jobs

    def run(
        self,
        states: Sequence[CaseState],
        group: Group,
        rounds: int,
        copies: list[float] | None = None,
        max_rounds: int | None = None,
        hot: bool = True,
    ) -> None:
        """Run one more block of every case: start fresh workers, sample them in random order, check the results.

        After their first block, cases whose runtime allows it share a process.

        Only complete blocks are recorded. If the block of a case fails, neither that case nor the other side of it
        (base or head) records the block.

        All cases that use a single CPU are pinned to the same one. On a shared machine, two CPUs can differ in speed
        for seconds.

        Parameters
        ----------
        states : sequence of CaseState
            A case that fails has a measurement afterwards. If it timed out with enough blocks, its
            `stopped_by` is ``"timeout"`` instead. If it failed in a process that it shared, its `shares_blocks` is
            False.
        group : Group
        rounds : int
            Number of samples per case, in all blocks.
        copies : list of float, optional
            The copy speed of the cases' device, measured in each of these rounds, is appended to it if it can be
            measured.
        max_rounds : int, optional
            Maximum number of rounds. More than `rounds` are made until they have taken as long as the start of the
            block, because a sample costs less than a process.
        hot : bool, optional
            Whether calls are made before each sample until they are hot. Otherwise, one call precedes a sample of
            several.
        """
        limit = max(rounds, max_rounds or 0)
        # Shuffle, because the worker that starts first gets the memory that the block before has released.
        members = [_Member(state) for state in self.random.sample(list(states), len(states))]
        self._interrupted = False
        try:
            start = monotonic()
            self._begin(members, group, limit)
            sampling_start = monotonic()
            for round_number in range(limit):
                if round_number >= rounds and monotonic() - sampling_start >= sampling_start - start:
                    break
                self._round(members, group, copies if round_number < rounds else None, hot)
            if self.energy and members[0].state.case.device != DeviceKind.CPU:
                self._measure_energy(members)
            self._end(members)
        except BaseException:
            self._interrupted = True
            self.pool.abandon()
            self.copy_speed.forget()
            raise
        finally:
            self._close(members)

    def _begin(self, members: Sequence[_Member], group: Group, rounds: int) -> None:
        """Start the workers and make the first calls of the block."""
        account = self.pool.time_account
        first_block = any(not member.state.records for member in members)
        cpu = self.random.choice(self._cpus)
        # Pin both sides of a case or neither, so that placement does not cause a difference between them.
        parallel_keys = {member.state.case.key for member in members if not member.state.one_thread}

        def start(bundle: list[_Member]) -> None:
            if self._interrupted:
                return
            bundle_cpu = None if bundle[0].state.case.key in parallel_keys else cpu
            jobs = self.start([member.state for member in bundle], group.files, bundle_cpu)
            for member, job in zip(bundle, jobs, strict=True):
                if isinstance(job, OpenJob):
                    member.job = job
                    prepare(member)
                else:
                    self._fail(member, job)

        @self._guard
        def prepare(member: _Member) -> None:
            state = member.state
            assert member.job is not None
            assert state.audit is not None
            changes = bool(state.audit.input_changed)
            self.pool.ask(state, member.job, _STARTING, timing.make_inputs, changes, state.leaked_bytes, rounds)
            if state.records:
                self.pool.ask(state, member.job, _STARTING, timing.timed_calls, 1)  # may trace and compile

        @self._guard
        def begin(member: _Member) -> None:
            assert member.job is not None
            calibration = self.pool.ask(member.state, member.job, _STARTING, timing.calibrate)
            member.state.seconds_first, member.state.calls = calibration.seconds_first, calibration.calls

        with account.wall():
            self.pool.each(start, self._bundles(members), len(members))
            # The first call of a case is reported. Nothing else may run in parallel to it.
            self.pool.each(begin, [member for member in _open_members(members) if not member.state.records], 1)
        if first_block:
            _agree_on_calls([member.state for member in _open_members(members)])

    def _bundles(self, members: Sequence[_Member]) -> list[list[_Member]]:
        """Divide the members into those that share a worker in this block, with those that take longest first."""

        def shares(state: CaseState) -> bool:
            # The first call of a case is made in a process of its own, because it is reported.
            return state.shares_blocks and bool(state.records)

        by_state = {id(member.state): member for member in members}
        states = [member.state for member in members]
        bundles = bundle_cases(states, max(1, -(-sum(map(shares, states)) // self.pool.parallel)), shares)
        return [[by_state[id(state)] for state in bundle] for bundle in sorted(bundles, key=len, reverse=True)]

    def _round(self, members: Sequence[_Member], group: Group, copies: list[float] | None, hot: bool) -> None:
        """Take one sample of every case, in random order."""

        def sample(member: _Member) -> None:
            assert member.job is not None
            self.on_case(member.state.case, "timing")
            before = devices.condition_by_nvml() if member.state.case.device != DeviceKind.CPU else None
            state = member.state
            warm_calls = timing.WARM_CALLS if hot else min(1, state.calls - 1)
            result = self.pool.ask(state, member.job, "timed calls", timing.sample, state.calls, warm_calls)
            member.samples.append(result)
            if has_own_clock(member.state.case):
                member.device.append(
                    self.pool.ask(member.state, member.job, "timed calls", device_timing.sample, result.seconds)
                )
            if before is not None:
                member.conditions.append(devices.during(before, devices.condition()))

        order = _open_members(members)
        self.random.shuffle(order)
        with self.pool.time_account.wall():
            for member in order:
                self._guard(sample)(member)
        if copies is not None:
            with self.pool.time_account.wall("copy speed"):
                cases = [member.state.case for member in members]
                copies += self.copy_speed.measure(cases, group.moved_bytes)

    def _measure_energy(self, members: Sequence[_Member]) -> None:
        """Measure the energy of the calls of each case, in random order, and of the idle device before them."""

        def measure(member: _Member) -> None:
            assert member.job is not None
            self.on_case(member.state.case, "energy")
            begin, start = devices.energy_joules(), monotonic()
            calls = self.pool.ask(member.state, member.job, "energy", device_timing.work, _ENERGY_SECONDS)
            end, seconds = devices.energy_joules(), monotonic() - start
            if calls and begin is not None and end is not None:
                member.joules = (end - begin - idle_watts * seconds) / calls

        with self.pool.time_account.wall("energy"):
            begin, start = devices.energy_joules(), monotonic()
            if begin is None:
                return
            sleep(_ENERGY_SECONDS)
            end = devices.energy_joules()
            if end is None:
                return
            idle_watts = (end - begin) / (monotonic() - start)
        order = _open_members(members)
        self.random.shuffle(order)
        with self.pool.time_account.wall():
            for member in order:
                self._guard(measure)(member)

    def _end(self, members: Sequence[_Member]) -> None:
        """Check the last results, and record the blocks that are complete."""

        def check(member: _Member) -> None:
            assert member.job is not None
            self.pool.ask(member.state, member.job, "check", timing.check)

        with self.pool.time_account.wall("other"):
            on_device = members[0].state.case.device != DeviceKind.CPU
            unread = on_device and not any(member.conditions for member in members)
            at_the_end = [devices.condition()] if unread else []
        with self.pool.time_account.wall():
            self.pool.each(self._guard(check), _open_members(members), len(members))
        failed_keys = {member.state.case.key for member in members if member.job is None}
        for member in members:
            if member.state.case.key not in failed_keys:
                conditions = tuple(member.conditions or at_the_end)
                member.state.records.append(
                    BlockRecord(tuple(member.samples), tuple(member.device), conditions, member.joules)
                )

    def _close(self, members: Sequence[_Member]) -> None:
        workers = {id(member.job.worker): member.job.worker for member in members if member.job is not None}.values()
        with self.pool.time_account.wall("other"):
            for worker in workers:
                worker.kill()  # kill all before closing any: the kernel takes a while to free a process's memory
            for worker in workers:
                self.pool.close_worker(worker)

    def _guard(self, function: Callable[[_Member], None]) -> Callable[[_Member], None]:
        """Return the function, with a failure of its case noted instead of raised."""

        def call(member: _Member) -> None:
            try:
                function(member)
            except CaseFailure as failure:
                self._fail(member, failure)

        return call

    def _fail(self, member: _Member, failure: CaseFailure) -> None:
        """End a case in the current block; end its measurement if no other case can be the cause."""
        if self._interrupted:  # the session itself has killed the worker
            return
        member.job, state = None, member.state
        if failure.shared:  # another case may be the cause, or have taken the time
            state.shares_blocks = False
            state.seconds_left = state.timeout
        elif failure.status == "timeout" and len(state.records) >= min(FEWEST_BLOCKS, self.blocks):
            state.stopped_by = "timeout"
        else:
            # A case that was audited can be measured here: what is unavailable now, such as a lost device, is no skip.
            state.end("failed" if failure.status == "skipped" else failure.status, failure.reason)


def has_own_clock(case: Case) -> bool:
    """Return whether a case runs on an asynchronous device, which has its own clock."""
    return case.device != "cpu" and discovery.runtime(case.variant.runtime).gpu is not None


def _open_members(members: Sequence[_Member]) -> list[_Member]:
    return [member for member in members if member.job is not None]


def _agree_on_calls(states: Sequence[CaseState]) -> None:
    """Have both sides of a case make the same number of calls in a sample, because its first calls are slow."""
    for state in states:
        sides = [side for side in states if side.case.key == state.case.key]
        leak = any(side.leaked_bytes for side in sides)
        state.calls = (min if leak else max)(side.calls for side in sides)
