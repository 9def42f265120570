"""The measurement of one case: the row that all code after the engine works with."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from itertools import repeat
from typing import Any

import numpy as np

from copycost.model import numbers
from copycost.model.vocabulary import MEASURED, DeviceKind, Layout, Mark, ResultShares, Status, StopReason, Writes
from copycost_meter.events import THRESHOLD


@dataclass(frozen=True, repr=False, slots=True)
class Measurement:
    """The measurement of one case.

    Figures that are unavailable are None, and `missing` gives the reasons. Words of a closed vocabulary, which may be
    passed as plain strings, are members of it.
    ``str()`` returns one line: time, allocations in multiples of the input, and effect on the input.

    Attributes
    ----------
    recipe, variant, dtype : str
    device : DeviceKind
    layout : Layout
    runtime : str or None
        None where a history names a variant that no longer exists.
    writes : Writes or None
        None where a history names a variant that no longer exists.
    batch : int or None
        Number of images; None for one image without a batch axis.
    height, width, channels : int
    threads : int or None
        None where a history does not record them.
    status : Status
    reason : str or None
        Explanation of the status.
    known : str or None
        Evidence that a library's path is known to be wrong, or to raise, in this case.
    includes_transfers : bool
        Whether a call on a device takes and returns host arrays.
    missing : mapping of str to str
        Field → why it is None.
    ranges : mapping of str to [int, int]
        Field → smallest and largest value, where traced calls or processes differ, or the peaks that two instruments
        saw may coincide.
    seconds, seconds_low, seconds_high : float
        Seconds per call: the median over the medians of blocks, and its 95 % interval.
    least_change : float
        Minimum detectable effect: the smallest slowdown, as a fraction, that another run would show four times in five.
        This assumes as many blocks and a machine in the same condition.
    launch_seconds, device_seconds, cold_seconds, cold_device_seconds : float
        Seconds per call on a separate device such as a GPU, each with ``…_low`` and ``…_high``. ``launch_seconds`` is
        the host's time to queue a call. ``device_seconds`` is the device's time by its own clock. The ``cold_…`` times
        are the host's time until the fence, and the device's time, with an empty device cache.
    seconds_first : float
        Seconds of the first call after preparing, which traces and compiles.
    calls, blocks : int
        Total number of timed calls, and number of blocks, each a fresh process.
    stopped_by : StopReason
    samples : list of list of float
        Seconds per call of each sample, by block.
    marks : list of list of Mark
        Disturbance of each sample, by block.
    clocks_mhz, temperatures_c, slowed : list
        State of the GPU at the end of each block: the clock of its processors, its temperature, and why its clocks were
        lower than they could be.
    joules, joules_low, joules_high : float
        Energy of a call on a GPU in joules, without what the idle device uses: the median over blocks, and its 95 %
        interval.
    images_per_second, bytes_per_second : float
    bytes_moved : int
        Bytes of input and result, counted once each.
    copy_fraction : float
        ``bytes_per_second`` over the speed at which ``threads`` threads copied a large buffer in the same blocks,
        counting bytes read and bytes written. On a GPU: ``bytes_moved`` over ``device_seconds`` (else ``seconds``),
        over the speed at which the device copied a large buffer within its memory.
    allocations, allocated_bytes, peak_bytes, retained_bytes, small_allocations, small_bytes : int
        Allocations of one steady call over all memory spaces; ``host_…`` and ``device_…`` are those of one space.
    device_rounded_bytes : int
        Bytes that the pool of the device reserved for ``device_allocated_bytes``.
    driver_allocations, driver_bytes : int
        Number and bytes of the pool's requests to the driver, made when the pool had no memory left.
    transferred_bytes : int
        Bytes that a call copies between the host's memory and the device's.
    input_changed : bool
    result_shares : ResultShares
    result_dtype : str
    result_contiguous : bool
    max_abs_error, max_ulp : float
        Largest error against the float64 reference.
    code : str
        Source code that defines the measured call, ready to copy.
    timeline : list of mapping
        Requests and releases of one call in order, with ``bytes`` (negative for a release), ``space`` (host or device)
        and ``op``, the operation that made the request. Only those of 4,096 bytes and more, grouped by instrument.
    instruments : tuple of str
        The clock of the device's times is the last one.
    audited : str or None
        Time of the audit and of the allocation trace, in UTC (ISO 8601). It is earlier than the run's where an earlier
        run with the same code, on the same machine, made them.
    """

    recipe: str
    variant: str
    runtime: str | None
    writes: Writes | None
    device: DeviceKind
    dtype: str
    layout: Layout
    batch: int | None
    height: int
    width: int
    channels: int
    threads: int | None
    status: Status
    reason: str | None = None
    known: str | None = None
    includes_transfers: bool = False
    missing: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, list[int]] = field(default_factory=dict)
    seconds: float | None = None
    seconds_low: float | None = None
    seconds_high: float | None = None
    least_change: float | None = None
    launch_seconds: float | None = None
    launch_seconds_low: float | None = None
    launch_seconds_high: float | None = None
    device_seconds: float | None = None
    device_seconds_low: float | None = None
    device_seconds_high: float | None = None
    cold_seconds: float | None = None
    cold_seconds_low: float | None = None
    cold_seconds_high: float | None = None
    cold_device_seconds: float | None = None
    cold_device_seconds_low: float | None = None
    cold_device_seconds_high: float | None = None
    seconds_first: float | None = None
    calls: int | None = None
    blocks: int | None = None
    stopped_by: StopReason | None = None
    samples: list[list[float]] | None = None
    marks: list[list[Mark]] | None = None
    clocks_mhz: list[int | None] | None = None
    temperatures_c: list[int | None] | None = None
    slowed: list[list[str]] | None = None
    joules: float | None = None
    joules_low: float | None = None
    joules_high: float | None = None
    images_per_second: float | None = None
    bytes_moved: int | None = None
    bytes_per_second: float | None = None
    copy_fraction: float | None = None
    allocations: int | None = None
    allocated_bytes: int | None = None
    peak_bytes: int | None = None
    retained_bytes: int | None = None
    small_allocations: int | None = None
    small_bytes: int | None = None
    host_allocations: int | None = None
    host_allocated_bytes: int | None = None
    host_peak_bytes: int | None = None
    host_retained_bytes: int | None = None
    host_small_allocations: int | None = None
    host_small_bytes: int | None = None
    device_allocations: int | None = None
    device_allocated_bytes: int | None = None
    device_peak_bytes: int | None = None
    device_retained_bytes: int | None = None
    device_small_allocations: int | None = None
    device_small_bytes: int | None = None
    device_rounded_bytes: int | None = None
    driver_allocations: int | None = None
    driver_bytes: int | None = None
    transferred_bytes: int | None = None
    input_changed: bool | None = None
    result_shares: ResultShares | None = None
    result_dtype: str | None = None
    result_contiguous: bool | None = None
    max_abs_error: float | None = None
    max_ulp: float | None = None
    code: str | None = None
    timeline: list[dict[str, Any]] | None = None
    instruments: tuple[str, ...] = ()
    audited: str | None = None

    def __post_init__(self) -> None:
        for name, member in _MEMBERS.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, member(value))

    def __str__(self) -> str:
        """Describe the measurement in one line.

        ``numpy-new (tf): 4.01 ms ±11 %, 2 allocations of 2 × the input (36.8 MiB), input unchanged``
        """
        name = f"{self.variant} ({self.recipe})" if self.recipe else self.variant
        if self.status not in MEASURED:
            return f"{name}: {self.remarks()}"
        time = f"{numbers.seconds(self.seconds)} {self.spread()}".strip() if self.seconds is not None else "not timed"
        if self.allocations is None:
            allocations = f"allocations not counted ({self.missing.get('allocations', 'not watched')})"
        elif not self.allocations:
            allocations = "no allocations"
        else:
            noun = "allocation" if self.allocations == 1 else "allocations"
            multiple = numbers.three((self.allocated_bytes or 0) / self.input_bytes)
            multiple = multiple.rstrip("0").rstrip(".") if "." in multiple else multiple
            size = numbers.size(self.allocated_bytes)
            allocations = f"{numbers.count(self.allocations)} {noun} of {multiple} × the input ({size})"
        effects = self._effects()
        if not self.input_changed:
            effects = "input unchanged" + (f", {effects}" if effects else "")
        unchecked = ", result unchecked" if self.status == Status.UNCHECKED else ""
        return f"{name}: {time}, {allocations}, {effects}{unchecked}"

    def __repr__(self) -> str:
        return f"<{self}>"

    @property
    def input_bytes(self) -> int:
        """Bytes of one input: the N of the tables."""
        return (self.batch or 1) * self.height * self.width * self.channels * np.dtype(self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """Return the measurement as the flat object of the JSON contract."""
        return {name: getattr(self, name) for name in FIELDS} | {"instruments": list(self.instruments)}

    @property
    def device_clock(self) -> str | None:
        """Instrument of the device's times, None if there are none."""
        return self.instruments[-1] if self.device_seconds is not None and self.instruments else None

    @property
    def unexpected(self) -> bool:
        """Whether the status is an error (wrong, failed, crashed, timeout) that `known` does not explain."""
        errors = (Status.WRONG, Status.FAILED, Status.CRASHED, Status.TIMEOUT)
        return self.status in errors and not self.known

    def spread(self) -> str:
        """Return the wider side of the 95 % interval in percent of the median: ``±4 %``."""
        if self.seconds is None or self.seconds_low is None or self.seconds_high is None:
            return ""
        half = max(self.seconds_high / self.seconds - 1, 1 - self.seconds_low / self.seconds)
        return f"±{100 * half:.{0 if half >= 0.0095 else 1}f} %"

    def group_title(self) -> str:
        """Return a title with the properties that all cases of a group share."""
        shape = "×".join(str(n) for n in (self.batch, self.height, self.width, self.channels) if n is not None)
        layout = "" if self.layout == Layout.CHANNELS_LAST else f", {self.layout}"
        return f"{self.recipe}, {shape} {self.dtype}{layout}, {self.device}"

    def remarks(self) -> str:
        """Return remarks that users should know before they use the result."""
        if self.status != Status.OK:
            evidence = f" (known: {self.known})" if self.known else ""
            return f"{self.status}: {self.reason}{evidence}" if self.reason else str(self.status)
        return self._effects()

    def _effects(self) -> str:
        """Return properties of the call and of its timing that are not errors but that users should know."""
        effects = []
        if self.includes_transfers:
            effects.append("from the host and back")
        elif self.transferred_bytes is not None and self.transferred_bytes >= THRESHOLD:
            effects.append(f"{numbers.size(self.transferred_bytes)} between host and device")
        if self.input_changed:
            effects.append("changes its input")
        # The result of a variant that writes to an argument is expected to share its memory.
        if self.result_shares not in (None, ResultShares.NOTHING) and str(self.result_shares) != self.writes:
            effects.append(f"shares the {self.result_shares}'s memory")
        if self.result_contiguous is False:
            effects.append("not contiguous")
        if self.stopped_by == StopReason.TIMEOUT:
            effects.append("timing stopped by the timeout")
        return ", ".join(effects)


#: All fields, in their order.
FIELDS = tuple(f.name for f in fields(Measurement))

#: Fields that may be missing from a measurement.
FIGURES = tuple(
    f.name for f in fields(Measurement) if f.default is None and f.name not in ("reason", "known", "audited")
)


def from_dict(row: Mapping[str, Any]) -> Measurement:
    """Create a measurement from a JSON object, ignoring fields that this version does not know.

    Raises
    ------
    TypeError
        If a required field is missing.
    ValueError
        If a field holds a word that is not of its vocabulary.
    """
    if not row.keys() >= REQUIRED:
        raise TypeError(f"missing {', '.join(sorted(REQUIRED - row.keys()))}")
    # Does the same as the constructor, which takes ten times as long for so many fields: a report may read 100,000.
    row = {"missing": {}, "ranges": {}, **row, "instruments": tuple(row.get("instruments", ()))}
    measurement = object.__new__(Measurement)
    for name, default, set_value in _SLOTS:
        set_value(measurement, row.get(name, default))
    measurement.__post_init__()
    return measurement


def from_columns(columns: Mapping[str, Sequence[Any]]) -> list[Measurement]:
    """Create measurements from the values of each field, ignoring fields that this version does not know.

    Raises
    ------
    TypeError
        If a required field is missing.
    ValueError
        If a field holds a word that is not of its vocabulary.
    """
    if not columns.keys() >= REQUIRED:
        raise TypeError(f"missing {', '.join(sorted(REQUIRED - columns.keys()))}")
    measurements = [object.__new__(Measurement) for _ in columns["recipe"]]
    empty: dict[str, list[Any]] = {name: [{} for _ in measurements] for name in ("missing", "ranges")}
    columns = {
        **empty,
        **columns,
        "instruments": list(map(tuple, columns.get("instruments") or [()] * len(measurements))),
    }
    for name, default, set_value in _SLOTS:
        values = columns.get(name)
        if values and name in _MEMBERS:
            values = _members(name, values)
        # Loops in C: a loop over the fields of each measurement takes three times as long.
        deque(map(set_value, measurements, values or repeat(default)), maxlen=0)
    return measurements


def _members(name: str, values: Sequence[Any]) -> list[Any]:
    """Return the words of a column as members of their vocabulary."""
    member = _MEMBERS[name]
    if name == "marks":
        return [None if blocks is None else member(blocks) for blocks in values]
    return list(map({word: member(word) for word in set(values) if word is not None}.get, values))


#: Fields that every measurement has, some of which may be None.
REQUIRED = frozenset(f.name for f in fields(Measurement) if f.default is MISSING and f.default_factory is MISSING)

#: Name, default and setter of each field.
_SLOTS = tuple(
    (f.name, None if f.default is MISSING else f.default, vars(Measurement)[f.name].__set__)
    for f in fields(Measurement)
)


#: Word → member: a look-up takes a tenth of the time of `Mark` itself, and a case has hundreds of marks.
_MARKS: Mapping[str, Mark] = {str(mark): mark for mark in Mark}


def _marks(blocks: list[list[str]]) -> list[list[Mark]]:
    try:
        return [[_MARKS[mark] for mark in block] for block in blocks]
    except KeyError as error:
        raise ValueError(f"{error} is not a valid Mark") from None


#: Field → function that returns a word, or lists of words, as members of its vocabulary.
_MEMBERS: Mapping[str, Callable[[Any], Any]] = {
    "writes": Writes,
    "device": DeviceKind,
    "layout": Layout,
    "status": Status,
    "stopped_by": StopReason,
    "marks": _marks,
    "result_shares": ResultShares,
}
