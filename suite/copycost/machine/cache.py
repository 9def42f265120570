"""Where copycost keeps what it has built and can build again."""

from __future__ import annotations

import os
from pathlib import Path


def cache() -> Path:
    """The folder ``copycost`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "copycost"
