"""What one case gave: the row that everything after the engine sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any

import numpy as np

from copycost.model import numbers


@dataclass(frozen=True, repr=False, slots=True)
class Measurement:
    """One case, measured. A figure that could not be had is None, and `missing` says why.

    Prints as one line: time, allocations in multiples of the input, what became of the input.

    Attributes
    ----------
    recipe, variant, device, dtype, layout : str
    runtime, writes : str or None
        None where a history names a variant that there is no more.
    batch : int or None
        None: one image without a batch axis.
    height, width, channels : int
    threads : int or None
        None where a history does not tell.
    status : {"ok", "wrong", "skipped", "failed", "crashed", "timeout", "unchecked"}
    reason : str or None
        What explains the status.
    known : str or None
        Evidence that a library's path is known to be wrong, or to raise, here.
    includes_transfers : bool
        Whether a call on a device begins and ends with arrays of the host.
    missing : mapping of str to str
        Field → why it is None.
    ranges : mapping of str to [int, int]
        Field → smallest and largest, where the traced calls did not agree or two instruments overlap.
    seconds, seconds_low, seconds_high : float
        Per call: median over the medians of blocks, and its 95 % interval.
    least_change : float
        The smallest slowdown, as a fraction, that another run of as many blocks would show four times in five, if the
        machine were then as it is now.
    launch_seconds, device_seconds, cold_seconds, cold_device_seconds : float
        Per call on a device of its own, each with ``…_low`` and ``…_high``: of the host, until it has queued a call; of
        the device, by its own clock; and, with nothing in the device's cache, of the host until the fence and of the
        device.
    seconds_first : float
        The first call after preparing: it traces and compiles.
    calls, blocks : int
        Timed calls in all; blocks, each a fresh process.
    stopped_by : {"blocks", "clear", "budget", "timeout"}
        All blocks that were asked for; the answer was clear; no time was left; the case took too long.
    samples : list of list of float
        Seconds per call, by block.
    marks : list of list of str
        What disturbed each sample, where the system tells: ``waited``, ``stolen``, ``throttled``, ``moved``; or empty.
    clocks_mhz, temperatures_c, slowed : list
        Of the GPU at the end of each block: the clock of its processors, its temperature, and why its clocks were lower
        than they could be.
    images_per_second, bytes_per_second : float
    bytes_moved : int
        Input and result, once each.
    copy_fraction : float
        ``bytes_per_second`` over the speed, read and written bytes alike, at which all cores copied a large buffer in
        the same blocks. On a GPU: ``bytes_moved`` over ``device_seconds`` (``seconds``, where there is no such), over
        the speed at which the device copied a large buffer within its memory.
    allocations, allocated_bytes, peak_bytes, retained_bytes, small_allocations, small_bytes : int
        Of one steady call, over all memory spaces; ``host_…`` and ``device_…`` for each.
    device_rounded_bytes : int
        That the pool of the device set aside for ``device_allocated_bytes``.
    driver_allocations, driver_bytes : int
        That the pool asked the driver for, since it had nothing left.
    input_changed : bool
    result_shares : {"nothing", "input", "out"}
    result_dtype : str
    result_contiguous : bool
    max_abs_error, max_ulp : float
        Against the float64 reference.
    code : str
        What defines the call that was measured, as it can be copied.
    timeline : list of mapping
        The requests and releases of one call in order, as ``bytes`` (negative for a release), ``space`` (host or
        device) and ``op``, what asked; those of 4,096 bytes and more, one instrument's after the other's.
    instruments : tuple of str
    """

    recipe: str
    variant: str
    runtime: str | None
    writes: str | None
    device: str
    dtype: str
    layout: str
    batch: int | None
    height: int
    width: int
    channels: int
    threads: int | None
    status: str
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
    stopped_by: str | None = None
    samples: list[list[float]] | None = None
    marks: list[list[str]] | None = None
    clocks_mhz: list[int | None] | None = None
    temperatures_c: list[int | None] | None = None
    slowed: list[list[str]] | None = None
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
    input_changed: bool | None = None
    result_shares: str | None = None
    result_dtype: str | None = None
    result_contiguous: bool | None = None
    max_abs_error: float | None = None
    max_ulp: float | None = None
    code: str | None = None
    timeline: list[dict[str, Any]] | None = None
    instruments: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Describe the measurement in one line.

        ``numpy-new (tf): 4.01 ms ±11 %, 2 allocations of 2 × the input (36.8 MiB), input unchanged``
        """
        name = f"{self.variant} ({self.recipe})" if self.recipe else self.variant
        if self.status not in ("ok", "unchecked"):
            return f"{name}: {self.remarks()}"
        time = f"{numbers.seconds(self.seconds)} {self.spread()}".strip() if self.seconds is not None else "not timed"
        if self.allocations is None:
            allocated = f"allocations not counted ({self.missing.get('allocations', 'not watched')})"
        elif not self.allocations:
            allocated = "no allocations"
        else:
            noun = "allocation" if self.allocations == 1 else "allocations"
            multiple = numbers.three((self.allocated_bytes or 0) / self.input_bytes)
            multiple = multiple.rstrip("0").rstrip(".") if "." in multiple else multiple
            size = numbers.size(self.allocated_bytes)
            allocated = f"{numbers.count(self.allocations)} {noun} of {multiple} × the input ({size})"
        found = self.remarks() if self.status == "ok" else self._seen()
        if not self.input_changed:
            found = "input unchanged" + (f", {found}" if found else "")
        return f"{name}: {time}, {allocated}, {found}" + (", result unchecked" if self.status == "unchecked" else "")

    def __repr__(self) -> str:
        return f"<{self}>"

    @property
    def input_bytes(self) -> int:
        """Bytes of one input: the N of the tables."""
        return (self.batch or 1) * self.height * self.width * self.channels * np.dtype(self.dtype).itemsize

    def to_dict(self) -> dict[str, Any]:
        """The flat object of the JSON contract."""
        return {name: getattr(self, name) for name in FIELDS} | {"instruments": list(self.instruments)}

    @property
    def unexpected(self) -> bool:
        """Whether this is a fault: wrong, failed, crashed or timed out without being known for it."""
        return self.status in ("wrong", "failed", "crashed", "timeout") and not self.known

    def spread(self) -> str:
        """The 95 % interval as percent of the median, the wider side: ``±4 %``."""
        if self.seconds is None or self.seconds_low is None or self.seconds_high is None:
            return ""
        half = max(self.seconds_high / self.seconds - 1, 1 - self.seconds_low / self.seconds)
        return f"±{100 * half:.{0 if half >= 0.0095 else 1}f} %"

    def group_title(self) -> str:
        """What the cases of a group have in common."""
        shape = "×".join(str(n) for n in (self.batch, self.height, self.width, self.channels) if n is not None)
        layout = "" if self.layout == "channels_last" else f", {self.layout}"
        return f"{self.recipe}, {shape} {self.dtype}{layout}, {self.device}"

    def remarks(self) -> str:
        """What one should know of a result before using it."""
        if self.status != "ok":
            known = f" (known: {self.known})" if self.known else ""
            return f"{self.status}: {self.reason}{known}" if self.reason else self.status
        return self._seen()

    def _seen(self) -> str:
        """What a call does that is no fault, and that one should know of."""
        found = []
        if self.includes_transfers:
            found.append("from the host and back")
        if self.input_changed:
            found.append("changes its input")
        if self.result_shares not in (None, "nothing") and self.result_shares != self.writes:
            found.append(f"shares the {self.result_shares}'s memory")
        if self.result_contiguous is False:
            found.append("not contiguous")
        if self.stopped_by == "timeout":
            found.append("timing stopped by the timeout")
        return ", ".join(found)


#: All fields, in their order.
FIELDS = tuple(f.name for f in fields(Measurement))

#: The fields that a measurement may lack.
FIGURES = tuple(f.name for f in fields(Measurement) if f.default is None and f.name not in ("reason", "known"))


def from_dict(row: Mapping[str, Any]) -> Measurement:
    """The measurement of a JSON object; fields that this version does not know are left out.

    Raises
    ------
    TypeError
        If it lacks what every measurement has.
    """
    if not row.keys() >= REQUIRED:
        raise TypeError(f"no {', '.join(sorted(REQUIRED - row.keys()))}")
    # As its constructor does, which takes ten times as long for as many fields: a report may read 100,000.
    row = {"missing": {}, "ranges": {}, **row, "instruments": tuple(row.get("instruments", ()))}
    found = object.__new__(Measurement)
    for name, default, put in _SLOTS:
        put(found, row.get(name, default))
    return found


#: The fields that every measurement has, some of which may be None.
REQUIRED = frozenset(f.name for f in fields(Measurement) if f.default is MISSING and f.default_factory is MISSING)

#: Each field, what it is where nothing is said, and what sets it.
_SLOTS = tuple(
    (f.name, None if f.default is MISSING else f.default, vars(Measurement)[f.name].__set__)
    for f in fields(Measurement)
)
