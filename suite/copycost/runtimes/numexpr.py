"""Define the numexpr runtime, for expressions over NumPy arrays."""

from __future__ import annotations

import dataclasses

from copycost.model.vocabulary import DeviceKind
from copycost.runtimes import numpy


def _start(device: DeviceKind, threads: int) -> None:
    import numexpr

    numexpr.set_num_threads(threads)


#: Arrays are NumPy arrays; only the imported packages and the start function differ.
RUNTIME = dataclasses.replace(
    numpy.RUNTIME,
    name="numexpr",
    packages=("numexpr",),
    install="pip install -e '.[fast]' in a clone of copycost",
    start=_start,
)
