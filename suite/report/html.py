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


def write_html(folder: Path, environments: Sequence[dict[str, Any]], measurements: Sequence[Measurement]) -> Path:
    """Write ``index.html``, which needs no other file, and give its path."""
    jinja = Environment(
        loader=PackageLoader("suite.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    groups: dict[str, list[Measurement]] = {}
    skipped: dict[str | None, list[Measurement]] = {}
    for m in measurements:
        if m.status == "skipped":
            skipped.setdefault(m.reason, []).append(m)
        else:
            groups.setdefault(format.group_title(m), []).append(m)
    for rows in groups.values():
        rows.sort(key=lambda m: (m.seconds is None, m.seconds or 0))
    page = jinja.get_template("page.html").render(
        groups=groups.items(),
        skipped=skipped.items(),
        measurements=measurements,
        environments=environments,
        figure=Markup(figure.draw(frame(measurements))) if measurements else "",
        format=format,
    )
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "index.html"
    path.write_text(page, encoding="utf-8")
    return path
