"""What two sides of one session differ by where no block shows it: `copycost.stats.ratios.WITHIN_SESSION`.

``python -m peers.within_session`` fits it, by the largest likelihood, to the cases without a change of trials that were
done before those in ``peers/results/``, and that are in none of their figures.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean, stdev

from peers.report import of_changed


def main() -> None:
    """Print the likelihood of a few values."""
    cases = []
    for path in sorted(Path(__file__).with_name("calibration").glob("*.jsonl")):
        for row in map(json.loads, path.read_text().splitlines()):
            for name, case in row["cases"].items():
                its = case["differences"]
                if name not in of_changed(row) and len(its) > 1:
                    cases.append((fmean(its), stdev(its) ** 2 / len(its)))
    print(f"{len(cases)} cases")
    for tenths in range(8):
        variance = (tenths / 2000) ** 2
        likelihood = -0.5 * sum(math.log(error + variance) + mean**2 / (error + variance) for mean, error in cases)
        print(f"{tenths / 20:.2f} %: logarithm of the likelihood {likelihood:.1f}")


if __name__ == "__main__":
    main()
