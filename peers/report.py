"""What the trials came to: a table in Markdown, and a chart of power and false alarms by tool.

``python -m peers.report`` reads ``peers/results/`` and writes ``trials.md`` and ``trials.svg`` in ``docs/results/``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import mean, median
from typing import Any

import matplotlib
from asv import _stats as asv_statistics
from matplotlib import pyplot
from pyperf._utils import is_significant

from copycost.analysis.compare import FALSE_ALARMS, TOLERANCE
from copycost.stats import ratios, student_t
from copycost.stats.ratios import Difference
from peers.trials import CHANGES, RESULTS, TOOLS, plan

DOCS = Path(__file__).parent.parent / "docs" / "results"
TIMED = ("+2%", "+5%", "+10%")
EXACT = ("copy", "mutation", "value")

Row = Mapping[str, Any]
Side = Mapping[str, Any]


def load() -> dict[str, list[Row]]:
    """Every trial, by tool."""
    return {
        tool: [json.loads(line) for line in path.read_text().splitlines()]
        for tool in TOOLS
        if (path := RESULTS / f"{tool}.jsonl").exists()
    }


def binomial(k: int, n: int) -> tuple[float, float]:
    """Return the exact 95 % interval of a share, k of n (Clopper and Pearson)."""

    def at_most(p: float, most: int) -> float:
        return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(most + 1))

    def solve(condition: Callable[[float], bool]) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if condition(middle) else (low, middle)
        return (low + high) / 2

    lower = 0.0 if k == 0 else solve(lambda p: 1 - at_most(p, k - 1) < 0.025)
    upper = 1.0 if k == n else solve(lambda p: at_most(p, k) > 0.025)
    return lower, upper


def share(k: int, n: int) -> str:
    """Return a share with its interval: ``3 of 40 (2–20 %)``."""
    if not n:
        return "–"
    low, high = binomial(k, n)
    return f"{k} of {n} ({100 * low:.0f}–{100 * high:.0f} %)"


def of_changed(row: Row) -> list[str]:
    """Return the cases that the trial's change affects."""
    return [name for name in row["cases"] if name.rpartition("-")[0] == row["function"]]


def found(row: Row) -> bool:
    """Whether the tool called a case worse that is."""
    return any(name.rpartition("-")[0] == row["function"] for name in row["worse"])


def wrong(row: Row) -> bool:
    """Whether the tool called a case worse that is not."""
    return any(name.rpartition("-")[0] != row["function"] for name in row["worse"])


def difference(case: Side) -> Difference | None:
    """Of copycost's blocks."""
    blocks = case["differences"]
    if len(blocks) < 2:
        return None
    return ratios.paired([[1.0]] * len(blocks), [[math.exp(logarithm)] for logarithm in blocks])


# Scores by which a tool's threshold can be moved: a case is called slower where its score is above the threshold.


def _copycost(case: Side) -> float:
    """How small the share of false alarms may be at which it is still called slower, as its negative logarithm."""
    change = difference(case)
    if change is None or change.value <= 0:
        return 0.0
    above = student_t.tail(change.value / change.error, change.df) if change.error else 0.0
    return -math.log10(max(2 * above, 1e-300))


def _asv(case: Side) -> float:
    """Return the factor if asv's own test says that the samples differ."""
    sides = [case[side] for side in ("base", "head")]
    stats = [{"ci_99_a": side["ci"][0], "ci_99_b": side["ci"][1]} for side in sides]
    differ = asv_statistics.is_different(sides[0]["samples"], sides[1]["samples"], *stats)
    return sides[1]["value"] / sides[0]["value"] if differ else 0.0


def _pytest(figure: str) -> Callable[[Side], float]:
    return lambda case: case["head"][figure] / case["base"][figure]


def _pyperf(case: Side) -> float:
    """Return the ratio of means if pyperf's own test says that they differ."""
    base, head = case["base"], case["head"]
    return mean(head) / mean(base) if is_significant(base, head)[0] else 0.0


CURVES: dict[str, tuple[str, Callable[[Side], float]]] = {
    "copycost gate": ("copycost", _copycost),
    "asv continuous": ("asv", _asv),
    "asv continuous --interleave-rounds": ("asv-interleaved", _asv),
    "pytest-benchmark, mean": ("pytest-benchmark", _pytest("mean")),
    "pytest-benchmark, median": ("pytest-benchmark", _pytest("median")),
    "pytest-benchmark, min": ("pytest-benchmark", _pytest("min")),
    "pyperf compare_to": ("pyperf", _pyperf),
}


def curve(rows: Sequence[Row], score: Callable[[Side], float], change: str) -> list[tuple[float, float]]:
    """Return false alarms and detections, as shares of comparisons, at every threshold that makes a difference."""
    alarms = [max(map(score, row["cases"].values())) for row in rows if row["change"] == "none"]
    hits = [
        max((score(row["cases"][name]) for name in of_changed(row)), default=0.0)
        for row in rows
        if row["change"] == change
    ]
    if not alarms or not hits:
        return []
    thresholds = sorted({0.0, *alarms, *hits, math.inf})
    return [
        (sum(a > t for a in alarms) / len(alarms), sum(h > t for h in hits) / len(hits)) for t in thresholds
    ]  # fmt: skip


def draw(trials: Mapping[str, list[Row]], path: Path) -> None:
    """Draw one panel for each change of time, one line for each tool, a dot at the tool's own threshold."""
    matplotlib.use("Agg")
    figure, panels = pyplot.subplots(1, 3, figsize=(11, 4.2), sharey=True, layout="constrained")
    colours = {name: f"C{number}" for number, name in enumerate(CURVES)}
    for panel, change in zip(panels, TIMED, strict=True):
        for name, (tool, score) in CURVES.items():
            points = curve(trials.get(tool, ()), score, change)
            if points:
                panel.step(
                    *zip(*points, strict=True), where="post", color=colours[name], label=name,
                    linewidth=2.5 if tool == "copycost" else 1.3, zorder=3 if tool == "copycost" else 2,
                )  # fmt: skip
                rows = trials[tool]
                none, changed_rows = ([row for row in rows if row["change"] == kind] for kind in ("none", change))
                at = (mean(bool(row["worse"]) for row in none), mean(map(found, changed_rows)))
                if name in ("copycost gate", "pyperf compare_to", "pytest-benchmark, mean") or tool.startswith("asv"):
                    panel.plot(*at, "o", color=colours[name], zorder=4, clip_on=False)
        panel.set_title(f"{change.replace('%', ' %')} time in one of four functions")
        panel.set_xlabel("A/A comparisons with a false alarm")
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1.02)
        panel.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
        panel.yaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1))
        panel.grid(alpha=0.25)
    panels[0].set_ylabel("comparisons in which it is found")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def coverage(rows: Iterable[Row]) -> tuple[int, int]:
    """Of the 95 % intervals of cases in which nothing changed, how many hold 1, and how many there are."""
    holding = total = 0
    for row in rows:
        for name, case in row["cases"].items():
            change = difference(case) if name not in of_changed(row) else None
            if change is not None:
                interval = change.ratio(0.05)
                holding += interval.low <= 1 <= interval.high
                total += 1
    return holding, total


def across(rows: Sequence[Row]) -> tuple[int, int, list[float]]:
    """Compare base of each A/A trial with head of the next; return false alarms, comparisons and differences."""
    unchanged = [row for row in rows if row["change"] == "none"]
    alarms, values = 0, []
    for trial, next_trial in pairwise(unchanged):
        names = [name for name in trial["cases"] if name in next_trial["cases"]]
        sides = [
            ([[s] for s in trial["cases"][name]["base"]], [[s] for s in next_trial["cases"][name]["head"]])
            for name in names
        ]
        differences = [d for d in ratios.unpaired(sides) if d is not None]
        verdicts = {d.ratio(FALSE_ALARMS / len(differences)).verdict(TOLERANCE) for d in differences}
        alarms += bool(verdicts & {"slower", "faster"})
        values += [d.value for d in differences]
    return alarms, max(0, len(unchanged) - 1), values


def by_spread(rows: Iterable[Row], change: str, most: float) -> tuple[dict[str, int], dict[str, int]]:
    """Verdicts on changed cases, of those whose blocks spread no more than `most`, and of the others."""
    tight: dict[str, int] = {}
    loose: dict[str, int] = {}
    for row in rows:
        if row["change"] != change:
            continue
        for name in of_changed(row):
            case = row["cases"][name]
            effect = difference(case)
            into = tight if effect is not None and effect.spread <= most else loose
            into[case["verdict"]] = into.get(case["verdict"], 0) + 1
    return tight, loose


def table(trials: Mapping[str, list[Row]]) -> list[str]:
    """One row a tool: false alarms, and each change's detections, with exact binomial intervals."""
    lines = [
        "| tool | seconds | A/A with a false alarm | " + " | ".join(CHANGES[1:]) + " |",
        "| --- | ---: | " + " | ".join(["---:"] * len(CHANGES)) + " |",
    ]
    for tool, rows in trials.items():
        none = [row for row in rows if row["change"] == "none"]
        cells = [share(sum(bool(row["worse"]) for row in none), len(none))]
        for change in CHANGES[1:]:
            trials_of_change = [row for row in rows if row["change"] == change]
            cells.append(share(sum(map(found, trials_of_change)), len(trials_of_change)))
        seconds = median(row["seconds"] for row in rows if row["change"] not in EXACT)
        lines.append(f"| {tool} | {seconds:.0f} | " + " | ".join(cells) + " |")
    return lines


def words(verdicts: Mapping[str, int]) -> str:
    """Numbers of verdicts: ``56 slower, 4 unsure``."""
    return ", ".join(f"{n} {word}" for word, n in sorted(verdicts.items(), key=lambda item: -item[1])) or "none"


def errors(document: Mapping[str, Any]) -> list[str]:
    """How far the tools' medians were from the truth, and how long each took (`peers.error`)."""
    asv, *copycost_runs = document["tools"].values()
    blocks = {case["blocks"] for case in document["reference"].values()}
    near = min((tool for tool in copycost_runs if tool["error_against_its_own"] <= asv["error_against_its_own"]),
               key=lambda tool: tool["seconds"], default=None)  # fmt: skip
    lines = [
        "", "## Time to a given error", "",
        f"Each tool measured twelve cases of recipe tf (NumPy's `out=`, TensorFlow eager, graph and XLA; batches 1, 8, "
        f"32) {len(asv['runs'])} times, interleaved with the others (`python -m peers.error`). The reference is the "
        f"median of {min(blocks)} copycost blocks, spread over the same time. The error is the root mean square, over "
        "cases and runs, of the logarithm of a run's median divided by the reference. In asv's processes TensorFlow's "
        "small cases take up to twice as long, so each tool is also compared with the median of its own runs.", "",
        "| | seconds | error against the reference | against its own median |", "| --- | ---: | ---: | ---: |",
    ]  # fmt: skip
    for name, tool in document["tools"].items():
        took = [run["seconds"] for run in tool["runs"]]
        lines.append(
            f"| `{name}` | {tool['seconds']:.1f} ({min(took):.1f}–{max(took):.1f}) | {100 * tool['error']:.1f} % | "
            f"{100 * tool['error_against_its_own']:.1f} % |"
        )
    lines.append("")
    if near is not None:
        lines.append(
            f"At an error no larger than that of asv, copycost takes 1/{asv['seconds'] / near['seconds']:.1f} of the "
            "time, including its checks of correctness and allocations. The goal was 1/20: "
            f"{asv['seconds'] / 20:.1f} s, about the time that importing TensorFlow takes once."
        )
    return lines


def by_case(trials: Mapping[str, list[Row]]) -> list[str]:
    """How often copycost's intervals hold the truth, and which changes it detects, case by case."""
    quiet = trials.get("copycost", [])
    beside = trials.get("copycost-beside-a-neighbour", [])
    long = trials.get("copycost-120s", [])
    lines = []
    for title, rows in (("quiet, 30 s", quiet), ("beside a busy neighbour, 30 s", beside), ("120 s", long)):
        held, total = coverage(rows)
        if total:
            none = sum(wrong(row) for row in rows)
            lines.append(
                f"* {title}: the 95 % interval contained the true ratio of 1 in {share(held, total)} of cases without "
                f"a change, in {len(rows)} pairs of runs. Comparisons that called such a case slower: "
                f"{share(none, len(rows))}."
            )
    for change in ("+10%", "+5%"):
        tight, loose = by_spread(long, change, 0.03)
        lines.append(
            f"* {change.replace('%', ' %')} in 120 s, by case: {words(tight)} for cases whose blocks spread 3 % or "
            f"less; {words(loose)} for the others."
        )
    for change in ("+10%", "+5%", "+2%"):
        tight, loose = by_spread(quiet, change, 0.03)
        lines.append(
            f"* {change.replace('%', ' %')} in 30 s, by case: {words(tight)} for cases whose blocks spread 3 % or "
            f"less; {words(loose)} for the others."
        )
    exact = [row for row in quiet if row["change"] in EXACT]
    if exact:
        lines.append(
            f"* A copy, a mutation and a wrong value: detected in {share(sum(map(found, exact)), len(exact))}, another "
            f"case called worse in {share(sum(map(wrong, exact)), len(exact))}, after a median of "
            f"{median(row['seconds'] for row in exact):.1f} s (at most {max(row['seconds'] for row in exact):.1f} s)."
        )
    alarms, number, values = across(quiet)
    if number:
        spread = median(map(abs, values)) / 0.6745
        lines.append(
            f"* `compare` on base of one A/A trial and head of the next, minutes apart: a false alarm in "
            f"{share(alarms, number)}. The same code differed by {100 * spread:.1f} % (robust standard deviation), and "
            f"by at most {100 * max(map(abs, values)):.0f} %."
        )
    return lines


def again() -> list[str]:
    """Trials of copycost that were made again with a later engine."""
    path = RESULTS / "engine-5" / "copycost.jsonl"
    if not path.exists():
        return []
    rows: list[Row] = [json.loads(line) for line in path.read_text().splitlines()]
    trials = {"copycost": rows}
    (machine,) = {row["machine"] for row in rows}
    held = next(line for line in by_case(trials) if line.startswith("* quiet"))
    return [
        "", "## Engine 5", "",
        "The trials above were made with engine 2. Engine 5 times calls hot, and shares processes where that changes "
        f"no time. These {len(rows)} trials were made with engine 5, on an idle machine of the same kind "
        f"({machine}):", "",
        *table(trials), "", held, "",
        "Before, engine 5 found less: calls until they are hot took the time of every second block. By turns on an "
        "idle machine, engine 4 found 5 % in 8 of 10 trials, and engine 5 in 4. The gate has since made only one call "
        "before a sample.",
    ]  # fmt: skip


def write() -> None:
    """Write the page and the chart."""
    trials = load()
    draw(trials, DOCS / "trials.svg")
    lines = [
        "# Trials", "",
        "This page compares how often copycost, asv, pytest-benchmark and pyperf detect a hidden change, and how often "
        "they raise a false alarm. A trial has twelve cases (four functions, three batches). It makes a hidden change "
        "to one function, or none. `peers/README.md` describes the trials and how to repeat them. "
        "`python -m peers.report` makes this page from the raw results in `peers/results/`.", "",
        f"{sum(map(len, trials.values()))} of {len(plan())} trials are done.", "",
        f"Machine: {', '.join(sorted({row['machine'] for rows in trials.values() for row in rows}))}.", "",
        "## Detections and false alarms", "",
        "Each cell is the number of comparisons in which a tool called a case worse, of all comparisons, with the "
        "exact 95 % interval of the share. In the columns of changes it counts comparisons that called a changed case "
        "worse:", "", *table(trials), "",
        "A mutation and a wrong value do not change the time. If a tool that only measures time detected one, it was a "
        "false alarm on the right function.", "",
        "![Detections by false alarms](trials.svg)", "",
        "A line shows the tool with other thresholds, and the dot shows it with its default. Up and to the left "
        "is better.", "", "## copycost by case", "",
    ]  # fmt: skip
    lines += by_case(trials)
    lines += again()
    if (path := RESULTS / "error.json").exists():
        lines += errors(json.loads(path.read_text()))
    (DOCS / "trials.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    write()
