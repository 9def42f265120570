"""What changed from commit to commit, where asv's results hold several."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from copycost.analysis.compare import Row, Side, compare
from copycost.model.measurement import Measurement

#: What is a step, and what is not worth a line.
_VERDICTS, _UNTOLD = ("slower", "faster", "worse", "better"), ("max_abs_error",)

Loaded = tuple[str, Mapping[str, Any], Sequence[Measurement]]


@dataclass(frozen=True)
class Step:
    """All that surely changed between two commits that were measured one after the other in one environment.

    Attributes
    ----------
    place : str
        Machine and environment.
    before, commit : str
    rows : tuple of Row
    """

    place: str
    before: str
    commit: str
    rows: tuple[Row, ...]


#: What the environment of a result of asv's names.
_PLACED = {"commit", "commit_time", "machine", "environment"}


def places(runs: Sequence[Loaded]) -> dict[tuple[str, str], list[Loaded]]:
    """Results of asv's by machine and environment, the oldest commit first; others, as of the gate, are left out."""
    found: dict[tuple[str, str], list[Loaded]] = {}
    for run in sorted((one for one in runs if one[1].keys() >= _PLACED), key=lambda one: one[1]["commit_time"]):
        found.setdefault((run[1]["machine"], run[1]["environment"]), []).append(run)
    return found


def steps(runs: Sequence[Loaded]) -> list[Step]:
    """Where a comparison of neighbours says that something became better or worse; the newest first."""
    found = []
    for (machine, environment), its in places(runs).items():
        for one, other in itertools.pairwise(its):
            rows = compare(Side(*one[1:]), Side(*other[1:])).rows
            told = tuple(row for row in rows if row.verdict in _VERDICTS and row.metric not in _UNTOLD)
            if told:
                found.append(Step(f"{environment}, {machine}", one[1]["commit"], other[1]["commit"], told))
    return found[::-1]
