"""Changes between successive commits in asv's results."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from copycost.analysis.compare import Row, Side, compare
from copycost.model.measurement import Measurement
from copycost.model.vocabulary import Verdict

#: Verdicts that make a step.
_VERDICTS = (Verdict.SLOWER, Verdict.FASTER, Verdict.WORSE, Verdict.BETTER)

#: Metrics that are not reported.
_UNREPORTED = ("max_abs_error",)

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
    series: dict[tuple[str, str], list[Loaded]] = {}
    for run in sorted((run for run in runs if run[1].keys() >= _PLACED), key=lambda run: run[1]["commit_time"]):
        series.setdefault((run[1]["machine"], run[1]["environment"]), []).append(run)
    return series


def steps(runs: Sequence[Loaded]) -> list[Step]:
    """Return the steps at which a comparison of successive commits reports better or worse figures, newest first."""
    oldest_first = []
    for (machine, environment), series in places(runs).items():
        for before, after in itertools.pairwise(series):
            rows = compare(Side(*before[1:]), Side(*after[1:])).rows
            changes = tuple(row for row in rows if row.verdict in _VERDICTS and row.metric not in _UNREPORTED)
            if changes:
                step = Step(f"{environment}, {machine}", before[1]["commit"], after[1]["commit"], changes)
                oldest_first.append(step)
    return oldest_first[::-1]
