"""From which batch a GPU pays, what is copied to it and back counted."""

from __future__ import annotations

import pandas as pd

#: What cases have in common that differ by their batch.
_SERIES = ["recipe", "dtype", "layout", "height", "width"]


def pays(frame: pd.DataFrame) -> pd.DataFrame:
    """The smallest batch from which the fastest way on a GPU, transfers included, is surely faster than any on the CPU.

    Parameters
    ----------
    frame : DataFrame
        Of measurements.

    Returns
    -------
    DataFrame
        A row for each recipe, dtype, layout and size that was measured on both: ``batch`` (missing, where the GPU does
        not surely win at the largest batch measured), ``cpu`` and ``gpu`` (the fastest variants at that batch, or at
        the largest), ``cpu_seconds`` and ``gpu_seconds`` (per call), ``largest`` (the largest batch measured on both).
    """
    right = frame[(frame["status"] == "ok") & frame["seconds"].notna() & frame["batch"].notna()]
    on_host = right[right["device"] == "cpu"]
    on_gpu = right[(right["device"] == "gpu") & right["includes_transfers"].astype(bool)]
    rows = []
    for series, its in on_gpu.groupby(_SERIES, sort=False):
        others = on_host[(on_host[_SERIES] == list(series)).all(axis=1)]
        batches = sorted(set(its["batch"]) & set(others["batch"]))
        if not batches:
            continue
        best = {batch: (_fastest(others, batch), _fastest(its, batch)) for batch in batches}
        wins = [_surely(gpu, cpu) for cpu, gpu in best.values()]
        # From there on it wins at every batch.
        lost = max((k for k, won in enumerate(wins) if not won), default=-1)
        batch = batches[lost + 1] if lost + 1 < len(batches) else None
        cpu, gpu = best[batch if batch is not None else batches[-1]]
        rows.append(
            dict(zip(_SERIES, series, strict=True))
            | {"batch": batch, "cpu": cpu["variant"], "cpu_seconds": cpu["seconds"]}
            | {"gpu": gpu["variant"], "gpu_seconds": gpu["seconds"], "largest": batches[-1]}
        )
    columns = [*_SERIES, "batch", "cpu", "cpu_seconds", "gpu", "gpu_seconds", "largest"]
    return pd.DataFrame(rows, columns=columns).astype({"batch": "Int64"})


def _fastest(frame: pd.DataFrame, batch: int) -> pd.Series:
    return frame[frame["batch"] == batch].sort_values("seconds").iloc[0]


def _surely(one: pd.Series, other: pd.Series) -> bool:
    """Whether the one's whole interval lies below the other's."""
    high, low = one["seconds_high"], other["seconds_low"]
    return bool(pd.notna(high) and pd.notna(low) and high < low)
