"""What `copycost run` ends with: the answer, in a dozen lines, whatever the terminal and whatever there is to say."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import BAD, Command, read_json
from rich.console import Console
from test_overview import FAST, KERAS, LEAN, PLAIN, scaled

from copycost.analysis.overview import overview
from copycost.model.measurement import Measurement
from copycost.report.terminal import LINES, show, show_skipped
from copycost.results import load, table

KNOWN = replace(
    PLAIN, variant="keras-tensor", status="wrong", reason="returned uint8", known="docs/results/known-issues.md#x"
)
BROKEN = replace(PLAIN, variant="broken", status="failed", reason="raised\nValueError: no", seconds=None, samples=None)
SKIPPED = replace(PLAIN, variant="cupy-new", device="gpu", status="skipped", reason="no CUDA device", seconds=None)
MANY = [
    replace(m, recipe=recipe, batch=batch, dtype=dtype)
    for recipe in ("caffe", "tf", "torch")
    for batch in (1, 32)
    for dtype in ("uint8", "float32")
    for m in (PLAIN, FAST, LEAN, KERAS)
]
WIDTHS = (40, 80, 200)


def said(measured: list[Measurement], width: int) -> list[str]:
    out = io.StringIO()
    show(Console(file=out, width=width), overview(measured))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "measured",
    [
        MANY,
        [*MANY, KNOWN, BROKEN, replace(BROKEN, variant="x" * 90)],
        [PLAIN],
        [FAST],
        [BROKEN],
        [KNOWN],
        [SKIPPED],
        [],
    ],
    ids=["many", "with faults", "one case", "no baseline", "only a failure", "only known", "only skipped", "nothing"],
)
def test_answer_fits_the_terminal_in_a_dozen_lines(measured: list[Measurement], width: int) -> None:
    lines = said(measured, width)
    assert 1 <= len(lines) <= LINES == 12
    assert max(map(len, lines)) <= width
    assert not any("\x1b" in line for line in lines)


def test_answer_names_the_variant_its_saving_and_what_to_beware_of() -> None:
    lines = said([PLAIN, FAST, LEAN, KERAS, KNOWN, BROKEN], 200)
    (answer,) = overview([PLAIN, FAST, LEAN, KERAS]).answers
    saving = answer.fastest.savings[0]
    (row,) = [line for line in lines if "8×224×224" in line]
    assert "tf-xla" in row
    figures = re.search(r"([\d.]+) × \(([\d.]+) to ([\d.]+)\)", row)
    assert figures is not None
    assert [float(one) for one in figures.groups()] == pytest.approx([saving.times, saving.low, saving.high], rel=0.005)
    text = "\n".join(lines)
    assert "Warning for keras-numpy: changes its input (1 of 1 case)" in text
    assert "Warning for keras-tensor: wrong (1 of 1 case, known)" in text
    assert (
        "1 case is at fault:\n  broken raises, crashes or times out in 1 of 1 cases (tf): raised ValueError: no" in text
    )


def test_answer_has_every_recipe_before_a_second_kind_of_batch() -> None:
    lines = said(MANY, 40)
    recipes = [line.split()[0] for line in lines if "224×224" in line]
    assert set(recipes) == {"caffe", "tf", "torch"}
    assert len(recipes) < 6
    assert any(re.search(r"and \d+ more kinds of batch", line) for line in lines)


def test_difference_that_cannot_be_told_is_not_quoted_at_any_width() -> None:
    noisy = [replace(PLAIN, samples=[[1e-3], [9e-3], [3e-3]]), replace(FAST, samples=[[9e-3], [1e-3], [3e-3]])]
    for width in WIDTHS:
        text = " ".join(" ".join(said(noisy, width)).split())
        assert "undecided (" in text
        assert " × (" not in text


def test_cases_of_a_missing_device_are_one_line() -> None:
    out = io.StringIO()
    show_skipped(Console(file=out, width=80), [SKIPPED, replace(SKIPPED, variant="cupy-out"), PLAIN])
    assert out.getvalue() == "2 GPU cases skipped: no CUDA device\n"


SMALL = ("--recipe", "tf", "--batch", 1, "--size", "32x24", "--budget", 1)
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.slow
@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_run_ends_with_the_answer_and_where_every_case_is(command: Command, tmp_path: Path, columns: str) -> None:
    chosen = ("--variant", "numpy-out", "--variant", "numpy-new", "--variant", "cupy-*", "--dtype", "float32")
    done = command("run", *SMALL, *chosen, "--out", "here", env=NO_GPU | {"COLUMNS": columns})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= int(columns)
    assert lines[-1].endswith("copycost show here")
    assert "\x1b" not in done.stdout
    assert sum("GPU case" in line for line in lines) == 1
    _, measured = load.load(tmp_path / "here")
    lacking = [m for m in measured if m.device == "gpu"]
    assert len(lacking) > 3
    assert {(m.status, m.reason) for m in lacking} == {("skipped", "CUDA_VISIBLE_DEVICES='' hides every CUDA device")}
    # The log that stands for the progress bar counts what can run here: two cases.
    assert re.findall(r"of (\d+) cases", done.stderr) == ["2"]
    (row,) = [k for k, line in enumerate(lines) if "32×24" in line]
    assert "numpy-" in " ".join(lines[row : row + 3])
    shown = command("show", "here")
    assert shown.returncode == 0
    assert "numpy-out" in shown.stdout
    assert "numpy-new" in shown.stdout


def test_run_that_times_nothing_says_so(command: Command) -> None:
    done = command("run", *SMALL, "--device", "cpu", "--variant", "numpy-out", "--blocks", 0, "--out", "here")
    assert done.returncode == 0, done.stderr
    assert "No correct variant was timed" in done.stdout
    assert done.stdout.splitlines()[-1] == "All cases: copycost show here"


@pytest.mark.slow
def test_run_of_failures_only_names_them(command: Command) -> None:
    chosen = ("--device", "cpu", "--dtype", "float32", "--with", BAD, "--variant", "wrong-constant")
    done = command("run", *SMALL, *chosen, "--out", "here", env={"COLUMNS": "80"})
    assert done.returncode == 1
    assert "1 case is at fault:" in done.stdout
    assert "  wrong-constant returns a wrong result" in done.stdout
    assert done.stdout.splitlines()[-1] == "All cases: copycost show here"


@pytest.mark.slow
def test_run_with_json_on_standard_output_has_its_answer_on_standard_error(command: Command) -> None:
    chosen = ("--device", "cpu", "--variant", "numpy-out", "--dtype", "float32")
    done = command("run", *SMALL, *chosen, "--out", "here", "--json", "-")
    assert done.returncode == 0
    assert len(read_json(done.stdout)["measurements"]) == 1
    assert json.loads(done.stdout)["schema"] == 1
    assert done.stderr.splitlines()[-1] == "All cases: copycost show here"


def test_answer_of_two_machines_names_them() -> None:
    rows = [table.frame(its).assign(machine=name) for name, its in (("a", [PLAIN, FAST]), ("b", [scaled(PLAIN, 9)]))]
    out = io.StringIO()
    show(Console(file=out, width=120), overview(pd.concat(rows, ignore_index=True)))
    assert "a: tf 8×224×224" in out.getvalue()
    assert "b: tf 8×224×224" in out.getvalue()
