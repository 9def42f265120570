"""Measure one pipeline in a fresh process: first batch, whole epochs, allocations and correctness of the batches."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost.model.vocabulary import DeviceKind
from copycost.studies.pipelines.files import reference
from copycost.studies.pipelines.ways import WAYS
from copycost_meter.count_allocations import count

#: Size of one pixel level (of 0 … 255) in the results: 1 in mode caffe, and 2 / 255 in mode tf.
_LEVEL = {"tf": 2 / 255, "caffe": 1.0}


@dataclass(frozen=True)
class Job:
    """Parameters of a block.

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
        """Set the number of threads and return a block whose pipeline is not built yet."""
        discovery.runtime(WAYS[self.way].runtime).start(DeviceKind.CPU, self.threads)
        return Block(self)


@dataclass(frozen=True)
class Checked:
    """Result of a check: the largest difference from the reference in levels of 0 … 255, or the reason of a failure."""

    levels: float | None
    reason: str | None = None


@dataclass(frozen=True)
class Allocated:
    """Allocations of an epoch: mean number of requests and bytes per batch, and the peak of live bytes.

    The figures are None if they could not be counted; `missing` gives the reason.
    """

    allocations: float | None
    allocated_bytes: float | None
    peak_bytes: int | None
    instruments: tuple[str, ...]
    missing: str | None = None


class Block:
    """A pipeline that is built by `first`."""

    def __init__(self, job: Job) -> None:
        self.job, self.way = job, WAYS[job.way]
        self.epoch: Callable[[], Iterator[Any]] | None = None

    def first(self) -> float:
        """Build the pipeline, run one epoch, and return the seconds until the first batch, including the build."""
        start = perf_counter()
        self.epoch = self.way.prepare(self.job.files, self.job.batch)
        batches = self.epoch()
        next(batches)
        seconds = perf_counter() - start
        deque(batches, maxlen=0)
        return seconds

    def time(self) -> float:
        """Return the seconds of an epoch that drops each batch before it requests the next."""
        start = perf_counter()
        self._through()
        return perf_counter() - start

    def check(self) -> Checked:
        """Compare the batches with the reference.

        Check the shape and dtype of every batch, the values of all images of the first batch, and the values of the
        first image of each other batch.
        """
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
            # One image of each later batch suffices to detect a repeated batch or a different order.
            for image, path in zip(pixels, part if at == 0 else part[:1], strict=False):
                away = np.abs(image - reference(path, self.way.resize, self.way.mode)).max()
                levels = max(levels, float(away) / _LEVEL[self.way.mode])
            at += len(part)
        return Checked(levels, None if at == len(files) else f"gave {at} images of {len(files)}")

    def allocations(self) -> Allocated:
        """Count the allocations of an epoch under each instrument."""
        traces = count(lambda i: self._through, discovery.runtime(self.way.runtime).instruments(), windows=1)
        summaries = traces.host()
        if summaries is None:
            return Allocated(None, None, None, traces.instruments, traces.missing)
        batches = -(-len(self.job.files) // self.job.batch)
        (epoch,) = summaries
        return Allocated(
            epoch.allocations / batches, epoch.allocated_bytes / batches, epoch.peak_bytes, traces.instruments
        )

    def _through(self) -> None:
        assert self.epoch is not None
        deque(self.epoch(), maxlen=0)
