"""`copycost merge`: runs of several machines and jobs become one folder, and stay apart in it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import Command

from copycost.results import load

RUN = ("run", "--recipe", "tf", "--variant", "numpy-new", "--batch", "1", "--dtype", "float32", "--blocks", "0")


@pytest.fixture
def runs(command: Command, tmp_path: Path) -> Path:
    for name, size in (("small", "32x48"), ("large", "64x48")):
        assert command(*RUN, "--size", size, "--out", name).returncode == 0
    return tmp_path


def files(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_runs_stay_apart_and_are_read_together(command: Command, runs: Path) -> None:
    assert command("merge", "small", "large", "--into", "all").returncode == 0
    assert command("merge", "large", "--into", "other").returncode == 0
    assert command("merge", "small", "--into", "other").returncode == 0
    assert files(runs / "all") == files(runs / "other")
    done = command("merge", "small", "all", "--into", "all")
    assert "0 of them new or changed" in done.stdout
    assert files(runs / "all") == files(runs / "other")
    table, apart = load.read(runs / "all"), load.read(runs / "small", runs / "large")
    assert len(table) == 2
    assert table["session"].nunique() == 2
    assert sorted(table["height"]) == sorted(apart["height"])
    assert sorted(table["allocated_bytes"]) == sorted(apart["allocated_bytes"])
    assert command("report", "all", "--html", "page").returncode == 0


def test_copies_of_one_run_become_one(command: Command, runs: Path) -> None:
    """One of them was copied before its last case was measured."""
    done = command(*RUN, "--size", "32x48", "--size", "64x48", "--out", "both")
    assert done.returncode == 0
    shutil.copytree(runs / "both", runs / "early")
    lines = (runs / "both" / "measurements.jsonl").read_text().splitlines(keepends=True)
    (runs / "early" / "measurements.jsonl").write_text(lines[0])
    assert command("merge", "early", "both", "--into", "all").returncode == 0
    (run,) = (path for path in (runs / "all").iterdir() if path.is_dir())
    assert sorted((run / "measurements.jsonl").read_text().splitlines(keepends=True)) == sorted(lines)
    changed = json.loads(lines[0]) | {"allocations": 99}
    (runs / "early" / "measurements.jsonl").write_text(json.dumps(changed) + "\n")
    before = files(runs / "all")
    done = command("merge", "early", "--into", "all")
    assert done.returncode == 1
    assert "two measurements of numpy-new" in done.stdout
    assert files(runs / "all") == before
    assert command("merge", "early", "--into", "all", "--newest").returncode == 0
    assert files(runs / "all") == before  # the copy with more cases


def test_runs_are_not_merged_into_a_folder_that_has_others(command: Command, runs: Path) -> None:
    """They would be there twice, or below a run."""
    for into in ("small", "."):
        done = command("merge", "large", "--into", into)
        assert done.returncode == 2
        assert "holds runs that were not merged into it" in done.stderr


def test_after_a_conflict_the_newest_can_be_taken(command: Command, tmp_path: Path) -> None:
    """Into the folder that did not exist before."""
    for name, ram in (("one", "8"), ("two", "16")):
        (tmp_path / name / "host").mkdir(parents=True)
        (tmp_path / name / "host" / "machine.json").write_text(json.dumps({"machine": "host", "ram": ram}))
    done = command("merge", "one", "two", "--into", "all")
    assert done.returncode == 1
    assert "two machines under one name?" in done.stdout
    assert not list((tmp_path / "all").glob("*/*"))
    assert command("merge", "one", "two", "--into", "all", "--newest").returncode == 0
    assert (tmp_path / "all" / "host" / "machine.json").exists()


def test_a_run_names_no_other_folder(command: Command, runs: Path) -> None:
    """What a stranger's run says of its time is no path."""
    header = json.loads((runs / "small" / "environment.json").read_text())
    header["environment"]["time"] = "../../../elsewhere/T../x"
    (runs / "small" / "environment.json").write_text(json.dumps(header))
    assert command("merge", "small", "--into", "deep/er/all").returncode == 0
    (run,) = (path.parent for path in (runs / "deep").rglob("environment.json"))
    assert run.parent == runs / "deep" / "er" / "all"


def test_what_cannot_be_merged_is_said_in_one_line(command: Command, runs: Path) -> None:
    (runs / "empty").mkdir()
    (runs / "asv").mkdir()
    (runs / "asv" / "benchmarks.json").write_text('{"version": 2}')
    for folders, says in (
        (("absent",), "no folder absent"),
        (("empty",), "empty holds neither asv's results nor a run"),
        (("small", "asv"), "expected folders of one kind"),
    ):
        done = command("merge", *folders, "--into", "all")
        assert done.returncode == 2
        assert says in done.stderr
        assert done.stderr.count("\n") == 1
    assert not (runs / "all").exists()
    assert command("merge", "small").returncode == 2  # --into is missing
