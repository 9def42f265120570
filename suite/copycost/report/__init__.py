"""The report: pages of runs and of claims. It sees what was found, and nothing of how."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["FOLKLORE", "INDEX", "write_folklore", "write_html"]


def __getattr__(name: str) -> Any:
    # Matplotlib takes a second to import, and not all that is below needs it.
    if name not in __all__:
        raise AttributeError(f"module 'copycost.report' has no attribute '{name}'")
    return getattr(importlib.import_module("copycost.report.html"), name)
