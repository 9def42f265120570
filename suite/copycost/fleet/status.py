"""What is known of a fleet from its journal: its hosts, how fast they are, and when they will be done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class HostStatus:
    """A host in the journal.

    Attributes
    ----------
    name : str
    machine_class : str
    state : {"fit", "unfit", "gone"}
    reasons : tuple of str
        Why it may not time.
    done, failed : int
        Number of cells.
    seconds : float or None
        Median seconds of a cell.
    copy_bytes_per_second : float or None
    """

    name: str
    machine_class: str
    state: str
    reasons: tuple[str, ...]
    done: int
    failed: int
    seconds: float | None
    copy_bytes_per_second: float | None


def hosts(entries: Sequence[dict[str, Any]]) -> list[HostStatus]:
    """Return the hosts of a journal, in the order of their names."""
    last: dict[str, dict[str, Any]] = {}
    cells: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        name = str(entry.get("host"))
        if entry.get("event") == "host":
            last[name] = last.get(name, {}) | entry
        elif entry.get("event") == "cell":
            cells.setdefault(name, []).append(entry)
    found = []
    for name in sorted({*last, *cells}):
        entry, own = last.get(name, {}), cells.get(name, [])
        seconds = [cell["seconds"] for cell in own if cell.get("state") == "done" and "seconds" in cell]
        found.append(
            HostStatus(
                name, str(entry.get("class", "")), str(entry.get("state", "gone")), tuple(entry.get("reasons", ())),
                len(seconds), sum(cell.get("state") == "failed" for cell in own),
                median(seconds) if seconds else None, (entry.get("canary") or {}).get("copy_bytes_per_second"),
            )
        )  # fmt: skip
    return found


def seconds_left(missing: int, known: Sequence[HostStatus]) -> float | None:
    """Return an estimate of the seconds that the missing cells take on the fit hosts, or None if there is none.

    A host takes its median for a cell, and gets as many as it is fast.
    """
    rate = sum(1 / host.seconds for host in known if host.state == "fit" and host.seconds)
    return missing / rate if rate else None
