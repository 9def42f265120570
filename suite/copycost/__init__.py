"""Measure the cost of preprocessing images, and check that the results are correct."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from copycost._version import __version__
from copycost.registry import recipe, variant

if TYPE_CHECKING:
    from copycost.api import measure, run
    from copycost.cases.selection import select
    from copycost.catalog.formula import formula
    from copycost.model.measurement import Measurement
    from copycost.report.notebook import overview
    from copycost.results.load import read as load
    from copycost_meter.call_count import CallCount
    from copycost_meter.counting import count

__all__ = [
    "CallCount", "Measurement", "__version__", "count", "formula", "load", "measure", "overview", "recipe", "run",
    "select", "variant",
]  # fmt: skip

#: Module and attribute of each lazily imported name. Imports are lazy, since pytest imports this package wherever it is
#: installed.
_LATER = {
    "CallCount": ("copycost_meter.call_count", "CallCount"),
    "Measurement": ("copycost.model.measurement", "Measurement"),
    "count": ("copycost_meter.counting", "count"),
    "formula": ("copycost.catalog.formula", "formula"),
    "load": ("copycost.results.load", "read"),
    "measure": ("copycost.api", "measure"),
    "overview": ("copycost.report.notebook", "overview"),
    "run": ("copycost.api", "run"),
    "select": ("copycost.cases.selection", "select"),
}


def __getattr__(name: str) -> Any:
    if name == "figures":
        return importlib.import_module("copycost.report.figures")
    if name == "recipes":
        return importlib.import_module("copycost.recipes")
    if name not in _LATER:
        raise AttributeError(f"module 'copycost' has no attribute '{name}'")
    module, attribute = _LATER[name]
    return getattr(importlib.import_module(module), attribute)


def load_ipython_extension(ipython: Any) -> None:
    """Register the magics of `copycost_meter`: ``%load_ext copycost``."""
    from copycost_meter import load_ipython_extension

    load_ipython_extension(ipython)
