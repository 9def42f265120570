"""copycost: what a way of preprocessing images costs, and whether its result is the one you think."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from suite.registry import recipe, variant

if TYPE_CHECKING:
    from suite.cases import select
    from suite.expression import formula
    from suite.measurement import Measurement
    from suite.python import measure, run
    from suite.report.overview import overview
    from suite.results import read as load

__version__ = "0.1.0"
__all__ = [
    "Measurement", "__version__", "formula", "load", "measure", "overview", "recipe", "run", "select", "variant",
]  # fmt: skip

#: Where a name is that is imported when it is asked for: pytest imports this package wherever it is installed.
_LATER = {
    "Measurement": ("suite.measurement", "Measurement"),
    "formula": ("suite.expression", "formula"),
    "load": ("suite.results", "read"),
    "measure": ("suite.python", "measure"),
    "overview": ("suite.report.overview", "overview"),
    "run": ("suite.python", "run"),
    "select": ("suite.cases", "select"),
}


def __getattr__(name: str) -> Any:
    if name in ("figures", "recipes"):
        return importlib.import_module(f"suite.{name}")
    if name not in _LATER:
        raise AttributeError(f"module 'suite' has no attribute '{name}'")
    module, attribute = _LATER[name]
    return getattr(importlib.import_module(module), attribute)
