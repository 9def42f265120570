"""Measure how long a tool takes to reach a given error.

``python -m peers.error`` measures twelve cases of recipe tf by `asv run`, with its default launch method, and by
`copycost run`, interleaved. A reference is measured between the runs: many copycost blocks, spread over the whole time.

The error of a tool is the root mean square, over cases and repetitions, of the logarithm of the ratio of its median to
the reference. Tools may define the time of a case differently (which memory is written, how many calls follow each
other). Therefore, the error against the median of a tool's own runs is reported as well.

The measurement takes about twenty minutes and writes ``peers/results/error.json``.
"""

from __future__ import annotations

import ast
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean, median
from typing import Any

from rich.progress import Progress

from peers.tools import commit, git
from peers.trials import RESULTS

REPETITIONS = 6
BLOCKS = (3, 5, 9)
BATCHES = (1, 8, 32)
FORMS = ("numpy-out", "tf-eager", "tf-graph", "tf-xla")

#: Median seconds by case.
Medians = dict[str, float]


def copycost(blocks: int) -> dict[str, list[float]]:
    """Run `copycost run` once and return the seconds of each block, by case."""
    choice = [word for form in FORMS for word in ("--variant", form)]
    choice += [word for batch in BATCHES for word in ("--batch", str(batch))]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "copycost", "run", "--recipe", "tf", "--dtype", "float32", "--device", "cpu",
             *choice, "--blocks", str(blocks), "--out", f"{folder}/run", "--json", f"{folder}/run.json"],
            check=True, capture_output=True,
        )  # fmt: skip
        rows = json.loads(Path(folder, "run.json").read_text())["measurements"]
    return {f"{row['variant']} {row['batch']}": [median(block) for block in row["samples"]] for row in rows}


def asv(project: Path) -> Medians:
    """Run `asv run` in this interpreter and return the seconds, by case."""
    head = git(project, "rev-parse", "HEAD")
    subprocess.run(
        [str(Path(sys.executable).parent / "asv"), "run", f"--environment=existing:{sys.executable}",
         "--set-commit-hash", head],
        cwd=project, env=os.environ | {"HOME": str(project)}, check=True, capture_output=True,
    )  # fmt: skip
    (path,) = project.glob(".asv/results/*/*-existing*.json")
    document = json.loads(path.read_text())
    path.unlink()
    (row,) = (dict(zip(document["result_columns"], values, strict=False)) for values in document["results"].values())
    names = itertools.product(*(map(ast.literal_eval, values) for values in row["params"]))
    return {" ".join(map(str, name)): value for name, value in zip(names, row["result"], strict=True)}


def error(runs: list[Medians], reference: Medians) -> float:
    """Return the root mean square of the logarithms of the ratios to the reference."""
    return math.sqrt(fmean(math.log(medians[case] / reference[case]) ** 2 for medians in runs for case in reference))


def middle(runs: list[Medians]) -> Medians:
    """Return the median of each case."""
    return {case: median(medians[case] for medians in runs) for case in runs[0]}


def main() -> None:
    """Measure all tools and write the results."""
    runs_by_tool: dict[str, list[tuple[float, Medians]]] = {}
    blocks: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        project = Path(folder) / "project"
        shutil.copytree(Path(__file__).with_name("frameworks"), project)
        (project / "asv.conf.json").write_text(
            json.dumps({"version": 1, "project": "forms", "repo": ".", "branches": ["main"], "show_commit_url": "",
                        "environment_type": "existing", "env_dir": ".asv/env", "results_dir": ".asv/results"})
        )  # fmt: skip
        git(project, "init", "-q", "-b", "main")
        commit(project, "benchmarks")
        asv_program = str(Path(sys.executable).parent / "asv")
        home = os.environ | {"HOME": str(project)}
        subprocess.run([asv_program, "machine", "--yes"], cwd=project, env=home, check=True, capture_output=True)
        bar = progress.add_task("reference", total=REPETITIONS * (len(BLOCKS) + 1))
        for _ in range(REPETITIONS):
            for name in ("asv run", *(f"copycost run --blocks {number}" for number in BLOCKS)):
                progress.update(bar, description="reference")
                for case, case_blocks in copycost(4).items():
                    blocks.setdefault(case, []).extend(case_blocks)
                progress.update(bar, description=name)
                start = time.monotonic()
                if name == "asv run":
                    medians = asv(project)
                else:
                    medians = {
                        case: median(case_blocks) for case, case_blocks in copycost(int(name.split()[-1])).items()
                    }
                runs_by_tool.setdefault(name, []).append((time.monotonic() - start, medians))
                progress.advance(bar)
    reference = {case: median(case_blocks) for case, case_blocks in blocks.items()}
    table: dict[str, dict[str, Any]] = {
        name: {
            "seconds": median(seconds for seconds, _ in runs),
            "error": error([medians for _, medians in runs], reference),
            "error_against_its_own": error([medians for _, medians in runs], middle([medians for _, medians in runs])),
            "runs": [{"seconds": round(seconds, 2), "medians": medians} for seconds, medians in runs],
        }
        for name, runs in runs_by_tool.items()
    }
    RESULTS.mkdir(exist_ok=True)
    document = {"reference": {case: {"seconds": reference[case], "blocks": len(blocks[case])} for case in reference}}
    (RESULTS / "error.json").write_text(json.dumps(document | {"tools": table}, indent=1) + "\n")
    for name, row in table.items():
        deviation = f"{100 * row['error_against_its_own']:.1f} % against its own median"
        print(f"{name}: {row['seconds']:.1f} s, root mean square error {100 * row['error']:.1f} %, {deviation}")


if __name__ == "__main__":
    main()
