"""Name a range of time for NVIDIA's profilers, Nsight Systems and Nsight Compute."""

from __future__ import annotations

import contextlib
import functools
from contextlib import AbstractContextManager
from typing import Any

#: Name of the range around the calls that a profiler is to measure.
CALL = "copycost_call"


def is_available() -> bool:
    """Return whether ranges can be named: the package nvtx of the extras ``cupti`` and ``cupti13`` is installed."""
    return _package() is not None


def nvtx_range(name: str) -> AbstractContextManager[Any]:
    """Return a context in which a profiler sees a range of this name. Without a profiler, it costs a microsecond."""
    package = _package()
    return contextlib.nullcontext() if package is None else package.annotate(name)


@functools.cache
def _package() -> Any:
    try:
        import nvtx
    except ImportError:
        return None
    return nvtx
