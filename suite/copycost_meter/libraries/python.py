"""Calls without arrays: memory from the C library."""

from __future__ import annotations

from typing import Any

from copycost_meter.library import TEST_BYTES, Library


def _unchanged(value: Any) -> Any:
    return value


LIBRARY = Library(
    name="python",
    copied=_unchanged,
    to_numpy=_unchanged,
    fence=lambda: None,
    make=lambda: bytearray(TEST_BYTES),
)
