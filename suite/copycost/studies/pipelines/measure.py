"""Ways measured side by side: blocks of fresh processes, and in each of them epochs in a random order."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from copycost.cases.images import Photographs
from copycost.catalog import discovery, import_context
from copycost.engine.worker import CaseFailure, ForkServer, Worker
from copycost.stats import ratios
from copycost.stats.intervals import estimate
from copycost.studies.pipelines import files
from copycost.studies.pipelines.block import Allocated, Checked, Job
from copycost.studies.pipelines.ways import Way

#: What the others are compared with.
BASELINE = "loop"

#: Epochs that are timed in a block, after one that is not.
_ROUNDS = 2

#: Seconds that one answer may take.
_TIMEOUT = 120.0

#: Levels of 0 … 255 that a result may be off by. Pillow's resizing rounds twice; TensorFlow's decoder takes a faster
#: transform than Pillow's unless it is told otherwise, and is then off by 9 levels (docs/results/folklore.md).
TOLERANCE = {"Pillow": 1.5, "TensorFlow": 12.0, "TensorFlow, accurate": 0.05}


@dataclass(frozen=True)
class Pipeline:
    """What one way gave. What could not be had is None, and `reason` says why.

    Attributes
    ----------
    name, decoder, resize, mode : str
    status : {"ok", "wrong", "failed", "crashed", "timeout", "skipped"}
    reason : str or None
    batch, images : int
        Of an epoch.
    images_per_second, images_per_second_low, images_per_second_high : float
        Median over blocks, and its 95 % interval.
    ratio, ratio_low, ratio_high : float
        Images per second over the loop's in the same blocks, and its 95 % interval.
    seconds_first : float
        From nothing built to the first batch; median over blocks.
    allocations, allocated_bytes : float
        A batch, on average over an epoch; requests of 4,096 bytes and more.
    peak_bytes : int
        The most alive at once, above the start of an epoch.
    levels : float
        The largest difference from the reference, in levels of 0 … 255.
    samples : list of list of float
        Seconds of an epoch, by block.
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
        """As JSON has it."""
        return asdict(self)


def steps(ways: int, blocks: int) -> int:
    """How often `measure` tells what it does."""
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
    moved: Callable[[str], None] = lambda doing: None,
) -> tuple[list[Pipeline], bool]:
    """Measure ways on `number` JPEG files, written for the purpose from crops of photographs.

    Parameters
    ----------
    ways : iterable of Way
    photographs : Photographs
    number, batch : int
        Files, and images in a batch.
    blocks : int
        Fresh processes of each way.
    threads : int
    traced : bool
        Whether to look what an epoch allocates: one step of each way.
    moved : callable
        Told what is done, ``steps(len(ways), blocks)`` times.

    Returns
    -------
    list of Pipeline
        After Ctrl-C, what had been measured by then: whole blocks.
    bool
        Whether it was interrupted.
    """
    taken = []
    interrupted = False
    for way in ways:
        lacking = discovery.not_installed(discovery.runtime(way.runtime))
        taken.append(_Taken(way, ("skipped", lacking) if lacking else None))
    with tempfile.TemporaryDirectory(prefix="copycost-") as folder, ExitStack() as stack:
        paths = files.write(Path(folder), photographs, number)
        fork_servers: dict[str, ForkServer] = {}
        for runtime in {one.way.runtime for one in taken if one.ended is None}:
            fork_servers[runtime] = ForkServer(
                runtime, "copycost.studies.pipelines.ways", import_context.child_environment()
            )
            stack.callback(fork_servers[runtime].close)

        def open_(one: _Taken) -> Worker | None:
            if one.ended is not None:
                return None
            try:
                child = fork_servers[one.way.runtime].child()
            except CaseFailure as end:  # what it needs does not import
                one.ended = end.status, end.reason
                return None
            one.ask(child, "open", Job(one.way.name, paths, batch, threads))
            first = one.ask(child, "first")
            if first is not None:
                one.first.append(first)
            return child

        try:
            for one in taken if traced else ():
                moved(f"allocations of {one.way.name}")
                if (child := open_(one)) is not None:
                    one.allocated = one.ask(child, "allocations")
                    child.close()
            for _ in range(blocks):
                _block(taken, open_, moved)
        except KeyboardInterrupt:
            interrupted = True
    base = next((one.samples for one in taken if one.way.name == BASELINE), [])
    return [one.pipeline(number, batch, base) for one in taken], interrupted


@dataclass
class _Taken:
    """What is known of a way so far; `ended` is a status and the reason for it."""

    way: Way
    ended: tuple[str, str] | None
    first: list[float] = field(default_factory=list)
    samples: list[list[float]] = field(default_factory=list)
    checked: Checked | None = None
    allocated: Allocated | None = None

    def ask(self, child: Worker, *request: Any) -> Any:
        """The answer; None once the way has ended."""
        if self.ended is None:
            try:
                return child.ask(*request, timeout=_TIMEOUT)[0]
            except CaseFailure as end:
                self.ended = end.status, end.reason
        return None

    def pipeline(self, number: int, batch: int, base: list[list[float]]) -> Pipeline:
        """All of it."""
        status, reason = self.ended or ("ok", None)
        figures: dict[str, Any] = {}
        if self.ended is None:
            if self.samples:
                found = estimate(self.samples)
                figures |= {"images_per_second": number / found.value}
                if found.low is not None and found.high is not None:
                    figures["images_per_second_low"] = number / found.high
                    figures["images_per_second_high"] = number / found.low
            difference = ratios.paired(self.samples, base) if self.way.name != BASELINE else None
            if difference is not None:
                times = difference.ratio(0.05)  # seconds of the loop over seconds of this: how many times as fast
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


def _block(taken: Sequence[_Taken], open_: Callable[[_Taken], Worker | None], moved: Callable[[str], None]) -> None:
    """A fresh process for every way, then epochs of all of them in turn."""
    children: list[tuple[_Taken, Worker]] = []
    for one in random.sample(taken, len(taken)):
        moved(f"first batch of {one.way.name}")
        if (child := open_(one)) is not None:
            children.append((one, child))
    taking: dict[str, list[float]] = {one.way.name: [] for one, _ in children}
    for _ in range(_ROUNDS):
        for one, child in random.sample(children, len(children)):
            moved(f"an epoch of {one.way.name}")
            if (seconds := one.ask(child, "time")) is not None:
                taking[one.way.name].append(seconds)
    for one, child in children:
        if one.checked is None:
            one.checked = one.ask(child, "check")
        child.close()
    for one, _ in children:  # all at once: the blocks of two ways belong together
        if one.ended is None:
            one.samples.append(taking[one.way.name])
