"""Compare what a run costs, and how narrow its intervals are, between two checkouts of copycost.

``python -m peers.speed OLD`` runs ``copycost run`` of the checkout OLD and of this one in turn, three times: OLD, this
one with an empty cache, and this one again, which reuses the audits. Both use this interpreter. Options after ``--`` go
to ``copycost run``. It prints a line for each run, and the medians of the ratios.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

#: A third of the quick profile: one recipe.
DEFAULT = ("--recipe", "tf", "--device", "cpu")
HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cost:
    """Cost and precision of one run.

    Attributes
    ----------
    seconds : float
        Wall time of the command.
    timed : float
        Fraction of it that is timed calls.
    overhead : float
        Seconds for each measured case, besides timed calls.
    half_width : float
        Median distance of the farther end of an interval from its median, as a fraction.
    wide : float
        Fraction of the intervals that reach further than 30 %.
    """

    seconds: float
    timed: float
    overhead: float
    half_width: float
    wide: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.1f} s, {self.timed:4.0%} timed calls, {self.overhead:.2f} s/case besides, "
            f"half-width {self.half_width:.0%}, {self.wide:.0%} wider than 30 %"
        )


def run(tree: Path, cache: Path, options: list[str]) -> Cost:
    """Run ``copycost run`` of a checkout, and return its cost."""
    with tempfile.TemporaryDirectory() as folder:
        files = ["--out", f"{folder}/run", "--json", f"{folder}/run.json"]
        start = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "copycost", "run", *options, *files],
            env=os.environ | {"PYTHONPATH": str(tree / "suite"), "COPYCOST_CACHE_DIR": str(cache)},
            capture_output=True,
            check=True,
        )
        seconds = time.monotonic() - start
        document = json.loads(Path(folder, "run.json").read_text())
    rows = [row for row in document["measurements"] if row.get("seconds_low")]
    timed = document["environment"]["spent_seconds"]["timed calls"]
    widths = [max(row["seconds_high"] / row["seconds"], row["seconds"] / row["seconds_low"]) - 1 for row in rows]
    wide = sum(width > 0.3 for width in widths) / len(widths)
    return Cost(seconds, timed / seconds, (seconds - timed) / len(rows), median(widths), wide)


def main() -> None:
    """Run both checkouts in turn and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("old", type=Path, metavar="OLD")
    parser.add_argument("--times", type=int, default=3)
    given, options = parser.parse_known_args()
    options = [option for option in options if option != "--"] or [*DEFAULT]
    ratios: dict[str, list[float]] = {"first": [], "second": []}
    for _ in range(given.times):
        with tempfile.TemporaryDirectory() as cache:
            old = run(given.old, Path(cache), options)
            print(f"{'old':8}{old}", flush=True)
            for name in ratios:
                new = run(HERE, Path(cache), options)
                ratios[name].append(new.seconds / old.seconds)
                print(f"{name:8}{new}  {ratios[name][-1]:.2f} of old", flush=True)
    print(", ".join(f"{name} run: {median(values):.2f} of old" for name, values in ratios.items()))


if __name__ == "__main__":
    main()
