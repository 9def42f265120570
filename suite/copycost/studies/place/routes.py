"""Combine measurements to routes: ways from images in the host's memory to a result where the model is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from copycost.cases.case import Case
from copycost.model.measurement import Measurement
from copycost.model.vocabulary import DeviceKind, ResultShares, Status, Writes
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
    transfers : mapping of Crossing to Bounded or Missing
        Seconds of a transfer.
    models : mapping of Inputs to Bounded or Missing
        Seconds that preprocessing adds to the model.
    no_gpu : str or None
        Why nothing was measured on a GPU. None if it was.
    interrupted : bool
        Whether measuring was interrupted: what is missing is then to come.
    """

    model_on: DeviceKind
    cases: tuple[Case, ...]
    measurements: tuple[Measurement, ...]
    transfers: Mapping[Crossing, Bounded | Missing]
    models: Mapping[Inputs, Bounded | Missing]
    no_gpu: str | None
    interrupted: bool = False


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
    memory : Memory
        Memory of the host that both copy from.
    batch : int or None
        The smallest batch from which it is surely faster at all larger ones. None if it is not at the largest.
    largest : int
        The largest batch that was measured on both.
    """

    height: int
    width: int
    dtype: str
    memory: Memory
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
    """Yield the break-even batch of each size, dtype and memory that was measured on the CPU and on the device.

    The device is surely faster if the interval of the difference lies above 0.
    """
    by_kind: dict[tuple[int, int, str, Memory], dict[int, dict[Place, Route]]] = {}
    for route in found:
        inputs = route.inputs
        if route.seconds is not None and route.memory is not None and inputs.batch is not None:
            kind = (inputs.height, inputs.width, inputs.dtype, route.memory)
            by_kind.setdefault(kind, {}).setdefault(inputs.batch, {})[route.place] = route
    for kind, by_batch in by_kind.items():
        both = {batch: places for batch, places in sorted(by_batch.items()) if places.keys() >= {Place.CPU, Place.GPU}}
        if both:
            gains = [longer(places[Place.CPU], places[Place.GPU]).low > 0 for places in both.values()]
            index = max((k for k, gain in enumerate(gains) if not gain), default=-1) + 1
            yield BreakEven(*kind, list(both)[index] if index < len(both) else None, max(both))


def longer(route: Route, other: Route) -> Bounded:
    """Return how many seconds longer a route takes than another; both were measured.

    A part that both have in common, such as the transfer of as many bytes, does not make the difference less certain.
    """
    parts, other_parts = (
        [part for part in (route.compute, route.transfer) if part is not None] for route in (route, other)
    )
    common = [part for part in parts if any(part is other_part for other_part in other_parts)]
    own, other_own = (
        [part for part in side if not any(part is shared for shared in common)] for side in (parts, other_parts)
    )
    return difference(total(own), total(other_own))


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
        rows = [m for m in measured.measurements if m.device == device and inputs_of_measurement(m) == inputs]
        kind = "variant"
        if place == Place.CPU and memory == Memory.PINNED:
            # The others allocate their results, in pageable memory.
            rows, kind = [m for m in rows if m.writes == Writes.OUT], "variant that writes to a given array"
        chosen = _chosen(rows, kind, measured.interrupted)
        if isinstance(chosen, Missing):
            return Route(place, inputs, memory, None if memory else 0, chosen.reason)
        row, compute = chosen
        variant = row.variant
        # After the CPU, the result crosses; before the device, the images do.
        crossing_bytes = row.bytes_moved - case.nbytes if place == Place.CPU and row.bytes_moved else case.nbytes
    if memory is None:
        return Route(place, inputs, None, 0, None, variant, compute, None, compute)
    transfer = measured.transfers.get((crossing_bytes, memory), Missing("interrupted"))
    if isinstance(transfer, Missing):
        return Route(place, inputs, memory, crossing_bytes, transfer.reason, variant, compute)
    return Route(place, inputs, memory, crossing_bytes, None, variant, compute, transfer, total([compute, transfer]))


def crossings(cases: Sequence[Case], measurements: Sequence[Measurement]) -> list[Crossing]:
    """Return the transfers of all routes: images cross before the device, and results after the CPU."""
    sizes = {case.nbytes for case in cases}
    for m in measurements:
        case = next((case for case in cases if inputs_of(case) == inputs_of_measurement(m)), None)
        if m.device == DeviceKind.CPU and m.status == Status.OK and m.bytes_moved is not None and case is not None:
            sizes.add(m.bytes_moved - case.nbytes)
    return [(nbytes, memory) for nbytes in sorted(sizes) for memory in Memory]


def inputs_of_measurement(m: Measurement) -> Inputs:
    """Return the images of a measurement."""
    return Inputs(m.batch, m.height, m.width, m.dtype)


def _chosen(rows: Sequence[Measurement], kind: str, interrupted: bool) -> tuple[Measurement, Bounded] | Missing:
    """Return the fastest of some rows and its seconds, with an interval that allows for its choice.

    `kind` says in the reason of a missing time what rows were wanted.
    """
    right = [
        m
        for m in rows
        if m.status == Status.OK and not m.input_changed and m.result_shares != ResultShares.INPUT
        and m.seconds is not None and m.bytes_moved is not None
    ]  # fmt: skip
    timed = [(m.seconds, m) for m in right if m.seconds is not None and m.samples and len(m.samples) > 1]
    if not timed:
        if interrupted:
            return Missing("interrupted")
        if right:
            return Missing(f"no {kind} was timed in two blocks: it takes a larger --budget")
        if not rows:
            return Missing(f"no {kind} was selected")
        reason = next((m.remarks() for m in rows if m.status != Status.OK), None)
        return Missing(f"no {kind} was timed: {reason}" if reason else f"no selected {kind} leaves its input alone")
    value, best = min(timed, key=lambda pair: pair[0])
    time = rivals([m.samples or [] for _, m in timed], len(timed)).time([m for _, m in timed].index(best))
    assert time is not None  # it has two blocks
    low, high = time.interval(_MISS)
    return best, Bounded(value, min(low, value), max(high, value))
