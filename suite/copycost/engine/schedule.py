"""Schedule: which cases get the next block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from copycost.cases.case import Case
from copycost.engine.case_state import CaseState
from copycost.engine.plan import Plan
from copycost.stats.intervals import CLEAR_BLOCKS, FEWEST_BLOCKS, PRECISION, estimate


def weight(case: Case) -> float:
    """Return a case's weight in the budget, for starting its processes and for moving its bytes."""
    return 2.0 + case.elements / 2e6


def due(states: Sequence[CaseState], plan: Plan) -> list[CaseState]:
    """Return the cases that get the next block: all until each has a few blocks, then those with wider intervals.

    With an infinite budget, all cases get the same number of blocks.
    """
    left = [state for state in states if not state.measurement and state.ended is None]
    widths = {id(state): estimate(state.blocks).width if state.records else math.inf for state in left}
    for state in left:
        done = len(state.records)
        if done >= plan.blocks:
            state.ended = "blocks"
        elif plan.budget < math.inf and done >= CLEAR_BLOCKS and widths[id(state)] <= PRECISION:
            state.ended = "clear"
    left = [state for state in left if state.ended is None]
    few = [state for state in left if len(state.records) < FEWEST_BLOCKS]
    if few or plan.budget == math.inf:
        return few or left
    middle = median(widths[id(state)] for state in left) if left else 0.0
    return [state for state in left if widths[id(state)] >= middle]
