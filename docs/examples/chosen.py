"""Simulate how often the interval of the fastest variant's saving holds the truth.

Prints the table of docs/explanation/regression-testing.md.

Worlds with a known truth: a baseline and twenty variants of three to twelve blocks each. Block medians differ by the
stated spread (of each variant its own, where it is mixed), and a drift of the machine moves them together. The fastest
is chosen by its median, as the overview does it, and its saving against the baseline is quoted.

    python docs/examples/chosen.py [TRIALS]
"""

import math
import sys
from dataclasses import dataclass
from statistics import fmean, median, stdev

import numpy as np

from copycost.analysis.overview import overview
from copycost.model.measurement import Measurement
from copycost.stats import student_t

VARIANTS, DRIFT = 20, 0.1
SPREADS = ("2 %", "10 %", "30 %", "2 to 30 %")
TRUTHS = ("all equal", "one faster", "five close")
BLOCKS = (3, 5, 12)


def world(random, spread, truth, blocks):
    """Logarithms of the true times, and of block medians: the baseline first."""
    low, high = (0.02, 0.30) if "to" in spread else (float(spread.split()[0]) / 100,) * 2
    spreads = np.exp(random.uniform(math.log(low), math.log(high), VARIANTS + 1))
    true = np.zeros(VARIANTS + 1)
    if truth == "one faster":
        true[1] = -0.3
    elif truth == "five close":
        true[1:6] = -np.linspace(0.25, 0.30, 5)
    noise = spreads[:, None] * random.standard_normal((VARIANTS + 1, blocks))
    return true, true[:, None] + noise + DRIFT * random.standard_normal(blocks)


def quoted(logs):
    """The variant that the overview chooses, and its saving."""
    rows = []
    for k, seconds in enumerate(1e-3 * np.exp(logs)):
        name = f"variant-{k}" if k else "numpy-new"
        rows.append(
            Measurement(
                "tf", name, "numpy", "new", "cpu", "float32", "channels_last", 32, 224, 224, 3, 2, "ok",
                seconds=median(seconds), samples=[[value] for value in seconds],
                input_changed=False, result_shares="nothing",
            )
        )  # fmt: skip
    (answer,) = overview(rows).answers
    chosen = [m.variant for m in rows].index(answer.fastest.measurement.variant)
    return chosen, next(iter(answer.fastest.savings), None)


def fixed_beforehand(logs, chosen):
    """The interval of a comparison that was not chosen: Student's t over blocks."""
    ratios = list(logs[0] - logs[chosen])
    n = len(ratios)
    half = student_t.quantile(0.975, n - 1) * stdev(ratios) / math.sqrt(n)
    return fmean(ratios) - half, fmean(ratios) + half


@dataclass(frozen=True)
class Held:
    """Of so many answers: intervals that held the truth, half their widths as factors, and wrong claims."""

    answers: int
    before: int
    after: int
    narrow: float
    wide: float
    claimed: int


def held(spread, truth, blocks, trials, seed=0):
    """How often the interval of a comparison fixed beforehand, and that of the overview, hold the truth."""
    random = np.random.default_rng(seed)
    before, after, claimed, widths = 0, 0, 0, ([], [])
    for _ in range(trials):
        true, logs = world(random, spread, truth, blocks)
        chosen, saving = quoted(logs)
        if saving is None:  # the baseline is the fastest
            continue
        right = true[0] - true[chosen]
        low, high = fixed_beforehand(logs, chosen)
        before += low <= right <= high
        widths[0].append(math.exp((high - low) / 2))
        low, high = math.log(saving.low), math.log(saving.high)
        after += low <= right <= high
        widths[1].append(math.exp((high - low) / 2))
        claimed += saving.sure and (right == 0 or (saving.times > 1) != (right > 0))
    return Held(len(widths[0]), before, after, median(widths[0]), median(widths[1]), claimed)


if __name__ == "__main__":
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    print("| truth | spread | blocks | holds the truth, before | now | half-width, before | now | claimed wrongly |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for truth in TRUTHS:
        for spread in SPREADS:
            for blocks in BLOCKS:
                outcome = held(spread, truth, blocks, trials)
                shares = [100 * n / outcome.answers for n in (outcome.before, outcome.after, outcome.claimed)]
                cells = [
                    f"{shares[0]:.1f} %",
                    f"{shares[1]:.1f} %",
                    f"×/÷ {outcome.narrow:.2f}",
                    f"×/÷ {outcome.wide:.2f}",
                ]
                print(f"| {truth} | {spread} | {blocks} | {' | '.join(cells)} | {shares[2]:.1f} % |", flush=True)
