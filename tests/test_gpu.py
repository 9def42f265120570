"""What needs a CUDA device: skipped, with the reason, where there is none."""

from __future__ import annotations

import importlib.util

import pytest
from conftest import by_variant, measure

pytestmark = pytest.mark.gpu

# Requests, total, peak and kept of device memory, in arrays of N bytes, for recipe tf on float32.
ORACLE = {
    "cupy-new": (2, 2, 2, 1),
    "cupy-out": (0, 0, 0, 0),
    "cupy-inplace": (0, 0, 0, 0),
    "cupy-fused": (1, 1, 1, 1),
}


def test_every_variant_is_right_on_the_device() -> None:
    found = list(measure(recipes=("*",), dtypes=("uint8", "float32"), devices_=("gpu",), blocks=1))
    assert "ok" in {m.status for m in found}
    for m in found:
        assert m.status in ("ok", "skipped") or m.known, (m.variant, m.reason)


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="cupy is not installed")
def test_device_allocations_of_cupy() -> None:
    found = by_variant(measure(variants=("cupy-*",), batches=(8,), size=(224, 224), devices_=("gpu",)))
    n = 8 * 224 * 224 * 3 * 4
    for variant, (count, total, peak, kept) in ORACLE.items():
        m = found[variant]
        assert (m.device_allocations, m.device_allocated_bytes, m.device_peak_bytes, m.device_retained_bytes) == (
            count,
            total * n,
            peak * n,
            kept * n,
        ), variant
