"""The figure: time per image of every variant, a panel a recipe, intervals drawn."""

from __future__ import annotations

import io
from typing import Any, cast

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter

# Told apart by shape and filling as well as by colour; the colours are Okabe and Ito's.
_MARKERS = "os^DvPX<p>"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")

_SERIES = ["device", "layout", "height", "width", "batch", "dtype"]


def draw(frame: pd.DataFrame) -> str:
    """The figure of all measured cases as an SVG element."""
    timed = frame[frame["seconds"].notna()]
    recipes = list(dict.fromkeys(timed["recipe"]))
    variants = list(dict.fromkeys(timed.sort_values(["runtime", "variant"])["variant"]))[::-1]
    series = [cast("tuple[Any, ...]", key) for key, _ in timed.groupby(_SERIES, sort=True, dropna=False)]
    width = 3.2 + 3.0 * max(1, len(recipes))
    figure, axes = plt.subplots(
        1, max(1, len(recipes)), figsize=(width, 1.9 + 0.27 * len(variants)), sharey=True, squeeze=False
    )
    for axis, recipe in zip(axes[0], recipes, strict=False):
        time_per_image(axis, timed[timed["recipe"] == recipe], variants, series)
        axis.set_title(recipe)
    if not recipes:
        axes[0][0].set_axis_off()
        axes[0][0].text(0.5, 0.5, "nothing was timed", ha="center")
    shown = {label: h for axis in axes[0] for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    labels, handles = list(shown), list(shown.values())
    rows = -(-len(labels) // 3)
    figure.tight_layout(rect=(0, 0.02 + 0.27 * rows / figure.get_figheight(), 1, 1))
    figure.legend(handles, labels, loc="lower center", ncols=3, frameon=False, fontsize="small")
    out = io.StringIO()
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "copycost"}):
        figure.savefig(out, format="svg", metadata={"Date": None})
    plt.close(figure)
    svg = out.getvalue()
    return svg[svg.index("<svg") :]


def time_per_image(axis: Axes, frame: pd.DataFrame, variants: list[str], series: list[tuple[Any, ...]]) -> None:
    """Seconds per image on a logarithmic axis: a row a variant, a marker for each shape, dtype and device.

    Parameters
    ----------
    axis : Axes
    frame : DataFrame
        Timed cases of one recipe.
    variants : list of str
        The rows, from below.
    series : list of tuple
        The device, layout, height, width, batch and dtype of everything in the figure, so that each looks the same in
        every panel.
    """
    groups = list(frame.groupby(_SERIES, sort=True, dropna=False))
    dtypes = sorted({str(one[-1]) for one in series})
    looks = {str(one): i for i, one in enumerate(series)}
    for i, (key, cases) in enumerate(groups):
        look = looks[str(key)]
        device, layout, height, width, batch, dtype = cast("tuple[Any, ...]", key)
        images = 1 if pd.isna(batch) else int(batch)
        # Side by side within the row, so that none hides another.
        shift = (i - (len(groups) - 1) / 2) * 0.6 / max(1, len(groups))
        rows = np.array([variants.index(v) for v in cases["variant"]]) + shift
        middle = cases["seconds"].to_numpy(float)
        low = cases["seconds_low"].fillna(cases["seconds"]).to_numpy(float)
        high = cases["seconds_high"].fillna(cases["seconds"]).to_numpy(float)
        colour = _COLOURS[look % len(_COLOURS)]
        parts = ["one image" if pd.isna(batch) else f"batch {images}", str(dtype)]
        parts += [f"{height}×{width}"] if frame["height"].nunique() > 1 or frame["width"].nunique() > 1 else []
        parts += [str(layout)] if frame["layout"].nunique() > 1 else []
        parts += [str(device)] if frame["device"].nunique() > 1 else []
        axis.errorbar(
            middle / images * 1e6,
            rows,
            xerr=np.array([middle - low, high - middle]) / images * 1e6,
            fmt=_MARKERS[look % len(_MARKERS)],
            color=colour,
            markerfacecolor=colour if dtypes.index(str(dtype)) % 2 == 0 else "white",
            markersize=5,
            linewidth=1,
            label=", ".join(parts),
        )
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_yticks(range(len(variants)), variants)
    axis.set_ylim(-0.6, len(variants) - 0.4)
    axis.set_xlabel("time per image (µs), 95 % interval")
    axis.grid(axis="x", which="major", alpha=0.4)
    axis.spines[["top", "right"]].set_visible(False)
    for row in range(0, len(variants), 2):
        axis.axhspan(row - 0.5, row + 0.5, color="#808080", alpha=0.08, linewidth=0)
