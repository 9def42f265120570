"""Session: measure cases, group by group.

A group contains comparable cases: they have the same recipe, shape, dtype and device. The session first audits and
traces the cases of a group, up to four at a time. Then it times them one at a time, with interleaved samples.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from itertools import groupby
from time import monotonic

from copycost.cases import images
from copycost.cases.case import Case
from copycost.cases.feasibility import assumed_elements, shared_bytes, skip_reason
from copycost.catalog import discovery, import_context
from copycost.engine import group_inputs, schedule
from copycost.engine.audit_cache import Findings
from copycost.engine.block_runner import BlockRunner
from copycost.engine.case_state import CaseState, Group, pending
from copycost.engine.group_files import Files
from copycost.engine.passes import allocations, audit, call_profile, timing
from copycost.engine.plan import Plan
from copycost.engine.shared_folder import shared_folder
from copycost.engine.sharing import bundle_cases, may_share
from copycost.engine.time_account import TimeAccount
from copycost.engine.worker import CaseFailure
from copycost.engine.worker_pool import OpenJob, WorkerPool
from copycost.machine import devices, host_lock
from copycost.machine.memory import free_memory
from copycost.model.call_profile import CallProfile
from copycost.model.measurement import Measurement
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind
from copycost.stats.intervals import FEWEST_BLOCKS, MOST_ROUNDS, ROUNDS
from copycost.stats.rivals import rivals

#: Random seed for the order of samples.
_SEED = 0

#: Probability that the headline of any group claims a difference that is not there.
_MISS_PROBABILITY = 0.05

#: Default timeout of a case: a fixed number of seconds, plus seconds for each 2²⁰ numbers in its input.
_TIMEOUT = (60.0, 5.0)


class Session:
    """Processes and files of a run, as a context manager that ends every process on exit.

    Parameters
    ----------
    plan : Plan
    photographs : Photographs
    on_case : callable, optional
        Progress callback ``on_case(case, step)``. It can be called from any thread.
    places : mapping of Source to ImportContext, optional
        Import contexts of user files. By default, fork servers import them with this process's interpreter and working
        directory.
    preload : sequence of str, optional
        Packages that all these files import.
    """

    def __init__(
        self,
        plan: Plan,
        photographs: images.Photographs,
        on_case: Callable[[Case, str], None] = lambda case, step: None,
        places: Mapping[Source, import_context.ImportContext] | None = None,
        preload: Sequence[str] = (),
    ) -> None:
        self.plan, self.photographs, self.on_case = plan, photographs, on_case
        self.time_account = TimeAccount()
        self.pool = WorkerPool(plan.threads, self.time_account, places or {}, preload, plan.confined)
        self.runner = BlockRunner(self.pool, plan.threads, plan.blocks, random.Random(_SEED), on_case, plan.energy)
        self._budget_seconds = self._extra_seconds = 0.0  # seconds of the budget, and beyond it
        self._miss = _MISS_PROBABILITY  # probability that one interval may miss the truth
        self._on_gpu: set[str] = set()  # runtimes that have worked on the GPU
        self._gpus: list[str] | None = None  # UUID of the GPU that is measured, once it is asked for
        self._common: list[tuple[float, float]] = []  # variance of blocks and its degrees of freedom, by group

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.close()

    def measure(self, cases: Sequence[Case]) -> Iterator[Measurement]:
        """Measure cases, and yield each measurement as soon as it is complete."""
        groups = [list(group) for _, group in groupby(cases, key=lambda case: case.group)]
        free_bytes = free_memory()
        runnable_keys = {case.key for case in cases if not skip_reason(case, self.plan.no_gpu, free_bytes)}
        weights = [sum(schedule.weight(case) for case in group if case.key in runnable_keys) for group in groups]
        self._miss = _MISS_PROBABILITY / max(1, len(groups))
        self.start([case for case in cases if case.key in runnable_keys])
        for i, group in enumerate(groups):
            part = weights[i] / (sum(weights[i:]) or 1)
            seconds = (self.plan.budget - self._budget_seconds) * part
            extra_seconds = (self.plan.decide - self._extra_seconds) * part
            yield from self._measure_group(group, seconds, extra_seconds)

    def locked(self, cases: Iterable[Case]) -> AbstractContextManager[float]:
        """Return a context in which nothing else is timed on this machine, while some cases are; as `host_lock.held`.

        Raises
        ------
        LockError
        """
        on_gpu = all(case.device == DeviceKind.GPU for case in cases)
        if on_gpu and self._gpus is None:
            self._gpus = devices.measured_uuids()
        return host_lock.held(self._gpus or () if on_gpu else (), self.plan.wait)

    def start(self, cases: Iterable[Case]) -> None:
        """Import the runtimes and sources of all cases in parallel; a failed import fails again for its cases."""
        sources = [(case.variant.runtime, case.variant.source) for case in cases]
        with self.time_account.wall("import"):
            self.pool.import_all([("numpy", Source("copycost.recipes")), *sources] if sources else [])

    def _measure_group(self, cases: Sequence[Case], seconds: float, extra_seconds: float) -> Iterator[Measurement]:
        group, states = self.examine(cases)
        try:
            yield from (state.measurement for state in states if state.measurement)
            if group is None:
                return
            timed_states = pending(states)
            if not self.plan.blocks:
                yield from (state.complete(group) for state in timed_states)
                return
            parts = [timed_states[i : i + group.size] for i in range(0, len(timed_states), group.size)]
            with self.locked(cases):
                start = monotonic()
                for number, part in enumerate(parts, 1):
                    end = start + seconds * number / len(parts)
                    yield from self._time(part, group, end, extra_seconds / len(parts))
                self._budget_seconds += min(seconds, monotonic() - start)
        finally:
            if group is not None:
                group.close()

    def examine(self, cases: Sequence[Case]) -> tuple[Group | None, list[CaseState]]:
        """Audit and trace the cases of one group.

        Parameters
        ----------
        cases : sequence of Case
            All cases use the reference of the first one.

        Returns
        -------
        group : Group or None
            None if every case already has a measurement.
        states : list of CaseState
            One for each case. Cases that cannot be timed already have a measurement.
        """
        states = [self._state(case) for case in cases]
        free_bytes = free_memory()
        for state in states:
            if reason := skip_reason(state.case, self.plan.no_gpu, free_bytes):
                state.end("skipped", reason)
        group = None
        if pending(states):
            first_case = pending(states)[0].case
            folder = shared_folder(shared_bytes(first_case, assumed_elements(first_case)))
            if isinstance(folder, str):
                for state in pending(states):
                    state.end("skipped", folder)
                return None, states
            try:
                group = self._examine_in(Group(folder, Files(), 0, 0, 1), states)
            finally:
                if group is None:
                    shutil.rmtree(folder, ignore_errors=True)
        return group, states

    def _examine_in(self, group: Group, states: list[CaseState]) -> Group | None:
        """Write the files of a group, then audit and trace its cases; return the group, or None if no case is left."""
        first_state = pending(states)[0]
        try:
            with self.time_account.wall("inputs and references"):
                group.files = group_inputs.write(
                    self.pool, self.photographs, first_state.case, group.folder, first_state.timeout
                )
        except CaseFailure as failure:
            for state in pending(states):
                state.end(failure.status, f"the reference: {failure.reason}")
            return None
        # Only the references show how large a result is, and thus where it fits.
        results = group_inputs.Results(group.files, first_state.case)
        for state in pending(states):
            if reason := results.skip_reason(state.case):
                state.end("skipped", reason)
        group.input_bytes, group.result_bytes = results.input_bytes, results.nbytes
        group.size = results.at_once(first_state.case)
        with self.time_account.wall():
            new_states = [state for state in pending(states) if not self._recall(state)]
            bundle_size = max(1, min(-(-len(new_states) // self.pool.parallel), group.size // self.pool.parallel))
            bundles = bundle_cases(new_states, bundle_size, lambda state: state.shares)
            self.pool.each(lambda bundle: self._examine(bundle, group.files), bundles, group.size)
        if self.plan.audits is not None and self.plan.blocks:  # without timing, threads are not looked at
            for state in new_states:
                if state.measurement is None and state.audit is not None and state.trace is not None:
                    self.plan.audits.save(state.case, Findings(state.audit, state.trace, state.one_thread))
        return group if pending(states) else None

    def _state(self, case: Case) -> CaseState:
        base, per_element = _TIMEOUT
        limit = self.plan.timeout if self.plan.timeout is not None else base + per_element * case.elements / 2**20
        shares = may_share(case, self.plan.share, self.pool.places)
        shares_blocks = discovery.runtime(case.variant.runtime).shares_blocks
        also_blocks = shares and shares_blocks is not None and bool(shares_blocks())
        return CaseState(case, limit, limit, self.plan.threads, shares, also_blocks)

    def _recall(self, state: CaseState) -> bool:
        """Take the findings of an earlier run about a case, and return whether there are any."""
        findings = self.plan.audits.load(state.case) if self.plan.audits is not None else None
        if findings is None:
            return False
        state.audit, state.trace, state.one_thread = findings.audit, findings.trace, findings.one_thread
        return True

    def _examine(self, states: Sequence[CaseState], files: Files) -> None:
        """Audit and trace cases in one worker, and those that fail in a shared one again, each in its own."""
        worker = None
        pairs: list[tuple[CaseState, OpenJob]] = []
        failures: list[tuple[CaseState, CaseFailure]] = []
        try:
            for state, job in zip(states, self.runner.start(states, files), strict=True):
                try:
                    if isinstance(job, CaseFailure):
                        raise job
                    worker = job.worker
                    self._audit(state, job)
                    pairs += [(state, job)] if state.measurement is None else []
                except CaseFailure as failure:
                    failures.append((state, failure))
            try:
                self._trace(pairs)
            except CaseFailure as failure:
                failures += [(state, failure) for state, _ in pairs]
        finally:
            if worker is not None:
                self.pool.close_worker(worker)
        for state, cause in failures:
            if cause.shared:  # another case may have failed, or have taken the time
                state.seconds_left = state.timeout
                self._examine([state], files)
            else:
                # Once a runtime has worked on the GPU, a device that it no longer sees is a failure and no skip.
                is_lost = cause.status == "skipped" and state.case.variant.runtime in self._on_gpu
                state.end("failed" if is_lost else cause.status, cause.reason)

    def _audit(self, state: CaseState, job: OpenJob) -> None:
        self.on_case(state.case, "audit")
        findings = self.pool.ask(state, job, "audit", audit.audit)
        if findings.status != "ok" and job.worker.shared:
            raise CaseFailure(findings.status, findings.reason or "", shared=True)
        state.audit = findings
        if state.case.device == DeviceKind.GPU:
            self._on_gpu.add(state.case.variant.runtime)
        if findings.status != "ok":
            state.end(findings.status, findings.reason)

    def _trace(self, pairs: Sequence[tuple[CaseState, OpenJob]]) -> None:
        """Trace cases that have passed their audit, in the worker that they share."""
        if not pairs:
            return
        states, jobs = zip(*pairs, strict=True)
        for state in states:
            self.on_case(state.case, "allocations")
        if self.plan.blocks:
            threads = self.pool.ask_together(states, jobs, "audit", timing.use_one_thread)
            for state, one_thread in zip(states, threads, strict=True):
                state.one_thread = one_thread
        traces = self.pool.ask_together(states, jobs, "allocations", allocations.trace_each)
        for state, trace in zip(states, traces, strict=True):
            state.trace = trace

    def profile(self, case: Case) -> tuple[Measurement, CallProfile | None]:
        """Audit and trace a case, then profile a call of it if its results are right."""
        group, (state,) = self.examine([case])
        if group is None:
            return state.so_far(), None
        try:
            self.on_case(case, "profile")
            (job,) = self.runner.start([state], group.files)
            if isinstance(job, CaseFailure):
                raise job
            profile = self.pool.ask(state, job, "profile", call_profile.profile, group.moved_bytes)
            self.pool.close_worker(job.worker)
            return state.complete(group), profile
        except CaseFailure as failure:
            state.end(failure.status, failure.reason)
            return state.so_far(), None
        finally:
            group.close()

    def _time(self, states: Sequence[CaseState], group: Group, end: float, extra_seconds: float) -> list[Measurement]:
        """Time interleaved cases, block after block, until they have all their blocks or the time is up.

        Parameters
        ----------
        states : sequence of CaseState
        group : Group
        end : float
            When the time of all cases is up, on the clock of `time.monotonic`. It may be up before they have the least
            number of blocks.
        extra_seconds : float
            Seconds from then on for those whose comparison is undecided.
        """
        extra_start: float | None = None  # when the time of all cases was up
        copies: list[float] = []
        share = 0.0  # share of a case in the seconds of the last block
        while due_states := schedule.due(states, self.plan, self._miss):
            start = monotonic()
            if all(len(state.records) >= FEWEST_BLOCKS for state in due_states):
                fits = partial(_fit, share=share, start=start)
                if not fits(due_states, end):
                    if extra_start is None:
                        extra_start = max(start, end)
                    undecided = [state for state in schedule.undecided(states, self._miss) if state in due_states]
                    kept_states = undecided if fits(undecided, extra_start + extra_seconds) else []
                    for state in due_states:
                        state.stopped_by = None if state in kept_states else "budget"
                    due_states = kept_states
                    if not due_states:
                        break
            self.runner.run(due_states, group, ROUNDS, copies, MOST_ROUNDS)
            share = (monotonic() - start) / len(due_states)
        if extra_start is not None:
            self._extra_seconds += max(0.0, monotonic() - extra_start)
        return self._complete(states, group, copies)

    def _complete(self, states: Sequence[CaseState], group: Group, copies: Sequence[float]) -> list[Measurement]:
        """Complete cases that were timed together, whose spreads are estimated from all of them."""
        timed_states = [state for state in pending(states) if len(state.records) > 1]
        together = rivals([state.blocks for state in timed_states], 1)
        if common := together.common_part():
            self._common.append(common)
        spreads = together.spreads(self._common) or ()
        spread_by_state = {id(state): spread for state, spread in zip(timed_states, spreads, strict=False)}
        return [state.complete(group, copies, spread_by_state.get(id(state))) for state in states]

    def trace_again(self, state: CaseState, group: Group) -> None:
        """Trace a case in another process, and turn counts that differ into ranges."""
        second_state = self._state(state.case)
        self._examine([second_state], group.files)
        if second_state.measurement:
            state.measurement = second_state.measurement
        elif state.trace is not None and second_state.trace is not None:
            state.trace = allocations.with_ranges(state.trace, second_state.trace)


def _fit(states: Sequence[CaseState], deadline: float, share: float, start: float) -> bool:
    """Return whether a block of some cases that starts now ends before a deadline."""
    return start + share * len(states) <= deadline
