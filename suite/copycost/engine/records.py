"""Records about a case: what workers send to the session, and the timing that the session makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from copycost.machine.devices import Condition
from copycost.model.vocabulary import Mark
from copycost.stats.intervals import Spread
from copycost_meter.events import AllocationEvent, AllocationSummary, Pool, combine


@dataclass(frozen=True)
class Audit:
    """Findings of an audit.

    ``reason`` is None if the status is ``"ok"``. ``time`` is when the audit began, in UTC (ISO 8601, whole seconds).
    The attributes after it are fields of a `Measurement`.
    """

    status: str
    reason: str | None
    time: str | None = None
    input_changed: bool | None = None
    result_shares: str | None = None
    result_dtype: str | None = None
    result_contiguous: bool | None = None
    max_abs_error: float | None = None
    max_ulp: float | None = None
    code: str | None = None


@dataclass(frozen=True)
class AllocationTrace:
    """Allocations of a call by memory space; None for a space that was not traced.

    ``ranges`` holds the smallest and the largest value of each of the `figures` that differs between traced calls.
    ``leaked_bytes`` is the memory that the last traced call left behind after its result was released. ``missing`` is
    the reason why the host's memory was not traced, and ``device_missing`` why that of the device was not. ``pool`` is
    the device's pool, None on the CPU. ``timeline`` lists the counted events of the last call, grouped by instrument.
    ``transferred_bytes`` is what a call copies between the host's memory and the device's, and ``transfers_missing``
    why that is unknown.
    """

    host: AllocationSummary | None
    device: AllocationSummary | None
    ranges: dict[str, list[int]]
    leaked_bytes: int
    instruments: tuple[str, ...]
    missing: str | None = None
    pool: Pool | None = None
    timeline: tuple[AllocationEvent, ...] = ()
    device_missing: str | None = None
    transferred_bytes: int | None = None
    transfers_missing: str | None = None

    def figures(self) -> dict[str, int | None]:
        """Return each figure by its field of a measurement: over all memory spaces, of the host and of the device.

        Those over all spaces are None if those of a space are missing.
        """
        total = combine(self.host, self.device) if self.host and self.device else self.host
        if self.device_missing is not None:
            total = None
        summaries = {"": total, "host_": self.host, "device_": self.device}
        return {
            f"{space}{name}": getattr(summary, name, None)
            for space, summary in summaries.items()
            for name in AllocationSummary.__dataclass_fields__
        }


@dataclass(frozen=True)
class Calibration:
    """Result of a block's first calls: seconds of the very first one, and the number of calls in a sample."""

    seconds_first: float
    calls: int


@dataclass(frozen=True)
class Sample:
    """Seconds per call in one sample, its number of calls, seconds spent on restoring inputs, its disturbance mark."""

    seconds: float
    calls: int
    reset_seconds: float
    mark: str = ""


@dataclass(frozen=True)
class DeviceSample:
    """Seconds per call on an asynchronous device; None for times that its runtime cannot measure.

    Attributes
    ----------
    launch : float
        On the host, until it has queued a call.
    device : float or None
        On the device, by its own clock.
    cold : float
        On the host, until the fence, with the device's cache flushed before each call.
    cold_device : float or None
        On the device, with its cache flushed before each call.
    """

    launch: float
    device: float | None
    cold: float
    cold_device: float | None


@dataclass(frozen=True)
class BlockRecord:
    """Result of a complete block: every sample was taken, and every checked result was right.

    Attributes
    ----------
    samples : tuple of Sample
        One per round.
    device : tuple of DeviceSample
        One per round if the case runs on an asynchronous device; else empty.
    conditions : tuple of Condition
        Condition of the GPU during each sample, or one at the end of the block if reading it takes long; empty on the
        CPU.
    joules : float or None
        Energy of a call on the GPU, without what it uses when idle. None if it was not measured.
    """

    samples: tuple[Sample, ...]
    device: tuple[DeviceSample, ...] = ()
    conditions: tuple[Condition, ...] = ()
    joules: float | None = None

    @property
    def seconds(self) -> list[float]:
        """Seconds per call of each sample."""
        return [sample.seconds for sample in self.samples]

    @property
    def marks(self) -> list[str]:
        """Disturbance mark of each sample."""
        # A condition at the end of the block counts for all samples, which were taken just before.
        conditions = self.conditions * (len(self.samples) if len(self.conditions) == 1 else 1)
        slowed = [bool(condition.slowed) for condition in conditions] or [False] * len(self.samples)
        return [Mark.THROTTLED if slow else sample.mark for slow, sample in zip(slowed, self.samples, strict=True)]


@dataclass(frozen=True)
class Timing:
    """Result of timing a case.

    Attributes
    ----------
    records : tuple of BlockRecord
        At least one.
    seconds_first : float
        Duration of the first call in seconds.
    stopped_by : str
    images : int
        Number of images in a batch.
    bytes_moved : int
        Bytes of input and result.
    copy_speed : float or None
        Copy speed in bytes per second, counting bytes read and bytes written.
    spread : Spread or None
        Variances from all cases that were timed together. None if they were too few.
    device_clock : str
        Instrument of the device's times. Empty on the CPU.
    """

    records: tuple[BlockRecord, ...]
    seconds_first: float
    stopped_by: str
    images: int
    bytes_moved: int
    copy_speed: float | None = None
    spread: Spread | None = None
    device_clock: str = ""
