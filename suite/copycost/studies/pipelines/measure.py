"""Measure pipelines side by side: blocks of fresh processes, with epochs in random order in each block."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from copycost.cases.images import Photographs
from copycost.catalog import discovery, import_context
from copycost.engine.worker import CaseFailure, ForkServer, Worker
from copycost.machine import host_lock
from copycost.model.source import Source
from copycost.stats import ratios
from copycost.stats.intervals import estimate
from copycost.studies.pipelines import files
from copycost.studies.pipelines.block import Allocated, Block, Checked, Job
from copycost.studies.pipelines.ways import Way

R = TypeVar("R")

#: Name of the pipeline that the others are compared with.
BASELINE = "loop"

#: Number of timed epochs per block, after one untimed epoch.
_ROUNDS = 2

#: Time limit for one answer of a worker, in seconds.
_TIMEOUT = 120.0

#: Allowed error of a result by decoder, in levels of 0 … 255. Pillow's resizing rounds twice. TensorFlow's decoder uses
#: a faster transform than Pillow's by default, and is then off by 9 levels (docs/results/folklore.md).
TOLERANCE = {"Pillow": 1.5, "TensorFlow": 12.0, "TensorFlow, accurate": 0.05}


@dataclass(frozen=True)
class Pipeline:
    """Measurement of one pipeline. Unavailable figures are None, and `reason` says why.

    Attributes
    ----------
    name, decoder, resize, mode : str
    status : {"ok", "wrong", "failed", "crashed", "timeout", "skipped"}
    reason : str or None
    batch, images : int
        Images per batch and per epoch.
    images_per_second, images_per_second_low, images_per_second_high : float
        Median over blocks, and its 95 % interval.
    ratio, ratio_low, ratio_high : float
        Images per second divided by the loop's in the same blocks, and its 95 % interval.
    seconds_first : float
        Time to build the pipeline and produce the first batch; median over blocks.
    allocations, allocated_bytes : float
        Mean per batch over an epoch, counting requests of at least 4,096 bytes.
    peak_bytes : int
        Peak of live bytes above the start of an epoch.
    levels : float
        Largest difference from the reference, in levels of 0 … 255.
    samples : list of list of float
        Seconds per epoch, by block.
    instruments : tuple of str
    """

    name: str
    decoder: str
    resize: str
    mode: str
    status: str
    reason: str | None
    batch: int
    images: int
    images_per_second: float | None = None
    images_per_second_low: float | None = None
    images_per_second_high: float | None = None
    ratio: float | None = None
    ratio_low: float | None = None
    ratio_high: float | None = None
    seconds_first: float | None = None
    allocations: float | None = None
    allocated_bytes: float | None = None
    peak_bytes: int | None = None
    levels: float | None = None
    samples: tuple[tuple[float, ...], ...] = ()
    instruments: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON object."""
        return asdict(self)


def steps(ways: int, blocks: int) -> int:
    """Return the maximum number of progress reports of `measure`."""
    return ways * (1 + blocks * (1 + _ROUNDS))


def measure(
    ways: Iterable[Way],
    photographs: Photographs,
    *,
    number: int,
    batch: int,
    blocks: int,
    threads: int,
    traced: bool = True,
    on_step: Callable[[str], None] = lambda step: None,
) -> tuple[list[Pipeline], bool]:
    """Measure pipelines on `number` temporary JPEG files, written from crops of photographs.

    Parameters
    ----------
    ways : iterable of Way
    photographs : Photographs
    number, batch : int
        Number of files, and images per batch.
    blocks : int
        Number of fresh processes per pipeline.
    threads : int
    traced : bool
        Whether to count the allocations of an epoch, which takes one step per pipeline.
    on_step : callable
        ``on_step(step)`` reports progress, ``steps(len(ways), blocks)`` times at most.

    Returns
    -------
    list of Pipeline
        After Ctrl-C, the results of all complete blocks.
    bool
        Whether the measurement was interrupted.
    """
    states = []
    interrupted = False
    for way in ways:
        lacking = discovery.not_installed(discovery.runtime(way.runtime))
        states.append(_State(way, ("skipped", lacking) if lacking else None))
    with tempfile.TemporaryDirectory(prefix="copycost-") as folder, ExitStack() as stack:
        paths = files.write(Path(folder), photographs, number)
        fork_servers: dict[str, ForkServer] = {}
        for runtime in {state.way.runtime for state in states if state.ended is None}:
            fork_servers[runtime] = ForkServer(
                runtime, Source("copycost.studies.pipelines.ways"), import_context.child_environment()
            )
            stack.callback(fork_servers[runtime].close)

        def open_(state: _State) -> Worker | None:
            if state.ended is not None:
                return None
            try:
                worker = fork_servers[state.way.runtime].fork()
            except CaseFailure as end:  # the runtime cannot be imported
                state.ended = end.status, end.reason
                return None
            state.open(worker, Job(state.way.name, paths, batch, threads))
            first = state.ask(worker, Block.first)
            if first is not None:
                state.first.append(first)
            return worker

        try:
            for state in states if traced else ():
                on_step(f"allocations of {state.way.name}")
                if (worker := open_(state)) is not None:
                    state.allocated = state.ask(worker, Block.allocations)
                    worker.close()
            with host_lock.held():
                for _ in range(blocks):
                    _block(states, open_, on_step)
        except KeyboardInterrupt:
            interrupted = True
    base = next((state.samples for state in states if state.way.name == BASELINE), [])
    return [state.pipeline(number, batch, base) for state in states], interrupted


@dataclass
class _State:
    """Results of a pipeline so far; `ended` is a status and its reason if the pipeline has failed or is skipped."""

    way: Way
    ended: tuple[str, str] | None
    first: list[float] = field(default_factory=list)
    samples: list[list[float]] = field(default_factory=list)
    checked: Checked | None = None
    allocated: Allocated | None = None

    def open(self, worker: Worker, job: Job) -> None:
        """Start a job in a worker."""
        try:
            worker.open(job, _TIMEOUT)
        except CaseFailure as end:
            self.ended = end.status, end.reason

    def ask(self, worker: Worker, method: Callable[[Block], R]) -> R | None:
        """Return the worker's answer to a request, or None if the pipeline has ended."""
        if self.ended is None:
            try:
                return worker.ask(_TIMEOUT, method)[0]
            except CaseFailure as end:
                self.ended = end.status, end.reason
        return None

    def pipeline(self, number: int, batch: int, base: list[list[float]]) -> Pipeline:
        """Return the measurement."""
        status, reason = self.ended or ("ok", None)
        figures: dict[str, Any] = {}
        if self.ended is None:
            if self.samples:
                interval = estimate(self.samples)
                figures |= {"images_per_second": number / interval.value}
                if interval.low is not None and interval.high is not None:
                    figures["images_per_second_low"] = number / interval.high
                    figures["images_per_second_high"] = number / interval.low
            difference = ratios.paired(self.samples, base) if self.way.name != BASELINE else None
            if difference is not None:
                times = difference.ratio(0.05)  # seconds of the loop over seconds of this pipeline, i.e. the speed-up
                figures |= {"ratio": times.value, "ratio_low": times.low, "ratio_high": times.high}
            uncounted = None
            if self.allocated is not None:
                figures |= asdict(self.allocated)
                uncounted = figures.pop("missing")
            if self.checked is not None:
                figures["levels"] = self.checked.levels
                allowed = TOLERANCE[self.way.decoder]
                reason = self.checked.reason
                if self.checked.levels is not None and self.checked.levels > allowed:
                    reason = f"off by up to {self.checked.levels:.1f} levels of 255; {allowed} are allowed"
                status = "wrong" if reason else "ok"
            reason = reason or uncounted
        return Pipeline(
            self.way.name, self.way.decoder, self.way.resize, self.way.mode, status, reason, batch, number,
            seconds_first=median(self.first) if self.first else None,
            samples=tuple(map(tuple, self.samples)),
            **figures,
        )  # fmt: skip


def _block(states: Sequence[_State], open_: Callable[[_State], Worker | None], on_step: Callable[[str], None]) -> None:
    """Run one block: start a fresh process for every pipeline, then run their epochs interleaved."""
    workers: list[tuple[_State, Worker]] = []
    for state in random.sample(states, len(states)):
        on_step(f"first batch of {state.way.name}")
        if (worker := open_(state)) is not None:
            workers.append((state, worker))
    seconds_by_name: dict[str, list[float]] = {state.way.name: [] for state, _ in workers}
    for _ in range(_ROUNDS):
        for state, worker in random.sample(workers, len(workers)):
            on_step(f"an epoch of {state.way.name}")
            if (seconds := state.ask(worker, Block.time)) is not None:
                seconds_by_name[state.way.name].append(seconds)
    for state, worker in workers:
        if state.checked is None:
            state.checked = state.ask(worker, Block.check)
        worker.close()
    for state, _ in workers:  # append together, because blocks of different pipelines are compared in pairs
        if state.ended is None:
            state.samples.append(seconds_by_name[state.way.name])
