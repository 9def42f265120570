"""Locate the cache of files that copycost has built and can rebuild."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """Return the folder ``copycost`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "copycost"
