"""Benchmarks of asv's: what they list, what they read, what they say of what was not measured."""

from __future__ import annotations

import ast
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import copycost
from copycost.asv import benchmarks
from copycost.asv.benchmarks import Cases, Failed
from copycost.catalog import discovery
from copycost.machine.environment import METHOD_VERSION
from copycost.results.asv_format import PARAMETERS, TRACKED

ROOT = Path(__file__).parents[2]
CASE = ("tf", "numpy-out", "cpu", "float32", "channels_last", 224, 224, 32)
SMALL = "--recipe tf --variant numpy-out --batch 1 --dtype float32"


class Numpy(Cases, runtime="numpy"):
    """As in benchmarks/."""


def answered(**fields: Any) -> dict[str, Any]:
    """A session that measured one case."""
    row: dict[str, Any] = dict.fromkeys(benchmarks._KEPT) | {"status": "ok", "missing": {}} | fields
    return {"rows": {CASE: row}, "missing": None}


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | env, capture_output=True, text=True, timeout=120
    )


def test_a_figure_is_the_one_that_was_measured() -> None:
    session = answered(allocations=3, max_abs_error=0.5, input_changed=True, samples=[[3.0, 1.0, 2.0], [5.0]], calls=8)
    assert Numpy().track_allocations(session, *CASE) == 3
    assert Numpy().track_max_abs_error(session, *CASE) == 0.5
    assert Numpy().track_input_changed(session, *CASE) == 1
    assert Numpy().track_seconds(session, *CASE) == {"samples": [2.0, 5.0], "number": 4}
    assert Numpy().track_seconds_per_image(session, *CASE)["samples"] == [2 / 32, 5 / 32]


@pytest.mark.parametrize(
    ("session", "reason"),
    [
        (answered(status="skipped", reason="no CUDA device"), "no CUDA device"),
        (answered(status="wrong", reason="off by one", known="an issue"), "an issue"),
        (answered(missing={"allocations": "no memray"}), "no memray"),
        ({"rows": {}, "missing": "this commit has no engine"}, "no engine"),
        ({"rows": {}, "missing": None}, "not among the cases"),
    ],
)
def test_what_was_not_measured_is_na_with_the_reason(
    session: dict[str, Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert math.isnan(Numpy().track_allocations(session, *CASE))
    assert reason in capsys.readouterr().err
    assert math.isnan(Numpy().track_seconds(session, *CASE))


@pytest.mark.parametrize("status", ["wrong", "failed", "crashed", "timeout"])
def test_what_is_at_fault_fails(status: str) -> None:
    reason = "raised ImportError: cannot import name 'x' from 'y'"  # of what ships, a fault as any other
    with pytest.raises(Failed, match=f"{status}: {reason}"):
        Numpy().track_allocations(answered(status=status, reason=reason, allocations=3), *CASE)


def test_every_runtime_has_a_class_and_every_case_a_cell() -> None:
    done = python(
        "import json, benchmarks.preprocessing as p\n"
        "print(json.dumps([[list(map(repr, v)) for v in c.params] for c in vars(p).values() if isinstance(c, type)]))"
    )
    cells = set()
    for written in json.loads(done.stdout):
        params = [list(map(ast.literal_eval, values)) for values in written]  # asv writes the repr of a value
        axes = dict(zip(PARAMETERS, params, strict=True))
        cells |= {(r, v, d) for r in axes["recipe"] for v in axes["variant"] for d in axes["device"]}
    cases = copycost.select("quick")
    assert {c.variant.runtime for c in cases} == set(discovery.runtimes())
    assert {(c.recipe.name, c.variant.name, c.device) for c in cases} == cells


def test_benchmark_processes_import_no_framework() -> None:
    heavy = ("tensorflow", "keras", "cupy", "torch", "jax", "numba", "numexpr", "pandas", "matplotlib", "memray")
    done = python(f"import sys, benchmarks.preprocessing; print([m for m in {heavy} if m in sys.modules])")
    assert done.stdout.strip() == "[]", done.stderr


def test_a_version_is_that_of_the_way_of_measuring() -> None:
    assert Cases.version == str(METHOD_VERSION)
    units = {name: getattr(method, "unit", None) for name, method in vars(Cases).items() if name.startswith("track_")}
    assert len(units) == 9
    assert all(units.values())


def test_what_is_read_from_asv_is_what_it_tracks() -> None:
    """Reading result files uses the names that the benchmarks have, without importing them."""
    assert sorted(TRACKED) == sorted(name.removeprefix("track_") for name in vars(Cases) if name.startswith("track_"))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"COPYCOST_PROFILE": "quik"}, "unknown COPYCOST_PROFILE 'quik'; did you mean quick?"),
        ({"COPYCOST_DEVICE": "tpu"}, "unknown COPYCOST_DEVICE 'tpu'"),
        ({"COPYCOST_OPTIONS": "--batch 8"}, "batch 8 is not measured here: expected one of (1, 32)"),
        ({"COPYCOST_OPTIONS": "--variant numpy-ouut"}, "did you mean numpy-out"),
        ({"COPYCOST_OPTIONS": "--blocks 3"}, "--blocks is not allowed"),
        ({"COPYCOST_OPTIONS": "--image photographs"}, "invalid --image 'photographs': expected an absolute path"),
        ({"COPYCOST_RUNS": "runs"}, "invalid COPYCOST_RUNS 'runs': expected an absolute path"),
        ({"COPYCOST_OPTIONS": "--colour red"}, "COPYCOST_OPTIONS: No such option"),
    ],
)
def test_a_mistake_in_a_variable_is_said(variables: dict[str, str], words: str) -> None:
    """And is no commit that does not measure so."""
    done = python("from benchmarks.preprocessing import NumPy; NumPy().setup_cache()", **variables)
    assert words in done.stderr.strip().splitlines()[-1]


def commit(folder: Path, **files: str) -> None:
    """A folder whose copycost is that of this tree, with some files changed: what `-m copycost` finds there."""
    shutil.copytree(ROOT / "suite" / "copycost", folder / "copycost", ignore=shutil.ignore_patterns("__pycache__"))
    for name, text in files.items():
        (folder / "copycost" / f"{name.replace('__', '/')}.py").write_text(text)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder to measure in, with little to measure."""
    monkeypatch.setenv("COPYCOST_OPTIONS", SMALL)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_session_measures_the_suite_that_is_installed_with_seven_blocks(small: Path) -> None:
    found = Numpy().setup_cache()
    ((case, row),) = found["rows"].items()
    assert case == (*CASE[:-1], 1)
    assert row["status"] == "ok"
    assert len(row["samples"]) == 7
    assert found["missing"] is None


def test_a_commit_whose_command_has_no_such_option_is_na(small: Path) -> None:
    (small / "copycost").mkdir()
    (small / "copycost" / "__init__.py").write_text("")
    text = (
        (ROOT / "suite" / "copycost" / "__main__.py")
        .read_text()
        .replace("from copycost.cli.app import main as run", "from old import run")
    )
    (small / "copycost" / "__main__.py").write_text(text)
    (small / "old.py").write_text("import click\n@click.command()\ndef run(): pass\n")
    found = Numpy().setup_cache()
    assert found["rows"] == {}
    assert "this commit's copycost cannot measure these cases: Error: No such" in found["missing"]


def test_a_commit_that_measures_in_another_way_is_na(small: Path) -> None:
    text = (ROOT / "suite" / "copycost" / "machine" / "environment.py").read_text()
    commit(
        small,
        machine__environment=text.replace(
            f"\nMETHOD_VERSION = {METHOD_VERSION}\n", f"\nMETHOD_VERSION = {METHOD_VERSION + 1}\n"
        ),
    )
    assert Numpy().setup_cache()["missing"] == (
        f"this commit measures with engine {METHOD_VERSION + 1}: these benchmarks expect engine {METHOD_VERSION}"
    )


def test_a_commit_that_breaks_down_fails(small: Path) -> None:
    commit(small)
    (small / "copycost" / "cases" / "selection.py").write_text("raise RuntimeError('half an edit')")
    with pytest.raises(RuntimeError, match="half an edit"):
        Numpy().setup_cache()
