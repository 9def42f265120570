"""HTML reports of runs and claims, made from the results alone."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["FOLKLORE", "INDEX", "write_atlas", "write_folklore", "write_html"]


def __getattr__(name: str) -> Any:
    # Import lazily: Matplotlib takes a second to import, and not every module of this package needs it.
    if name not in __all__:
        raise AttributeError(f"module 'copycost.report' has no attribute '{name}'")
    return getattr(importlib.import_module("copycost.report.html"), name)
