"""Draw the images per second of each route by batch."""

from __future__ import annotations

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from copycost.model import numbers
from copycost.report.figures import COLOURS, MARKERS
from copycost.studies.place.routes import Memory, Place, Route

#: Width and height of a panel in inches.
_PANEL = (5.2, 3.8)


def draw(found: Sequence[Route], recipe: str, where: str) -> Figure:
    """Draw a panel for each size and dtype, with a line for each place and memory, and the 95 % intervals.

    Parameters
    ----------
    found : sequence of Route
    recipe, where : str
        Recipe, and where the model is, for the titles.
    """
    kinds = list(dict.fromkeys((r.inputs.height, r.inputs.width, r.inputs.dtype) for r in found))
    figure = Figure(figsize=(_PANEL[0] * len(kinds), _PANEL[1]), layout="constrained")
    figure.suptitle(f"{recipe}, {where}", parse_math=False)  # a recipe's name may have $ in it
    panels = figure.subplots(1, len(kinds), squeeze=False, sharey=True)[0]
    for axis, (height, width, dtype) in zip(panels, kinds, strict=True):
        of_kind = [r for r in found if (r.inputs.height, r.inputs.width, r.inputs.dtype) == (height, width, dtype)]
        axis.set_title(f"{height}×{width}×3 {dtype}", fontsize="medium")
        _lines(axis, of_kind)
    panels[0].set_ylabel("images per second")
    return figure


def encoded(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a file of this kind, e.g. ``svg``."""
    file = io.BytesIO()
    figure.savefig(file, format=kind)
    return file.getvalue()


def _lines(axis: Axes, found: Sequence[Route]) -> None:
    batches: set[int] = set()
    for k, place in enumerate(Place):
        for memory in (None, *Memory):
            points = []
            for route in found:
                rate = route.images_per_second
                if (route.place, route.memory) == (place, memory) and rate is not None and rate.value < float("inf"):
                    points.append((route.inputs.images, rate))
            if not points:
                continue
            points.sort(key=lambda point: point[0])
            x = [images for images, _ in points]
            batches.update(x)
            y = [rate.value for _, rate in points]
            # A time that may be 0 has no upper end.
            above = [rate.high - rate.value if rate.high < float("inf") else 0.0 for _, rate in points]
            axis.errorbar(
                x, y, [[rate.value - rate.low for _, rate in points], above],
                color=COLOURS[k], marker=MARKERS[k], capsize=3, linewidth=1.4,
                linestyle="--" if memory == Memory.PINNED else "-",
                label=place.phrase if memory is None else f"{place.phrase}, {memory} memory",
            )  # fmt: skip
    axis.set_xlabel("images in a batch")
    if not batches:
        axis.text(0.5, 0.5, "nothing was measured", ha="center", va="center", transform=axis.transAxes)
        return
    axis.set_xscale("log", base=2)
    axis.set_yscale("log")
    axis.set_xticks(sorted(batches), [str(batch) for batch in sorted(batches)])
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: numbers.count(value)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.grid(True, which="major", alpha=0.3)
    axis.legend(fontsize="small")
