"""The trials of peers/: the changes are what they say, and shares have the intervals they should."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import median

import pytest

from peers import report, suites, tools, trials

SOURCE = (tools.SUBJECT / "imaging.py").read_text()


def test_the_numbers_of_trials() -> None:
    """At least 20 where nothing changes and 10 of each change for every peer, twice as many for copycost."""
    numbers = Counter((trial.tool, trial.change) for trial in trials.plan())
    for tool in ("asv", "asv-interleaved", "pytest-benchmark", "pyperf"):
        assert [numbers[tool, change] for change in trials.CHANGES] == [20, *[10] * 6]
    assert [numbers["copycost", change] for change in trials.CHANGES] == [40, *[20] * 6]
    assert numbers["copycost-beside-a-neighbour", "none"] == 40
    assert len(set(trials.plan())) == len(trials.plan())


def test_a_portion_has_something_of_every_tool() -> None:
    assert {trial.tool for trial in trials.plan()[:40]} == set(trials.TOOLS)


@pytest.mark.parametrize("change", trials.CHANGES)
def test_a_change_is_in_one_place_and_the_same_for_every_tool(change: str) -> None:
    one, other = (trials.Trial(tool, change, 3) for tool in ("copycost", "asv"))
    assert one.function == other.function
    changed = trials.changed(SOURCE, one)
    pairs = itertools.zip_longest(SOURCE.splitlines(), changed.splitlines())
    assert sum(a != b for a, b in pairs) == 1


def test_a_change_of_time_is_what_it_says() -> None:
    """The time of a call by the function's own clock and by ours, of calls that last a millisecond."""
    program = (
        "import imaging, numpy as np, time, json\n"
        "imaging.FACTORS['rescale'] = 1.5\n"
        "x = np.ones((16, 224, 224, 3), np.float32)\n"
        "ratios = []\n"
        "for _ in range(60):\n"
        "    inner = next(c.cell_contents for c in imaging.rescale.__closure__ if callable(c.cell_contents))\n"
        "    start = time.perf_counter(); y = inner(x); plain = time.perf_counter() - start; del y\n"
        "    start = time.perf_counter(); y = imaging.rescale(x); slower = time.perf_counter() - start; del y\n"
        "    ratios.append(slower / plain)\n"
        "print(json.dumps(sorted(ratios)[30]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tools.SUBJECT, capture_output=True, text=True)
    assert json.loads(done.stdout) == pytest.approx(1.5, rel=0.15), done.stderr


def test_exact_intervals_of_shares() -> None:
    """Clopper and Pearson (1934), and the rule of three."""
    assert report.binomial(0, 40) == (0.0, pytest.approx(0.0881, abs=1e-4))
    assert report.binomial(3, 10) == (pytest.approx(0.0667, abs=1e-4), pytest.approx(0.6525, abs=1e-4))
    assert report.binomial(20, 20) == (pytest.approx(0.8316, abs=1e-4), 1.0)


def test_a_curve_begins_where_everything_is_called_slower_and_ends_where_nothing_is() -> None:
    def row(change: str, ratio: float) -> dict[str, object]:
        cases = {name: {"base": {"mean": 1.0}, "head": {"mean": ratio}} for name in ("center-1", "rescale-1")}
        return {"change": change, "function": None if change == "none" else "center", "cases": cases}

    rows = [row("none", 0.99), row("none", 1.02), row("+5%", 1.05), row("+5%", 1.01)]
    points = report.curve(rows, report._pytest("mean"), "+5%")
    assert points[0] == (1.0, 1.0)
    assert points[-1] == (0.0, 0.0)
    assert (0.0, 0.5) in points  # between 1.02 and 1.05 there is a threshold without a false alarm
    assert points == sorted(points, reverse=True)


@pytest.mark.skipif(not trials.RESULTS.is_dir(), reason="no trial has been done")
def test_the_kept_results_are_trials_of_the_plan() -> None:
    planned = set(trials.plan())
    for path in Path(trials.RESULTS).glob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found = [trials.Trial(row["tool"], row["change"], row["number"]) for row in rows]
        assert len(set(found)) == len(found)
        assert set(found) <= planned
        for row, trial in zip(rows, found, strict=True):
            assert row["function"] == (None if trial.change == "none" else trial.function)


def test_the_page_has_the_figures_of_the_suites() -> None:
    page = (report.DOCS / "suites.md").read_text()
    rows = json.loads((trials.RESULTS / "suites.json").read_text())
    assert {row["project"] for row in rows} == {suite.project for suite in suites.SUITES}
    for row in rows:
        before, after = median(row["seconds"]), median(row["seconds_with_plugin"])
        differ = len(row["outcomes_that_differ"])
        assert f"| {before:.1f} s | {after:.1f} s | {row['ratio']:.2f} | {differ} |" in page, row["project"]


def test_a_suite_is_run_with_the_plugin_and_without(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(
        "import numpy as np\nimport pytest\n"
        "@pytest.fixture\ndef x():\n    return np.ones(5_000)\n"
        "def halved(x):\n    x /= 2\n    return x\n"
        "def test_changes(x):\n    assert halved(x).sum() == 2_500\n"
        "def test_copies(x):\n    assert (x + x).sum() == 10_000\n"
        "def test_fails(x):\n    assert not x.any()\n"
    )
    suite = suites.Suite("numpy", "pytest", ".", ("test_it.py",))
    passes = {plugin: [suites.run_pytest(suite, tmp_path, plugin)] for plugin in (False, True)}
    row = suites.summary(suite, passes)
    assert (row["number"], row["failed"], row["outcomes_that_differ"]) == (3, 1, [])
    assert (row["figures"], row["figures_missing"]) == (2, 0)
    assert row["changes"] == {"test_it.py::test_changes": "x"}
    assert passes[True][0].found["test_it.py::test_copies"]["requested"] == "39.1 KiB"
