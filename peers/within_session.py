"""Estimate `copycost.stats.ratios.WITHIN_SESSION`: differences of two sides of a session that blocks do not show.

``python -m peers.within_session`` fits it by maximum likelihood to the unchanged cases of earlier trials. These trials
ran before those in ``peers/results/`` and are not part of their figures.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean, stdev

from peers.report import of_changed


def main() -> None:
    """Print the likelihood of several values."""
    cases = []
    for path in sorted(Path(__file__).with_name("calibration").glob("*.jsonl")):
        for row in map(json.loads, path.read_text().splitlines()):
            for name, case in row["cases"].items():
                differences = case["differences"]
                if name not in of_changed(row) and len(differences) > 1:
                    cases.append((fmean(differences), stdev(differences) ** 2 / len(differences)))
    print(f"{len(cases)} cases")
    for tenths in range(8):
        variance = (tenths / 2000) ** 2
        likelihood = -0.5 * sum(math.log(error + variance) + mean**2 / (error + variance) for mean, error in cases)
        print(f"{tenths / 20:.2f} %: logarithm of the likelihood {likelihood:.1f}")


if __name__ == "__main__":
    main()
