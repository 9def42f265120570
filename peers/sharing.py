"""Test whether cases that share a process have the times of cases that do not.

``python -m peers.sharing`` times every case of TensorFlow, JAX and PyTorch twice in the same blocks: in a process that
it shares with other cases of its runtime, and in a process of its own. The two are sampled in random order, as base and
head of a gate are, and compared as a gate compares them. If sharing changes nothing, 95 of 100 intervals of the ratio
contain 1. TensorFlow is tested with oneDNN, where it has an allocator of its own, and without. The command takes twelve
minutes and writes ``peers/results/sharing.json``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import groupby
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
BLOCKS, ROUNDS = 12, 5

BATCHES = (1, 8, 32)

#: Variants that are tested with each value of ``TF_ENABLE_ONEDNN_OPTS``. `torch-compile` is left out: its compiler runs
#: for seconds in every process.
TESTED = {"1": ("tf-*", "keras-tensor", "jax-*", "torch-[!c]*"), "0": ("tf-*", "keras-tensor")}


def measure(variants: Sequence[str], batch: int, blocks: int) -> list[dict[str, Any]]:
    """Return a row for each case of a group, with its ratio."""
    cases = select(
        recipes=("tf",), variants=variants, devices=("cpu",), batches=(batch,), sizes=((224, 224),),
        dtypes=("float32",), layouts=("channels_last",),
    )  # fmt: skip
    plan = Plan(devices.cpus(), blocks, math.inf, None, "not wanted here")
    with Session(plan, images.read()) as session:
        group, states = session.examine(cases)
        assert group is not None
        try:
            pairs = [
                (replace(state, shares_blocks=True, records=[]), replace(state, shares_blocks=False, records=[]))
                for state in pending(states)
            ]
            both = [state for pair in pairs for state in pair]
            for _ in range(1 + blocks):
                session.runner.run(pending(both), group, ROUNDS)
            return [_row(shared, alone) for shared, alone in pairs if shared.shares_blocks]
        finally:
            group.close()


def _row(shared: CaseState, alone: CaseState) -> dict[str, Any]:
    case = shared.case
    difference = ratios.paired(alone.blocks[1:], shared.blocks[1:])
    assert difference is not None
    ratio = difference.ratio(FALSE_ALARMS)
    return {
        "runtime": case.variant.runtime,
        "onednn": os.environ["TF_ENABLE_ONEDNN_OPTS"],
        "variant": case.variant.name,
        "batch": case.batch,
        "ratio": ratio.value,
        "low": ratio.low,
        "high": ratio.high,
        "seconds": median(map(median, alone.blocks[1:])),
    }


def summary(rows: Iterable[dict[str, Any]]) -> str:
    """Return how many intervals of the rows contain 1, and their mean ratio."""
    rows = list(rows)
    holding = sum(row["low"] <= 1 <= row["high"] for row in rows)
    low, high = binomial(holding, len(rows))
    mean = math.exp(fmean(math.log(row["ratio"]) for row in rows))
    return f"{holding} of {len(rows)} intervals contain 1 ({low:.0%} to {high:.0%}); mean ratio {mean:.3f}"


def main() -> None:
    """Measure, print the ratios, and write them to a file."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--blocks", type=int, default=BLOCKS)
    parser.add_argument("--batch", type=int, nargs="*", default=BATCHES)
    options = parser.parse_args()
    rows = []
    for onednn, variants in TESTED.items():
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = onednn
        for batch in options.batch:
            rows += measure(variants, batch, options.blocks)
    for row in rows:
        print(f"{row['variant']:20} oneDNN {row['onednn']} {row['batch']:3}  {row['seconds'] * 1e3:8.3f} ms  "
              f"shared/alone {row['ratio']:.3f} ({row['low']:.3f} to {row['high']:.3f})")  # fmt: skip
    for (runtime, onednn), of_runtime in groupby(
        sorted(rows, key=lambda row: (row["runtime"], row["onednn"])), lambda row: (row["runtime"], row["onednn"])
    ):
        print(f"{runtime}, TF_ENABLE_ONEDNN_OPTS={onednn}: {summary(of_runtime)}")
    document = {"processor": environment.processor(), "blocks": options.blocks, "rounds": ROUNDS, "cases": rows}
    (RESULTS / "sharing.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
