"""asv's result files, as asv itself writes them, read into the table that runs are read into."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from asv.results import Results
from asv.runner import BenchmarkResult
from test_results import M

from copycost.machine import environment
from copycost.report import write_html
from copycost.results import load, store
from copycost.results import table as made
from copycost.results.asv_format import PARAMETERS

MACHINE = {"machine": "here", "cpu": "a CPU", "gpu": "none", "version": 1}
PARAMS = [["'tf'"], ["'numpy-new'", "'numpy-out'"], ["'cpu'"], ["'float32'"], ["'channels_last'"], ["224"], ["224"]]
BLOCKS = [0.010, 0.011, 0.012, 0.013, 0.014, 0.015, 0.016]


def write(
    folder: Path,
    figures: dict[str, list[Any]],
    *,
    machine: dict[str, Any] = MACHINE,
    commit: str = "a" * 40,
    params: list[list[str]] = [*PARAMS, ["32"]],  # noqa: B006
    environment: str = "virtualenv-py3.11-numpy2.4.6",
) -> Path:
    """A result file by asv's own writer: field → a value, or a list of samples, for each case."""
    (folder / machine["machine"]).mkdir(parents=True, exist_ok=True)
    (folder / machine["machine"] / "machine.json").write_text(json.dumps(machine))
    versions = {"numpy": "2.4.6"}
    written = Results(machine | versions, versions, commit, 1795255543000, "3.11", environment, {})
    for field, values in figures.items():
        benchmark = {"name": f"preprocessing.NumPy.track_{field}", "version": "1", "params": params}
        samples = [value if isinstance(value, list) else None for value in values]
        numbers = [None if s is None else 1 for s in samples]
        written.add_result(benchmark, BenchmarkResult(values, samples, numbers, 0, "", None), record_samples=True)
    written.save(str(folder))
    return folder


def frame(folder: Path) -> pd.DataFrame:
    """One that no warning came with."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return load.read(folder)


def test_a_result_has_the_columns_of_a_run_and_its_samples(tmp_path: Path) -> None:
    write(tmp_path, {"seconds": [BLOCKS, BLOCKS], "allocations": [2, 0], "allocated_bytes": [38535168, 0],
                     "input_changed": [0, 0], "max_abs_error": [1e-7, 1e-7]})  # fmt: skip
    table = frame(tmp_path)
    assert list(table["variant"]) == ["numpy-new", "numpy-out"]
    assert set(made.frame([M]).columns) <= set(table.columns)
    first = table.iloc[0]
    assert first["seconds"] == 0.013
    assert first["samples"] == [[b] for b in BLOCKS]
    assert first["seconds_low"] < 0.013 < first["seconds_high"]
    assert first["allocated_bytes"] == 38535168
    assert first["images_per_second"] == pytest.approx(32 / 0.013)
    assert not first["input_changed"]
    assert (first["machine"], first["commit"], first["environment"]) == (
        "here",
        "a" * 40,
        "virtualenv-py3.11-numpy2.4.6",
    )
    assert (first["runtime"], first["writes"], first["status"]) == ("numpy", "new", "ok")
    # What asv does not hold is missing, and says so.
    assert pd.isna(first["result_shares"])
    assert first["missing"]["result_shares"] == "asv's results do not hold it"
    assert pd.isna(first["peak_bytes"])


def test_runs_and_results_are_one_table(tmp_path: Path) -> None:
    write(tmp_path / "asv", {"seconds": [BLOCKS, BLOCKS]})
    document = store.document(environment.capture(1, "x", "y"), [M])
    (tmp_path / "run.json").write_text(json.dumps(document))
    table = load.read(tmp_path / "asv", tmp_path / "run.json")
    assert list(table["variant"]) == ["numpy-new", "numpy-out", "numpy-out"]
    assert table["machine"].isna().tolist() == [False, False, True]
    assert table["samples"].tolist()[2] == [[0.00123]]
    assert str(table["seconds"].dtype) == "Float64"


def test_what_failed_and_what_was_na_are_told_apart(tmp_path: Path) -> None:
    nan = float("nan")
    write(tmp_path, {"seconds": [None, nan], "allocations": [None, nan]})
    table = frame(tmp_path)
    assert table["status"].tolist() == ["failed", "skipped"]
    assert table["reason"].tolist() == [
        "wrong, crashed or failed in asv, whose results keep no reason",
        "n/a in asv, whose results keep no reason",
    ]
    assert table["seconds"].isna().all()


def test_a_figure_that_alone_failed_is_no_missing_one(tmp_path: Path) -> None:
    write(tmp_path, {"seconds": [None, BLOCKS], "allocations": [2, float("nan")]})
    first, second = frame(tmp_path).to_dict("records")
    assert (first["status"], first["allocations"]) == ("failed", 2)
    assert first["reason"] == "seconds failed in asv, whose results keep no reason"
    assert (second["status"], second["missing"]["allocations"]) == ("ok", "n/a in asv")
    assert second["missing"]["peak_bytes"] == "asv's results do not hold it"


def test_what_is_known_to_be_wrong_is_told(tmp_path: Path) -> None:
    """Which asv has as n/a."""
    params = [["'tf'"], ["'keras-tensor'"], ["'cpu'"], ["'uint8'", "'float32'"], *PARAMS[4:], ["32"]]
    write(tmp_path, {"seconds": [float("nan"), BLOCKS]}, params=params)
    first, second = frame(tmp_path).to_dict("records")
    assert first["status"] == "skipped"
    assert "docs/results/known-issues.md" in first["known"]
    assert (second["status"], pd.isna(second["known"])) == ("ok", True)


def test_figures_of_two_ways_of_measuring_are_of_no_one_row(tmp_path: Path) -> None:
    write(tmp_path, {"seconds": [BLOCKS, BLOCKS]})
    path = next((tmp_path / "here").glob("aaaa*.json"))
    document = json.loads(path.read_text())
    columns, (name,) = document["result_columns"], document["results"]
    newer = list(document["results"][name])
    newer[columns.index("version")], newer[columns.index("result")] = "2", [5, 6]
    document["results"][name.replace("seconds", "allocations")] = newer
    path.write_text(json.dumps(document))
    table = frame(tmp_path)
    assert table["engine"].tolist() == [2, 2]
    assert table["allocations"].tolist() == [5, 6]
    assert table["seconds"].isna().all()


def test_two_interpreters_are_two_environments(tmp_path: Path) -> None:
    for path in ("_home_a_venv_bin_python", "_home_b_venv_bin_python"):
        write(tmp_path, {"allocations": [2, 0]}, environment=f"existing-py{path}")
    table = frame(tmp_path)
    assert table["environment"].nunique() == 2
    assert not table["environment"].str.contains("home").any()


def test_cells_of_the_product_that_are_no_cases_are_no_rows(tmp_path: Path) -> None:
    params = [["'tf'", "'resize_scale'"], ["'numpy-new'", "'numpy-table'"], *PARAMS[2:], ["32"]]
    nan = float("nan")
    write(tmp_path, {"allocations": [2, nan, 3, nan]}, params=params)
    table = frame(tmp_path)
    # There is a table of 256 entries for one, and none for what interpolates.
    assert list(zip(table["recipe"], table["variant"], strict=True)) == [
        ("tf", "numpy-new"), ("tf", "numpy-table"), ("resize_scale", "numpy-new"),
    ]  # fmt: skip


def test_a_machine_with_a_gpu_beside_one_without(tmp_path: Path) -> None:
    write(tmp_path, {"allocations": [2, 0]})
    gpu = MACHINE | {"machine": "there", "gpu": "NVIDIA H200", "cuda": "13.0"}
    write(
        tmp_path, {"allocations": [2]}, machine=gpu, params=[["'tf'"], ["'cupy-new'"], ["'gpu'"], *PARAMS[3:], ["32"]]
    )
    table = frame(tmp_path)
    assert dict(zip(table["machine"] + table["variant"], table["device"], strict=True)) == {
        "herenumpy-new": "cpu", "herenumpy-out": "cpu", "therecupy-new": "gpu",
    }  # fmt: skip
    kept = {name: taken_in for name, taken_in, _ in load.load_all(tmp_path)}
    assert sorted(str(taken_in["gpu"]) for taken_in in kept.values()) == ["NVIDIA H200", "none"]
    page = write_html(tmp_path / "page", load.load_all(tmp_path)).read_text()
    assert "NVIDIA H200" in page


def test_files_that_are_not_whole_or_foreign_are_named_and_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"allocations": [2, 0]})
    whole = next((tmp_path / "here").glob("aaaa*.json"))
    (tmp_path / "here" / "bbbb-half.json").write_text(whole.read_text()[:200])
    (tmp_path / "here" / "cccc-older.json").write_text(whole.read_text().replace('"version": 2', '"version": 1'))
    (tmp_path / "here" / "dddd-list.json").write_text("[1, 2]")
    zero = json.loads(whole.read_text().replace("track_allocations", "track_seconds"))
    (tmp_path / "here" / "ffff-zero.json").write_text(json.dumps(zero))
    short = json.loads(whole.read_text())
    next(iter(short["results"].values()))[0].pop()
    (tmp_path / "here" / "gggg-short.json").write_text(json.dumps(short))
    foreign = json.loads(whole.read_text())
    foreign["results"] = {"theirs.time_it": [[1.0], [], "x"]}
    (tmp_path / "here" / "eeee-theirs.json").write_text(json.dumps(foreign))
    with pytest.warns(UserWarning, match="left out") as said:
        table = load.read(tmp_path)
    assert len(table) == 2
    texts = [str(w.message) for w in said]
    for name, words in (
        ("bbbb-half", "incomplete or not valid JSON"), ("cccc-older", "version 1"), ("dddd-list", "not an asv result"),
        ("eeee-theirs", "no copycost case"), ("ffff-zero", "not an asv result"),
        ("gggg-short", "not an asv result"),
    ):  # fmt: skip
        assert any(name in text and words in text for text in texts), name


def test_a_renamed_variant_keeps_its_figures_and_is_named(tmp_path: Path) -> None:
    params = [["'tf'"], ["'numpy-old'"], *PARAMS[2:], ["32"]]
    write(tmp_path, {"allocations": [7], "seconds": [BLOCKS]}, params=params)
    listed = {"preprocessing.NumPy.track_seconds": {"params": [*PARAMS, ["32"]]}, "version": 2}
    (tmp_path / "benchmarks.json").write_text(json.dumps(listed))
    with pytest.warns(UserWarning, match="variant 'numpy-old' is not among the current benchmarks"):
        (row,) = load.read(tmp_path).to_dict("records")
    assert row["allocations"] == 7
    assert pd.isna(row["runtime"])  # nobody knows any more, and nobody guesses


def test_a_folder_that_holds_nothing_of_ours_is_said(tmp_path: Path) -> None:
    write(tmp_path, {})
    with (
        pytest.warns(UserWarning, match="left out"),
        pytest.raises(store.RunError, match="none of them is from copycost"),
    ):
        load.read(tmp_path)


def test_parameters_are_named_as_in_the_contract() -> None:
    assert set(PARAMETERS) == set(store.KEY)
