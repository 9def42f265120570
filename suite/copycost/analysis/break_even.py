"""Break-even batch size of the GPU, transfers included."""

from __future__ import annotations

import pandas as pd

from copycost.model.vocabulary import DeviceKind, Status
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
    timed = frame[(frame["status"] == Status.OK) & frame["seconds"].notna() & frame["batch"].notna()]
    cpu_rows = timed[timed["device"] == DeviceKind.CPU]
    gpu_rows = timed[(timed["device"] == DeviceKind.GPU) & timed["includes_transfers"].astype(bool)]
    rows = []
    keys = ["where", *_SERIES]
    for series, gpu_series in gpu_rows.groupby(keys, sort=False):
        cpu_series = cpu_rows[(cpu_rows[keys] == list(series)).all(axis=1)]
        batches = sorted(set(gpu_series["batch"]) & set(cpu_series["batch"]))
        if not batches:
            continue
        pairs = [(_of_batch(cpu_series, batch), _of_batch(gpu_series, batch)) for batch in batches]
        # The break-even follows the last batch at which the GPU is not faster: it is faster at all larger batches.
        losses = [k for k, (cpu, gpu) in enumerate(pairs) if not _is_surely_faster(gpu, cpu)]
        index = max(losses, default=-1) + 1
        batch = batches[index] if index < len(batches) else None
        cpu, gpu = (variants.iloc[0] for variants in pairs[min(index, len(batches) - 1)])
        rows.append(
            dict(zip(keys, series, strict=True))
            | {"batch": batch, "cpu": cpu["variant"], "cpu_seconds": cpu["seconds"]}
            | {"gpu": gpu["variant"], "gpu_seconds": gpu["seconds"], "largest": batches[-1]}
        )
    columns = ["where", *_SERIES, "batch", "cpu", "cpu_seconds", "gpu", "gpu_seconds", "largest"]
    return pd.DataFrame(rows, columns=columns).astype({"batch": "Int64"})


def _of_batch(frame: pd.DataFrame, batch: int) -> pd.DataFrame:
    """Return the variants measured with a batch, fastest first."""
    return frame[frame["batch"] == batch].sort_values("seconds")


def _is_surely_faster(gpu: pd.DataFrame, cpu: pd.DataFrame) -> bool:
    """Return whether the first GPU variant is significantly faster than the first CPU variant."""
    gpu_time, cpu_time = _time(gpu), _time(cpu)
    if gpu_time is None or cpu_time is None:
        return False
    low, _ = Estimate(cpu_time.log - gpu_time.log, (*cpu_time.parts, *gpu_time.parts)).interval(_FALSE_ALARMS)
    return low > 1


def _time(frame: pd.DataFrame) -> Estimate | None:
    """Return the time of the first variant, chosen among all; None if it has too few samples."""
    samples = [blocks for blocks in frame["samples"] if isinstance(blocks, list) and len(blocks) > 1]
    if not samples or frame["samples"].iloc[0] is not samples[0]:
        return None
    return rivals(samples, len(frame)).time(0)
