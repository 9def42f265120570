"""Run tests and benchmarks of other projects with copycost's plugins, and without.

``python -m peers.suites FOLDER`` runs five suites as they are: the benchmarks of NumPy and scikit-image with `also_in`,
and the tests of albumentations, kornia and einops with ``--copycost``. FOLDER holds a checkout of each project under
the project's name, at the version that is installed here. Each suite is run with the plugin and without, in turn. The
command writes ``peers/results/suites.json``: seconds, tests whose outcome differs, and what the plugins found.

The suites also need scikit-learn, deepdiff and pooch. One round takes about twenty minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any
from xml.etree import ElementTree

from peers.tools import commit, git
from peers.trials import RESULTS

#: What is added to a suite of asv: the file's name comes before those of the suite's modules.
COUNTS = 'from copycost_meter import also_in\n\nalso_in(__package__, "allocbytes", "changed")\n'

#: A row of the summary of ``--copycost``: requested, peak, copies, test, and the arrays that it changes.
_ROW = re.compile(
    r"^ *(?P<requested>–|[\d.,]+ \w+) +(?P<peak>–|[\d.,]+ \w+) +(?P<copies>–|[\d,]+)  (?P<test>\S+::.*?)"
    r"(?:, changes (?P<changed>.*?))?(?: \((?P<missing>.*)\))?$"
)


@dataclass(frozen=True)
class Suite:
    """A suite of another project.

    Attributes
    ----------
    project : str
        Name of the project's distribution, and of the folder of its checkout.
    tool : str
        ``"asv"`` or ``"pytest"``.
    path : str
        Folder in the checkout: the package of benchmarks, or where pytest is started.
    selection : tuple of str
        Regular expressions of benchmarks, or arguments of pytest.
    environment : mapping of str to str
        Variables that the suite needs.
    """

    project: str
    tool: str
    path: str
    selection: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


SUITES = (
    Suite("numpy", "asv", "benchmarks/benchmarks", ("bench_clip", "bench_reduce", "bench_shape_base")),
    Suite("scikit-image", "asv", "benchmarks", ("benchmark_exposure", "benchmark_metrics", "benchmark_util")),
    Suite("albumentations", "pytest", ".", ("tests/functional", "tests/test_crop.py", "tests/test_blur.py")),
    Suite("kornia", "pytest", ".", ("tests/enhance", "tests/color", "tests/filters")),
    Suite("einops", "pytest", ".", ("einops/tests",), {"EINOPS_TEST_BACKENDS": "numpy,torch"}),
)  # fmt: skip


@dataclass(frozen=True)
class Pass:
    """One run of a suite.

    Attributes
    ----------
    seconds : float
    outcomes : dict of str to str
        Outcome of each test or benchmark.
    found : dict of str to object
        What the plugin found, by test or benchmark.
    """

    seconds: float
    outcomes: dict[str, str]
    found: dict[str, Any]


def run_pytest(suite: Suite, folder: Path, plugin: bool) -> Pass:
    """Run tests, and return what became of each."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "junit.xml")
        # With -vv the summary lists every test.
        options = ["--copycost", "-vv"] if plugin else ["-vv"]
        start = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "--tb=no", f"--junitxml={path}",
             *options, *suite.selection],
            cwd=folder, env=os.environ | suite.environment, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.monotonic() - start
        if not path.exists():
            sys.exit(
                f"{suite.project}: pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            )
        outcomes = {
            f"{case.get('classname')}::{case.get('name')}": next(
                (child.tag for child in case if child.tag in ("failure", "error", "skipped")), "passed"
            )
            for case in ElementTree.parse(path).iter("testcase")
        }
    found = {row["test"]: row.groupdict() for line in done.stdout.splitlines() if (row := _ROW.match(line))}
    return Pass(seconds, outcomes, found)


def run_asv(suite: Suite, folder: Path, plugin: bool) -> Pass:
    """Run benchmarks, and return the result of each."""
    with tempfile.TemporaryDirectory(prefix="copycost-suites-") as scratch:
        project = Path(scratch)
        shutil.copytree(folder / suite.path, project / "benchmarks")
        if plugin:
            (project / "benchmarks" / "a_counts.py").write_text(COUNTS)
        configuration = {
            "version": 1, "project": suite.project, "repo": ".", "branches": ["main"], "benchmark_dir": "benchmarks",
            "results_dir": "results", "env_dir": "env", "environment_type": "virtualenv",
        }  # fmt: skip
        (project / "asv.conf.json").write_text(json.dumps(configuration))
        (project / "env").mkdir()  # NumPy's suite writes there
        git(project, "init", "-q", "-b", "main")
        head = commit(project, suite.project)
        environment = os.environ | suite.environment | {"HOME": scratch}
        asv = str(Path(sys.executable).parent / "asv")
        subprocess.run([asv, "machine", "--yes"], cwd=project, env=environment, check=True, capture_output=True)
        start = time.monotonic()
        done = subprocess.run(
            [asv, "run", f"--environment=existing:{sys.executable}", "--set-commit-hash", head,
             *(f"--bench=^{name}" for name in suite.selection)],
            cwd=project, env=environment, capture_output=True, text=True,
        )  # fmt: skip
        seconds = time.monotonic() - start
        paths = list(project.glob("results/*/*-existing*.json"))
        if not paths:
            sys.exit(f"{suite.project}: asv ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        document = json.loads(paths[0].read_text())
    outcomes, found = {}, {}
    for name, row in document["results"].items():
        values = dict(zip(document["result_columns"], row, strict=False))["result"]
        if name.rpartition(".")[2].startswith("time_"):
            outcomes[name] = "failed" if values is None else ",".join("failed" if v is None else "ok" for v in values)
        elif name.rpartition(".")[2].startswith(("allocbytes_", "changed_")):
            found[name] = values
    return Pass(seconds, outcomes, found)


def summary(suite: Suite, passes: Mapping[bool, list[Pass]]) -> dict[str, Any]:
    """Return the row of a suite: its seconds with and without the plugin, and what was found."""
    without, with_it = passes[False], passes[True]
    before, after = without[0].outcomes, with_it[0].outcomes
    ratios = [b.seconds / a.seconds for a, b in zip(without, with_it, strict=True)]
    figures, changes = (_of_benchmarks if suite.tool == "asv" else _of_tests)(with_it[0].found)
    return {
        "project": suite.project,
        "version": metadata.version(suite.project),
        "tool": suite.tool,
        "selection": list(suite.selection),
        "number": len(before),
        "failed": sum(outcome == "error" or "fail" in outcome for outcome in before.values()),
        "seconds": [round(one.seconds, 2) for one in without],
        "seconds_with_plugin": [round(one.seconds, 2) for one in with_it],
        "ratio": round(median(ratios), 3),
        "outcomes_that_differ": sorted(
            name for name in before.keys() | after.keys() if before.get(name) != after.get(name)
        ),
        "figures": len(figures),
        "figures_missing": sum(figure is None for figure in figures),
        "changes": changes,
    }


def _of_tests(found: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the requested bytes of each test, and the arrays that tests change."""
    figures = [None if row["requested"] == "–" else row["requested"] for row in found.values()]
    return figures, {name: row["changed"] for name, row in found.items() if row["changed"]}


def _of_benchmarks(found: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the figures of each benchmark and parameter, and the numbers of arrays that benchmarks change."""
    values = {name: [None if v is None or v != v else v for v in own or [None]] for name, own in found.items()}
    changes = {name: own for name, own in values.items() if ".changed_" in name and any(own)}
    return [value for own in values.values() for value in own], changes


def main() -> None:
    """Run the suites."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder with a checkout of each project")
    parser.add_argument("--times", type=int, default=1, help="number of runs of each suite with and without the plugin")
    parser.add_argument("--project", choices=[suite.project for suite in SUITES], action="append", help="run only this")
    options = parser.parse_args()
    chosen = [suite for suite in SUITES if suite.project in (options.project or [one.project for one in SUITES])]
    for suite in chosen:
        if not (options.folder / suite.project / suite.path).is_dir():
            parser.error(f"{options.folder / suite.project / suite.path}: expected a checkout of {suite.project} there")
    path = RESULTS / "suites.json"
    rows = {row["project"]: row for row in json.loads(path.read_text())} if path.exists() else {}
    for suite in chosen:
        run = run_asv if suite.tool == "asv" else run_pytest
        folder = options.folder / suite.project
        passes: dict[bool, list[Pass]] = {False: [], True: []}
        for number in range(options.times):
            for plugin in (False, True) if number % 2 == 0 else (True, False):
                passes[plugin].append(run(suite, folder, plugin))
                print(
                    f"{suite.project} {'with' if plugin else 'without'}: {passes[plugin][-1].seconds:.1f} s", flush=True
                )
        rows[suite.project] = summary(suite, passes)
        path.write_text(json.dumps(list(rows.values()), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
