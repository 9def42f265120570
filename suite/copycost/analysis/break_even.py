"""Break-even batch size of the GPU, transfers included."""

from __future__ import annotations

import pandas as pd

from copycost.results.table import origins
from copycost.stats.rivals import Estimate, rivals

#: Columns that cases which differ only in their batch have in common.
_SERIES = ["recipe", "dtype", "layout", "height", "width"]

#: Probability of reporting for a batch that the GPU is faster when it is not.
_FALSE_ALARMS = 0.05


def pays(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the smallest batch from which the GPU, transfers included, is significantly faster than the CPU.

    The fastest variants on both are compared. A difference is significant if the interval of their ratio lies above 1.
    This interval allows for the choice of both variants by their time. Measurements from different machines, commits or
    sessions are not compared.

    Parameters
    ----------
    frame : DataFrame
        Measurements.

    Returns
    -------
    DataFrame
        A row for each recipe, dtype, layout and size measured on both: ``where`` (the machine, and what distinguishes
        it from others in the table; empty if there is only one), ``batch`` (missing if the GPU is not significantly
        faster at the largest batch), ``cpu`` and ``gpu`` (the fastest variants at that batch, or at the largest),
        ``cpu_seconds`` and ``gpu_seconds`` (per call), ``largest`` (the largest batch measured on both).
    """
    places, names = origins(frame)
    frame = frame.assign(where=[names[place] for place in places])
    right = frame[(frame["status"] == "ok") & frame["seconds"].notna() & frame["batch"].notna()]
    on_host = right[right["device"] == "cpu"]
    on_gpu = right[(right["device"] == "gpu") & right["includes_transfers"].astype(bool)]
    rows = []
    keys = ["where", *_SERIES]
    for series, its in on_gpu.groupby(keys, sort=False):
        others = on_host[(on_host[keys] == list(series)).all(axis=1)]
        batches = sorted(set(its["batch"]) & set(others["batch"]))
        if not batches:
            continue
        at = {batch: (_at(others, batch), _at(its, batch)) for batch in batches}
        best = {batch: (cpu.iloc[0], gpu.iloc[0]) for batch, (cpu, gpu) in at.items()}
        wins = [_surely(gpu, cpu) for cpu, gpu in at.values()]
        # The break-even follows the last batch at which the GPU is not faster: it is faster at all larger batches.
        lost = max((k for k, won in enumerate(wins) if not won), default=-1)
        batch = batches[lost + 1] if lost + 1 < len(batches) else None
        cpu, gpu = best[batch if batch is not None else batches[-1]]
        rows.append(
            dict(zip(keys, series, strict=True))
            | {"batch": batch, "cpu": cpu["variant"], "cpu_seconds": cpu["seconds"]}
            | {"gpu": gpu["variant"], "gpu_seconds": gpu["seconds"], "largest": batches[-1]}
        )
    columns = ["where", *_SERIES, "batch", "cpu", "cpu_seconds", "gpu", "gpu_seconds", "largest"]
    return pd.DataFrame(rows, columns=columns).astype({"batch": "Int64"})


def _at(frame: pd.DataFrame, batch: int) -> pd.DataFrame:
    """Return the variants measured with a batch, fastest first."""
    return frame[frame["batch"] == batch].sort_values("seconds")


def _surely(gpu: pd.DataFrame, cpu: pd.DataFrame) -> bool:
    """Return whether the first GPU variant is significantly faster than the first CPU variant."""
    one, other = (_first(its) for its in (gpu, cpu))
    if one is None or other is None:
        return False
    low, _ = Estimate(other.log - one.log, (*other.parts, *one.parts)).interval(_FALSE_ALARMS)
    return low > 1


def _first(frame: pd.DataFrame) -> Estimate | None:
    """Return the time of the first variant, chosen among all; None if it has too few samples."""
    sampled = [its for its in frame["samples"] if isinstance(its, list) and len(its) > 1]
    first = frame["samples"].iloc[0]
    if not sampled or first is not sampled[0]:
        return None
    return rivals(sampled, len(frame)).time(0)
