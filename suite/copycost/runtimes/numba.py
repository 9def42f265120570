"""Define the Numba runtime, for compiled loops over NumPy arrays."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any

from copycost.model.vocabulary import DeviceKind
from copycost.runtimes import numpy


def _start(device: DeviceKind, threads: int) -> None:
    import numba

    # Share compiled code between the blocks of a session.
    config: Any = numba.config
    config.CACHE_DIR = os.path.join(tempfile.gettempdir(), "numba")
    numba.set_num_threads(min(threads, config.NUMBA_NUM_THREADS))


#: Arrays are NumPy arrays; only the imported packages and the start function differ.
RUNTIME = dataclasses.replace(
    numpy.RUNTIME,
    name="numba",
    packages=("numba",),
    install="pip install -e '.[fast]' in a clone of copycost",
    start=_start,
)
