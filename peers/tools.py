"""Run each tool on a repository with two commits and return the regressions that it reports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

SUBJECT = Path(__file__).with_name("subject")
BATCHES = (1, 4, 16)
FUNCTIONS = ("rescale", "rescale_out", "normalize", "center")


class ToolFailed(Exception):
    """Error raised if a tool fails to give an answer; the message contains its output."""


@dataclass(frozen=True)
class Found:
    """Answer of a tool on two commits.

    Attributes
    ----------
    worse : dict
        ``function-batch`` → the regression in the tool's own words; for copycost, the names of the metrics.
    unsure : list of str
        Cases for which copycost's verdict is unsure.
    cases : dict
        ``function-batch`` → the figures behind the verdict, so that other thresholds can be tried afterwards.
    """

    worse: dict[str, str]
    unsure: list[str] = field(default_factory=list)
    cases: dict[str, Any] = field(default_factory=dict)


def prepare(repository: Path) -> None:
    """Create a repository of the subject, and the files that the tools reuse in all trials."""
    shutil.copytree(SUBJECT, repository)
    configuration = repository / "asv.conf.json"
    configuration.write_text(configuration.read_text().replace("NUMPY", np.__version__))
    home = repository / ".home"  # keeps asv's machine file separate from the user's
    home.mkdir()
    (repository / ".gitignore").write_text(".home\n.asv\n__pycache__\n")
    git(repository, "init", "-q", "-b", "main")
    commit(repository, "base")
    _run(repository, "asv", "machine", "--yes")
    _run(repository, "asv", "run", "--bench", "rescale_out", "--quick", "HEAD^!")  # creates asv's environment


def commit(repository: Path, message: str) -> str:
    """Commit all changes and return the hash."""
    git(repository, "add", "-A")
    identity = ("-c", "user.name=trials", "-c", "user.email=trials@localhost")
    git(repository, *identity, "commit", "-q", "--allow-empty", "-m", message)
    return git(repository, "rev-parse", "HEAD")


def git(repository: Path, *arguments: str) -> str:
    """Run git and return its output."""
    process = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=True)
    return process.stdout.strip()


def copycost(repository: Path, base: str, head: str, seconds: float) -> Found:
    """Run `copycost gate`, with head checked out."""
    out = Path(tempfile.mkdtemp(prefix="copycost-trial-"))
    try:
        process = _run(
            repository, "copycost", "gate", "--base", base, "--with", "copycost_variants.py",
            *(word for batch in BATCHES for word in ("--batch", str(batch))), "--dtype", "float32",
            "--budget", f"{seconds}", "--out", str(out / "runs"), "--json", str(out / "gate.json"), allowed=(0, 1),
        )  # fmt: skip
        verdict = json.loads((out / "gate.json").read_text())
        assert verdict["exit_status"] == process.returncode
        sides = [_measured(out / "runs" / side) for side in ("base", "head")]
    finally:
        shutil.rmtree(out, ignore_errors=True)
    worse: dict[str, str] = {}
    unsure, cases = [], {}
    for row in verdict["rows"]:
        name = f"{row['variant'].replace('-', '_')}-{row['batch']}"
        if row["verdict"] in ("slower", "worse"):
            worse[name] = " ".join(filter(None, [worse.get(name), row["metric"]]))
        if row["metric"] == "seconds":
            if row["verdict"] == "unsure":
                unsure.append(name)
            base_blocks, head_blocks = (side[name] for side in sides)
            cases[name] = {  # enough to recompute the ratio and its intervals
                "verdict": row["verdict"],
                "base": [_short(median(block)) for block in base_blocks],
                "head": [_short(median(block)) for block in head_blocks],
                "differences": [
                    _short(median(np.log(np.divide(after, before)).tolist()))
                    for before, after in zip(base_blocks, head_blocks, strict=False)
                ],
            }
    return Found(worse, unsure, cases)


def _measured(folder: Path) -> dict[str, list[list[float]]]:
    rows = map(json.loads, (folder / "measurements.jsonl").read_text().splitlines())
    return {f"{row['variant'].replace('-', '_')}-{row['batch']}": row.get("samples") or [] for row in rows}


def asv(repository: Path, base: str, head: str, *options: str) -> Found:
    """Run `asv continuous` with default or more options, in four rounds, as two leave half of the time unused."""
    results = repository / ".asv" / "results"
    for path in results.glob("*/*-*.json"):
        path.unlink()
    process = _run(
        repository, "asv", "continuous", "--record-samples", "-a", "rounds=4", *options, base, head, allowed=(0, 1)
    )
    sides = []
    for name in (base, head):
        (path,) = results.glob(f"*/{name[:8]}-*.json")
        sides.append(_asv_result(json.loads(path.read_text())))
    worse = {}
    for line in process.stdout.splitlines():
        match = re.search(r"\|\s*\+\s*\|.*\|\s*([\d.]+|inf)\s*\|\s*\S*time_(\w+)\((\d+)\)", line)
        if match:
            worse[f"{match[2]}-{match[3]}"] = match[1]
    if process.returncode != bool(worse):
        raise ToolFailed(f"asv ended with exit status {process.returncode}, but reported {len(worse)} cases as worse")
    return Found(worse, [], {name: {"base": sides[0][name], "head": sides[1][name]} for name in sides[0]})


def _asv_result(document: dict[str, Any]) -> dict[str, Any]:
    cases = {}
    for benchmark, row in document["results"].items():
        columns = dict(zip(document["result_columns"], row, strict=False))
        function = benchmark.rpartition(".time_")[2]
        for i, batch in enumerate(columns["params"][0]):
            cases[f"{function}-{batch}"] = {
                "value": _short(columns["result"][i]),
                "ci": [_short(columns[key][i]) for key in ("stats_ci_99_a", "stats_ci_99_b")],
                "samples": [_short(value) for value in columns["samples"][i]],
            }
    return cases


def pytest_benchmark(repository: Path, base: str, head: str) -> Found:
    """Run and save the tests of base, then run those of head with `pytest --benchmark-compare-fail=mean:5%`."""
    out = Path(tempfile.mkdtemp(prefix="copycost-trial-"))
    common = (
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:copycost", "test_imaging.py",
        f"--benchmark-storage={out}/saved", "--benchmark-max-time=1.7",
    )  # fmt: skip
    try:
        for side, name in (("base", base), ("head", head)):
            git(repository, "checkout", "-q", name)
            compared = ("--benchmark-compare=0001", "--benchmark-compare-fail=mean:5%") if side == "head" else ()
            status = _run(repository, sys.executable, *common, f"--benchmark-save={side}", *compared, allowed=(0, 1, 3))
        saved = [json.loads(path.read_text()) for path in sorted(out.rglob("*.json"))]
    finally:
        git(repository, "checkout", "-q", head)
        shutil.rmtree(out, ignore_errors=True)
    sides = [
        {
            re.sub(r"test_(\w+)\[(\d+)\]", r"\1-\2", case["name"]): {
                key: _short(case["stats"][key]) for key in ("min", "mean", "median")
            }
            for case in document["benchmarks"]
        }
        for document in saved
    ]
    worse = {
        name: f"{sides[1][name]['mean'] / case['mean']:.3f}"
        for name, case in sides[0].items()
        if sides[1][name]["mean"] > 1.05 * case["mean"]
    }
    if bool(status.returncode) != bool(worse):
        raise ToolFailed(f"pytest ended with exit status {status.returncode}, but {len(worse)} cases are slower")
    return Found(worse, [], {name: {"base": case, "head": sides[1][name]} for name, case in sides[0].items()})


def pyperf(repository: Path, base: str, head: str) -> Found:
    """Run `pyperf compare_to` and return the cases that it reports as significantly slower."""
    out = Path(tempfile.mkdtemp(prefix="copycost-trial-"))
    try:
        for side, name in (("base", base), ("head", head)):
            git(repository, "checkout", "-q", name)
            _run(
                repository, sys.executable, "perf_imaging.py", "-q", "-o", str(out / f"{side}.json"),
                "--processes", "2", "--values", "5", "--warmups", "1", "--min-time", "0.025",
            )  # fmt: skip
        names = [str(out / f"{side}.json") for side in ("base", "head")]
        text = _run(repository, sys.executable, "-m", "pyperf", "compare_to", *names).stdout
        sides = [_pyperf_values(json.loads(Path(name).read_text())) for name in names]
    finally:
        git(repository, "checkout", "-q", head)
        shutil.rmtree(out, ignore_errors=True)
    worse = dict(re.findall(r"^(\S+): Mean .*: ([\d.]+)x slower$", text, re.MULTILINE))
    return Found(worse, [], {name: {"base": values, "head": sides[1][name]} for name, values in sides[0].items()})


def _pyperf_values(document: dict[str, Any]) -> dict[str, list[float]]:
    values_by_name = {}
    for benchmark in document["benchmarks"]:
        name = benchmark.get("metadata", {}).get("name") or document["metadata"]["name"]
        values_by_name[name] = [_short(value) for run in benchmark["runs"] for value in run.get("values", ())]
    return values_by_name


def _run(
    repository: Path, program: str, *arguments: str, allowed: tuple[int, ...] = (0,)
) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).parent / program  # an absolute path is not changed
    environment = os.environ | {"HOME": str(repository / ".home"), "COLUMNS": "200"}
    process = subprocess.run(
        [str(beside) if beside.exists() else program, *arguments],
        cwd=repository, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if process.returncode not in allowed:
        raise ToolFailed(
            f"{program} {' '.join(arguments)} ended with exit status {process.returncode}:\n"
            f"{process.stdout}{process.stderr}"
        )
    return process


def _short(value: float) -> float:
    """Round to five digits: more are noise, and the repository stores the raw results."""
    return float(f"{value:.5g}")
