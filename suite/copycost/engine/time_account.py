"""Account of a session's wall time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

#: Categories of a session's time, as named in its final report.
SPENDING = (
    "import", "inputs and references", "compile and start", "audit", "allocations", "reset", "timed calls",
    "warm-up", "copy speed", "check", "other",
)  # fmt: skip


@dataclass
class TimeAccount:
    """Wall time in seconds by category. Parallel processes share the wall time that they take together."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPENDING, 0.0))
    _busy: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def busy(self, what: str, seconds: float) -> None:
        """Record the seconds that a process was busy with a category of work."""
        with self._lock:
            self._busy[what] = self._busy.get(what, 0.0) + seconds

    @contextmanager
    def wall(self, only: str | None = None) -> Iterator[None]:
        """Divide the wall time of the body among the recorded categories, or charge all of it to `only`.

        Time that is not divided is charged to "other".
        """
        start = monotonic()
        try:
            yield
        finally:
            took = monotonic() - start
            busy, self._busy = self._busy, {}
            if only is not None:
                self.seconds[only] += took
            else:
                total = sum(busy.values())
                scale = min(1.0, took / total) if total else 0.0
                for what, seconds in busy.items():
                    self.seconds[what] += seconds * scale
                self.seconds["other"] += took - total * scale
