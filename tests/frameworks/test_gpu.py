"""What needs a CUDA device: skipped, with the reason, where there is none."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import textwrap

import pytest
from conftest import by_variant, measure

from copycost.catalog import discovery

pytestmark = pytest.mark.gpu

# Requests, total, peak and kept of device memory, in arrays of N bytes, for recipe tf on float32.
ORACLE = {
    "cupy-new": (2, 2, 2, 1),
    "cupy-async-new": (2, 2, 2, 1),
    "cupy-out": (0, 0, 0, 0),
    "cupy-graph": (0, 0, 0, 0),
    "cupy-inplace": (0, 0, 0, 0),
    "cupy-fused": (1, 1, 1, 1),
    "cupy-vector": (1, 1, 1, 1),
    "cupy-numba": (0, 0, 0, 0),
}

needs_cupy = pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="cupy is not installed")


def test_every_variant_is_right_on_the_device() -> None:
    found = list(measure(recipes=("*",), dtypes=("uint8", "float32"), devices_=("gpu",), blocks=1))
    for m in found:
        assert m.status in ("ok", "skipped") or m.known, (m.variant, m.reason)
    # A runtime that is installed and has only skips has not been tested.
    installed = {m.runtime for m in found if discovery.not_installed(discovery.runtime(m.runtime)) is None}
    assert installed <= {m.runtime for m in found if m.status == "ok"}, [(m.variant, m.reason) for m in found]


@needs_cupy
def test_device_allocations_of_cupy() -> None:
    found = by_variant(measure(variants=("cupy-*",), batches=(8,), size=(224, 224), devices_=("gpu",)))
    n = 8 * 224 * 224 * 3 * 4
    for variant, (count, total, peak, kept) in ORACLE.items():
        m = found[variant]
        if discovery.not_installed(discovery.runtime(str(m.runtime))):
            continue
        assert (m.device_allocations, m.device_allocated_bytes, m.device_peak_bytes, m.device_retained_bytes) == (
            count,
            total * n,
            peak * n,
            kept * n,
        ), variant


@needs_cupy
def test_the_clock_of_the_device_against_a_known_time() -> None:
    """A kernel that is busy for a millisecond longer by the device's timer takes as much longer between two events."""
    run(
        """
        import numpy as np, cupy
        from copycost.runtimes import cupy as its
        its.RUNTIME.start("gpu", 1)
        kernel = cupy.RawKernel(its._HOLD, "copycost_hold")
        one, two = (
            its.RUNTIME.gpu.seconds(lambda: kernel((1,), (1,), (np.int64(ms * 1_000_000),)), tuple, 5) for ms in (1, 2)
        )
        assert 0.98e-3 < two - one < 1.02e-3, (one, two)
        # A stream that does not wait for the usual one is waited for as well.
        import time
        with cupy.cuda.Stream(non_blocking=True):
            kernel((1,), (1,), (np.int64(20_000_000),))
        start = time.perf_counter()
        its.RUNTIME.fence()
        assert time.perf_counter() - start > 0.015
        """
    )


@needs_cupy
def test_a_cold_call_is_not_faster_than_a_hot_one() -> None:
    (found,) = measure(variants=("cupy-fused",), batches=(8,), size=(224, 224), devices_=("gpu",))
    assert found.device_seconds is not None
    assert found.cold_device_seconds is not None
    assert found.launch_seconds is not None
    assert found.seconds is not None
    # 9.6 MB in and out lie in the cache of a large GPU, and in none after a flush.
    assert found.cold_device_seconds > 0.9 * found.device_seconds
    assert found.device_seconds < 1.1 * found.seconds
    assert found.clocks_mhz is not None


@needs_cupy
def test_the_driver_is_asked_once() -> None:
    """Of a pool that is empty the first request reaches the driver, and the second does not."""
    run(
        """
        import cupy
        from copycost_meter.events import pool
        from copycost.runtimes import cupy as its
        its.RUNTIME.start("gpu", 1)
        cupy.get_default_memory_pool().free_all_blocks()
        make = lambda: cupy.empty(10_000_001, cupy.uint8)
        for asked in (1, 0):
            result, events = its.RUNTIME.trace(make)
            del result
            found = pool(events, True)
            assert found.driver_allocations == asked, events
            assert found.rounded_bytes % 512 == 0 and found.rounded_bytes >= 10_000_001
        """
    )


def run(code: str) -> None:
    """Run lines in a process of their own: this one touches no device."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
