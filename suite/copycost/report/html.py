"""HTML pages of measurements and of claims."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined

from copycost import registry
from copycost.analysis.break_even import pays
from copycost.analysis.history import places, steps
from copycost.analysis.overview import PLAIN, Overview, overview
from copycost.catalog import discovery
from copycost.catalog.loading import is_builtin
from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.report import comparison, figures
from copycost.report.downloads import downloads, profiles
from copycost.report.pictures import MOST_RECIPES, drawing, histories, pictures, typical
from copycost.report.rows import facets, rows
from copycost.results.table import joined, records

#: File names of the pages.
INDEX, FOLKLORE = "index.html", "folklore.html"

#: Maximum number of steps of a history that are shown.
_MOST_STEPS = 60


def write_html(
    folder: Path,
    runs: Sequence[tuple[str, dict[str, Any], Sequence[Measurement]]],
    history: str | None = None,
    folklore: str | None = None,
    baseline: str = PLAIN,
    traces: Sequence[Path] = (),
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
    """
    # Existing objects live until the page is written. Freezing them spares repeated garbage collection, which in the
    # worker processes that draw would also copy their memory.
    gc.freeze()
    try:
        return _page(folder, runs, history, folklore, baseline, traces)
    finally:
        gc.unfreeze()


def _page(
    folder: Path,
    runs: Sequence[tuple[str, dict[str, Any], Sequence[Measurement]]],
    history: str | None,
    folklore: str | None,
    baseline: str,
    traces: Sequence[Path],
) -> Path:
    frame = joined(runs)
    gc.freeze()
    older = {id(run) for its in places(runs).values() for run in its[:-1]}
    shown: list[tuple[str, Mapping[str, Any], Sequence[Measurement], pd.DataFrame]] = []
    start = 0
    for run in runs:
        its = frame.iloc[start : start + len(run[2])]
        start += len(run[2])
        if id(run) not in older:
            shown.append((*run, its))
    jobs = [pictures(its, folder, f"{k}-", baseline) for k, (*_, its) in enumerate(shown)]
    past = histories(frame, folder)
    with drawing([*chain(*jobs), *past]) as drawn:
        parts = [_part(*one, f"{k}-") for k, one in enumerate(shown)]
        table = rows(frame, [m for run in runs for m in run[2]], profiles(traces, folder))
        files = downloads(frame, folder)
        changed = steps(runs)
        found = iter(drawn())
    for part, drawn_for_it in zip(parts, jobs, strict=True):
        ready = list(islice(found, len(drawn_for_it)))
        part["pictures"] = {section: [one for one in ready if one.section == section] for section in _SECTIONS}
    return _write(
        folder / INDEX,
        "page.html",
        runs=parts,
        format=numbers,
        show=comparison,
        history=history,
        folklore=folklore,
        past=list(found),
        several_commits=frame["commit"].nunique() > 1,
        steps=changed[:_MOST_STEPS],
        more_steps=max(0, len(changed) - _MOST_STEPS),
        cases=len(frame),
        rows=table,
        facets=facets(frame),
        downloads=files,
    )


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
        documents=[(name, list(its)) for name, its in groupby(claims, key=lambda one: one["document"])],
        counts=Counter(one["verdict"] or "without a verdict" for one in claims).most_common(),
        environment=document["environment"],
        index=index,
    )


def fragment(found: Overview) -> str:
    """Return an overview as an HTML fragment, for a notebook."""
    return _templates().get_template("fragment.html").render(overview=found, format=numbers)


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("copycost.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["shipped_variants"] = _shipped_variants
    return environment


def _shipped_variants(found: Overview) -> set[str]:
    """Return the variants in the recommendations that ship with copycost, whose names follow its conventions."""
    discovery.load_shipped()
    shipped = {variant.name for variant in registry.variants.values() if is_builtin(variant.source)}
    ways = [way for answer in found.answers for way in (answer.fastest, answer.lean, answer.over) if way]
    names = {way.measurement.variant for way in ways} | {name for answer in found.answers for name in answer.ties}
    return shipped & (names | {saving.base.variant for way in ways for saving in way.savings})


def _write(path: Path, template: str, **content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_templates().get_template(template).render(**content), encoding="utf-8")
    return path


def _part(
    name: str,
    environment: Mapping[str, Any],
    measurements: Sequence[Measurement],
    frame: pd.DataFrame,
    prefix: str,
) -> dict[str, Any]:
    """Return the template's variables for one run."""
    skipped: dict[str | None, list[Measurement]] = {}
    for m in measurements:
        if m.status == "skipped":
            skipped.setdefault(m.reason, []).append(m)
    on_device: dict[str, list[Measurement]] = {}
    for m in measurements:
        if m.launch_seconds is not None:
            on_device.setdefault(m.group_title(), []).append(m)
    timed = frame[frame["seconds"].notna()]
    recipes = list(dict.fromkeys(timed["recipe"]))
    return {
        "id": prefix,
        "name": name,
        "counted": _counted(measurements),
        "overview": overview(measurements),
        "recipes": recipes[:MOST_RECIPES],
        "undrawn": recipes[MOST_RECIPES:],
        "compiled": [
            (recipe, records(found))
            for recipe in recipes[:MOST_RECIPES]
            if len(found := figures.pays_after(typical(timed[timed["recipe"] == recipe])))
        ],
        "on_device": list(on_device.items()),
        "pays": records(pays(frame)),
        "skipped": list(skipped.items()),
        "disturbed": comparison.disturbed(measurements),
        "environment": environment,
    }


def _counted(measurements: Sequence[Measurement]) -> str:
    """Return the number of cases by status as text."""
    counts = Counter[str](m.status for m in measurements)
    right = f"{numbers.count(counts.pop('ok', 0))} right"
    told = ", ".join([right, *(f"{numbers.count(n)} {status}" for status, n in counts.most_common())])
    return f"{numbers.count(len(measurements))} {'case' if len(measurements) == 1 else 'cases'}: {told}"


_SECTIONS = ("Speed", "Memory", "First call")
