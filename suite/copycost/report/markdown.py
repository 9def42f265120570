"""Output of an overview as Markdown, for a pull request, an issue or the summary of a CI job."""

from __future__ import annotations

from copycost.analysis.overview import INTERVALS, Answer, Overview
from copycost.model import numbers


def markdown(overview: Overview, title: str = "copycost") -> str:
    """Return the recommendations for each kind of batch and, folded, the warnings as Markdown."""
    lines = [f"### {numbers.markdown(title)}", ""]
    if overview.answers:
        usual = overview.usual
        lines += [*_HEADING, *map(_row, usual)]
        rest = [answer for answer in overview.answers if answer not in usual]
        if rest:
            lines += ["", f"<details><summary>All other kinds of batch: {len(rest)}</summary>", ""]
            lines += [*_HEADING, *map(_row, rest), "", "</details>"]
        if overview.left:
            lines += ["", f"and {overview.left} more"]
        lines += ["", INTERVALS]
    else:
        lines.append("Nothing was timed.")
    if overview.cautions:
        lines += ["", f"<details><summary>Warnings: {len(overview.cautions)}</summary>", ""]
        lines += [f"* {numbers.markdown(str(caution))}" for caution in overview.cautions]
        lines += ["", "</details>"]
    return numbers.fitted("\n".join(lines) + "\n")


_HEADING = ["| | fastest correct variant | time | speedup | allocates |", "| --- | --- | ---: | --- | ---: |"]


def _row(answer: Answer) -> str:
    m = answer.fastest.measurement
    saved = "; ".join(
        f"{saving.speed} {numbers.markdown(saving.base.variant)} {saving.beside}" for saving in answer.fastest.savings
    )
    names = (numbers.markdown(answer.title), numbers.markdown(m.variant))
    cells = (*names, answer.fastest.time, saved, numbers.size(m.allocated_bytes))
    return f"| {' | '.join(cells)} |"
