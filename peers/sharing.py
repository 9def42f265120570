"""Test whether cases that share a process have the times of cases that do not.

``python -m peers.sharing`` times every case of TensorFlow, JAX and PyTorch twice in the same blocks: in a process that
it shares with the other cases of its runtime, and in a process of its own. The two are sampled in random order, as base
and head of a gate are, and compared as a gate compares them. If sharing changes nothing, 95 of 100 intervals of the
ratio contain 1. It takes about ten minutes and writes ``peers/results/sharing.json``.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from statistics import fmean, median
from typing import Any

from copycost.analysis.compare import FALSE_ALARMS
from copycost.cases import images
from copycost.cases.selection import select
from copycost.engine.case_state import CaseState, pending
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.machine import devices, environment
from copycost.stats import ratios
from peers.report import binomial
from peers.trials import RESULTS

#: Blocks that are compared, and samples of a case in each. The first block of a run is not compared: in it, no case
#: shares a process.
BLOCKS, ROUNDS = 12, 12
BATCHES = (1, 8, 32)

#: `torch-compile` is left out: its compiler runs for seconds in every process.
VARIANTS = ("tf-*", "jax-*", "torch-[!c]*")


def measure(batch: int, blocks: int) -> list[dict[str, Any]]:
    """Return a row for each case of a group: its ratio, and the figures that differ."""
    cases = select(
        recipes=("tf",), variants=VARIANTS, devices=("cpu",), batches=(batch,), sizes=((224, 224),),
        dtypes=("float32",), layouts=("channels_last",),
    )  # fmt: skip
    plan = Plan(devices.cpus(), blocks, math.inf, None, "not wanted here")
    with Session(plan, images.read()) as session:
        group, together = session.examine(cases)
        assert group is not None
        try:
            pairs = [(state, replace(state, shares=False, records=[])) for state in pending(together)]
            for _, alone in pairs:
                session.trace_again(alone, group)
            both = [state for pair in pairs for state in pair]
            for _ in range(1 + blocks):
                session.runner.run(pending(both), group, ROUNDS)
            return [_row(shared, alone) for shared, alone in pairs if shared.shares]
        finally:
            group.close()


def _row(shared: CaseState, alone: CaseState) -> dict[str, Any]:
    case = shared.case
    difference = ratios.paired(alone.blocks[1:], shared.blocks[1:])
    assert difference is not None
    ratio = difference.ratio(FALSE_ALARMS)
    return {
        "variant": case.variant.name,
        "batch": case.batch,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "seconds": median(map(median, alone.blocks[1:])),
        "alone": shared.alone,
        "unlike": sorted(alone.so_far().ranges.keys() - shared.so_far().ranges.keys()),
    }


def main() -> None:
    """Measure, print the ratios, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--batch", type=int, nargs="*", default=BATCHES)
    options = parser.parse_args()
    rows = [row for batch in options.batch for row in measure(batch, options.blocks)]
    for row in rows:
        print(f"{row['variant']:20} {row['batch']:3}  {row['seconds'] * 1e3:8.3f} ms  shared/alone {row['ratio']:.3f}"
              f" ({row['low']:.3f} to {row['high']:.3f}) {' '.join(row['unlike'])}")  # fmt: skip
    holding = sum(row["low"] <= 1 <= row["high"] for row in rows)
    low, high = binomial(holding, len(rows))
    mean = math.exp(fmean(math.log(row["ratio"]) for row in rows))
    print(f"{holding} of {len(rows)} intervals contain 1 ({low:.0%} to {high:.0%}); mean ratio {mean:.3f}")
    document = {"processor": environment.processor(), "blocks": options.blocks, "rounds": ROUNDS, "cases": rows}
    (RESULTS / "sharing.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
