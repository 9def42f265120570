"""numexpr: an expression compiled for its virtual machine, in blocks, on all cores, into a prepared buffer."""

from __future__ import annotations

import dataclasses

from copycost.runtimes import numpy


def _start(device: str, threads: int) -> None:
    import numexpr

    numexpr.set_num_threads(threads)


#: Arrays are NumPy's; only what must be imported differs.
RUNTIME = dataclasses.replace(
    numpy.RUNTIME,
    name="numexpr",
    packages=("numexpr",),
    install="pip install 'copycost[fast]'",
    start=_start,
)
