"""Sharing: which cases are audited, traced and timed in one process.

Starting TensorFlow, JAX or PyTorch, and the instruments beside them, takes longer than auditing a small case. Only
runtimes whose calls take as long in a shared process as in one of their own share blocks (`peers/sharing.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from copycost.cases.case import Case
from copycost.catalog import discovery
from copycost.engine.case_state import CaseState
from copycost.model.source import Source


def may_share(case: Case, share: str, places: Collection[Source]) -> bool:
    """Return whether a case may share a process with others.

    Parameters
    ----------
    case : Case
    share : {"shipped", "all", "none"}
        See `Plan`.
    places : collection of Source
        Sources that are measured in an environment of their own.
    """
    source = case.variant.source
    trusted = share == "all" or (share == "shipped" and source.is_shipped)
    same_environment = case.device == "cpu" and source not in places
    return trusted and same_environment and discovery.runtime(case.variant.runtime).slow_to_start


def bundle_cases(states: Sequence[CaseState], limit: int, shares: Callable[[CaseState], bool]) -> list[list[CaseState]]:
    """Divide cases into bundles, each of which one worker serves: one case, or up to `limit` that may share a process.

    Cases share a process if they come from the same fork server, and if all or none of them use a single thread.

    Parameters
    ----------
    states : sequence of CaseState
    limit : int
    shares : callable
        ``shares(state)`` returns whether a case may share a process.
    """
    bundles: dict[tuple[object, ...], list[CaseState]] = {}
    for state in states:
        variant = state.case.variant
        source = "copycost" if variant.source.is_shipped else variant.source
        key = (variant.runtime, source, state.one_thread) if shares(state) else (id(state),)
        if len(bundles.get(key, ())) == limit:
            bundles[*key, id(state)] = bundles.pop(key)
        bundles.setdefault(key, []).append(state)
    return list(bundles.values())
