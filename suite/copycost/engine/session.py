"""Session: measure cases, group by group.

A group contains comparable cases: they have the same recipe, shape, dtype and device. The session first audits and
traces the cases of a group, up to four at a time. Then it times them one at a time, with interleaved samples.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import numpy as np

from copycost.cases import images
from copycost.cases.case import INPUTS, Case, as_row
from copycost.cases.feasibility import (
    assumed_elements,
    child_bytes,
    device_bytes,
    misfit,
    shared_bytes,
    skip_reason,
    too_large,
)
from copycost.catalog import discovery, import_context, loading
from copycost.engine import assemble
from copycost.engine.block import (
    AllocationTrace,
    Audit,
    BlockJob,
    BlockRecord,
    Calibration,
    CopyJob,
    DeviceCopyJob,
    DeviceSample,
    ReferenceJob,
    Sample,
    load_references,
)
from copycost.engine.worker import CaseFailure, ForkServer, Worker
from copycost.machine import devices
from copycost.machine.memory import free_memory
from copycost.model.call_profile import CallProfile
from copycost.model.measurement import Measurement
from copycost.stats.intervals import CLEAR_BLOCKS, FEWEST_BLOCKS, PRECISION, ROUNDS, estimate

#: Size in bytes of each buffer for measuring the machine's copy speed: several times a large cache.
COPY_BYTES = 128 * 2**20

#: Random seed for the crops and for the order of samples.
_SEED = 0

#: Default timeout of a case: a fixed number of seconds, plus seconds for each 2²⁰ numbers in its input.
_TIMEOUT = (60.0, 5.0)

#: Maximum number of parallel processes while nothing is timed.
_WORKERS = 4

#: Fraction of the free memory that the processes of a group may use.
_MEMORY_SHARE = 0.8

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # JAX: number of XLA's threads on the CPU
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)

#: Names of the files with the inputs (one or two arrays each), with the indices at which the first two inputs differ,
#: and with the references.
_Files = tuple[tuple[tuple[str, ...], ...], tuple[str, ...], tuple[str, ...]]

#: Categories of a session's time, as named in its final report.
SPENDING = (
    "import", "inputs and references", "compile and start", "audit", "allocations", "reset", "timed calls",
    "warm-up", "copy speed", "check", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Settings of a session.

    Attributes
    ----------
    threads : int
        Number of threads of every runtime.
    blocks : int
        Maximum number of blocks per case. 0 disables timing.
    budget : float
        Seconds for timing all cases. With infinity, every case gets all its blocks.
    timeout : float or None
        Seconds that one case may take in all its processes together. None allows a minute, and more for large inputs.
    no_gpu : str or None
        Why there is no CUDA device. None if there is one.
    """

    threads: int
    blocks: int
    budget: float
    timeout: float | None
    no_gpu: str | None


@dataclass
class TimeAccount:
    """Wall time in seconds by category. Parallel processes share the wall time that they take together."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPENDING, 0.0))
    _busy: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def busy(self, what: str, seconds: float) -> None:
        """Record the seconds that a process was busy with a category of work."""
        with self._lock:
            self._busy[what] = self._busy.get(what, 0.0) + seconds

    @contextmanager
    def wall(self, only: str | None = None) -> Iterator[None]:
        """Divide the wall time of the body among the recorded categories, or charge all of it to `only`."""
        start = monotonic()
        try:
            yield
        finally:
            took = monotonic() - start
            busy, self._busy = self._busy, {}
            if only is not None:
                self.seconds[only] += took
            else:
                total = sum(busy.values())
                scale = min(1.0, took / total) if total else 0.0
                for what, seconds in busy.items():
                    self.seconds[what] += seconds * scale
                self.seconds["other"] += took - total * scale


@dataclass
class Progress:
    """Measurement of a case in progress."""

    case: Case
    left: float  # remaining seconds of its timeout
    limit: float
    fields: dict[str, Any] = field(default_factory=dict)
    leaked_bytes: int = 0
    one_thread: bool = False
    n: int = 1  # calls in a sample
    records: list[BlockRecord] = field(default_factory=list)
    first: float = 0.0
    ended: str | None = None  # stopped_by
    measurement: Measurement | None = None  # once it is complete

    @property
    def blocks(self) -> list[list[float]]:
        """Seconds per call of each sample, by block."""
        return [record.seconds for record in self.records]


@dataclass
class Group:
    """Files that the processes of a group of cases share.

    Attributes
    ----------
    folder : Path
        Folder of the files.
    files
    result_bytes : int
        Total size of all arrays of a result.
    size : int
        Number of parallel processes that fit in memory.
    """

    folder: Path
    files: _Files
    result_bytes: int
    size: int

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Session:
    """Processes and files of a run, as a context manager that ends every process on exit.

    Parameters
    ----------
    plan : Plan
    photographs : Photographs
    on_case : callable, optional
        Progress callback ``on_case(case, doing)``. It can be called from any thread.
    places : mapping of str to ImportContext, optional
        Import contexts of user files. By default, files are imported in the context of this process. A block imports
        such a file itself, after the fork, so that the blocks of two commits come from the same fork server.
    """

    def __init__(
        self,
        plan: Plan,
        photographs: images.Photographs,
        on_case: Callable[[Case, str], None] = lambda case, doing: None,
        places: Mapping[str, import_context.ImportContext] | None = None,
    ) -> None:
        self.plan, self.photographs, self.on_case = plan, photographs, on_case
        self.places = places or {}
        self.time_account = TimeAccount()
        self._random = random.Random(_SEED)
        self._fork_servers: dict[tuple[str, str, str], ForkServer] = {}
        self._children: set[Worker] = set()
        self._environment = import_context.child_environment() | dict.fromkeys(_THREAD_VARIABLES, str(plan.threads))
        # TensorFlow's startup messages must not be reported as the error of a case.
        self._environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # The session's own folder removes the temporary files that killed workers leave behind.
        self._scratch = _new_folder(tempfile.gettempdir())
        self._environment["TMPDIR"] = str(self._scratch)
        self._cpus = sorted(os.sched_getaffinity(0))
        self._workers = max(1, min(_WORKERS, len(self._cpus)))
        self._copies: dict[str, Worker] = {}  # key: "cpu", or a runtime with a GPU
        # Use one pool for the whole session: a process may die with the thread that has started it.
        self._pool = ThreadPoolExecutor(self._workers)
        self._asked: list[Future[Any]] = []
        self._spent = 0.0  # seconds of the budget
        self._lock = threading.Lock()  # guards the fork servers, which threads request
        self._closed = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        # Kill first: a thread that waits for an answer then fails and ends.
        with self._lock:
            self._closed = True
        for fork_server in self._fork_servers.values():
            fork_server.process.kill()
        for child in list(self._children):
            child.kill()
        self._pool.shutdown(cancel_futures=True)
        for child in list(self._children):
            self._close(child)
        for fork_server in self._fork_servers.values():
            fork_server.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def measure(self, cases: Sequence[Case]) -> Iterator[Measurement]:
        """Measure cases, and yield each measurement as soon as it is complete."""
        groups = [list(group) for _, group in groupby(cases, key=lambda case: case.group)]
        free = free_memory()
        runnable = {case.key for case in cases if not skip_reason(case, self.plan.no_gpu, free)}
        weights = [sum(_weight(case) for case in group if case.key in runnable) for group in groups]
        self.start([case for case in cases if case.key in runnable])
        for i, group in enumerate(groups):
            share = (self.plan.budget - self._spent) * weights[i] / (sum(weights[i:]) or 1)
            yield from self._measure_group(group, share)

    def start(self, cases: Iterable[Case]) -> None:
        """Import the runtimes and sources of all cases in parallel; a failed import fails again for its cases."""
        with self.time_account.wall("import"):
            for case in cases:
                self._fork_server("numpy", "copycost.recipes")
                self._fork_server(case.variant.runtime, case.variant.source)
            for fork_server in self._fork_servers.values():
                try:
                    fork_server.ready()
                except CaseFailure:
                    continue

    def _fork_server(self, runtime: str, source: str) -> ForkServer:
        place = self.places.get(source)
        # All built-in sources of a runtime share one fork server, which imports all their modules at once.
        key = (
            runtime,
            "copycost" if place or loading.is_builtin(source) else source,
            place.python if place else sys.executable,
        )
        with self._lock:
            if self._closed:
                raise CaseFailure("failed", "the session has ended")
            if key in self._fork_servers and self._fork_servers[key].killed:
                self._fork_servers.pop(key).close()  # a variant has killed it: start a new one
            if key not in self._fork_servers:
                # With import contexts, the current folder belongs to none of them: run in the scratch folder.
                folder = str(self._scratch) if self.places else None
                environment = self._environment
                if place and place.engine:
                    environment = environment | {"PYTHONPATH": import_context.child_environment(place)["PYTHONPATH"]}
                self._fork_servers[key] = ForkServer(runtime, key[1], environment, key[2], folder)
            return self._fork_servers[key]

    def _open(self, runtime: str, source: str) -> Worker:
        child = self._fork_server(runtime, source).child()
        self._children.add(child)
        return child

    def _close(self, child: Worker) -> None:
        child.close()
        self._children.discard(child)

    def _measure_group(self, cases: Sequence[Case], share: float) -> Iterator[Measurement]:
        group, states = self.examine(cases)
        try:
            yield from (state.measurement for state in states if state.measurement)
            if group is None:
                return
            left = [state for state in states if not state.measurement]
            if not self.plan.blocks:
                yield from (self.complete(state, group) for state in left)
                return
            start = monotonic()
            parts = [left[i : i + group.size] for i in range(0, len(left), group.size)]
            for number, part in enumerate(parts, 1):
                yield from self._time(part, group, start + share * number / len(parts))
            self._spent += monotonic() - start
        finally:
            if group is not None:
                group.close()

    def examine(self, cases: Sequence[Case]) -> tuple[Group | None, list[Progress]]:
        """Audit and trace the cases of one group.

        Parameters
        ----------
        cases : sequence of Case
            All cases use the reference of the first one.

        Returns
        -------
        group : Group or None
            None if no case is left to time.
        states : list of Progress
            One for each case. Cases that cannot be timed already have a measurement.
        """
        states = [self._progress(case) for case in cases]

        def left() -> list[Progress]:
            return [state for state in states if not state.measurement]

        free = free_memory()
        for state in states:
            if reason := skip_reason(state.case, self.plan.no_gpu, free):
                self._end(state, "skipped", reason)
        if not left():
            return None, states
        first = left()[0].case
        folder = _folder(shared_bytes(first, assumed_elements(first)))
        if isinstance(folder, str):
            for state in left():
                self._end(state, "skipped", folder)
            return None, states
        group = None
        try:
            try:
                with self.time_account.wall("inputs and references"):
                    files = self._inputs(first, folder)
            except CaseFailure as why:
                for state in left():
                    self._end(state, why.status, f"the reference: {why.reason}")
                return None, states
            # Only the references show how large a result is, and thus where it fits.
            results = [one.values for one in load_references(files[2][0])]
            size = sum(one.size for one in results)
            its = [(one.shape, _result_dtype(one, first)) for one in results]
            on_device = devices.condition().free_bytes if first.device == "gpu" else None
            for state in left():
                needed = child_bytes(state.case, size)
                reason = misfit(state.case, its) or too_large(needed, free_memory())
                if not reason and on_device is not None:
                    needed = device_bytes(state.case, size)
                    reason = too_large(needed, on_device, "of the device's memory")
                if reason:
                    self._end(state, "skipped", reason)
            at_once = _that_fit(first, size, on_device)
            with self.time_account.wall():
                self._each(lambda state: self._examine(state, files), left(), at_once)
            if left():
                nbytes = sum(one.size * dtype.itemsize for one, (_, dtype) in zip(results, its, strict=True))
                group = Group(folder, files, int(nbytes), at_once)
            return group, states
        finally:
            if group is None:
                shutil.rmtree(folder, ignore_errors=True)

    def _progress(self, case: Case) -> Progress:
        fixed, by_size = _TIMEOUT
        limit = self.plan.timeout if self.plan.timeout is not None else fixed + by_size * case.elements / 2**20
        return Progress(case, limit, limit)

    def _each(self, function: Callable[[Any], Any], things: Sequence[Any], at_once: int) -> list[Any]:
        """Map a function over things, at most `at_once` in parallel and never more than there are cores."""
        if min(at_once, self._workers) == 1:
            return [function(thing) for thing in things]
        turn = threading.Semaphore(at_once)

        def in_turn(thing: Any) -> Any:
            with turn:
                return function(thing)

        self._asked = [self._pool.submit(in_turn, thing) for thing in things]
        return [future.result() for future in self._asked]

    def _inputs(self, case: Case, folder: Path) -> _Files:
        parts = range(case.recipe.inputs)
        inputs = tuple(tuple(str(folder / f"input-{k}-{part}.npy") for part in parts) for k in range(INPUTS))
        twins = tuple(str(folder / f"twin-{part}.npy") for part in parts)
        references = tuple(str(folder / f"reference-{k}") for k in range(INPUTS))
        shape = (case.batch, case.height, case.width)
        for part in parts:
            batches = [
                images.batch(self.photographs, shape, case.dtype, case.layout, _SEED + k + INPUTS * part)
                for k in range(INPUTS - 1)
            ]
            copy, places = images.twin(batches[0])
            batches.insert(1, copy)
            np.save(twins[part], places)
            for k, batch in enumerate(batches):
                np.save(inputs[k][part], batch)
        source = case.recipe.source
        child = self._open("numpy", source)
        try:
            job = ReferenceJob(
                source, case.recipe.name, case.layout, inputs, references, str(case.computed_dtype),
                self.places.get(source),
            )  # fmt: skip
            limit = self._progress(case).limit
            child.ask("open", job, timeout=limit)
        except CaseFailure as ended:
            if ended.status == "timeout":
                ended.reason = f"took more than {limit:.3g} s"
            raise
        finally:
            self._close(child)
        return inputs, twins, references

    def _start(self, state: Progress, files: _Files, cpu: int | None = None) -> Worker:
        case = state.case
        by = case.variant
        child = self._open(by.runtime, by.source)
        job = BlockJob(
            by.source, case.recipe.name, by.name, by.runtime, by.writes, case.device, self.plan.threads,
            *files, str(case.computed_dtype), self.places.get(by.source), cpu,
        )  # fmt: skip
        self._ask(state, child, "compile and start", "open", job)
        return child

    def _ask(self, state: Progress, child: Worker, what: str, *request: Any) -> Any:
        """Send a request to a worker, charge the case's timeout and the time account, and close a failed worker."""
        start = monotonic()
        try:
            value, seconds = child.ask(*request, timeout=state.left)
        except CaseFailure as ended:
            self._close(child)
            self.time_account.busy(what, monotonic() - start)
            if ended.status == "timeout":
                ended.reason = f"took more than {state.limit:.3g} s ({what})"
            raise
        finally:
            state.left = max(0.0, state.left - (monotonic() - start))
        if isinstance(value, Sample):
            self.time_account.busy("reset", value.reset_seconds)
            self.time_account.busy("timed calls", value.seconds * value.calls)
            self.time_account.busy("warm-up", max(0.0, seconds - value.reset_seconds - value.seconds * value.calls))
        else:
            self.time_account.busy(what, seconds)
        return value

    def _examine(self, state: Progress, files: _Files) -> None:
        """Audit and trace a case in one worker."""
        case = state.case
        child = None
        try:
            self.on_case(case, "audit")
            child = self._start(state, files)
            audit: Audit = self._ask(state, child, "audit", "audit")
            state.fields |= assemble.of_audit(audit)
            if audit.status != "ok":
                self._end(state, audit.status, audit.reason)
                return
            if self.plan.blocks:
                state.one_thread = self._ask(state, child, "audit", "one_thread")
            self.on_case(case, "allocations")
            traced: AllocationTrace = self._ask(state, child, "allocations", "allocations")
            state.leaked_bytes = traced.leaked_bytes
            counted = assemble.of_allocations(traced)
            state.fields |= counted | {"missing": state.fields["missing"] | counted["missing"]}
        except CaseFailure as ended:
            self._end(state, ended.status, ended.reason)
        finally:
            if child is not None:
                self._close(child)

    def profile(self, case: Case) -> tuple[Measurement, CallProfile | None]:
        """Audit and trace a case, then profile a call of it if its results are right."""
        group, (state,) = self.examine([case])
        if group is None:
            assert state.measurement is not None
            return state.measurement, None
        try:
            self.on_case(case, "profile")
            child = self._start(state, group.files)
            found: CallProfile = self._ask(state, child, "profile", "profile")
            self._close(child)
            return self.complete(state, group), found
        except CaseFailure as why:
            self._end(state, why.status, why.reason)
            assert state.measurement is not None
            return state.measurement, None
        finally:
            group.close()

    def _time(self, states: Sequence[Progress], group: Group, deadline: float) -> list[Measurement]:
        """Time interleaved cases, block after block, until they have all their blocks or the deadline passes."""
        copies: list[float] = []
        longest = 0.0  # longest share of a case in the seconds of a block
        while running := self._due(states):
            start = monotonic()
            enough = all(len(state.records) >= FEWEST_BLOCKS for state in running)
            if enough and start + longest * len(running) > deadline:
                for state in states:
                    state.ended = state.ended or "budget"
                break
            self.block(running, group, ROUNDS, copies)
            longest = max(longest, (monotonic() - start) / len(running))
        return [self.complete(state, group, copies) for state in states]

    def _due(self, states: Sequence[Progress]) -> list[Progress]:
        """Return the cases that get the next block: all until each has a few blocks, then those with wider intervals.

        With an infinite budget, all cases get the same number of blocks.
        """
        left = [state for state in states if not state.measurement and state.ended is None]
        widths = {id(state): estimate(state.blocks).width if state.records else math.inf for state in left}
        for state in left:
            done = len(state.records)
            if done >= self.plan.blocks:
                state.ended = "blocks"
            elif self.plan.budget < math.inf and done >= CLEAR_BLOCKS and widths[id(state)] <= PRECISION:
                state.ended = "clear"
        left = [state for state in left if state.ended is None]
        few = [state for state in left if len(state.records) < FEWEST_BLOCKS]
        if few or self.plan.budget == math.inf:
            return few or left
        middle = median(widths[id(state)] for state in left) if left else 0.0
        return [state for state in left if widths[id(state)] >= middle]

    def block(self, running: Sequence[Progress], group: Group, rounds: int, copies: list[float] | None = None) -> None:
        """Run one more block of every case: start fresh workers, sample them in random order, check the results.

        Only complete blocks are recorded. If the block of a case fails, neither that case nor the other side of it
        (base or head) records the block.

        All cases that use a single CPU are pinned to the same one. On a shared machine, two CPUs can differ in speed
        for seconds.

        Parameters
        ----------
        running : sequence of Progress
            This must be the first block of either all of them or none. A case that fails has a measurement afterwards.
        group : Group
        rounds : int
            Number of samples per case.
        copies : list of float, optional
            The machine's copy speed in each round is appended to it.
        """
        children: dict[int, Worker] = {}
        samples: dict[int, list[Sample]] = {id(state): [] for state in running}
        device: dict[int, list[DeviceSample]] = {id(state): [] for state in running}
        first = not running[0].records
        # Pin both sides of a case or neither, so that placement does not cause a difference between them.
        moving = {state.case.key for state in running if not state.one_thread}
        interrupted = False
        # Shuffle, because the worker that starts first gets the memory that the block before has released.
        running = self._random.sample(list(running), len(running))
        cpu = self._random.choice(self._cpus)

        def over(state: Progress, why: CaseFailure) -> None:
            if interrupted:  # the session itself has killed the worker
                return
            children.pop(id(state), None)
            if why.status == "timeout" and len(state.records) >= min(FEWEST_BLOCKS, self.plan.blocks):
                state.ended = "timeout"
            else:
                self._end(state, why.status, why.reason)

        def attempt(function: Callable[[Progress], None]) -> Callable[[Progress], None]:
            def guarded(state: Progress) -> None:
                try:
                    function(state)
                except CaseFailure as why:
                    over(state, why)

            return guarded

        def start(state: Progress) -> None:
            if interrupted:
                return
            children[id(state)] = self._start(state, group.files, None if state.case.key in moving else cpu)

        def begin(state: Progress) -> None:
            changes = bool(state.fields["input_changed"])
            ready: Calibration = self._ask(
                state,
                children[id(state)],
                "compile and start",
                "first",
                changes,
                state.leaked_bytes,
                None if first else state.n,
                rounds,
            )
            if first:
                state.first, state.n = ready.seconds_first, ready.calls

        def sample(state: Progress) -> None:
            self.on_case(state.case, "timing")
            taken: Sample = self._ask(state, children[id(state)], "timed calls", "sample", state.n)
            samples[id(state)].append(taken)
            if _own_clock(state.case):
                child = children[id(state)]
                device[id(state)].append(self._ask(state, child, "timed calls", "device_sample", taken.seconds))

        def check(state: Progress) -> None:
            self._ask(state, children[id(state)], "check", "check")

        def alive() -> list[Progress]:
            return [s for s in running if id(s) in children]

        try:
            with self.time_account.wall():
                self._each(attempt(start), running, len(running))
                # The first call of the first block is reported, so nothing else may run in parallel.
                self._each(attempt(begin), alive(), 1 if first else len(running))
            if first:
                # The first calls of a sample are slow, so both sides of a case must make the same number of calls.
                for state in alive():
                    sides = [other for other in alive() if other.case.key == state.case.key]
                    leak = any(side.leaked_bytes for side in sides)
                    state.n = (min if leak else max)(side.n for side in sides)
            for _ in range(rounds):
                order = alive()
                self._random.shuffle(order)
                with self.time_account.wall():
                    for state in order:
                        attempt(sample)(state)
                if copies is not None:
                    with self.time_account.wall("copy speed"):
                        copies += self._copy_speed(running[0].case)
            with self.time_account.wall("other"):
                condition = devices.condition() if running[0].case.device == "gpu" else None
            with self.time_account.wall():
                self._each(attempt(check), alive(), len(running))
            cut = {state.case.key for state in running if id(state) not in children}
            for state in alive():
                if state.case.key not in cut:
                    its = tuple(samples[id(state)]), tuple(device[id(state)])
                    state.records.append(BlockRecord(*its, condition))
        except BaseException:
            interrupted = True
            for asked in self._asked:
                asked.cancel()
            for child in list(self._children):
                child.kill()
            wait(self._asked)
            self._copies.clear()
            raise
        finally:
            with self.time_account.wall("other"):
                for child in list(children.values()):
                    child.kill()  # kill all before closing any: the kernel takes a while to free a process's memory
                for child in list(children.values()):
                    self._close(child)

    def _copy_speed(self, case: Case) -> list[float]:
        """Return the copy speed on the case's device in a list of one, or an empty list if it cannot be measured."""
        by = "cpu" if case.device == "cpu" else case.variant.runtime
        if by != "cpu" and not _own_clock(case):
            return []
        try:
            if by not in self._copies:
                if by == "cpu":
                    if free_memory() < 8 * COPY_BYTES:
                        return []
                    child = self._open("numpy", "copycost.recipes")
                    child.ask("open", CopyJob(COPY_BYTES, self.plan.threads), timeout=60)
                else:
                    child = self._open(by, case.variant.source)
                    child.ask("open", DeviceCopyJob(by, self.plan.threads), timeout=60)
                self._copies[by] = child
            speed, _ = self._copies[by].ask("sample", timeout=60)
        except CaseFailure:
            self._copies.pop(by, None)
            return []
        return [speed]

    def trace_again(self, state: Progress, group: Group) -> None:
        """Trace a case in another process, and turn counts that differ into ranges."""
        again = self._progress(state.case)
        self._examine(again, group.files)
        if again.measurement:
            state.measurement = again.measurement
        else:
            state.fields = assemble.with_ranges(state.fields, again.fields)

    def so_far(self, state: Progress) -> Measurement:
        """Return the measurement of a case, without times if the case is not complete."""
        return state.measurement or self._measurement(state, "ok", None, assemble.untimed())

    def complete(self, state: Progress, group: Group | None, copies: Sequence[float] = ()) -> Measurement:
        """Complete a case and return its measurement."""
        if state.measurement or not state.records or group is None:
            state.measurement = self.so_far(state)
            return state.measurement
        case = state.case
        timed = assemble.of_time(
            state.records,
            first=state.first,
            stopped_by=state.ended or "blocks",
            images=case.batch or 1,
            bytes_moved=case.nbytes + group.result_bytes,
            copy_speed=median(copies) if copies else None,
        )
        state.measurement = self._measurement(state, "ok", None, timed)
        return state.measurement

    def _end(self, state: Progress, status: str, reason: str | None) -> None:
        state.measurement = self._measurement(state, status, reason, {})

    def _measurement(self, state: Progress, status: str, reason: str | None, timed: dict[str, Any]) -> Measurement:
        return assemble.measurement(as_row(state.case), self.plan.threads, status, reason, state.fields, timed)


def _result_dtype(reference: np.ndarray, case: Case) -> np.dtype:
    """Return the required dtype of a result: the case's for floats, else the reference's."""
    return case.computed_dtype if reference.dtype.kind == "f" else reference.dtype


def _own_clock(case: Case) -> bool:
    """Return whether a case runs on an asynchronous device, which has its own clock."""
    return case.device != "cpu" and discovery.runtime(case.variant.runtime).gpu is not None


def _weight(case: Case) -> float:
    """Return a case's weight in the budget, for starting its processes and for moving its bytes."""
    return 2.0 + case.elements / 2e6


def _that_fit(case: Case, result_elements: int, on_device: int | None) -> int:
    """Return how many processes of a case's group fit in free memory, including the device's; at least one."""
    fit = free_memory() // child_bytes(case, result_elements)
    if on_device is not None:
        fit = min(fit, on_device // device_bytes(case, result_elements))
    return max(1, int(_MEMORY_SHARE * fit))


def _folder(nbytes: int) -> Path | str:
    """Create a folder for shared files in memory, or else on disk; or return why neither has enough space."""
    disk = tempfile.gettempdir()
    for parent, spare in (("/dev/shm", 2.0), (disk, 1.1)):
        usable = os.path.isdir(parent) and os.access(parent, os.W_OK)
        if usable and shutil.disk_usage(parent).free > spare * nbytes:
            return _new_folder(parent)
    free = shutil.disk_usage(disk).free
    return f"needs {nbytes / 2**30:.3g} GiB for its inputs, and {free / 2**30:.3g} GiB is free in {disk}"


def _new_folder(parent: str) -> Path:
    """Create a folder for this process's files, and remove the folders of killed processes."""
    for left in Path(parent).glob("copycost-session-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"copycost-session-{os.getpid()}-", dir=parent))
