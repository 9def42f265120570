"""Numba: loops compiled once, on all cores, into a prepared buffer."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any

from copycost.runtimes import numpy


def _start(device: str, threads: int) -> None:
    import numba

    # What one block has compiled the next one of the session loads.
    config: Any = numba.config
    config.CACHE_DIR = os.path.join(tempfile.gettempdir(), "numba")
    numba.set_num_threads(min(threads, config.NUMBA_NUM_THREADS))


#: Arrays are NumPy's; only what must be imported differs.
RUNTIME = dataclasses.replace(
    numpy.RUNTIME,
    name="numba",
    packages=("numba",),
    install="pip install 'copycost[fast]'",
    start=_start,
)
