"""Measure how the duration of a call depends on its position after another case's turn.

In a block, cases take turns. ``python -m peers.turns`` times the first calls of each turn one by one, and prints by how
much the k-th call takes longer than the last calls of the turn, for each case and in the middle of all cases. Nothing
of it is kept. It takes two minutes.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Sequence
from statistics import median

from copycost.cases import images
from copycost.cases.selection import select
from copycost.engine.block_runner import BlockRunner
from copycost.engine.case_state import CaseState, pending
from copycost.engine.group_files import Files
from copycost.engine.passes import timing
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.engine.worker_pool import OpenJob
from copycost.machine import devices

#: Calls of a turn, turns of a case, and the calls at the end of a turn that the others are compared with.
CALLS, TURNS, LAST = 30, 15, 10

#: Positions that are printed.
POSITIONS = (1, 2, 3, 4, 6, 9, 12, 15, 20)

BATCHES = (1, 8, 32)
VARIANTS = ("keras-*", "numpy-*", "tf-*", "numba-*", "torch-out", "jax-jit")


def measure(batch: int) -> dict[str, list[float]]:
    """Return for each case how much longer than the last calls of a turn the calls at all positions take."""
    cases = select(
        recipes=("tf",), variants=VARIANTS, devices=("cpu",), batches=(batch,), sizes=((224, 224),),
        dtypes=("float32",), layouts=("channels_last",),
    )  # fmt: skip
    plan = Plan(devices.cpus(), 1, math.inf, None, "not wanted here")
    seconds: dict[str, list[list[float]]] = defaultdict(list)
    with Session(plan, images.read()) as session:
        group, states = session.examine(cases)
        assert group is not None
        try:
            _turns(session.runner, pending(states), group.files, seconds)
        finally:
            group.close()
    return {name: _excess(turns) for name, turns in seconds.items()}


def _turns(
    runner: BlockRunner, states: Sequence[CaseState], files: Files, seconds: dict[str, list[list[float]]]
) -> None:
    jobs: list[tuple[CaseState, OpenJob]] = []
    for state in states:
        (job,) = runner.start([state], files)
        assert isinstance(job, OpenJob)
        jobs.append((state, job))
        changes = bool(state.audit and state.audit.input_changed)
        runner.pool.ask(state, job, "other", timing.make_inputs, changes, 0)
        runner.pool.ask(state, job, "other", timing.timed_calls, 1)
    for _ in range(TURNS):
        for state, job in runner.random.sample(jobs, len(jobs)):
            samples = [runner.pool.ask(state, job, "other", timing.timed_calls, 1) for _ in range(CALLS)]
            seconds[state.case.variant.name].append([sample.seconds for sample in samples])


def _excess(turns: Sequence[Sequence[float]]) -> list[float]:
    steady = median(seconds for turn in turns for seconds in turn[-LAST:])
    return [median(turn[k] for turn in turns) / steady - 1 for k in range(CALLS)]


def main() -> None:
    """Measure and print a table for each batch."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, nargs="*", default=BATCHES)
    for batch in parser.parse_args().batch:
        excess = measure(batch)
        excess["(median)"] = [median(calls) for calls in zip(*excess.values(), strict=True)]
        print(f"batch {batch}, call".ljust(24) + "".join(f"{k:>8}" for k in POSITIONS))
        for name, calls in excess.items():
            print(name.ljust(24) + "".join(f"{calls[k - 1]:>+8.0%}" for k in POSITIONS))


if __name__ == "__main__":
    main()
