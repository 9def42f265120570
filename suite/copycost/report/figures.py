"""The figures of a report, drawn on axes that the caller may pass.

A figure takes a DataFrame of measurements as returned by `copycost.load`, and draws the rows that it can. Variants
differ in shape, filling or name as well as in colour. The colours are those of Okabe and Ito, two of them darker, so
that all are visible on light and dark backgrounds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from copycost.model import numbers
from copycost.results.table import origins, records

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#A87900", "#2F8FC4")
MARKERS = "os^DvPX<p>"

#: Colour of elements that are not highlighted.
SOFT = "#7d8790"

#: Columns that interleaved cases, which form a group, have in common.
GROUP = ["recipe", "device", "dtype", "layout", "height", "width", "batch"]

#: Maximum numbers of highlighted lines in a figure, of rows in a figure, and of variants in `timeline`.
PICKED, ROWS, _TIMELINES = 6, 40, 8


def relative(frame: pd.DataFrame, axis: Axes | None = None, *, baseline: str = "numpy-new") -> Axes:
    """Draw the time of each variant relative to the baseline: a row per variant, a column per group, and the mean.

    The last column is the geometric mean. A ratio is in brackets if the intervals of the two times overlap: the
    difference is not significant. Each machine, commit, engine and session has its own columns, relative to its own
    baseline.

    Parameters
    ----------
    frame : DataFrame
        Measurements of one recipe.
    axis : Axes, optional
    baseline : str, optional
        A variant. Groups in which it was not timed are left out.

    Returns
    -------
    Axes
        The first collection holds log2 of the ratios, row by row from the top. Its last column holds the means.

    Raises
    ------
    ValueError
        If the baseline was not timed in any group.
    """
    axis = axis if axis is not None else plt.subplots()[1]
    ratios, significant = relative_times(frame, baseline)
    ratios, significant = ratios.head(ROWS), significant.head(ROWS)
    values = np.log2(ratios.to_numpy(dtype=float))
    bound = max(1.0, float(np.nanmax(np.abs(values))))
    axis.pcolormesh(
        values, cmap="PuOr_r", norm=TwoSlopeNorm(0, -bound, bound), edgecolors="white", linewidth=0.6
    )  # fmt: skip
    for row, column in zip(*np.nonzero(np.isfinite(values)), strict=True):
        ink = "#ffffff" if abs(values[row, column]) > 0.6 * bound else "#000000"
        text = _two_decimals(2 ** values[row, column])
        sure = column == values.shape[1] - 1 or bool(significant.iat[row, column])
        shown = text if sure else f"({text})"
        axis.text(column + 0.5, row + 0.5, shown, ha="center", va="center", fontsize=7, color=ink)
    axis.set_yticks(np.arange(len(ratios)) + 0.5, [label(name) for name in ratios.index])
    groups = [label(name) for name in ratios.columns]
    axis.set_xticks(np.arange(len(groups)) + 0.5, groups, rotation=45, ha="left", fontsize=8)
    axis.tick_params(length=0, labelbottom=False, labeltop=True, bottom=False, top=False)
    axis.invert_yaxis()
    axis.spines[:].set_visible(False)
    axis.grid(False)
    axis.axvline(len(ratios.columns) - 1, color="white", linewidth=4)
    return axis


def _two_decimals(value: float) -> str:
    """Return a ratio as text: ``0.07``, ``1.50``, ``12.3``."""
    return f"{value:.2f}" if 0.0095 <= value < 9.995 else numbers.three(value)


def relative_times(frame: pd.DataFrame, baseline: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return times relative to a baseline measured together with them, and whether the differences are significant.

    Returns
    -------
    ratios : DataFrame
        A row per variant, fastest first. A column per group, and ``mean``, the geometric mean.
    significant : DataFrame
        The same shape without the means: whether the intervals of the two times do not overlap.

    Raises
    ------
    ValueError
        If the baseline was not timed in any group.
    """
    places, names = origins(frame)
    timed = frame.assign(origin=[names[place] for place in places])[frame["seconds"].notna()]
    group = [*GROUP, "origin"]
    base = timed[timed["variant"] == baseline].drop_duplicates(group)
    if base.empty:
        raise ValueError(f"'{baseline}' was not timed in any group")
    columns = ["seconds", "seconds_low", "seconds_high"]
    joined = timed.merge(base[[*group, *columns]], on=group, suffixes=("", "_base"))
    joined = joined.sort_values(
        ["origin", "device", "dtype", "layout", "height", "width", "batch"], na_position="first"
    )  # fmt: skip
    varying = [name for name in group if joined[name].nunique(dropna=False) > 1]
    joined["group"] = _named(joined, varying)
    joined["ratio"] = (joined["seconds"] / joined["seconds_base"]).astype(float)
    apart = (joined["seconds_high"] < joined["seconds_low_base"]) | (
        joined["seconds_low"] > joined["seconds_high_base"]
    )
    joined["significant"] = apart.fillna(False).astype(bool) | (joined["variant"] == baseline)
    order = list(dict.fromkeys(joined["group"]))
    ratios = joined.pivot_table(index="variant", columns="group", values="ratio", sort=False)[order]
    significant = joined.pivot_table(index="variant", columns="group", values="significant", aggfunc="min", sort=False)[
        order
    ]
    means = np.exp(np.log(ratios).mean(axis=1))
    by = means.sort_values(kind="stable").index
    ratios["mean"] = means
    return ratios.loc[by], significant.loc[by].fillna(True).astype(bool)


def throughput(frame: pd.DataFrame, axis: Axes | None = None, *, picked: Sequence[str] = ()) -> Axes:
    """Draw images per second by batch size, a line per variant, and the limit set by the copy speed.

    The copy speed is that of the machine or, on a GPU, of the device.

    Parameters
    ----------
    frame : DataFrame
        Measurements of one recipe, dtype, layout, size and device, measured together.
    axis : Axes, optional
    picked : sequence of str, optional
        Variants that have a colour and a name. The default is the fastest. The others are thin lines.

    Raises
    ------
    ValueError
        If the frame holds several machines, commits, engines or sessions.
    """
    check_origin(frame)
    axis = axis if axis is not None else plt.subplots()[1]
    timed = frame[frame["seconds"].notna() & frame["batch"].notna()].astype({"batch": int})
    order = list(timed.groupby("variant")["images_per_second"].max().sort_values(ascending=False).index)
    shown = list(picked) or order[:PICKED]
    for variant in order:
        points = timed[timed["variant"] == variant].sort_values("batch")
        speed = points["images_per_second"].astype(float).to_numpy()
        if variant not in shown:
            axis.plot(points["batch"], speed, color=SOFT, linewidth=0.7, alpha=0.7, zorder=1)
            continue
        k = shown.index(variant)
        colour = COLOURS[k % len(COLOURS)]
        low, high = ((points["batch"] / points[name]).astype(float) for name in ("seconds_high", "seconds_low"))
        axis.vlines(points["batch"], low, high, color=colour, linewidth=1.3)
        axis.plot(
            points["batch"], speed, color=colour, marker=MARKERS[k % len(MARKERS)], markersize=5, linewidth=1.3,
            label=label(variant),
        )  # fmt: skip
    batches = sorted(timed["batch"].unique())
    ceiling = copy_ceiling(timed)
    if ceiling is not None:
        axis.axhline(ceiling, color=SOFT, linestyle="--", linewidth=1, label="copy speed")
    axis.set(xscale="log", yscale="log", xlabel="batch size", ylabel="images/s")
    axis.set_xticks(batches, [str(n) for n in batches])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.count(float(value))))
    axis.yaxis.set_minor_formatter(NullFormatter())
    return axis


def copy_ceiling(frame: pd.DataFrame) -> float | None:
    """Return the images per second if input and result were copied at the copy speed; None if that is not measured."""
    known = frame[frame["copy_fraction"].notna()]
    if known.empty:
        return None
    # The copy speed is the same for all batches. Small batches stay in the cache, and are faster than memory.
    return float(np.median((known["images_per_second"] / known["copy_fraction"]).astype(float)))


def samples(frame: pd.DataFrame, axis: Axes | None = None) -> Axes:
    """Draw all samples, a row per variant and within it a line per block, with the median and its interval.

    The frame holds one group: recipe, shape, dtype and device.
    """
    axis = axis if axis is not None else plt.subplots()[1]
    timed = frame[frame["seconds"].notna()].sort_values("seconds").head(ROWS)
    rows = records(timed)
    for k, colour in enumerate(COLOURS[:2]):
        xs: list[float] = []
        ys: list[float] = []
        for row, case in enumerate(rows):
            blocks = case["samples"] if isinstance(case["samples"], list) else []
            for j, block in list(enumerate(blocks))[k::2]:
                bottom, top = (row - 0.32 + 0.64 * (j + part) / len(blocks) for part in (0.1, 0.9))
                for seconds in block:
                    xs += [seconds, seconds, math.nan]
                    ys += [bottom, top, math.nan]
        axis.plot(xs, ys, color=colour, linewidth=0.9)
    for row, case in enumerate(rows):
        axis.plot([case["seconds"]] * 2, [row - 0.42, row + 0.42], color=plt.rcParams["text.color"], linewidth=1.6)
        if pd.notna(case["seconds_low"]):
            width = case["seconds_high"] - case["seconds_low"]
            axis.barh(row, width, 0.84, case["seconds_low"], color=SOFT, alpha=0.25, zorder=0)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_yticks(range(len(rows)), [label(case["variant"]) for case in rows])
    axis.set_xscale("log")
    _seconds_axis(axis, "x")
    axis.set_xlabel("time per call")
    return axis


def memory(frame: pd.DataFrame, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw the allocated, peak and retained bytes of a call in multiples of the input, and beside them its time.

    The frame holds one group. There is a row per variant, sorted by allocated bytes. Its label includes the number of
    allocations.
    """
    if axes is None:
        axes = list(plt.subplots(1, 2, sharey=True)[1])
    left, right = axes
    known = frame[frame["allocated_bytes"].notna()].sort_values(["allocated_bytes", "seconds"]).head(ROWS)
    drawn = records(known)
    rows = np.arange(len(known))
    inputs = np.array([_input_bytes(row) for row in drawn], np.float64)
    allocated, peak, kept = (
        known[name].astype(float).to_numpy() / inputs for name in ("allocated_bytes", "peak_bytes", "retained_bytes")
    )
    left.barh(rows, allocated, 0.5, label="allocated", color=COLOURS[0], alpha=0.45, linewidth=0)
    left.plot(peak, rows, "d", label="peak", color=COLOURS[1], fillstyle="none", linestyle="none", markersize=7)
    left.plot(kept, rows, "o", label="retained", color=COLOURS[2], linestyle="none", markersize=3.5)
    for number, case in enumerate(drawn):
        if not case["allocated_bytes"]:
            left.annotate("0", (0, number), xytext=(8, 0), textcoords="offset points", va="center", fontsize=8)
    left.set_yticks(rows, [f"{label(case['variant'])} ({case['allocations']})" for case in drawn])
    left.set_xlabel("multiples of the input")
    left.legend(frameon=False, fontsize=8, loc="best")
    right.tick_params(labelleft=False)
    timed = known["seconds"].notna().to_numpy()
    _spans(right, known[timed], rows[timed])
    right.set_ylim(len(rows) - 0.5, -0.5)
    right.set_xscale("log")
    _seconds_axis(right, "x", (1.0, 3.0))  # fewer ticks, because the axes are narrow
    right.set_xlabel("time per call, 95 % interval")
    return [left, right]


def pareto(frame: pd.DataFrame, axis: Axes | None = None) -> Axes:
    """Draw time against allocated bytes, with the variants that no other beats in both filled, bold and joined.

    The frame holds one group. Names that would overlap are left out.

    Raises
    ------
    ValueError
        If the frame holds several machines, commits, engines or sessions.
    """
    check_origin(frame)
    axis = axis if axis is not None else plt.subplots()[1]
    known = frame[frame["seconds"].notna() & frame["allocated_bytes"].notna()]
    best = front(known)
    on = set(best["variant"])
    drawn = sorted(records(known), key=lambda its: (its["variant"] not in on, its["seconds"]))
    for name, size, filled, colour in (("front", 8, "full", COLOURS[0]), ("others", 5, "none", SOFT)):
        its = [row for row in drawn if (row["variant"] in on) == (name == "front")]
        axis.plot(
            [row["allocated_bytes"] / _input_bytes(row) for row in its], [row["seconds"] for row in its],
            "o", color=colour, fillstyle=filled, markersize=size, linestyle="none", label=name,
        )  # fmt: skip
    axis.plot(
        [row["allocated_bytes"] / _input_bytes(row) for row in records(best)], best["seconds"],
        color=COLOURS[0], linewidth=1, drawstyle="steps-post", zorder=0,
    )  # fmt: skip
    axis.set_yscale("log")
    _seconds_axis(axis, "y")
    axis.set(xlabel="allocated per call, multiples of the input", ylabel="time per call")
    axis.margins(x=0.05, y=0.08)
    most = max((row["allocated_bytes"] / _input_bytes(row) for row in drawn), default=0)
    axis.set_xlim(-0.04 * max(most, 1), 1.25 * max(most, 1))  # room for the last name
    taken: list[tuple[float, float]] = []
    for row in drawn:
        x, y = row["allocated_bytes"] / _input_bytes(row), row["seconds"]
        across, up = axis.transData.transform((x, y)) / axis.figure.dpi * 72  # in points
        if all(abs(across - a) > 110 or abs(up - b) > 10 for a, b in taken):
            taken.append((across, up))
            axis.annotate(
                label(row["variant"]), (x, y), xytext=(7, -3), textcoords="offset points", fontsize=8,
                fontweight="bold" if row["variant"] in on else "normal",
            )  # fmt: skip
    return axis


def front(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one group that no other beats in both time and allocated bytes, sorted by bytes."""
    kept, fastest = [], math.inf
    for row in records(frame.sort_values(["allocated_bytes", "seconds"])):
        if row["seconds"] < fastest:
            kept.append(row)
            fastest = row["seconds"]
    return pd.DataFrame(kept, columns=frame.columns)


def timelines(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that `timeline` draws: a few of those that allocate, highest peak first."""
    known = frame[[isinstance(events, list) and len(events) > 0 for events in frame["timeline"]]]
    return known.sort_values(["peak_bytes", "seconds"], ascending=[False, True]).head(_TIMELINES)


def timeline(frame: pd.DataFrame, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw live bytes during one call, one plot per variant, with each large rise labelled by its operation.

    The frame holds one group, of which the rows of `timelines` are drawn. Heights are in multiples of the input. The
    time between allocation events is not measured, so they are equally spaced.
    """
    drawn = records(timelines(frame))
    if axes is None:
        axes = list(plt.subplots(max(1, len(drawn)), 1, squeeze=False)[1][:, 0])
    for axis, row in zip(axes, drawn, strict=False):
        size = _input_bytes(row)
        # Small events have no step; the next step includes them.
        live, names, total = [0.0], [""], 0
        for event in row["timeline"]:
            total += event["bytes"]
            if abs(event["bytes"]) >= 0.01 * size:
                live.append(total / size)
                names.append(event["op"] if event["bytes"] > 0.1 * size else "")
        last = len(live)
        steps, heights = [*range(last), last], [*live, total / size]
        axis.step(steps, heights, where="post", color=COLOURS[0], linewidth=1.2)
        axis.fill_between(steps, heights, step="post", alpha=0.2, color=COLOURS[0], linewidth=0)
        before = -math.inf
        for k, name in enumerate(names):
            # Label a step only if there is room.
            if name and k - before >= 0.15 * last:
                before = k
                text = label(name.partition("  (")[0], 44)
                late = k > 0.7 * last
                axis.annotate(
                    text, (k + late, live[k]), xytext=(-2 if late else 2, 2), textcoords="offset points", fontsize=7,
                    ha="right" if late else "left",
                )  # fmt: skip
        axis.set_ylim(0, 1.45 * max(*live, 0.5))
        axis.set_xlim(0, last)
        axis.set_title(label(row["variant"]), loc="left", fontsize=9)
        axis.set_xticks([])
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g} ×"))
    return list(axes)


def first_call(frame: pd.DataFrame, axis: Axes | None = None) -> Axes:
    """Draw the time of the first call and of steady calls, a row per variant of one group, fastest first call first."""
    axis = axis if axis is not None else plt.subplots()[1]
    known = frame[frame["seconds"].notna() & frame["seconds_first"].notna()].sort_values("seconds_first").head(ROWS)
    rows = list(range(len(known)))
    steady, first = known["seconds"].astype(float), known["seconds_first"].astype(float)
    axis.hlines(rows, steady, first, color=SOFT, linewidth=1)
    axis.plot(steady, rows, "o", color=COLOURS[0], label="steady", markersize=5)
    axis.plot(first, rows, "D", color=COLOURS[1], fillstyle="none", label="first", markersize=5)
    axis.set_yticks(rows, [label(name) for name in known["variant"]])
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xscale("log")
    _seconds_axis(axis, "x")
    axis.legend(frameon=False, fontsize=8)
    axis.set_xlabel("time per call")
    return axis


#: Patterns of compiled variants, which trace or compile in the first call: in their code or, without it, their names.
_COMPILED = r"tf\.function|jit|torch\.compile|cupy\.fuse|ElementwiseKernel"
_COMPILED_NAMES = "graph|xla|jit|compile|numba|fused"


def pays_after(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the break-even of each compiled variant of one group, the number of calls that repay its first call.

    A compiled variant is compared with the fastest variant of its runtime that is not compiled. If its runtime has no
    such variant, it is compared with the fastest of all that are not compiled. Compiled variants are recognized by
    their code or, without code, by their names: graph, xla, jit, compile, numba, fused.

    Returns
    -------
    DataFrame
        ``variant``, ``first_seconds``, ``seconds``, ``against``; ``calls``, missing if there is no break-even; and
        ``told``, whether the intervals of the steady calls do not overlap.

    Raises
    ------
    ValueError
        If the frame holds several machines, commits, engines or sessions.
    """
    check_origin(frame)
    columns = ["variant", "runtime", "code", "seconds", "seconds_low", "seconds_high", "seconds_first"]
    timed = frame.loc[frame["seconds"].notna() & frame["seconds_first"].notna(), columns]
    by_code = timed["code"].str.contains(_COMPILED).astype("boolean")
    compiled = by_code.fillna(timed["variant"].str.contains(_COMPILED_NAMES).astype("boolean")).astype(bool)
    plain: list[dict[str, Any]] = []
    of_runtime: dict[str, list[dict[str, Any]]] = {}
    for row, is_compiled in zip(records(timed), compiled, strict=True):
        (of_runtime.setdefault(row["runtime"], []) if is_compiled else plain).append(row)
    rows = []
    for name, compiled_rows in of_runtime.items():
        others = [row for row in plain if row["runtime"] == name] or plain
        if not others:
            continue
        other = min(others, key=lambda row: row["seconds"])
        for row in compiled_rows:
            saved = other["seconds"] - row["seconds"]
            more = row["seconds_first"] - other["seconds_first"]
            calls = None if saved <= 0 else 1 if more <= 0 else math.ceil(more / saved) + 1
            rows.append(
                {
                    "variant": row["variant"],
                    "first_seconds": row["seconds_first"],
                    "seconds": row["seconds"],
                    "against": other["variant"],
                    "calls": calls,
                    "told": _apart(row, other),
                }
            )
    columns = ["variant", "first_seconds", "seconds", "against", "calls", "told"]
    return pd.DataFrame(rows, columns=columns).astype({"calls": "Int64"}).sort_values("calls", kind="stable")


def history(frame: pd.DataFrame, axis: Axes | None = None, *, metric: str = "seconds") -> Axes:
    """Draw a metric by commit, oldest first, with a line per variant and environment.

    The frame holds one group of several commits. Metrics that have intervals are drawn with them.
    """
    axis = axis if axis is not None else plt.subplots()[1]
    known = frame[frame[metric].notna() & frame["commit"].notna()].sort_values("commit_time")
    commits = list(dict.fromkeys(known["commit"]))
    names = [n for n in ("variant", "environment", "machine") if n == "variant" or known[n].nunique(dropna=False) > 1]
    for k, (name, line) in enumerate(known.groupby(names, sort=False, dropna=False)):
        at = [commits.index(commit) for commit in line["commit"]]
        values = line[metric].astype(float).to_numpy()
        parts: tuple[Any, ...] = name if isinstance(name, tuple) else (name,)
        named = ", ".join(label(str(part)) for part in parts if not pd.isna(part))
        axis.plot(
            at, values, marker=MARKERS[k % len(MARKERS)], color=COLOURS[k % len(COLOURS)], linewidth=1.2,
            markersize=5, label=named,
        )  # fmt: skip
        if f"{metric}_low" in line and line[f"{metric}_low"].notna().any():
            low, high = line[f"{metric}_low"].astype(float), line[f"{metric}_high"].astype(float)
            axis.fill_between(at, low, high, color=COLOURS[k % len(COLOURS)], alpha=0.15, linewidth=0)
    axis.set_xticks(range(len(commits)), [commit[:8] for commit in commits], rotation=45, ha="right", fontsize=8)
    axis.set_ylim(bottom=0)
    if metric.endswith("seconds"):
        _seconds_axis(axis, "y")
    axis.set_ylabel(metric)
    return axis


def versions(frame: pd.DataFrame, axis: Axes | None = None) -> Axes:
    """Draw the times of the newest commit in each environment side by side, with a row per variant.

    The frame holds one group of several environments or machines.
    """
    axis = axis if axis is not None else plt.subplots()[1]
    known = frame[frame["seconds"].notna() & frame["environment"].notna()].sort_values("commit_time")
    known = known.drop_duplicates(["variant", "environment", "machine"], keep="last")
    order = list(known.sort_values("seconds")["variant"].drop_duplicates().head(ROWS))
    names = [n for n in ("environment", "machine") if n == "environment" or known[n].nunique() > 1]
    places = list(known[known["variant"].isin(order)].groupby(names, sort=True))
    for k, (name, place) in enumerate(places):
        parts: tuple[Any, ...] = name if isinstance(name, tuple) else (name,)
        rows = np.array([order.index(variant) for variant in place["variant"]]) + 0.6 * ((k + 0.5) / len(places) - 0.5)
        colour, marker = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
        axis.hlines(
            rows, place["seconds_low"].astype(float), place["seconds_high"].astype(float), color=colour, linewidth=1
        )
        axis.plot(
            place["seconds"].astype(float), rows, marker, color=colour, markersize=4.5, linestyle="none",
            label=label(", ".join(map(str, parts)), 60),
        )  # fmt: skip
    axis.set_yticks(range(len(order)), [label(name) for name in order])
    axis.set_ylim(len(order) - 0.5, -0.5)
    axis.set_xscale("log")
    _seconds_axis(axis, "x")
    axis.set_xlabel("time per call, 95 % interval")
    return axis


def check_origin(frame: pd.DataFrame) -> None:
    """Raise ValueError if a frame has several machines, commits, engines or sessions, whose times do not compare."""
    _, names = origins(frame)
    if len(names) > 1:
        shown = "; ".join(names[:3]) + ("; …" if len(names) > 3 else "")
        raise ValueError(f"{len(names)} origins, whose times cannot be compared ({shown}): select the rows of one")


def _spans(axis: Axes, frame: pd.DataFrame, rows: np.ndarray) -> None:
    """Draw a dot for each time, and its interval."""
    middle = frame["seconds"].astype(float).to_numpy()
    low, high = (
        frame[name].astype(float).fillna(frame["seconds"].astype(float)).to_numpy()
        for name in ("seconds_low", "seconds_high")
    )
    axis.hlines(rows, low, high, color=COLOURS[0], linewidth=2)
    axis.plot(middle, rows, "o", color=COLOURS[0], markersize=4)


def label(text: str, longest: int = 36) -> str:
    """Return a name as a label: on one line, truncated, and without TeX formulas."""
    plain = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    short = plain if len(plain) <= longest else plain[: longest - 1] + "…"
    return short.replace("$", r"\$")


def _named(frame: pd.DataFrame, varying: Sequence[str]) -> pd.Series:
    """Return a short name of each row's group, made of the columns that vary."""
    parts = []
    for name in ("origin", "recipe", "dtype", "layout", "device"):
        if name in varying:
            parts.append(frame[name].astype(str))
    if "height" in varying or "width" in varying:
        parts.append(frame["height"].astype(str) + "×" + frame["width"].astype(str))
    if "batch" in varying or not parts:
        # Avoid astype(str), which leaves missing values missing in some versions of pandas.
        named = ["one image" if pd.isna(batch) else f"×{int(batch)}" for batch in frame["batch"]]
        parts.append(pd.Series(named, index=frame.index))
    text = parts[0]
    for part in parts[1:]:
        text = text + " " + part
    return text


def _apart(row: dict[str, Any], other: dict[str, Any]) -> bool:
    """Return whether two intervals do not overlap; False if one is missing."""
    ends = [side[name] for side in (row, other) for name in ("seconds_low", "seconds_high")]
    return None not in ends and (ends[1] < ends[2] or ends[0] > ends[3])


def _input_bytes(row: dict[str, Any]) -> int:
    return (
        (row["batch"] or 1)
        * int(row["height"])
        * int(row["width"])
        * int(row["channels"])
        * np.dtype(row["dtype"]).itemsize
    )


def _seconds_axis(axis: Axes, which: str, steps: Sequence[float] = (1.0, 2.0, 5.0)) -> None:
    ticks = axis.xaxis if which == "x" else axis.yaxis
    if ticks.get_scale() == "log":
        ticks.set_major_locator(LogLocator(subs=steps, numticks=9))
        ticks.set_minor_formatter(NullFormatter())
    ticks.set_major_formatter(FuncFormatter(lambda value, _: _short(float(value)) if value > 0 else "0"))


def _short(seconds: float) -> str:
    """Return a round time without trailing zeros: ``2 ms``."""
    number, _, unit = numbers.seconds(seconds).partition(" ")
    return f"{float(number):g} {unit}"
