"""The page: what was measured in one table, one figure, and what it was measured in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from suite import format
from suite.measurement import Measurement
from suite.report import figure
from suite.results import frame


def write_html(
    folder: Path, runs: Sequence[tuple[str, dict[str, Any], Sequence[Measurement]]], history: str | None = None
) -> Path:
    """Write ``index.html``, which needs no other file, and give its path.

    Parameters
    ----------
    folder : Path
    runs : sequence of (name, environment, measurements)
        Each has a part of the page, with its own figure and table.
    history : str, optional
        Where, from `folder`, asv's pages are.
    """
    jinja = Environment(
        loader=PackageLoader("suite.report", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = jinja.get_template("page.html").render(runs=[_part(*run) for run in runs], format=format, history=history)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
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
    return {
        "name": name,
        "cases": len(measurements),
        "ok": sum(m.status == "ok" for m in measurements),
        "figure": Markup(figure.draw(frame(measurements))) if timed else None,
        "groups": groups.items(),
        "skipped": skipped.items(),
        "environment": environment,
    }
