"""One way in one fresh process: its first batch, whole epochs, what it allocates, and whether its batches are right."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost.engine.count_allocations import count
from copycost.studies.pipelines.files import reference
from copycost.studies.pipelines.ways import WAYS

#: Results are of 0 … 255 in caffe's mode, and of 2 / 255 of that in tf's: what one level of a pixel is.
_LEVEL = {"tf": 2 / 255, "caffe": 1.0}


@dataclass(frozen=True)
class Job:
    """What a block needs to know.

    Attributes
    ----------
    way : str
    files : tuple of str
    batch : int
    threads : int
    """

    way: str
    files: tuple[str, ...]
    batch: int
    threads: int

    def start(self) -> Block:
        """Choose the number of threads; nothing is built."""
        discovery.runtime(WAYS[self.way].runtime).start("cpu", self.threads)
        return Block(self)


@dataclass(frozen=True)
class Checked:
    """What a way's batches are: the largest difference from the reference, in levels of 0 … 255, or what is wrong."""

    levels: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Allocated:
    """What an epoch allocates, a batch on average: requests, and bytes; and the most that is alive at once.

    The figures are None where they could not be counted, for the reason in `missing`.
    """

    allocations: float | None
    allocated_bytes: float | None
    peak_bytes: int | None
    instruments: tuple[str, ...]
    missing: str | None = None


class Block:
    """A way, built by the first call."""

    def __init__(self, job: Job) -> None:
        self.job, self.way = job, WAYS[job.way]
        self.epoch: Callable[[], Iterator[Any]] | None = None

    def first(self) -> float:
        """Seconds from nothing built to the first batch; the rest of the epoch is then gone through."""
        start = perf_counter()
        self.epoch = self.way.prepare(self.job.files, self.job.batch)
        batches = self.epoch()
        next(batches)
        seconds = perf_counter() - start
        deque(batches, maxlen=0)
        return seconds

    def time(self) -> float:
        """Seconds of an epoch, every batch dropped as the next is asked for."""
        start = perf_counter()
        self._through()
        return perf_counter() - start

    def check(self) -> Checked:
        """Compare the shape and dtype of every batch, all images of the first and one of each other with the truth."""
        assert self.epoch is not None
        files, batch = self.job.files, self.job.batch
        levels = 0.0
        at = 0
        for result in self.epoch():
            pixels = np.asarray(result)
            part = files[at : at + batch]
            shape = (len(part), 224, 224, 3)
            if pixels.shape != shape or pixels.dtype != np.float32:
                return Checked(None, f"gave {pixels.dtype} of shape {pixels.shape}, not float32 of {shape}")
            if not np.isfinite(pixels).all():
                return Checked(None, f"is not finite in the batch from image {at}")
            # The first of each of the others: a batch that is given again, or in another order, is another one.
            for one, path in zip(pixels, part if at == 0 else part[:1], strict=False):
                away = np.abs(one - reference(path, self.way.resize, self.way.mode)).max()
                levels = max(levels, float(away) / _LEVEL[self.way.mode])
            at += len(part)
        return Checked(levels, None if at == len(files) else f"gave {at} images of {len(files)}")

    def allocations(self) -> Allocated:
        """Go through an epoch under each instrument."""
        counted = count(lambda i: self._through, discovery.runtime(self.way.runtime), windows=1)
        found = counted.host()
        if found is None:
            return Allocated(None, None, None, counted.instruments, counted.missing)
        batches = -(-len(self.job.files) // self.job.batch)
        (epoch,) = found
        return Allocated(
            epoch.allocations / batches, epoch.allocated_bytes / batches, epoch.peak_bytes, counted.instruments
        )

    def _through(self) -> None:
        assert self.epoch is not None
        deque(self.epoch(), maxlen=0)
