"""The page: what was measured in one table, one figure, and what it was measured in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from suite import format
from suite.measurement import Measurement
from suite.report import figure
from suite.report.pays import pays
from suite.results import frame

#: The names of the pages.
INDEX, FOLKLORE = "index.html", "folklore.html"


def write_html(
    folder: Path,
    runs: Sequence[tuple[str, dict[str, Any], Sequence[Measurement]]],
    history: str | None = None,
    folklore: str | None = None,
) -> Path:
    """Write ``index.html``, which needs no other file, and give its path.

    Parameters
    ----------
    folder : Path
    runs : sequence of (name, environment, measurements)
        Each has a part of the page, with its own figure and table.
    history : str, optional
        Where, from `folder`, asv's pages are.
    folklore : str, optional
        Where the page of claims is.
    """
    parts = [_part(*run) for run in runs]
    return _write(folder / INDEX, "page.html", runs=parts, format=format, history=history, folklore=folklore)


def write_folklore(folder: Path, document: Mapping[str, Any], index: str | None = None) -> Path:
    """Write ``folklore.html``, which needs no other file, and give its path.

    Parameters
    ----------
    folder : Path
    document : mapping
        Of `copycost claims --json`.
    index : str, optional
        Where the page of measurements is.
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


def _write(path: Path, template: str, **content: Any) -> Path:
    jinja = Environment(
        loader=PackageLoader("suite.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(jinja.get_template(template).render(**content), encoding="utf-8")
    return path


def _part(name: str, environment: dict[str, Any], measurements: Sequence[Measurement]) -> dict[str, Any]:
    """What the template says of one run."""
    groups: dict[str, list[Measurement]] = {}
    skipped: dict[str | None, list[Measurement]] = {}
    for m in measurements:
        if m.status == "skipped":
            skipped.setdefault(m.reason, []).append(m)
        else:
            groups.setdefault(format.group_title(m), []).append(m)
    for rows in groups.values():
        rows.sort(key=lambda m: (m.seconds is None, m.seconds or 0))
    timed = any(m.seconds is not None for m in measurements)
    table = frame(measurements)
    return {
        "name": name,
        "cases": len(measurements),
        "ok": sum(m.status == "ok" for m in measurements),
        "figure": Markup(figure.draw(table)) if timed else None,
        "groups": groups.items(),
        "on_device": [(title, rows) for title, rows in groups.items() if rows[0].launch_seconds is not None],
        "pays": pays(table).astype(object).where(lambda its: its.notna(), None).to_dict("records"),
        "skipped": skipped.items(),
        "environment": environment,
    }
