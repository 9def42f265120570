"""`copycost show`: a run as a tree."""

from __future__ import annotations

import io
import os
from dataclasses import replace

import pytest
from rich.console import Console
from test_overview import FAST, KERAS, LEAN, PLAIN
from test_results import M

from copycost.report import tree
from copycost.results import store


def shown(measurements: list, width: int) -> list[str]:
    out = io.StringIO()
    tree.show(Console(file=out, width=width), measurements)
    return out.getvalue().splitlines()


ROWS = [
    PLAIN, FAST, LEAN, KERAS, replace(PLAIN, batch=32), replace(PLAIN, recipe="caffe"),
    replace(M, variant="broken", status="failed", reason="raised ValueError: no", seconds=None, samples=None),
    replace(M, variant="cupy-new", status="skipped", reason="no CUDA device", seconds=None, samples=None),
]  # fmt: skip


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = shown(ROWS, width)
    assert max(map(len, lines)) <= width
    assert [line for line in lines if "tf-xla" in line]


LONG = "raised ValueError: " + " ".join(f"word{k}" for k in range(30))


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_remarks_and_reasons_are_complete_at_every_width(width: int) -> None:
    rows = [
        PLAIN, KERAS,
        replace(M, variant="broken", status="failed", reason=LONG, seconds=None, samples=None),
        *(
            replace(M, variant="cupy-new", batch=k, status="skipped", reason=f"{k}: {LONG}", seconds=None, samples=None)
            for k in range(1, 7)
        ),
    ]  # fmt: skip
    lines = shown(rows, width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).replace("│", " ").split())
    assert KERAS.remarks() in text
    assert LONG in text
    for k in range(1, 7):
        assert f"1 case skipped: {k}: {LONG}" in text


@pytest.mark.parametrize("width", [40, 120])
def test_device_times_by_several_clocks_are_not_compared_in_silence(width: int) -> None:
    one = replace(
        PLAIN, variant="cupy-out", device="gpu", device_seconds=1e-5, launch_seconds=1e-5,
        instruments=("audit", "memray", "cupy-hook", "cuda-events"),
    )  # fmt: skip
    other = replace(one, variant="tf-eager", instruments=("audit", "memray", "tf-profiler"))
    # Without a device time, the last instrument is no clock.
    untimed = replace(one, variant="jax-jit", device_seconds=None, instruments=("audit", "jax-profiler"))
    text = " ".join(" ".join(shown([one, other, untimed], width)).split())
    assert "several clocks (cuda-events, tf-profiler)" in text
    assert "several clocks" not in " ".join(shown([one, untimed, PLAIN], width))


def test_by_recipe_and_batch_the_fastest_first() -> None:
    lines = shown(ROWS, 120)
    assert [line.split()[0] for line in lines if line and line[0] not in "├└│ 1"] == ["caffe", "tf"]
    after = lines[next(k for k, line in enumerate(lines) if line.startswith("tf")) :]
    names = [line.replace("│", " ").split()[1] for line in after if "├─" in line[1:] or "╰─" in line[1:]]
    assert names == ["tf-xla", "numpy-out", "numpy-new", "keras-numpy", "broken", "numpy-new"]
    (fast,) = [line for line in lines if "tf-xla" in line]
    assert "1.02 ms" in fast
    assert "4.00 MiB" in fast
    (broken,) = [line for line in lines if "broken" in line]
    assert "failed: raised ValueError: no" in broken
    assert lines[-1] == "1 case skipped: no CUDA device"


def test_the_command(command, tmp_path) -> None:
    with store.Run(tmp_path / "run", resume=False) as run:
        run.begin({"engine": 1}, {}, 1)
        run.add(PLAIN)
    done = command("show", "run")
    assert done.returncode == 0
    assert "numpy-new" in done.stdout
    done = command("show", "nothing")
    assert (done.returncode, done.stderr) == (2, "Error: no run at nothing\n")


def test_folder_that_holds_no_run_names_what_to_show_instead(command, tmp_path) -> None:
    def refusal(folder: str) -> str:
        done = command("show", folder)
        assert done.returncode == 2
        (line,) = done.stderr.splitlines()
        return line.removeprefix("Error: ")

    def add_run(folder: str) -> None:
        with store.Run(tmp_path / folder, resume=False) as run:
            run.begin({"engine": 1}, {}, 1)
            run.add(PLAIN)

    (tmp_path / "empty").mkdir()
    assert refusal("empty") == "empty holds no run: name a folder written by copycost run --out"
    add_run("gate/head")
    assert refusal("gate") == "gate holds no run itself, but one in it: name gate/head"
    add_run("gate/base")
    os.utime(tmp_path / "gate/head/environment.json", (1, 1))
    assert refusal("gate") == "gate holds no run itself, but 2 in it: name one of them; the latest is gate/base"
    assert command("compare", "gate", "gate/base").stderr.endswith("the latest is gate/base\n")
    page = tmp_path / "history" / "index.html"
    page.parent.mkdir()
    page.touch()
    assert refusal("history") == "history holds no run, but a report: name the run that it was written from"
    (page.parent / "asv").mkdir()
    assert (
        refusal("history")
        == "history holds no run, but pages made from the results of asv: name the results, .asv/results"
    )
    (tmp_path / "asv.conf.json").write_text('{"version": 1, "repo": ".", "project": "p", "results_dir": "kept"}')
    assert refusal("history").endswith("name the results, kept")
