"""One session: cases in, measurements out, group by group.

A group is what can be compared: the same recipe, shape, dtype and device. Its cases are first audited and traced, up to
four at a time, and then timed, one at a time and in turn.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

import numpy as np

from suite import images, registry
from suite.cases import CHANNELS, Case, as_row, child_bytes, misfit, shared_bytes, skip_reason, too_large
from suite.engine import figures
from suite.engine.block import Audit, BlockJob, CopyJob, Ready, ReferenceJob, Sample, Traced, free_memory
from suite.engine.child import CaseEnded, Child, Zygote
from suite.engine.sampling import FEWEST_BLOCKS, ROUNDS
from suite.measurement import Measurement
from suite.recipes import RESIZED

#: Inputs that a case is audited on.
INPUTS = 3

#: Bytes of each buffer that the machine's copy speed is measured with: several times a large cache.
COPY_BYTES = 128 * 2**20

#: Of the crops, and of the order of samples.
_SEED = 0

#: Seconds that a case may take where nothing else is said: so many, and so many for each 2²⁰ numbers in its input.
_TIMEOUT = (60.0, 5.0)

#: Processes side by side at most, while nothing is timed.
_WORKERS = 4

#: The part of the free memory that the processes of one group may take.
_MEMORY_SHARE = 0.8

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # JAX: the threads of XLA on the CPU
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
)

#: Names of the files with the inputs, one or two each time, and with the references.
_Files = tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]

#: Where a session's time can go, as the report at its end names it.
SPENDING = (
    "import", "inputs and references", "compile and start", "audit", "allocations", "reset", "timed calls",
    "warm-up", "copy speed", "check", "other",
)  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes
    ----------
    threads : int
        For every runtime.
    blocks : int
        A case is given, unless the budget ends before. 0: nothing is timed.
    budget : float
        Seconds for the timing of all cases.
    timeout : float or None
        Seconds that one case may take, all its processes together. None: a minute, and more for large inputs.
    no_gpu : str or None
        Why there is no CUDA device.
    """

    threads: int
    blocks: int
    budget: float
    timeout: float | None
    no_gpu: str | None


@dataclass
class Ledger:
    """Wall seconds by what they were spent on. Several processes at once share the wall time that they took."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPENDING, 0.0))
    _busy: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def busy(self, what: str, seconds: float) -> None:
        """A process was busy for so long."""
        with self._lock:
            self._busy[what] = self._busy.get(what, 0.0) + seconds

    @contextmanager
    def wall(self, only: str | None = None) -> Iterator[None]:
        """Divide the wall time of the body among what processes were busy with; all of it to `only`, if given."""
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
class _Progress:
    """What is known of a case so far."""

    case: Case
    left: float  # of its timeout, in seconds
    limit: float
    fields: dict[str, Any] = field(default_factory=dict)
    leaked_bytes: int = 0
    calls: int = 0
    n: int = 1
    blocks: list[list[float]] = field(default_factory=list)
    first: float = 0.0
    ended: str | None = None  # stopped_by
    over: bool = False  # its measurement is given already


class Session:
    """The processes and files of one run. A context manager: leaving it ends every process.

    Parameters
    ----------
    plan : Plan
    photographs : Photographs
    on_case : callable, optional
        ``on_case(case, doing)``, as a case is taken up, from any thread.
    """

    def __init__(
        self,
        plan: Plan,
        photographs: images.Photographs,
        on_case: Callable[[Case, str], None] = lambda case, doing: None,
    ) -> None:
        self.plan, self.photographs, self.on_case = plan, photographs, on_case
        self.ledger = Ledger()
        self._random = random.Random(_SEED)
        self._zygotes: dict[tuple[str, str], Zygote] = {}
        self._children: set[Child] = set()
        self._environment = registry.child_environment() | dict.fromkeys(_THREAD_VARIABLES, str(plan.threads))
        # What TensorFlow says at its start is nobody's answer.
        self._environment.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        # What a child that is killed leaves of temporary files goes with the session.
        self._scratch = _new_folder(tempfile.gettempdir())
        self._environment["TMPDIR"] = str(self._scratch)
        self._workers = max(1, min(_WORKERS, len(os.sched_getaffinity(0))))
        self._copy: Child | None = None
        # One pool for the session: a process that a thread has started may die with that thread.
        self._pool = ThreadPoolExecutor(self._workers)
        self._spent = 0.0  # of the budget
        self._lock = threading.Lock()  # of the zygotes: threads ask for them
        self._closed = False

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        # Kill first: a thread that waits for an answer then gets none, and comes to its end.
        with self._lock:
            self._closed = True
        for zygote in self._zygotes.values():
            zygote.process.kill()
        for child in list(self._children):
            child.kill()
        self._pool.shutdown(cancel_futures=True)
        for child in list(self._children):
            self._close(child)
        for zygote in self._zygotes.values():
            zygote.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def measure(self, cases: Sequence[Case]) -> Iterator[Measurement]:
        """Measure, and give each case's measurement as soon as it is complete."""
        groups = [list(group) for _, group in groupby(cases, key=lambda case: case.group)]
        free = free_memory()
        runnable = {case.key for case in cases if not skip_reason(case, self.plan.no_gpu, free)}
        weights = [sum(_weight(case) for case in group if case.key in runnable) for group in groups]
        with self.ledger.wall("import"):
            self._import([case for case in cases if case.key in runnable])
        for i, group in enumerate(groups):
            share = (self.plan.budget - self._spent) * weights[i] / (sum(weights[i:]) or 1)
            yield from self._measure_group(group, share)

    def _import(self, cases: Sequence[Case]) -> None:
        """Start what will be needed, all at once; whatever fails will fail again for its cases."""
        if cases:
            self._zygote("numpy", "suite.recipes")
        for case in cases:
            self._zygote(case.variant.runtime, case.variant.source)
        for zygote in self._zygotes.values():
            try:
                zygote.ready()
            except CaseEnded:
                continue

    def _zygote(self, runtime: str, source: str) -> Zygote:
        # What ships is one: every module of it is imported at once.
        key = (runtime, "suite" if registry.ships(source) else source)
        with self._lock:
            if self._closed:
                raise CaseEnded("failed", "the session has ended")
            if key in self._zygotes and self._zygotes[key].killed:
                self._zygotes.pop(key).close()  # by a variant: what comes after it has a new one
            if key not in self._zygotes:
                self._zygotes[key] = Zygote(*key, self._environment)
            return self._zygotes[key]

    def _open(self, runtime: str, source: str) -> Child:
        child = self._zygote(runtime, source).child()
        self._children.add(child)
        return child

    def _close(self, child: Child) -> None:
        child.close()
        self._children.discard(child)

    def _measure_group(self, group: Sequence[Case], share: float) -> Iterator[Measurement]:
        free = free_memory()
        runnable = []
        for case in group:
            reason = skip_reason(case, self.plan.no_gpu, free)
            if reason:
                yield self._ended(self._progress(case), "skipped", reason)
            else:
                runnable.append(case)
        if not runnable:
            return
        # What a recipe gives is not known yet; where images are small, one that resizes gives more than it is given.
        resized = (runnable[0].batch or 1) * CHANNELS * RESIZED**2
        folder = _folder(shared_bytes(runnable[0], max(runnable[0].elements, resized)))
        if isinstance(folder, str):
            for case in runnable:
                yield self._ended(self._progress(case), "skipped", folder)
            return
        try:
            try:
                with self.ledger.wall("inputs and references"):
                    files = self._inputs(runnable[0], folder)
            except CaseEnded as ended:
                for case in runnable:
                    yield self._ended(self._progress(case), ended.status, f"the reference: {ended.reason}")
                return
            # Only now is it known how large a result is, and where it fits.
            result = np.load(files[1][0], mmap_mode="r")
            fitting = []
            for case in runnable:
                reason = misfit(case, result.shape) or too_large(child_bytes(case, result.size), free_memory())
                if reason:
                    yield self._ended(self._progress(case), "skipped", reason)
                else:
                    fitting.append(case)
            if not fitting:
                return
            timed = []
            size = _that_fit(fitting[0], result.size)
            with self.ledger.wall():
                audited = self._each(lambda case: self._examine(case, files), fitting, size)
            for examined in audited:
                if isinstance(examined, Measurement):
                    yield examined
                else:
                    timed.append(examined)
            if not self.plan.blocks:
                yield from (self._ended(state, "ok", None, figures.untimed()) for state in timed)
                return
            start = monotonic()
            parts = [timed[i : i + size] for i in range(0, len(timed), size)]
            for number, part in enumerate(parts, 1):
                yield from self._time(part, files, start + share * number / len(parts))
            self._spent += monotonic() - start
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _progress(self, case: Case) -> _Progress:
        fixed, by_size = _TIMEOUT
        limit = self.plan.timeout if self.plan.timeout is not None else fixed + by_size * case.elements / 2**20
        return _Progress(case, limit, limit)

    def _each(self, function: Callable[[Any], Any], things: Sequence[Any], at_once: int) -> list[Any]:
        """Map, so many side by side, and never more than there are cores."""
        if min(at_once, self._workers) == 1:
            return [function(thing) for thing in things]
        turn = threading.Semaphore(at_once)

        def in_turn(thing: Any) -> Any:
            with turn:
                return function(thing)

        return list(self._pool.map(in_turn, things))

    def _inputs(self, case: Case, folder: Path) -> _Files:
        parts = range(case.recipe.inputs)
        inputs = tuple(tuple(str(folder / f"input-{k}-{part}.npy") for part in parts) for k in range(INPUTS))
        references = tuple(str(folder / f"reference-{k}.npy") for k in range(INPUTS))
        for k, names in enumerate(inputs):
            for part, name in enumerate(names):
                shape = (case.batch, case.height, case.width)
                seed = _SEED + k + INPUTS * part
                np.save(name, images.batch(self.photographs, shape, case.dtype, case.layout, seed))
        source = case.recipe.source
        child = self._open("numpy", source)
        try:
            job = ReferenceJob(source, case.recipe.name, case.layout, inputs, references)
            limit = self._progress(case).limit
            child.ask("open", job, timeout=limit)
        except CaseEnded as ended:
            if ended.status == "timeout":
                ended.reason = f"took more than {limit:.3g} s"
            raise
        finally:
            self._close(child)
        return inputs, references

    def _start(self, state: _Progress, files: _Files) -> Child:
        case = state.case
        by = case.variant
        child = self._open(by.runtime, by.source)
        job = BlockJob(
            by.source, case.recipe.name, by.name, by.runtime, by.writes, case.device, self.plan.threads,
            *files, str(case.result_dtype), case.recipe.magnitude,
        )  # fmt: skip
        self._ask(state, child, "compile and start", "open", job)
        return child

    def _ask(self, state: _Progress, child: Child, what: str, *request: Any) -> Any:
        """Ask, charge the case's timeout and the ledger; a child that fails is closed."""
        start = monotonic()
        try:
            value, seconds = child.ask(*request, timeout=state.left)
        except CaseEnded as ended:
            self._close(child)
            self.ledger.busy(what, monotonic() - start)
            if ended.status == "timeout":
                ended.reason = f"took more than {state.limit:.3g} s ({what})"
            raise
        finally:
            state.left = max(0.0, state.left - (monotonic() - start))
        if isinstance(value, Sample):
            self.ledger.busy("reset", value.reset_seconds)
            self.ledger.busy("timed calls", value.seconds * value.calls)
            self.ledger.busy("warm-up", max(0.0, seconds - value.reset_seconds - value.seconds * value.calls))
        else:
            self.ledger.busy(what, seconds)
        return value

    def _examine(self, case: Case, files: _Files) -> Measurement | _Progress:
        """Audit and trace a case in one process."""
        state = self._progress(case)
        child = None
        try:
            self.on_case(case, "audit")
            child = self._start(state, files)
            audit: Audit = self._ask(state, child, "audit", "audit")
            state.fields |= figures.of_audit(audit)
            if audit.status != "ok":
                return self._ended(state, audit.status, audit.reason)
            self.on_case(case, "allocations")
            traced: Traced = self._ask(state, child, "allocations", "allocations")
            state.leaked_bytes = traced.leaked_bytes
            state.fields |= figures.of_allocations(traced)
        except CaseEnded as ended:
            return self._ended(state, ended.status, ended.reason)
        finally:
            if child is not None:
                self._close(child)
        return state

    def _time(
        self,
        states: Sequence[_Progress],
        files: _Files,
        deadline: float,
    ) -> list[Measurement]:
        """Time cases in turn, block after block, until they have their blocks or the time is up."""
        ended: list[Measurement] = []
        copies: list[float] = []
        elements = int(np.load(files[1][0], mmap_mode="r").size)
        longest = 0.0
        for block in range(self.plan.blocks):
            running = [s for s in states if not s.over and s.ended is None]
            start = monotonic()
            if block >= FEWEST_BLOCKS and start + longest > deadline:
                for state in running:
                    state.ended = "budget"
                break
            if not running:
                break
            copies += self._block(running, files, ended, first=block == 0)
            longest = max(longest, monotonic() - start)
        speed = median(copies) if copies else None
        return ended + [self._timed(state, elements, speed) for state in states if not state.over]

    def _block(
        self,
        running: Sequence[_Progress],
        files: _Files,
        ended: list[Measurement],
        first: bool,
    ) -> list[float]:
        """One block of every case: fresh processes, a few rounds of samples in random order, a check."""
        children: dict[int, Child] = {}

        def over(state: _Progress, why: CaseEnded) -> None:
            children.pop(id(state), None)
            if state.blocks and len(state.blocks[-1]) < ROUNDS:
                state.blocks.pop()  # a block is whole, or it is none
            if why.status == "timeout" and len(state.blocks) >= min(FEWEST_BLOCKS, self.plan.blocks):
                state.ended = "timeout"
            else:
                state.over = True
                ended.append(self._ended(state, why.status, why.reason))

        def attempt(function: Callable[[_Progress], None]) -> Callable[[_Progress], None]:
            def guarded(state: _Progress) -> None:
                try:
                    function(state)
                except CaseEnded as why:
                    over(state, why)

            return guarded

        def start(state: _Progress) -> None:
            children[id(state)] = self._start(state, files)

        def begin(state: _Progress) -> None:
            changes = bool(state.fields["input_changed"])
            ready: Ready = self._ask(
                state,
                children[id(state)],
                "compile and start",
                "first",
                changes,
                state.leaked_bytes,
                None if first else state.n,
            )
            if first:
                state.first, state.n = ready.seconds_first, ready.calls
            state.blocks.append([])

        def sample(state: _Progress) -> None:
            self.on_case(state.case, "timing")
            taken: Sample = self._ask(state, children[id(state)], "timed calls", "sample", state.n)
            state.blocks[-1].append(taken.seconds)
            state.calls += taken.calls

        def check(state: _Progress) -> None:
            self._ask(state, children[id(state)], "check", "check")

        def alive() -> list[_Progress]:
            return [s for s in running if id(s) in children]

        copies: list[float] = []
        try:
            with self.ledger.wall():
                self._each(attempt(start), running, len(running))
                # The first call of the first block is reported, so nothing else may run beside it.
                self._each(attempt(begin), alive(), 1 if first else len(running))
            for _ in range(ROUNDS):
                order = alive()
                self._random.shuffle(order)
                with self.ledger.wall():
                    for state in order:
                        attempt(sample)(state)
                with self.ledger.wall("copy speed"):
                    copies += self._copy_speed()
            with self.ledger.wall():
                self._each(attempt(check), alive(), len(running))
        finally:
            with self.ledger.wall("other"):
                for child in list(children.values()):
                    child.kill()  # all at once: giving back the memory of a process takes the kernel a while
                for child in list(children.values()):
                    self._close(child)
        return copies

    def _copy_speed(self) -> list[float]:
        """Bytes per second of one copy, in a list that is empty where there is no memory for it."""
        try:
            if self._copy is None:
                if free_memory() < 8 * COPY_BYTES:
                    return []
                self._copy = self._open("numpy", "suite.recipes")
                self._copy.ask("open", CopyJob(COPY_BYTES, self.plan.threads), timeout=60)
            speed, _ = self._copy.ask("sample", timeout=60)
        except CaseEnded:
            return []
        return [speed]

    def _timed(self, state: _Progress, elements: int, copy_speed: float | None) -> Measurement:
        """The measurement of a case that was timed; `elements` are those of its result."""
        case = state.case
        timed = figures.of_time(
            state.blocks,
            first=state.first,
            calls=state.calls,
            stopped_by=state.ended or "blocks",
            images=case.batch or 1,
            bytes_moved=case.nbytes + elements * case.result_dtype.itemsize,
            copy_speed=copy_speed,
        )
        return self._ended(state, "ok", None, timed)

    def _ended(
        self, state: _Progress, status: str, reason: str | None, timed: dict[str, Any] | None = None
    ) -> Measurement:
        """The measurement of a case that is complete."""
        return figures.measurement(as_row(state.case), self.plan.threads, status, reason, state.fields, timed or {})


def _weight(case: Case) -> float:
    """The part of the budget that a case deserves: starting its processes, and moving its bytes."""
    return 2.0 + case.elements / 2e6


def _that_fit(case: Case, result_elements: int) -> int:
    """How many processes of a case's group fit in memory at once; at least one."""
    return max(1, int(_MEMORY_SHARE * free_memory() // child_bytes(case, result_elements)))


def _folder(nbytes: int) -> Path | str:
    """A new folder for files that processes share, in memory or else on disk; or why neither has room for it."""
    disk = tempfile.gettempdir()
    for parent, spare in (("/dev/shm", 2.0), (disk, 1.1)):
        usable = os.path.isdir(parent) and os.access(parent, os.W_OK)
        if usable and shutil.disk_usage(parent).free > spare * nbytes:
            return _new_folder(parent)
    free = shutil.disk_usage(disk).free
    return f"needs {nbytes / 2**30:.3g} GiB for its inputs, and {free / 2**30:.3g} GiB is free in {disk}"


def _new_folder(parent: str) -> Path:
    """A folder for this process's files; those of processes that were killed are cleared away."""
    for left in Path(parent).glob("copycost-session-*"):
        if not Path("/proc", left.name.split("-")[2]).exists():
            shutil.rmtree(left, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"copycost-session-{os.getpid()}-", dir=parent))
