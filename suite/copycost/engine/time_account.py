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
    "warm-up", "copy speed", "energy", "check", "other",
)  # fmt: skip


@dataclass
class TimeAccount:
    """Wall time in seconds by category. Parallel processes share the wall time that they take together."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(SPENDING, 0.0))
    _busy: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def busy(self, category: str, seconds: float) -> None:
        """Record the seconds that a process was busy with a category of work."""
        with self._lock:
            self._busy[category] = self._busy.get(category, 0.0) + seconds

    @contextmanager
    def wall(self, category: str | None = None) -> Iterator[None]:
        """Divide the wall time of the body among the recorded categories, or charge all of it to `category`.

        Time that is not divided is charged to "other".
        """
        start = monotonic()
        try:
            yield
        finally:
            duration = monotonic() - start
            busy, self._busy = self._busy, {}
            if category is not None:
                self.seconds[category] += duration
            else:
                total = sum(busy.values())
                scale = min(1.0, duration / total) if total else 0.0
                for name, seconds in busy.items():
                    self.seconds[name] += seconds * scale
                self.seconds["other"] += duration - total * scale
