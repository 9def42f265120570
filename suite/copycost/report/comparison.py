"""Output of a comparison: text for a terminal, Markdown, and JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import chain
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from copycost.analysis.compare import Comparison, Row
from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.report.console import print_line
from copycost.results.store import KEY, key
from copycost.stats.ratios import BETWEEN_CASES, BETWEEN_RUNS, Ratio

SCHEMA = 1

_COLOURS = {"worse": "red", "slower": "red", "better": "green", "faster": "green", "unsure": "yellow", "changed": ""}

#: Maximum number of unchanged rows shown at a terminal; only the number of the rest is shown.
_MOST_SAME = 40


def terminal(console: Console, comparison: Comparison) -> None:
    """Print the exact figures that differ, the times, and the verdict."""
    for row in _notable(comparison):
        print_line(console, Text.assemble((f"{row.verdict:8}", _COLOURS[row.verdict]), f"{name(row)}: {change(row)}"))
    print_line(console, Text(_exact_summary(comparison), "dim"))
    timed = _timed(comparison)
    if timed:
        common, labels = _labels(timed)
        table = Table(title=Text(common, "bold"), title_justify="left", box=box.SIMPLE_HEAD)
        table.add_column("case", overflow="fold")
        wide = console.width >= 100
        columns = ["change", "95 %", "verdict", "MDE"] if console.width >= 76 else ["change", "verdict"]
        for title in (*(("base", "head") if wide else ()), *columns):
            table.add_column(title, justify="left" if title == "verdict" else "right", no_wrap=True)
        shown = [row for row in timed if row.verdict != "same"]
        same = [row for row in timed if row.verdict == "same"]
        for row in shown + same[: max(0, _MOST_SAME - len(shown))]:
            times = [numbers.seconds(row.base), numbers.seconds(row.head)] if wide else []
            cells = dict(zip(("change", "95 %", "verdict", "MDE"), _cells(row, comparison.tolerance), strict=True))
            shades = _COLOURS.get(row.verdict)
            table.add_row(Text(labels[id(row)]), *times, *(cells[title] for title in columns), style=shades)
        console.print(table)
        hidden = len(shown) + len(same) - table.row_count
        if hidden:
            console.print(Text(f"and {hidden} more cases that are the same", "dim"))
    for line in notes(comparison):
        print_line(console, Text(line, "dim"))
    colour = {"worse": "red", "unsure": "yellow"}.get(comparison.verdict, "green")
    print_line(console, Text(sentence(comparison), f"bold {colour}"))


def markdown(comparison: Comparison, title: str) -> str:
    """Return the comparison as Markdown, for a pull request or the summary of a CI job."""
    lines = [f"### {numbers.markdown(title)}", "", f"**{sentence(comparison)}**", ""]
    notable = _notable(comparison)
    if notable:
        lines += ["| case | figure | base | head | |", "| --- | --- | ---: | ---: | --- |"]
        for row in notable:
            base, head = (numbers.markdown(value(row.metric, side)) for side in (row.base, row.head))
            verdict = f"**{row.verdict}**" if row.is_worse else row.verdict
            reason = f": {numbers.markdown(row.reason)}" if row.reason else ""
            lines.append(f"| {numbers.markdown(name(row))} | {row.metric} | {base} | {head} | {verdict}{reason} |")
        lines.append("")
    timed = _timed(comparison)
    if timed:
        common, labels = _labels(timed)
        lines += [f"{numbers.markdown(common)}:", ""] if common else []
        changed = [row for row in timed if row.verdict != "same"]
        same = [row for row in timed if row.verdict == "same"]
        lines += _table(changed, labels, comparison.tolerance) if changed else []
        if same:
            lines += [f"<details><summary>{_number(len(same), 'case')} with the same time</summary>", ""]
            lines += [*_table(same, labels, comparison.tolerance), "</details>", ""]
    for note in (_exact_summary(comparison), *notes(comparison)):
        lines += [note, ""]
    return numbers.fitted("\n".join(lines) + "\n")


def _table(rows: list[Row], labels: dict[int, str], tolerance: float) -> list[str]:
    lines = ["| case | base | head | change | 95 % | | MDE |", "| --- | ---: | ---: | ---: | ---: | --- | ---: |"]
    for row in rows:
        ratio, interval, verdict, sees = _cells(row, tolerance)
        times = f"{numbers.seconds(row.base)} | {numbers.seconds(row.head)}"
        verdict = f"**{verdict}**" if row.is_worse else verdict
        lines.append(f"| {numbers.markdown(labels[id(row)])} | {times} | {ratio} | {interval} | {verdict} | {sees} |")
    return [*lines, ""]


def document(comparison: Comparison, **more: Any) -> dict[str, Any]:
    """Return the comparison as one JSON object."""
    return {
        "schema": SCHEMA,
        "verdict": comparison.verdict,
        **more,
        "time_refused": comparison.refused,
        "paired": comparison.paired,
        "false_alarms": comparison.false_alarms,
        "tolerance": comparison.tolerance,
        "only_base": [_key(m) for m in comparison.only_base],
        "only_head": [_key(m) for m in comparison.only_head],
        "rows": [
            _key(row.case)
            | {
                "environment": row.label or None,
                "metric": row.metric,
                "base": row.base,
                "head": row.head,
                "verdict": row.verdict,
                "reason": row.reason,
                "ratio": vars(row.ratio) if row.ratio else None,
            }
            for row in comparison.rows
        ],
    }


def sentence(comparison: Comparison) -> str:
    """Return the verdict in one line."""
    timed = Counter[str](row.verdict for row in _timed(comparison))
    exact = Counter[str](row.verdict for row in comparison.rows if row.metric != "seconds")
    parts = []
    if exact["worse"]:
        parts.append(f"{_number(exact['worse'], 'exact figure')} worse")
    if exact["better"]:
        parts.append(f"{_number(exact['better'], 'exact figure')} better")
    if timed:
        cases = _number(sum(timed.values()), "case")
        counts = [f"{timed[word]} {word}" for word in ("slower", "faster", "unsure") if timed[word]]
        if timed["same"]:
            counts.append(f"{timed['same']} the same within {numbers.percent(comparison.tolerance)}")
        parts.append(f"time of {cases}: {', '.join(counts)}")
    else:
        parts.append("time not compared" if comparison.measured else "no case was measured on both sides")
    return f"{comparison.verdict}: {'; '.join(parts)}"


def notes(comparison: Comparison) -> list[str]:
    """Return the notes that a reader needs to interpret the comparison."""
    texts = []
    if comparison.refused:
        texts.append(f"Times are not compared: {comparison.refused}.")
    timed = [max(row.ratio.least, comparison.tolerance) for row in _timed(comparison) if row.ratio]
    if timed:
        least, most = map(_least, (min(timed), max(timed)))
        how = "measured in interleaved samples" if comparison.paired else "measured at different times"
        texts.append(
            f"The sides were {how}. At most one of {round(1 / comparison.false_alarms)} such comparisons reports an "
            "unchanged case as slower or faster. MDE: minimum detectable effect, the smallest slowdown found with a "
            f"probability of 80 %, here {least if least == most else f'{least} to {most}'}. Changes below the "
            "tolerance count as the same."
        )
        if not comparison.paired and len(timed) < BETWEEN_CASES:
            texts.append(
                f"Fewer than {BETWEEN_CASES} cases cannot show how much the machine's speed changed between the "
                f"sides: a standard deviation of {numbers.percent(BETWEEN_RUNS)} is assumed. A machine that was "
                "busy during one side changes by more. Use copycost gate to measure the sides interleaved."
            )
    skipped = Counter(row.reason for row in comparison.rows if _is_skipped(row))
    texts += [f"{_number(n, 'case')} skipped on both sides: {reason}." for reason, n in skipped.most_common()]
    for side, measurements in (("base", comparison.only_base), ("head", comparison.only_head)):
        if measurements:
            names = list(dict.fromkeys(m.variant for m in measurements))
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            texts.append(f"Only in {side}: {_number(len(measurements), 'case')} of {', '.join(names[:5])}{more}.")
    return texts


def disturbed(measurements: Iterable[Measurement]) -> str | None:
    """Return a sentence on how many samples were disturbed and by what, or None if no disturbance was observed."""
    blocks = chain.from_iterable(m.marks or () for m in measurements)
    marks = Counter[str](chain.from_iterable(blocks))
    total = sum(marks.values())
    words = {
        "waited": "waited for a CPU used by something else",
        "stolen": "lost the CPU to another virtual machine on the host",
        "throttled": "ran on a CPU or GPU throttled for its temperature or power",
        "moved": "moved to another CPU",
    }
    effects = [f"{marks[mark]:,} {does}" for mark, does in words.items() if marks[mark]]
    return f"Of {total:,} samples {', '.join(effects)}." if effects else None


def name(row: Row) -> str:
    """Return a short name of a row's case."""
    return " ".join(filter(None, _parts(row)))


def _labels(rows: list[Row]) -> tuple[str, dict[int, str]]:
    """Return the part of the names that all cases share, and the distinguishing rest by the id of each row."""
    parts = {id(row): _parts(row) for row in rows}
    first = next(iter(parts.values()))
    if len({words[:2] for words in parts.values()}) == len({words[_VARIANT] for words in parts.values()}) > 1:
        # If the variant alone identifies the recipe, omit the recipe.
        parts = {row: ("", *words[1:]) for row, words in parts.items()}
        first = ("", *first[1:])
    common = [
        i for i, part in enumerate(first) if i != _VARIANT and all(words[i] == part for words in parts.values())
    ]  # fmt: skip
    labels = {
        row: " ".join(part for i, part in enumerate(words) if part and i not in common) for row, words in parts.items()
    }
    return " ".join(first[i] for i in common if first[i]), labels


#: Position of the variant among the parts of a case's name.
_VARIANT = 1


def _parts(row: Row) -> tuple[str, ...]:
    m = row.case
    size = "×".join(str(n) for n in (m.height, m.width, m.channels))
    return (
        m.recipe,
        m.variant,
        "one image" if m.batch is None else f"batch {m.batch}",
        size,
        m.dtype,
        "" if m.layout == "channels_last" else m.layout,
        m.device,
        f"[{row.label}]" if row.label else "",
    )


def change(row: Row) -> str:
    """Return the change of a figure from base to head as text."""
    if row.metric == "status" and row.base == row.head:
        return f"{row.base} on both sides: {row.reason}"
    text = f"{row.metric} {value(row.metric, row.base)} → {value(row.metric, row.head)}"
    return text + (f" ({row.reason})" if row.reason else "")


def value(metric: str, figure: Any) -> str:
    """Return a figure with its unit."""
    if isinstance(figure, bool):
        return "yes" if figure else "no"
    if figure is None:
        return "–"
    if metric.endswith("_bytes"):
        # Add the exact number, so that values that differ also look different.
        return f"{numbers.size(figure)} ({figure:,} B)" if figure >= 1024 else numbers.size(figure)
    return f"{figure:.3g}" if isinstance(figure, float) else str(figure)


def _timed(comparison: Comparison) -> list[Row]:
    """Return the rows of times, worst first."""
    order = ("slower", "unsure", "faster", "same")
    rows = [row for row in comparison.rows if row.metric == "seconds"]
    return sorted(rows, key=lambda row: (order.index(row.verdict), -row.ratio.value if row.ratio else 0.0))


def _notable(comparison: Comparison) -> list[Row]:
    """Return the exact figures that differ, worst first, except for errors that changed within their tolerance."""
    order = ("worse", "unsure", "changed", "better")
    rows = [
        row
        for row in comparison.rows
        if row.metric != "seconds" and row.verdict != "same" and row.metric != "max_abs_error"
    ]
    return sorted(rows, key=lambda row: order.index(row.verdict))


def _exact_summary(comparison: Comparison) -> str:
    rows = [row for row in comparison.rows if row.metric != "seconds" and not _is_skipped(row)]
    same = sum(row.verdict == "same" for row in rows)
    cases = len({(row.label, *key(row.case)) for row in rows})
    errors = sum(row.metric == "max_abs_error" and row.verdict == "changed" for row in rows)
    rounding = f"; {errors} largest errors differ, all within the allowed rounding error" if errors else ""
    return f"Exact figures of {_number(cases, 'case')}: {same} of {len(rows)} the same{rounding}."


def _is_skipped(row: Row) -> bool:
    """Return whether a row says that neither side measured its case, because both skipped it."""
    return row.metric == "status" and row.base == row.head == "skipped"


def _cells(row: Row, tolerance: float) -> tuple[str, str, str, str]:
    if row.ratio is None:
        return "–", "–", f"{row.verdict}: {row.reason}", "–"
    r: Ratio = row.ratio
    interval = f"{signed(r.low)} to {signed(r.high)}"
    return f"{signed(r.value)} %", interval, row.verdict, _least(max(r.least, tolerance))


def _least(change: float) -> str:
    """Return the minimum detectable effect, a fraction, as text."""
    return f"{float(f'{100 * change:.2g}'):g} %" if change < 10 else "> 1000 %"


def signed(ratio: float) -> str:
    """Return a ratio as a change in percent, without the unit."""
    percent = 100 * (ratio - 1)
    if percent >= 1000:
        return "> +1000"
    digits = 0 if abs(percent) >= 100 else 1
    text = f"{percent:+.{digits}f}".replace("-", "−")
    return text if text.strip("+−0.") else "0.0"


def _number(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")


def _key(m: Measurement) -> dict[str, Any]:
    return {field: getattr(m, field) for field in KEY}
