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
from copycost.stats.rivals import is_same, rivals


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
    open_states = [state for state in states if not state.measurement and state.stopped_by is None]
    undecided_ids = {id(state) for state in undecided(states, miss)}
    for state in open_states:
        block_count = len(state.records)
        if block_count >= plan.blocks:
            state.stopped_by = "blocks"
        elif plan.budget < math.inf and block_count >= CLEAR_BLOCKS and id(state) not in undecided_ids:
            state.stopped_by = "clear" if estimate(state.blocks).width <= PRECISION else None
    open_states = [state for state in open_states if state.stopped_by is None]
    return [state for state in open_states if len(state.records) < FEWEST_BLOCKS] or open_states


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
    timed_states = [state for state in states if not state.measurement and len(state.records) > 1]
    candidates = [s for s in timed_states if s.audit and not s.audit.input_changed and s.audit.result_shares != "input"]
    if not candidates:
        return []
    field = rivals([state.blocks for state in timed_states], len(timed_states) - 1)
    fastest, *others = sorted(candidates, key=lambda state: median(map(median, state.blocks)))
    competitors = others[:1] + [
        s for s in timed_states if s.case.variant.name in BASELINES and s not in (fastest, *others[:1])
    ]

    def is_decided(competitor: CaseState) -> bool:
        ratio = field.ratio(timed_states.index(fastest), timed_states.index(competitor))
        if ratio is None:
            return False
        low, high = ratio.interval(miss)
        return low > 1 or high < 1 or is_same(low, high)

    open_competitors = [state for state in competitors if not is_decided(state)]
    return [fastest, *open_competitors] if open_competitors else []
