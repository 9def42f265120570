"""Count what a call requests from memory, the copies that it makes, and the arrays that it changes."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from copycost_meter._version import __version__

if TYPE_CHECKING:
    from copycost_meter.asv import also, also_in
    from copycost_meter.call_count import CallCount
    from copycost_meter.counting import count
    from copycost_meter.events import InstrumentBusyError

__all__ = ["CallCount", "InstrumentBusyError", "__version__", "also", "also_in", "count"]

#: Module of each lazily imported name: asv and pytest import this package in every process.
_LATER = {
    "CallCount": "copycost_meter.call_count",
    "InstrumentBusyError": "copycost_meter.events",
    "also": "copycost_meter.asv",
    "also_in": "copycost_meter.asv",
    "count": "copycost_meter.counting",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'copycost_meter' has no attribute '{name}'")
    return getattr(importlib.import_module(_LATER[name]), name)


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics ``%copycost`` and ``%%copycost``: ``%load_ext copycost_meter``."""
    from copycost_meter.magic import CopycostMagics

    ipython.register_magics(CopycostMagics)
