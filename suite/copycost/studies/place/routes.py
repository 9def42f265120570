"""Combine measurements to routes: ways from images in the host's memory to a result where the model is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from copycost.cases.case import Case
from copycost.model.measurement import Measurement
from copycost.model.vocabulary import DeviceKind, ResultShares, Status
from copycost.stats.intervals import estimate
from copycost.stats.rivals import rivals
from copycost.stats.sums import Bounded, difference, total

#: Probability that an interval misses the true value.
_MISS = 0.05


class Place(StrEnum):
    """Where the images are preprocessed."""

    CPU = "cpu"
    GPU = "gpu"
    MODEL = "model"

    @property
    def phrase(self) -> str:
        """The place as a part of a sentence."""
        return "inside the model" if self == Place.MODEL else f"on the {self.name}"


class Memory(StrEnum):
    """Memory of the host that the device copies from."""

    PAGEABLE = "pageable"
    PINNED = "pinned"


@dataclass(frozen=True)
class Inputs:
    """The images of a route: their number, height, width and dtype; `batch` is None for one without a batch axis."""

    batch: int | None
    height: int
    width: int
    dtype: str

    @property
    def images(self) -> int:
        """Number of images."""
        return self.batch or 1


@dataclass(frozen=True)
class Missing:
    """Why a time could not be measured."""

    reason: str


#: A transfer: its bytes, and the memory of the host.
Crossing = tuple[int, Memory]


@dataclass(frozen=True)
class Measured:
    """What the routes are made of.

    Attributes
    ----------
    model_on : DeviceKind
        Device of the model.
    cases : tuple of Case
    measurements : tuple of Measurement
        Of cases on the CPU and on the device.
    transfers : mapping of Crossing to list of list of float, or Missing
        Seconds of each sample, by block.
    models : mapping of Inputs to Bounded or Missing
        Seconds that preprocessing adds to the model.
    no_gpu : str or None
        Why nothing was measured on a GPU. None if it was.
    """

    model_on: DeviceKind
    cases: tuple[Case, ...]
    measurements: tuple[Measurement, ...]
    transfers: Mapping[Crossing, Sequence[Sequence[float]] | Missing]
    models: Mapping[Inputs, Bounded | Missing]
    no_gpu: str | None


@dataclass(frozen=True)
class Route:
    """A way from images in the host's memory to a result in the memory of the model's device.

    Attributes
    ----------
    place : Place
    inputs : Inputs
    memory : Memory or None
        Memory that is copied from. None if nothing crosses.
    moved_bytes : int or None
        Bytes that cross to the device. None if they are unknown.
    reason : str or None
        Why it was not measured. None if it was.
    variant : str or None
        The fastest variant there.
    compute, transfer : Bounded or None
        Seconds of preprocessing, and of the transfer, for all images. The transfer is None if nothing crosses.
    seconds : Bounded or None
        Both together, one after the other.
    """

    place: Place
    inputs: Inputs
    memory: Memory | None
    moved_bytes: int | None
    reason: str | None = None
    variant: str | None = None
    compute: Bounded | None = None
    transfer: Bounded | None = None
    seconds: Bounded | None = None

    @property
    def images_per_second(self) -> Bounded | None:
        """Images per second. An end of the interval is infinite if the time may be 0."""
        if self.seconds is None:
            return None
        n = self.inputs.images
        value, low, high = (
            n / seconds if seconds > 0 else float("inf")
            for seconds in (self.seconds.value, self.seconds.high, self.seconds.low)
        )
        return Bounded(value, low, high)


@dataclass(frozen=True)
class BreakEven:
    """From which batch on the device is surely faster than the CPU, for images of one size and dtype.

    Attributes
    ----------
    height, width : int
    dtype : str
    batch : int or None
        The smallest batch from which it is faster at all larger ones. None if it is not at the largest.
    largest : int
        The largest batch that was measured on both.
    """

    height: int
    width: int
    dtype: str
    batch: int | None
    largest: int


def routes(measured: Measured) -> list[Route]:
    """Return all routes, by the images that they take; those that were not measured have a reason."""
    memories: tuple[Memory | None, ...] = (None,) if measured.model_on == DeviceKind.CPU else tuple(Memory)
    return [
        _route(measured, place, inputs, memory)
        for inputs in dict.fromkeys(map(inputs_of, measured.cases))
        for place in Place
        for memory in memories
    ]


def break_evens(found: Sequence[Route]) -> Iterator[BreakEven]:
    """Yield the break-even batch of each size and dtype that was measured on the CPU and on the device.

    The fastest route over the CPU is compared with the fastest over the device. The device is surely faster if the
    interval of the difference lies above 0.
    """
    kinds = dict.fromkeys((route.inputs.height, route.inputs.width, route.inputs.dtype) for route in found)
    for height, width, dtype in kinds:
        gains: dict[int, bool] = {}
        for inputs in dict.fromkeys(route.inputs for route in found):
            if (inputs.height, inputs.width, inputs.dtype) != (height, width, dtype) or inputs.batch is None:
                continue
            cpu, gpu = (_fastest(found, inputs, place) for place in (Place.CPU, Place.GPU))
            if cpu is not None and gpu is not None:
                gains[inputs.batch] = difference(cpu, gpu).low > 0
        if gains:
            batches = sorted(gains)
            losses = [k for k, batch in enumerate(batches) if not gains[batch]]
            index = max(losses, default=-1) + 1
            yield BreakEven(height, width, dtype, batches[index] if index < len(batches) else None, batches[-1])


def _fastest(found: Sequence[Route], inputs: Inputs, place: Place) -> Bounded | None:
    times = [route.seconds for route in found if route.inputs == inputs and route.place == place and route.seconds]
    return min(times, key=lambda seconds: seconds.value, default=None)


def inputs_of(case: Case) -> Inputs:
    """Return the images that a case takes."""
    return Inputs(case.batch, case.height, case.width, case.dtype)


def _route(measured: Measured, place: Place, inputs: Inputs, memory: Memory | None) -> Route:
    """Return one route, or why it could not be measured."""
    case = next(case for case in measured.cases if inputs_of(case) == inputs)
    device = DeviceKind.GPU if place == Place.GPU else DeviceKind.CPU
    if place == Place.GPU and measured.no_gpu is not None:
        return Route(place, inputs, memory, case.nbytes, measured.no_gpu)
    variant: str | None = None
    if place == Place.MODEL:
        inside = measured.models.get(inputs, Missing("interrupted"))
        if isinstance(inside, Missing):
            return Route(place, inputs, memory, case.nbytes if memory else 0, inside.reason)
        compute, crossing_bytes = inside, case.nbytes
    else:
        rows = [m for m in measured.measurements if m.device == device and _of(m) == inputs]
        selected = any(c.device == device and inputs_of(c) == inputs for c in measured.cases)
        chosen = _chosen(rows) if selected else Missing("no selected variant runs there")
        if isinstance(chosen, Missing):
            return Route(place, inputs, memory, None if memory else 0, chosen.reason)
        row, compute = chosen
        variant = row.variant
        # After the CPU, the result crosses; before the device, the images do.
        crossing_bytes = (row.bytes_moved or 0) - case.nbytes if place == Place.CPU else case.nbytes
    if memory is None:
        return Route(place, inputs, None, 0, None, variant, compute, None, compute)
    samples = measured.transfers.get((crossing_bytes, memory), Missing("interrupted"))
    if isinstance(samples, Missing):
        return Route(place, inputs, memory, crossing_bytes, samples.reason, variant, compute)
    crossing = estimate(samples)
    if crossing.low is None or crossing.high is None:
        return Route(place, inputs, memory, crossing_bytes, "one block only", variant, compute)
    transfer = Bounded(crossing.value, crossing.low, crossing.high)
    return Route(place, inputs, memory, crossing_bytes, None, variant, compute, transfer, total([compute, transfer]))


def crossings(cases: Sequence[Case], measurements: Sequence[Measurement]) -> list[Crossing]:
    """Return the transfers of all routes: images cross before the device, and results after the CPU."""
    sizes = {case.nbytes for case in cases}
    for m in measurements:
        case = next((case for case in cases if inputs_of(case) == _of(m)), None)
        if m.device == DeviceKind.CPU and m.status == Status.OK and m.bytes_moved is not None and case is not None:
            sizes.add(m.bytes_moved - case.nbytes)
    return [(nbytes, memory) for nbytes in sorted(sizes) for memory in Memory]


def _of(m: Measurement) -> Inputs:
    return Inputs(m.batch, m.height, m.width, m.dtype)


def _chosen(rows: Sequence[Measurement]) -> tuple[Measurement, Bounded] | Missing:
    """Return the fastest of some rows and its seconds, with an interval that allows for its choice."""
    timed = [
        m
        for m in rows
        if m.status == Status.OK and m.samples and len(m.samples) > 1
        and not m.input_changed and m.result_shares != ResultShares.INPUT
    ]  # fmt: skip
    if not rows:
        return Missing("interrupted")
    if not timed:
        reason = next((m.remarks() for m in rows if m.status != Status.OK), "none leaves its input alone")
        return Missing(f"no variant was timed: {reason}")
    best = min(timed, key=lambda m: m.seconds or 0.0)
    time = rivals([m.samples or [] for m in timed], len(timed)).time(timed.index(best))
    assert time is not None  # it has two blocks
    low, high = time.interval(_MISS)
    value = best.seconds or time.value
    return best, Bounded(value, min(low, value), max(high, value))
