"""Changes between successive commits in asv's results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from copycost.analysis.compare import Row, Side, compare
from copycost.model.measurement import Measurement

#: Verdicts that make a step, and metrics that are not reported.
_VERDICTS, _UNTOLD = ("slower", "faster", "worse", "better"), ("max_abs_error",)

Loaded = tuple[str, Mapping[str, Any], Sequence[Measurement]]


@dataclass(frozen=True)
class Step:
    """The significant changes between two successive measured commits in one environment.

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


#: Fields that the environment of a result of asv has.
_PLACED = {"commit", "commit_time", "machine", "environment"}


def places(runs: Sequence[Loaded]) -> dict[tuple[str, str], list[Loaded]]:
    """Return asv's results by machine and environment, oldest commit first, without other runs such as the gate's."""
    found: dict[tuple[str, str], list[Loaded]] = {}
    for run in sorted((one for one in runs if one[1].keys() >= _PLACED), key=lambda one: one[1]["commit_time"]):
        found.setdefault((run[1]["machine"], run[1]["environment"]), []).append(run)
    return found


def steps(runs: Sequence[Loaded]) -> list[Step]:
    """Return the steps at which a comparison of successive commits reports better or worse figures, newest first."""
    found = []
    for (machine, environment), its in places(runs).items():
        for one, other in itertools.pairwise(its):
            rows = compare(Side(*one[1:]), Side(*other[1:])).rows
            told = tuple(row for row in rows if row.verdict in _VERDICTS and row.metric not in _UNTOLD)
            if told:
                found.append(Step(f"{environment}, {machine}", one[1]["commit"], other[1]["commit"], told))
    return found[::-1]
