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

__version__ = "0.1.0"
__all__ = ["Measurement", "__version__", "formula", "measure", "recipe", "run", "select", "variant"]

#: Where a name is that is imported when it is asked for: pytest imports this package wherever it is installed.
_LATER = {
    "Measurement": "suite.measurement",
    "formula": "suite.expression",
    "measure": "suite.python",
    "run": "suite.python",
    "select": "suite.cases",
}


def __getattr__(name: str) -> Any:
    if name == "recipes":
        return importlib.import_module("suite.recipes")
    if name not in _LATER:
        raise AttributeError(f"module 'suite' has no attribute '{name}'")
    return getattr(importlib.import_module(_LATER[name]), name)
