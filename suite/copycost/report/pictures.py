"""Pictures of a page: which figures are drawn of which cases, as part of the page and as separate files."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from copycost.analysis.overview import KERAS, PLAIN, unusual
from copycost.machine import devices
from copycost.model import numbers
from copycost.report import figures
from copycost.report.figures import GROUP, ROWS
from copycost.results.table import records

#: Maximum number of recipes with pictures; the table of cases has all recipes.
MOST_RECIPES = 6

#: Columns that the figures of a run need: selecting rows of all columns takes three times as long.
_DRAWN = (
    *GROUP, "channels", "variant", "runtime", "seconds", "seconds_low", "seconds_high", "seconds_first", "samples",
    "images_per_second", "copy_fraction", "allocations", "allocated_bytes", "peak_bytes", "retained_bytes", "timeline",
)  # fmt: skip

#: Maximum number of columns of the comparison with the baseline, and of lines of a history.
_MOST_GROUPS, _MOST_LINES = 24, 12

_INK, _WHITE = "#1c2126", "#ffffff"
_STYLE: Any = {
    "font.size": 9, "text.color": _INK, "axes.labelcolor": _INK, "xtick.color": _INK, "ytick.color": _INK,
    "axes.edgecolor": figures.SOFT, "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 10,
    "axes.grid": True, "axes.grid.which": "major", "grid.alpha": 0.25, "grid.color": figures.SOFT,
    "axes.axisbelow": True, "svg.fonttype": "none", "svg.hashsalt": "copycost",
    "font.family": "sans-serif",
}  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """A figure on the page.

    Attributes
    ----------
    section, recipe : str
    title : str
    alt_text : str
        Description of the figure, also used as alternative text.
    svg : Markup
        SVG element that takes its text colour from the page.
    files : mapping of str to str
        Kind of file → address relative to the page.
    """

    section: str
    recipe: str
    title: str
    alt_text: str
    svg: Markup
    files: Mapping[str, str]


#: A function that draws a picture and writes its files.
Job = Callable[[], Picture]


def pictures(frame: pd.DataFrame, folder: Path, prefix: str, baseline: str, every: bool = False) -> list[Job]:
    """Return the jobs that draw the pictures of a run.

    Parameters
    ----------
    frame : DataFrame
        Measurements of one run.
    folder : Path
        Folder of the page. The files are written to ``figures/`` within it.
    prefix : str
        Prefix of the file names.
    baseline : str
        Baseline variant for relative times, used if it was timed.
    every : bool
        Whether to draw every recipe, and to write PNG files too. Otherwise only the first recipe is drawn, which is the
        one that the page shows at first.
    """
    timed = frame.loc[frame["seconds"].notna(), list(_DRAWN)]
    jobs: list[Job] = []
    for number, recipe in enumerate(drawn_recipes(timed, every)):
        for section, title, alt_text, draw in _of_recipe(timed[timed["recipe"] == recipe], baseline):
            name = f"{prefix}{number}-{_slug(recipe)}-{_slug(title)}"
            jobs.append(partial(_picture, section, recipe, title, alt_text, draw, folder, name, every))
    return jobs


def drawn_recipes(timed: pd.DataFrame, every: bool) -> list[str]:
    """Return the recipes of timed cases that have pictures."""
    return timed["recipe"].unique().tolist()[: MOST_RECIPES if every else 1]


@contextmanager
def working(jobs: Sequence[Callable[[], Any]]) -> Iterator[Callable[[], list[Any]]]:
    """Do jobs on all CPUs while the caller does other work, and yield a function that waits for their results.

    A page may have forty pictures, and each takes a few tenths of a second.
    """
    global _jobs
    workers = min(devices.cpus(), len(jobs))
    if workers < 2:
        yield lambda: [job() for job in jobs]
        return
    _jobs = jobs
    try:
        # Forked workers share the tables without a copy.
        with ProcessPoolExecutor(workers, get_context("fork")) as pool:
            begun = [pool.submit(_nth, k) for k in range(len(jobs))]
            yield lambda: [future.result() for future in begun]
    finally:
        _jobs = ()


#: The jobs that the workers inherit when they are forked.
_jobs: Sequence[Callable[[], Any]] = ()


def _nth(k: int) -> Any:
    return _jobs[k]()


def histories(frame: pd.DataFrame, folder: Path, every: bool = False) -> list[Job]:
    """Return the jobs that draw the times of each recipe's typical cases by commit and by environment.

    A recipe measured at one commit, or in one environment, has no such picture. PNG files are written with `every`. The
    page shows all these pictures at once.
    """
    timed = frame[frame["seconds"].notna() & frame["commit"].notna()]
    jobs: list[Job] = []
    for number, recipe in enumerate(drawn_recipes(timed, every=True)):
        group = typical(timed[timed["recipe"] == recipe])
        at = _title(group)
        if group["commit"].nunique() > 1:
            kept = _first(group, "variant", _MOST_LINES)
            alt_text = f"Time per call of {_count(kept, 'variant')} at {kept['commit'].nunique()} commits, {at}."
            name = f"history-{number}-{_slug(recipe)}-commits"
            draw = partial(_history, kept)
            jobs.append(partial(_picture, "History", recipe, "by commit", alt_text, draw, folder, name, every))
        if group.groupby(["environment", "machine"], dropna=False).ngroups > 1:
            alt_text = f"Time per call of {_count(group, 'variant')} in each environment, {at}."
            name = f"history-{number}-{_slug(recipe)}-environments"
            draw = partial(_versions, group)
            jobs.append(partial(_picture, "History", recipe, "by environment", alt_text, draw, folder, name, every))
    return jobs


def typical(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the group of one recipe that is most relevant to readers."""
    places = frame[GROUP].drop_duplicates()
    nearest = min(records(places), key=unusual)
    same = pd.Series(True, index=frame.index)
    for name in GROUP:
        same &= frame[name].isna() if nearest[name] is None else (frame[name] == nearest[name]).fillna(False)
    return frame[same.astype(bool)]


def _of_recipe(timed: pd.DataFrame, baseline: str) -> Iterator[tuple[str, str, str, Callable[[], Figure]]]:
    """Yield section, title, description and drawing function of each picture of a recipe."""
    group = typical(timed)
    at = _title(group)
    if (timed["variant"] == baseline).any():
        compared = _first(timed, GROUP, _MOST_GROUPS)
        alt_text = (
            f"Time of {_count(compared, 'variant')} relative to {baseline}, for each kind of batch, and the geometric "
            "mean over the kinds of batch in which both were timed. Ratios in brackets are not significant."
        )
        yield "Speed", f"against {baseline}", alt_text, lambda: _relative(compared, baseline)
    series = [part for _, part in timed.groupby(["device", "layout", "height", "width", "dtype"], sort=False)]
    series = [part for part in series if part["batch"].nunique() > 1][:4]
    if series:
        kinds = ", ".join(_kind(part) for part in series)
        alt_text = f"Images per second by batch size, for {kinds}. The dashed line is the limit set by the copy speed."
        yield "Speed", "over the batch", alt_text, lambda: _throughput(series)
    alt_text = f"All samples of {_count(group, 'variant')} by block, with the median and its 95 % interval, {at}."
    yield "Speed", "samples", alt_text, lambda: _single(group, figures.samples)
    if group["allocated_bytes"].notna().any():
        alt_text = (
            f"Allocated, peak and retained bytes and the time of a call, {at}. In brackets: number of allocations."
        )
        yield "Memory", "allocated", alt_text, lambda: _memory(group)
        alt_text = f"Time against allocated bytes, {at}. The line joins variants that no other beats in both."
        yield "Memory", "time and memory", alt_text, lambda: _pareto(group)
    through = figures.timelines(group)
    if len(through):
        rest = group["allocated_bytes"].eq(0).sum()
        alt_text = f"Live bytes during one call in multiples of the input, {at}. {rest} variants allocate nothing."
        yield "Memory", "through a call", alt_text, lambda: _timeline(through)
    if group["seconds_first"].notna().any():
        alt_text = f"First call, in which some variants trace and compile, and steady calls, {at}."
        yield "First call", "first and steady", alt_text, lambda: _single(group, figures.first_call)


def _relative(compared: pd.DataFrame, baseline: str) -> Figure:
    ratios, _ = figures.relative_times(compared, baseline)
    aslant = 0.71 * _inches(ratios.columns)
    left, right, top = _inches(ratios.index), max(0.1, aslant - 0.62), aslant + 0.15
    size = (left + 0.62 * len(ratios.columns) + right, top + 0.21 * min(ROWS, len(ratios)) + 0.1)
    figure, axis = plt.subplots(figsize=size)
    figures.relative(compared, axis, baseline=baseline)
    return _placed(figure, left, right, 0.1, top)


def _throughput(series: list[pd.DataFrame]) -> Figure:
    figure, axes = plt.subplots(1, len(series), figsize=(1.2 + 4.2 * len(series), 3.8), sharey=True, squeeze=False)
    # A variant has the same colour in all panels. Pick the usual baselines, and the fastest variants of any panel.
    places = [part.groupby("variant")["images_per_second"].max().rank(ascending=False) for part in series]
    order = list(pd.concat(places, axis=1).min(axis=1).sort_values(kind="stable").index)
    usual = [name for name in (PLAIN, KERAS) if name in order]
    picked = [*usual, *(name for name in order if name not in usual)][: figures.PICKED]
    for axis, part in zip(axes[0], series, strict=True):
        figures.throughput(part, axis, picked=picked)
        axis.set_title(_kind(part), loc="left")
    for axis in axes[0][1:]:
        axis.set_ylabel("")
    shown = {label: h for axis in axes[0] for h, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    figure.legend(shown.values(), shown.keys(), loc="upper right", frameon=False, fontsize=8)
    return _placed(figure, 0.95, 0.4 + _inches(shown), 0.5, 0.3, across=0.08)


def _history(group: pd.DataFrame) -> Figure:
    figure, axis = plt.subplots(figsize=(10, 4))
    figures.history(group, axis)
    names = [text.get_text() for text in figure.legend(loc="upper right", frameon=False, fontsize=8).get_texts()]
    return _placed(figure, 0.75, 0.4 + _inches(names), 0.85, 0.15)


def _versions(group: pd.DataFrame) -> Figure:
    rows = min(ROWS, group["variant"].nunique())
    places = group.groupby(["environment", "machine"], dropna=False).ngroups
    figure, axis = plt.subplots(figsize=(9, 1.4 + 0.15 * rows * max(2, places)))
    figures.versions(group, axis)
    axis.legend(loc="best", frameon=False, fontsize=8)
    return _placed(figure, _inches(group["variant"]), 0.2, 0.5, 0.1)


def _single(group: pd.DataFrame, draw: Callable[..., Any]) -> Figure:
    figure, axis = plt.subplots(figsize=(9, 1.1 + 0.24 * min(ROWS, len(group))))
    draw(group, axis)
    return _placed(figure, _inches(group["variant"]), 0.2, 0.5, 0.1)


def _memory(group: pd.DataFrame) -> Figure:
    rows = min(ROWS, len(group))
    figure, axes = plt.subplots(1, 2, figsize=(9, 1.1 + 0.27 * rows), sharey=True, width_ratios=(3, 2))
    figures.memory(group, axes)
    return _placed(figure, _inches(group["variant"]) + 0.3, 0.2, 0.5, 0.1, across=0.05)


def _pareto(group: pd.DataFrame) -> Figure:
    figure, axis = plt.subplots(figsize=(9, 4.5))
    figures.pareto(group, axis)
    return _placed(figure, 0.75, 0.15, 0.5, 0.1)


def _timeline(group: pd.DataFrame) -> Figure:
    figure, axes = plt.subplots(len(group), 1, figsize=(9, 0.3 + 0.8 * len(group)), squeeze=False)
    figures.timeline(group, list(axes[:, 0]))
    return _placed(figure, 0.5, 0.15, 0.05, 0.3, down=0.6)


def _inches(names: Iterable[str]) -> float:
    """Return the width of the longest label in the font of the figures, plus a margin."""
    return 0.2 + 0.074 * max((len(figures.label(str(name))) for name in names), default=0)


def _placed(
    figure: Figure, left: float, right: float, bottom: float, top: float, across: float = 0.2, down: float = 0.2
) -> Figure:
    """Set the margins of a figure in inches; a layout engine would take as long as drawing."""
    width, height = figure.get_size_inches()
    figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height, across, down)
    return figure


def _picture(
    section: str,
    recipe: str,
    title: str,
    alt_text: str,
    draw: Callable[[], Figure],
    folder: Path,
    name: str,
    png: bool,
) -> Picture:
    below = folder / "figures"
    below.mkdir(parents=True, exist_ok=True)
    vectors = io.StringIO()
    files = {"SVG": f"figures/{name}.svg"}
    with plt.rc_context(_STYLE):
        figure = draw()
        figure.savefig(vectors, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        if png:
            files["PNG"] = f"figures/{name}.png"
            _write_png(figure, folder / files["PNG"])
        plt.close(figure)
    svg = _compact(vectors.getvalue())
    ground = f'<rect width="100%" height="100%" fill="{_WHITE}"/>'
    (folder / files["SVG"]).write_text(svg.replace(">", f">{ground}", 1), encoding="utf-8")
    return Picture(section, recipe, title, alt_text, Markup(_inline(svg)), files)


def _write_png(figure: Figure, path: Path) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3])
    pixels.quantize(256, Image.Quantize.FASTOCTREE).save(path)


def _compact(svg: str) -> str:
    """Return an SVG file in half as many characters: without metadata, unused ids and invisible digits."""
    text = svg[svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(|href=\")#([\w-]+)", text))
    text = re.sub(r' id="([\w.-]+)"', lambda match: match[0] if match[1] in used else "", text)
    text = re.sub(r"\d+\.\d{3,}", lambda match: f"{float(match[0]):.2f}".rstrip("0").rstrip("."), text)
    return re.sub(r"\s*\n\s*", " ", re.sub(r">\s+<", "><", text))


def _inline(svg: str) -> str:
    """Return an SVG as an element that takes its text colour from the page."""
    return re.sub(r"<style.*?</style>", "", svg).replace(_INK, "currentColor")


def _first(frame: pd.DataFrame, by: str | list[str], most: int) -> pd.DataFrame:
    """Return the rows with the first `most` distinct values."""
    names = [by] if isinstance(by, str) else by
    kept = frame.drop_duplicates(names)[names].head(most)
    return frame.merge(kept, on=names)


def _kind(frame: pd.DataFrame) -> str:
    row = frame.iloc[0]
    layout = "" if row["layout"] == "channels_last" else f", {row['layout']}"
    return figures.label(f"{row['height']}×{row['width']} {row['dtype']}{layout}, {row['device']}", 80)


def _title(frame: pd.DataFrame) -> str:
    row = frame.iloc[0]
    batch = "one image" if pd.isna(row["batch"]) else f"batch {row['batch']}"
    return f"{batch}, {_kind(frame)}"


def _count(frame: pd.DataFrame, name: str) -> str:
    number = frame[name].nunique()
    return f"{numbers.count(int(number))} {name}{'' if number == 1 else 's'}"


def _slug(text: str) -> str:
    """Return text as part of a file name, of letters, digits and hyphens only."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:32] or "x"
