"""From which batch a GPU pays, what is copied to it and back counted."""

from __future__ import annotations

import pandas as pd

from copycost.results.table import origins
from copycost.stats.rivals import Estimate, rivals

#: What cases have in common that differ by their batch.
_SERIES = ["recipe", "dtype", "layout", "height", "width"]

#: How often it may be said of a batch that the GPU wins where it does not.
_FALSE_ALARMS = 0.05


def pays(frame: pd.DataFrame) -> pd.DataFrame:
    """The smallest batch from which the fastest way on a GPU, transfers included, is surely faster than any on the CPU.

    Surely: the interval of the ratio of the two, which allows for both having been chosen for their time, lies above 1.
    What was measured on different machines, of different commits or in different sessions is not compared.

    Parameters
    ----------
    frame : DataFrame
        Of measurements.

    Returns
    -------
    DataFrame
        A row for each recipe, dtype, layout and size that was measured on both: ``where`` (the machine, and what else
        tells it from the others of the table; empty if there is one), ``batch`` (missing, where the GPU does not surely
        win at the largest batch measured), ``cpu`` and ``gpu`` (the fastest variants at that batch, or at the largest),
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
        # From there on it wins at every batch.
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
    """The variants of a batch, the fastest first."""
    return frame[frame["batch"] == batch].sort_values("seconds")


def _surely(gpu: pd.DataFrame, cpu: pd.DataFrame) -> bool:
    """Whether the first of the GPU's variants is surely faster than the first of the CPU's."""
    one, other = (_first(its) for its in (gpu, cpu))
    if one is None or other is None:
        return False
    low, _ = Estimate(other.log - one.log, (*other.parts, *one.parts)).interval(_FALSE_ALARMS)
    return low > 1


def _first(frame: pd.DataFrame) -> Estimate | None:
    """The time of the first variant, chosen among all; None where its samples do not tell."""
    sampled = [its for its in frame["samples"] if isinstance(its, list) and len(its) > 1]
    first = frame["samples"].iloc[0]
    if not sampled or first is not sampled[0]:
        return None
    return rivals(sampled, len(frame)).time(0)
