"""Say which device times cannot be compared, because they are by different clocks."""

from __future__ import annotations

from collections.abc import Iterable

from copycost.model.measurement import Measurement


def note(measurements: Iterable[Measurement]) -> str | None:
    """Return a sentence about the clocks of the device times, or None if all are by the same clock."""
    clocks = sorted({m.device_clock for m in measurements if m.device_clock is not None})
    if len(clocks) < 2:
        return None
    return (
        f"Device times are by several clocks ({', '.join(clocks)}): cuda-events includes the gaps between the kernels "
        "of a call, and a profiler's time is the sum of its kernels and copies. Do not compare short calls by "
        "different clocks."
    )
