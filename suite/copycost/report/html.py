"""HTML pages of measurements and of claims."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from copycost import registry
from copycost.analysis.atlas import atlas
from copycost.analysis.break_even import pays
from copycost.analysis.history import places, steps
from copycost.analysis.overview import PLAIN, Overview, overview
from copycost.catalog import discovery
from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.report import comparison, device_clocks, figures
from copycost.report.downloads import downloads, profiles
from copycost.report.pictures import MOST_RECIPES, drawn_recipes, histories, pictures, typical, working
from copycost.report.rows import facets, rows
from copycost.results.contribution import Contribution
from copycost.results.store import Loaded
from copycost.results.table import joined, records

#: File names of the pages.
INDEX, FOLKLORE = "index.html", "folklore.html"

#: Maximum number of steps of a history that are shown.
_MOST_STEPS = 60


def write_html(
    folder: Path,
    runs: Sequence[Loaded],
    history: str | None = None,
    folklore: str | None = None,
    baseline: str = PLAIN,
    traces: Sequence[Path] = (),
    every_picture: bool = False,
) -> Path:
    """Write the self-contained page ``index.html`` and the files it offers for download, and return its path.

    Parameters
    ----------
    folder : Path
    runs : sequence of (name, environment, measurements)
        Each run has a part of the page. asv's results are a history: only the newest result of each machine and
        environment has a part.
    history : str, optional
        Address of asv's pages, relative to `folder`.
    folklore : str, optional
        Address of the page of claims.
    baseline : str, optional
        Baseline variant for relative times.
    traces : sequence of Path, optional
        Files of `copycost profile`, which the table links to.
    every_picture : bool, optional
        Whether to draw the figures of every recipe, and to write PNG files too. Otherwise only the first recipe of each
        run, which is the one that the page shows at first, has figures.
    """
    # Existing objects live until the page is written. Freezing them spares repeated garbage collection, which in the
    # worker processes that draw would also copy their memory.
    gc.freeze()
    try:
        frame = joined(runs)
        gc.freeze()
        content = _content(frame, runs, folder, baseline, traces, every_picture)
        return _write(
            folder / INDEX, "page.html", format=numbers, show=comparison, history=history, folklore=folklore, **content
        )
    finally:
        gc.unfreeze()


def _content(
    frame: pd.DataFrame,
    runs: Sequence[Loaded],
    folder: Path,
    baseline: str,
    traces: Sequence[Path],
    every_picture: bool,
) -> dict[str, Any]:
    """Write the files of a page, and return the template's variables for all runs."""
    shown = _shown(frame, runs)
    jobs = [pictures(rows_of_run, folder, f"{k}-", baseline, every_picture) for k, (_, rows_of_run) in enumerate(shown)]
    past = histories(frame, folder, every_picture)
    files = downloads(frame, folder)
    with working([*files.values(), *chain(*jobs), *past]) as results:
        parts = [_part(run, rows_of_run, f"{k}-", every_picture) for k, (run, rows_of_run) in enumerate(shown)]
        table = rows(frame, [m for run in runs for m in run[2]], profiles(traces, folder))
        changed = steps(runs)
        remaining = iter(results())
    addresses = {kind: next(remaining) for kind in files}
    for part, jobs_of_run in zip(parts, jobs, strict=True):
        of_run = list(islice(remaining, len(jobs_of_run)))
        part["pictures"] = {name: [picture for picture in of_run if picture.section == name] for name in _SECTIONS}
    return {
        "runs": parts,
        "past": list(remaining),
        "several_commits": frame["commit"].nunique() > 1,
        "steps": changed[:_MOST_STEPS],
        "more_steps": max(0, len(changed) - _MOST_STEPS),
        "cases": len(frame),
        "rows": table,
        "facets": facets(frame),
        "downloads": addresses,
    }


def _shown(frame: pd.DataFrame, runs: Sequence[Loaded]) -> list[tuple[Loaded, pd.DataFrame]]:
    """Return the runs that have a part of the page, and their rows of the table."""
    older = {id(run) for history in places(runs).values() for run in history[:-1]}
    shown = []
    start = 0
    for run in runs:
        end = start + len(run[2])
        if id(run) not in older:
            shown.append((run, frame.iloc[start:end]))
        start = end
    return shown


def write_folklore(folder: Path, document: Mapping[str, Any], index: str | None = None) -> Path:
    """Write the self-contained page ``folklore.html``, and return its path.

    Parameters
    ----------
    folder : Path
    document : mapping
        The document written by `copycost claims --json`.
    index : str, optional
        Address of the page of measurements.
    """
    claims = document["claims"]
    return _write(
        folder / FOLKLORE,
        "folklore.html",
        documents=[(name, list(group)) for name, group in groupby(claims, key=lambda claim: claim["document"])],
        counts=Counter(claim["verdict"] or "without a verdict" for claim in claims).most_common(),
        environment=document["environment"],
        index=index,
    )


def write_atlas(folder: Path, contributions: Sequence[Contribution], mine: Contribution | None = None) -> Path:
    """Write the self-contained page ``index.html`` of an atlas, and return its path.

    Parameters
    ----------
    folder : Path
    contributions : sequence of Contribution
        Those with the same name are numbered.
    mine : Contribution, optional
        The one that is shown in bold.
    """
    names = Counter(contribution.name for contribution in contributions)
    seen: Counter[str] = Counter()
    told_apart = []
    own = None
    for contribution in contributions:
        seen[contribution.name] += 1
        number = f" ({seen[contribution.name]})" if names[contribution.name] > 1 else ""
        told_apart.append(replace(contribution, name=contribution.name + number))
        own = told_apart[-1] if contribution is mine else own
    return _write(
        folder / INDEX,
        "atlas.html",
        chapters=atlas(told_apart),
        machines=told_apart,
        mine=own,
        number=_number,
        counted=_plural,
        format=numbers,
    )


def _plural(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _number(value: float | None) -> str:
    """Return a number with three digits: ``1.28``, ``128,000``."""
    if value is None:
        return "–"
    return numbers.three(value) if value < 1000 else f"{float(f'{value:.2e}'):,.0f}"


def fragment(summary: Overview) -> str:
    """Return an overview as an HTML fragment, for a notebook."""
    return _templates().get_template("fragment.html").render(overview=summary, format=numbers)


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("copycost.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shipped_variants"] = _shipped_variants
    return environment


def _shipped_variants(found: Overview) -> set[str]:
    """Return the variants in the recommendations that ship with copycost, whose names follow its conventions."""
    discovery.load_shipped()
    shipped = {variant.name for variant in registry.variants.values() if variant.source.is_shipped}
    ways = [way for answer in found.answers for way in (answer.fastest, answer.lean, answer.over) if way]
    names = {way.measurement.variant for way in ways} | {name for answer in found.answers for name in answer.ties}
    return shipped & (names | {saving.base.variant for way in ways for saving in way.savings})


def _write(path: Path, template: str, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_templates().get_template(template).render(**content), encoding="utf-8")
    return path


def _part(run: Loaded, frame: pd.DataFrame, prefix: str, every_picture: bool) -> dict[str, Any]:
    """Return the template's variables for one run."""
    name, environment, measurements = run
    skipped: dict[str | None, list[Measurement]] = {}
    on_device: dict[str, list[Measurement]] = {}
    for m in measurements:
        if m.status == "skipped":
            skipped.setdefault(m.reason, []).append(m)
        if m.launch_seconds is not None:
            on_device.setdefault(m.group_title(), []).append(m)
    timed = frame[frame["seconds"].notna()]
    recipes = timed["recipe"].unique().tolist()
    drawn = drawn_recipes(timed, every_picture)
    return {
        "id": prefix,
        "name": name,
        "counted": _counted(measurements),
        "overview": overview(measurements),
        "recipes": recipes[:MOST_RECIPES],
        "undrawn": recipes[len(drawn) :],
        "drawable": not every_picture and len(recipes) > len(drawn),
        "compiled": list(_compiled(timed, recipes[:MOST_RECIPES])),
        "on_device": list(on_device.items()),
        "device_clocks": device_clocks.note(measurements),
        "pays": records(pays(frame)) if "gpu" in set(frame["device"]) else [],
        "skipped": list(skipped.items()),
        "disturbed": comparison.disturbed(measurements),
        "environment": environment,
    }


def _compiled(timed: pd.DataFrame, recipes: Sequence[str]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield each recipe with compiled variants, and the rows of its table of break-evens."""
    for recipe in recipes:
        compiled = figures.pays_after(typical(timed[timed["recipe"] == recipe]))
        if len(compiled):
            yield recipe, records(compiled)


def _counted(measurements: Sequence[Measurement]) -> str:
    """Return the number of cases by status as text."""
    counts = Counter[str](m.status for m in measurements)
    right = f"{numbers.count(counts.pop('ok', 0))} right"
    by_status = ", ".join([right, *(f"{numbers.count(n)} {status}" for status, n in counts.most_common())])
    return f"{numbers.count(len(measurements))} {'case' if len(measurements) == 1 else 'cases'}: {by_status}"


_SECTIONS = ("Speed", "Memory", "First call")
