"""The journal of a fleet: one line of JSON for each host that was tried and each cell that was measured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Its file, beside asv's results. asv reads files that end in ``.json``.
NAME = "fleet.jsonl"


def append(results: Path, entry: Mapping[str, Any]) -> None:
    """Add a line, in one write; after a line that was cut off, on a line of its own."""
    results.mkdir(parents=True, exist_ok=True)
    with open(results / NAME, "a+b") as file:
        is_cut = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            is_cut = file.read(1) != b"\n"
        file.write(b"\n" * is_cut + json.dumps(entry).encode() + b"\n")


def read(results: Path) -> list[dict[str, Any]]:
    """Return the entries. A line that was cut off, as a full disk cuts it, is ignored."""
    try:
        lines = (results / NAME).read_bytes().splitlines()
    except FileNotFoundError:
        return []
    entries = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    return entries
