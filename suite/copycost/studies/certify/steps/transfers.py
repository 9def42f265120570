"""Step: transfers between host and device."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np

from copycost.model.runtime import Runtime
from copycost.model.vocabulary import DeviceKind
from copycost.studies.certify.probes import distinct, started_device, to_the_fence
from copycost.studies.certify.step import Each, Finding, Subject, step

#: Bytes of a transfer.
_BYTES = 16 * 2**20


@step(DeviceKind.GPU, seconds=50, each=Each.CLOCK)
def transfers(subject: Subject) -> Iterator[Finding]:
    """Check that values survive the way to the device and back, and measure the rate of both ways."""
    runtime, device = started_device(subject)
    pixels = distinct(_BYTES)
    array = runtime.array(pixels, False)
    survived = np.array_equal(runtime.to_numpy(array), pixels)
    back = median(_seconds_back(runtime, pixels) for _ in range(5))
    figures: dict[str, float] = {"bytes": _BYTES, "bytes_per_second_back": _BYTES / back}
    for memory, pinned in (("pageable", False), ("pinned", True)):
        if device.upload is None:
            break
        upload = device.upload(pixels, pinned)
        upload()  # the first one may set up the way
        there = median(to_the_fence(runtime, upload) for _ in range(5))
        figures[f"bytes_per_second_there_{memory}"] = _BYTES / there
    yield Finding("values survive the way to the device and back", survived, figures)


def _seconds_back(runtime: Runtime, pixels: np.ndarray) -> float:
    # A new array each time: a library may keep the values of one that it has transferred.
    return to_the_fence(runtime, partial(runtime.to_numpy, runtime.array(pixels, False)))
