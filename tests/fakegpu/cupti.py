"""NVIDIA's package cupti-python as far as copycost uses it, for the fake device. `from cupti import cupti` is how it is
imported.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from enum import IntEnum
from types import SimpleNamespace
from typing import Any


class ActivityKind(IntEnum):
    """With the numbers of cupti_activity.h."""

    MEMCPY = 1
    MEMSET = 2
    CONCURRENT_KERNEL = 10


class ActivityMemoryKind(IntEnum):
    """With the numbers of cupti_activity.h."""

    PAGEABLE = 1
    PINNED = 2
    DEVICE = 3


class cuptiError(Exception):
    pass


_enabled: set[int] = set()
_completed: Callable[[list[Any]], None] = print


def activity_register_callbacks(
    requested: Callable[[], tuple[int, int]], completed: Callable[[list[Any]], None]
) -> None:
    global _completed
    assert requested()[0] > 0
    _completed = completed


def activity_enable(kind: int) -> None:
    from fakegpu import FAKE

    if os.environ.get("FAKE_CUPTI") == "forbidden":
        raise cuptiError("CUPTI_ERROR_INSUFFICIENT_PRIVILEGES")
    _enabled.add(kind)
    FAKE.records = []


def activity_disable(kind: int) -> None:
    from fakegpu import FAKE

    _enabled.remove(kind)
    FAKE.records = None


def get_timestamp() -> int:
    return time.perf_counter_ns()


def activity_flush_all(flag: int) -> None:
    from fakegpu import FAKE

    assert FAKE.records is not None
    # The last record is of a kernel whose time could not be collected.
    untimed = {"kind": "CONCURRENT_KERNEL", "start": 0, "end": 0}
    found = [(ActivityKind[record["kind"]], record) for record in (*FAKE.records, untimed)]
    _completed([_record(kind, fields) for kind, fields in found if kind in _enabled])


def _record(kind: ActivityKind, fields: dict[str, Any]) -> SimpleNamespace:
    memory = {name: int(ActivityMemoryKind[fields[name]]) for name in ("src_kind", "dst_kind") if name in fields}
    return SimpleNamespace(**fields | memory | {"kind": int(kind)})


cupti = sys.modules[__name__]
