"""Schedule: which cases get the next block."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

from copycost.cases.case import Case
from copycost.cases.profiles import BASELINES
from copycost.engine.case_state import CaseState
from copycost.engine.plan import Plan
from copycost.stats.intervals import CLEAR_BLOCKS, FEWEST_BLOCKS, PRECISION, estimate
from copycost.stats.rivals import SAME, rivals


def weight(case: Case) -> float:
    """Return a case's weight in the budget, for starting its processes and for moving its bytes."""
    return 2.0 + case.elements / 2e6


def due(states: Sequence[CaseState], plan: Plan, miss: float) -> list[CaseState]:
    """Return the cases that get the next block: all until each has a few blocks, then those that are not clear.

    A case that is left out once gets no more blocks. The first blocks of any two cases were thus taken together, which
    is what their ratio is computed from. With an infinite budget, all cases get the same number of blocks.

    Parameters
    ----------
    states : sequence of CaseState
    plan : Plan
    miss : float
        See `undecided`.
    """
    left = [state for state in states if not state.measurement and state.ended is None]
    open_ = {id(state) for state in undecided(states, miss)}
    for state in left:
        done = len(state.records)
        if done >= plan.blocks:
            state.ended = "blocks"
        elif plan.budget < math.inf and done >= CLEAR_BLOCKS and id(state) not in open_:
            state.ended = "clear" if estimate(state.blocks).width <= PRECISION else None
    left = [state for state in left if state.ended is None]
    return [state for state in left if len(state.records) < FEWEST_BLOCKS] or left


def undecided(states: Sequence[CaseState], miss: float) -> list[CaseState]:
    """Return the cases of a group whose headline is not decided, or an empty list if all is decided.

    The headline compares the fastest case that leaves its input alone with the runner-up and with the baselines. A
    comparison is decided if the interval of the ratio excludes 1, or if it lies so close to 1 that the two count as the
    same.

    Parameters
    ----------
    states : sequence of CaseState
    miss : float
        Probability that one interval may miss the truth.
    """
    timed = [state for state in states if not state.measurement and len(state.records) > 1]
    kept = [s for s in timed if s.audit and not s.audit.input_changed and s.audit.result_shares != "input"]
    if not kept:
        return []
    field = rivals([state.blocks for state in timed], len(timed) - 1)
    fastest, *others = sorted(kept, key=lambda state: median(map(median, state.blocks)))
    compared = others[:1] + [s for s in timed if s.case.variant.name in BASELINES and s not in (fastest, *others[:1])]

    def decided(other: CaseState) -> bool:
        ratio = field.ratio(timed.index(fastest), timed.index(other))
        if ratio is None:
            return False
        low, high = ratio.interval(miss)
        return low > 1 or high < 1 or (low >= 1 / (1 + SAME) and high <= 1 + SAME)

    left = [state for state in compared if not decided(state)]
    return [fastest, *left] if left else []
