"""A run on disk and as a DataFrame."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import Command, read_json

from copycost.machine import environment
from copycost.model import numbers
from copycost.model.measurement import FIGURES, Measurement, from_dict
from copycost.results import load, store, table

M = Measurement(
    "tf", "numpy-out", "numpy", "out", "cpu", "float32", "channels_last", 8, 224, 224, 3, 2, "ok",
    seconds=0.00123, seconds_low=0.0012, seconds_high=0.0013, samples=[[0.00123]], allocations=0, allocated_bytes=0,
    missing={"device_allocations": "the case is on the CPU"},
)  # fmt: skip


def test_a_measurement_survives_json() -> None:
    assert from_dict(json.loads(json.dumps(M.to_dict()))) == M
    assert from_dict(M.to_dict() | {"of a later version": 1}) == M


#: The fields that may be None, by their annotation, and a value of each type.
OPTIONAL = [field.name for field in fields(Measurement) if str(field.type).endswith("| None")]
VALUES: dict[str, Any] = {
    "str": "word", "int": 7, "float": 0.25, "bool": True, "list[list[float]]": [[0.25]], "list[list[str]]": [["heat"]],
    "list[list[Mark]]": [["moved"]], "list[int | None]": [7, None],
    "list[dict[str, Any]]": [{"bytes": 4096, "space": "host", "op": "line"}],
}  # fmt: skip
#: Fields that hold one of a few words.
WORDS = {"writes": "out", "stopped_by": "blocks", "result_shares": "nothing"}
FULL = replace(
    M,
    **{f.name: VALUES[str(f.type).removesuffix(" | None")] for f in fields(M) if f.name in {*OPTIONAL} - {*WORDS}},
    **WORDS,
)


@pytest.mark.parametrize("name", [None, *OPTIONAL])
def test_a_measurement_without_one_field_survives_every_form(name: str | None, tmp_path: Path) -> None:
    """The folder of a run, the JSON document, the table and the CSV."""
    lacking = FULL if name is None else replace(FULL, **{name: None}, missing={name: "not measured"})
    with store.Run(tmp_path / "run", resume=False) as run:
        run.begin({"engine": 1}, {}, 1)
        run.add(lacking)
        run.finish({}, finished=True)
    assert load.load(tmp_path / "run")[1] == [lacking]
    with store.Run(tmp_path / "run", resume=True) as run:
        assert run.measurements == [lacking]
    (tmp_path / "run.json").write_text(json.dumps(store.document({"engine": 1}, [lacking])))
    assert load.load(tmp_path / "run.json")[1] == [lacking]
    assert table.measurements(load.read(tmp_path / "run", tmp_path / "run.json")) == [lacking, lacking]
    (row,) = pd.read_csv(tmp_path / "run" / store.CSV).to_dict("records")
    for cell, value in row.items():
        assert pd.isna(value) if cell == name else value == getattr(FULL, str(cell)) or cell == "instruments"


@pytest.mark.slow
def test_a_run_of_a_batch_and_of_one_image_is_written_shown_and_read(command: Command, tmp_path: Path) -> None:
    arguments = ["--recipe", "resize_scale", "--batch", 2, "--batch", "none", "--size", "32x48", "--dtype", "float32"]
    done = command("run", *arguments, "--variant", "numpy-new", "--blocks", 2, "--out", "one", "--json", "one.json")
    assert done.returncode == 0, done.stderr
    assert "resize_scale 32×48 float32" in done.stdout
    rows = read_json((tmp_path / "one.json").read_text())["measurements"]
    assert {(m["batch"], m["status"]) for m in rows} == {(2, "ok"), (None, "ok")}
    for words in (
        ("show", "one"),
        ("compare", "one", "one.json"),
        ("report", "one", "--html", "page", "--markdown", "-"),
    ):
        done = command(*words)
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "page" / "index.html").exists()


def test_the_figures_are_the_fields_that_can_be_missing() -> None:
    assert {"seconds", "peak_bytes", "max_ulp", "input_changed", "batch"} - set(FIGURES) == {"batch"}
    assert not {"reason", "known", "status", "recipe"} & set(FIGURES)


def test_missing_is_missing_in_the_frame_and_zero_is_zero() -> None:
    frame = table.frame([M, replace(M, variant="x", status="failed", seconds=None, allocations=None)])
    assert frame["allocations"].tolist()[0] == 0
    assert frame["allocations"].isna().tolist() == [False, True]
    assert frame["seconds"].isna().tolist() == [False, True]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    with store.Run(tmp_path / "run", resume=False) as run:
        run.begin({"engine": 1}, {}, 2)
        run.add(M)
        with open(run.folder / store.MEASUREMENTS, "a") as file:
            file.write("half a li\n")
        run.add(replace(M, variant="other"))
    with pytest.warns(UserWarning, match="line 2 is not a measurement"):
        _, measurements = load.load(tmp_path / "run")
    assert [m.variant for m in measurements] == ["numpy-out", "other"]


def test_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(store.document({}, [M]) | {"schema": 99}))
    with pytest.raises(store.RunError, match="schema 99"):
        load.load(path)


def test_what_must_not_differ_between_two_parts_of_a_run() -> None:
    one = environment.capture(2, "photograph.jpg", "abc")
    assert environment.difference(one, dict(one, load=99.0, time="later")) is None
    changed = environment.difference(one, dict(one, libraries={"numpy": "1.0"}))
    assert changed is not None
    assert "libraries" in changed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.2344, "1.23 s"),
        (0.99999, "1.00 s"),
        (0.0012345, "1.23 ms"),
        (0.00099951, "1.00 ms"),
        (3.17e-7, "317 ns"),
        (1.5e-5, "15.0 µs"),
        (4e-11, "0.040 ns"),
        (None, "–"),
    ],
)
def test_times_have_three_digits_and_a_unit(value: float | None, text: str) -> None:
    assert numbers.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 B"), (1023, "1023 B"), (602_112, "588 KiB"), (19_267_584, "18.4 MiB"), (-2048, "−2.00 KiB"), (None, "–")],
)
def test_sizes(value: int | None, text: str) -> None:
    assert numbers.size(value) == text


def test_spread_is_the_wider_side() -> None:
    assert M.spread() == "±6 %"
    assert replace(M, seconds_low=None).spread() == ""


def test_remarks() -> None:
    assert M.remarks() == ""
    keras = replace(M, writes="new", input_changed=True, result_shares="input", result_contiguous=False)
    assert keras.remarks() == "changes its input, shares the input's memory, not contiguous"
    known = replace(M, status="wrong", reason="returned uint8", known="docs/results/known-issues.md#x")
    assert known.remarks() == "wrong: returned uint8 (known: docs/results/known-issues.md#x)"


def test_half_a_character_is_written_read_and_shown(tmp_path: Path) -> None:
    """As in the name of a file that is no UTF-8."""
    with store.Run(tmp_path / "run", resume=False) as run:
        run.begin({"engine": 2, "image": "a\udcff.jpg"}, {}, 1)
        run.add(replace(M, status="failed", reason="no a\udcff.jpg"))
        run.finish({}, finished=True)
    environment, (read,) = load.load(tmp_path / "run")
    assert (environment["image"], read.reason) == ("a\ufffd.jpg", "no a\ufffd.jpg")
    assert load.read(tmp_path / "run")["reason"].tolist() == ["no a\ufffd.jpg"]


def test_variables_that_change_what_is_measured_are_kept_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = {"TF_ENABLE_ONEDNN_OPTS": "0", "TF_XLA_FLAGS": "--x", "OMP_NUM_THREADS": "1"}
    for name in (*kept, "TF_VAR_password", "TF_TOKEN_app_terraform_io", "TF_CLI_CONFIG_FILE", "HOME"):
        monkeypatch.setenv(name, kept.get(name, "secret"))
    found = environment.capture(1, "x.jpg", "0")["variables"]
    assert kept.items() <= found.items()
    assert "secret" not in found.values()
