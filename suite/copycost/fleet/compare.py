"""Compare two commits over hosts: on each host the ratio of its own times, and over hosts the mean of the ratios.

No sample of one host is mixed with one of another.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from copycost.fleet.project import TIMED, Project
from copycost.results import documents
from copycost.results.asv_files import MACHINE
from copycost.stats.student_t import quantile

#: Hosts from which on their ratios have a mean with an interval.
FEWEST_HOSTS = 3

#: Number of standard errors in half of a 99 % interval of a normal distribution, as asv states for a median.
_HALF_99 = 2.5758


@dataclass(frozen=True)
class HostRatio:
    """Time of head as a multiple of base's on one host.

    Attributes
    ----------
    host : str
    value : float
    low, high : float or None
        95 % interval, from asv's intervals of both medians. None if asv has too few samples.
    """

    host: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Compared:
    """One benchmark, with its parameters, in one environment.

    Attributes
    ----------
    benchmark : str
    environment : str
    hosts : tuple of HostRatio
    value, low, high : float or None
        Geometric mean of the ratios, and its 95 % interval by Student's t over hosts. None for fewer than three hosts.
    """

    benchmark: str
    environment: str
    hosts: tuple[HostRatio, ...]
    value: float | None
    low: float | None
    high: float | None


def compare(project: Project, base: str, head: str) -> list[Compared]:
    """Compare the times of two commits on each host that has measured both.

    Parameters
    ----------
    project : Project
    base, head : str
        Full hashes.
    """
    found: dict[tuple[str, str], list[HostRatio]] = {}
    for path in sorted(project.results.glob(f"*/{MACHINE}")):
        for before in sorted(path.parent.glob(f"{base[:8]}-*.json")):
            environment = before.stem.partition("-")[2]
            after = before.with_name(f"{head[:8]}-{environment}.json")
            times = [_times(project, file, commit) for file, commit in ((before, base), (after, head))]
            for name in sorted(times[0].keys() & times[1].keys()):
                ratio = _ratio(path.parent.name, times[0][name], times[1][name])
                found.setdefault((name, environment), []).append(ratio)
    return [Compared(name, environment, tuple(ratios), *mean(ratios)) for (name, environment), ratios in found.items()]


def mean(ratios: Sequence[HostRatio]) -> tuple[float | None, float | None, float | None]:
    """Return the geometric mean of the ratios of hosts and its 95 % interval, or None for fewer than three hosts.

    Hosts are a sample of those that there might be: what differs from host to host is part of the error.
    """
    if len(ratios) < FEWEST_HOSTS:
        return None, None, None
    logs = [math.log(ratio.value) for ratio in ratios]
    half = quantile(0.975, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
    return math.exp(fmean(logs)), math.exp(fmean(logs) - half), math.exp(fmean(logs) + half)


#: Median in seconds, and the ends of its 99 % interval.
_Time = tuple[float, float | None, float | None]


def _times(project: Project, path: Path, commit: str) -> dict[str, _Time]:
    """Return the times in a result file: of each benchmark, with its parameters."""
    try:
        with documents.opened(path) as file:
            document = json.load(file)  # asv writes infinite numbers too
        if document["commit_hash"] != commit:
            return {}
        columns = document["result_columns"]
        rows = {name: dict(zip(columns, row, strict=False)) for name, row in document["results"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
    found: dict[str, _Time] = {}
    for name, row in rows.items():
        if project.benchmarks.get(name, {}).get("type") in TIMED:
            found |= _cells(name, row)
    return found


def _cells(name: str, row: Mapping[str, Any]) -> dict[str, _Time]:
    """Return the times of a benchmark by its name and parameters."""
    values = row.get("result") or []
    names = [f"{name}({', '.join(key)})" if key else name for key in itertools.product(*row.get("params") or ())]
    lows, highs = (row.get(column) or [None] * len(values) for column in ("stats_ci_99_a", "stats_ci_99_b"))
    return {
        text: (float(value), low, high)
        for text, value, low, high in zip(names, values, lows, highs, strict=False)
        if isinstance(value, int | float) and 0 < value < math.inf
    }


def _ratio(host: str, base: _Time, head: _Time) -> HostRatio:
    value = head[0] / base[0]
    errors = [_error(time) for time in (base, head)]
    if None in errors:
        return HostRatio(host, value, None, None)
    half = 1.96 * math.hypot(*(error for error in errors if error is not None))
    return HostRatio(host, value, value * math.exp(-half), value * math.exp(half))


def _error(time: _Time) -> float | None:
    """Return the standard error of the logarithm of a median, or None if it is unknown."""
    _, low, high = time
    if low is None or high is None or not 0 < low <= high < math.inf:
        return None
    return (math.log(high) - math.log(low)) / (2 * _HALF_99)
