"""Name a range of time for NVIDIA's profilers, Nsight Systems and Nsight Compute."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

#: Name of the range around the calls that a profiler is to measure.
CALL = "copycost_call"


def is_available() -> bool:
    """Return whether ranges can be named: the package nvtx of the extras ``cupti`` and ``cupti13`` is installed."""
    return _package() is not None


@contextlib.contextmanager
def nvtx_range(name: str) -> Iterator[None]:
    """Return a context in which a profiler sees a range of this name, for work that any thread launches."""
    package = _package()
    if package is None:
        yield
        return
    # A range that is pushed belongs to the thread that has pushed it, and a framework may launch from others.
    number = package.start_range(name)
    try:
        yield
    finally:
        package.end_range(number)


@functools.cache
def _package() -> Any:
    try:
        import nvtx
    except ImportError:
        return None
    return nvtx
