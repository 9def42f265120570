"""The answer first: which way, what it saves, what to beware of."""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from test_results import M

from copycost.analysis.overview import INTERVALS, MOST
from copycost.model.measurement import Measurement
from copycost.report.markdown import markdown
from copycost.report.notebook import overview
from copycost.results.load import read
from copycost.results.store import document
from copycost.results.table import frame

MIB = 2**20


def one(variant: str, blocks: tuple[float, ...], allocated: int = 0, **more: object) -> Measurement:
    middle = sorted(blocks)[len(blocks) // 2]
    fields = {
        "variant": variant, "samples": [[block] * 3 for block in blocks], "seconds": middle, "seconds_low": min(blocks),
        "seconds_high": max(blocks), "allocations": int(allocated > 0), "allocated_bytes": allocated, "writes": "new",
        "input_changed": False, "result_shares": "nothing", "result_contiguous": True,
    }  # fmt: skip
    return replace(M, **fields | more)


PLAIN = one("numpy-new", (4.0e-3, 4.1e-3, 4.2e-3, 4.0e-3), 8 * MIB)
FAST = one("tf-xla", (1.0e-3, 1.02e-3, 1.05e-3, 1.0e-3), 4 * MIB, code="def call(x): ...\n")
LEAN = one("numpy-out", (2.0e-3, 2.05e-3, 2.1e-3, 2.0e-3), 0, writes="out")
OVER = one("numpy-inplace", (0.5e-3, 0.51e-3, 0.52e-3, 0.5e-3), 0, writes="input", input_changed=True)
KERAS = one("keras-numpy", (8e-3, 8.1e-3, 8.2e-3, 8e-3), 0, input_changed=True, result_shares="input")


def test_the_answer_and_what_it_saves() -> None:
    found = overview([PLAIN, FAST, LEAN, OVER, KERAS])
    (answer,) = found.answers
    assert answer.fastest.measurement == FAST
    assert answer.lean is not None
    assert answer.lean.measurement == LEAN
    assert answer.over is not None
    assert answer.over.measurement == OVER
    plain, keras = answer.fastest.savings
    assert (plain.base, keras.base) == (PLAIN, KERAS)
    # The geometric mean over blocks of how many times as fast each was.
    ratio = (4.0 / 1.0 * 4.1 / 1.02 * 4.2 / 1.05 * 4.0 / 1.0) ** 0.25
    assert plain.times == pytest.approx(ratio)
    assert plain.sure
    assert plain.low is not None
    assert plain.low < ratio
    assert plain.allocated_bytes == 4 * MIB
    assert plain.memory == "allocates 4.00 MiB less"
    assert plain.speed.startswith("4.00 × (")
    assert str(plain) == f"{plain.speed} numpy-new (4.10 ms), allocates 4.00 MiB less"
    assert keras.beside == "(8.10 ms, which changes its input)"


def test_a_difference_inside_the_noise_says_so() -> None:
    noisy = one("numpy-copy", (3.9e-3, 4.4e-3, 3.8e-3, 4.3e-3), 8 * MIB, seconds=4.2e-3)
    (answer,) = overview([PLAIN, noisy]).answers
    assert answer.fastest.measurement == PLAIN
    assert answer.ties == ("numpy-copy",)
    (other,) = overview([replace(PLAIN, variant="plain"), replace(noisy, variant="numpy-new", seconds=4.3e-3)]).answers
    (saving,) = other.fastest.savings
    assert saving.low is not None
    assert saving.high is not None
    assert saving.low < 1 < saving.high
    assert not saving.same
    assert re.fullmatch(r"undecided: 0\.\d+ to 1\.\d+ × as fast as", saving.speed), saving.speed


def test_variants_that_differ_by_less_than_the_margin_are_as_fast() -> None:
    """Their samples are 1 % apart in every block."""
    seconds = (4.0e-3, 4.2e-3, 4.1e-3, 4.05e-3, 4.15e-3)
    base = one("numpy-new", seconds, 8 * MIB)
    near = one("numpy-copy", tuple(0.99 * s for s in seconds), 4 * MIB)
    (answer,) = overview([base, near]).answers
    (saving,) = answer.fastest.savings
    assert saving.same
    assert saving.speed == "as fast, within 5 %, as"
    far = one("numpy-copy", tuple(0.9 * s for s in seconds), 4 * MIB)
    (answer,) = overview([base, far]).answers
    assert not answer.fastest.savings[0].same


def test_variant_that_another_is_surely_faster_than_is_not_the_fastest_though_its_median_is() -> None:
    """Slow phases that hit two of three blocks move a median of times, and not that of ratios of neighbours."""
    hit = [[4e-3] * 3, [9e-3] * 3, [9e-3] * 3]
    calm = [[4.4e-3] * 3, [9.9e-3] * 3, [9.8e-3] * 3, [4.4e-3] * 3, [4.4e-3] * 3, [4.4e-3] * 3]  # of more blocks
    quick = replace(PLAIN, samples=hit, seconds=9e-3)
    slow = replace(PLAIN, variant="numpy-copy", samples=calm, seconds=4.4e-3)
    (answer,) = overview([quick, slow]).answers
    assert answer.fastest.measurement == quick
    assert answer.ties == ()


def test_what_is_as_fast_as_far_as_can_be_told_is_named() -> None:
    twin = one("numba-out", (1.0e-3, 1.06e-3, 1.01e-3, 1.03e-3))
    (answer,) = overview([PLAIN, FAST, twin]).answers
    assert {answer.fastest.measurement.variant, *answer.ties} == {"tf-xla", "numba-out"}


def test_what_is_wrong_is_never_recommended() -> None:
    wrong = replace(OVER, variant="quick", status="wrong", reason="off by 2", input_changed=False)
    found = overview([PLAIN, wrong, replace(FAST, status="failed", seconds=None, samples=None)])
    assert [one.fastest.measurement.variant for one in found.answers] == ["numpy-new"]
    assert [(caution.variant, caution.what) for caution in found.cautions] == [
        ("quick", "returns a wrong result"), ("tf-xla", "raises, crashes or times out"),
    ]  # fmt: skip
    assert found.cautions[0].example == wrong


def test_worries() -> None:
    strided = replace(PLAIN, variant="flip", result_contiguous=False)
    found = overview([PLAIN, KERAS, replace(KERAS, recipe="caffe"), OVER, strided])
    said = {(caution.variant, caution.what): (caution.recipes, caution.cases, caution.of) for caution in found.cautions}
    assert said == {
        ("keras-numpy", "changes its input array"): (("tf", "caffe"), 2, 2),
        ("keras-numpy", "returns a result that shares the input's memory"): (("tf", "caffe"), 2, 2),
        ("flip", "returns a result that is not contiguous, which the next step may copy"): (("tf",), 1, 1),
    }


def test_a_table_gives_the_same_as_the_measurements() -> None:
    measured = [PLAIN, FAST, LEAN, OVER, KERAS]
    assert overview(frame(measured)) == overview(measured)


def test_no_more_than_can_be_read() -> None:
    many = [replace(PLAIN, batch=k) for k in range(1, MOST + 6)]
    found = overview(many)
    assert (len(found.answers), found.left) == (MOST, 5)


def test_in_a_notebook_and_in_markdown() -> None:
    hostile = replace(KERAS, variant="<b>|x`")
    found = overview([PLAIN, FAST, LEAN, OVER, hostile])
    html = found._repr_html_()
    assert "tf-xla" in html
    assert "<b>|x" not in html
    text = markdown(found)
    (row,) = [line for line in text.splitlines() if "tf-xla" in line]
    assert row.count(" | ") == 4
    assert "4.00 ×" in row
    assert "<details>" in text
    assert "\\<b\\>\\|x\\`" in text
    assert "tf-xla" in str(found)
    for shown in (html, text, str(found)):
        assert INTERVALS in shown


def scaled(m: Measurement, factor: float) -> Measurement:
    """The same measurement on a machine that takes so many times as long."""
    seconds = {name: getattr(m, name) * factor for name in ("seconds", "seconds_low", "seconds_high")}
    return replace(m, samples=[[one * factor for one in block] for block in m.samples or []], **seconds)


@pytest.mark.parametrize("column", ["machine", "commit", "engine", "session", "environment", "source", "threads"])
def test_overview_of_two_origins_answers_for_each_and_names_it(column: str) -> None:
    values = (1, 2) if column in ("engine", "threads") else ("alpha", "beta")
    slow = frame([scaled(PLAIN, 100), scaled(LEAN, 100)]).assign(**{column: values[0]})
    quick = frame([PLAIN, FAST]).assign(**{column: values[1]})
    found = overview(pd.concat([slow, quick], ignore_index=True))
    assert [one.fastest.measurement.variant for one in found.answers] == ["numpy-out", "tf-xla"]
    assert [[saving.base.seconds for saving in one.fastest.savings] for one in found.answers] == [
        [pytest.approx(0.41)],
        [PLAIN.seconds],
    ]
    # Never 400 times as fast: within each machine it is 2 and 4 times.
    assert [round(one.fastest.savings[0].times or 0) for one in found.answers] == [2, 4]
    assert len(found.usual) == 2
    for one, value in zip(found.answers, values, strict=True):
        assert str(value) in one.where
        for shown in (str(found), found._repr_html_(), markdown(found)):
            assert one.where in shown


def test_overview_of_one_origin_names_no_machine() -> None:
    (answer,) = overview(frame([PLAIN, FAST]).assign(machine="alpha", engine=2, commit=None)).answers
    assert answer.where == ""


def test_overview_of_runs_loaded_from_two_machines_compares_within_each(tmp_path: Path) -> None:
    for name, cpu, its in (("a", "Fast CPU", [PLAIN, FAST]), ("b", "Slow CPU", [scaled(PLAIN, 50), scaled(LEAN, 50)])):
        taken_in = {"engine": 2, "cpu": cpu, "cpus": 2, "gpus": [], "time": "2026-01-01T00:00:00+00:00"}
        (tmp_path / f"{name}.json").write_text(json.dumps(document(taken_in, its)))
    table = read(tmp_path / "a.json", tmp_path / "b.json")
    assert list(table["hardware"].unique()) == ["Fast CPU, 2 CPUs", "Slow CPU, 2 CPUs"]
    found = overview(table)
    assert [one.where for one in found.answers] == ["Fast CPU, 2 CPUs", "Slow CPU, 2 CPUs"]
    assert [round(one.fastest.savings[0].times or 0) for one in found.answers] == [4, 2]


def test_overview_of_one_run_loaded_with_two_environments_compares_within_each(tmp_path: Path) -> None:
    for name, flags in (("a", {}), ("b", {"TF_ENABLE_ONEDNN_OPTS": "0"})):
        (tmp_path / name).mkdir()
        taken_in = {"engine": 2, "cpu": "CPU", "cpus": 2, "variables": flags}
        (tmp_path / name / "run.json").write_text(json.dumps(document(taken_in, [PLAIN, FAST])))
    table = read(tmp_path / "a" / "run.json", tmp_path / "b" / "run.json")
    assert len(overview(table).answers) == 2
    assert len(overview(read(tmp_path / "a" / "run.json")).answers) == 1


def test_overview_of_a_case_that_is_there_twice_without_an_origin_is_refused() -> None:
    with pytest.raises(ValueError, match="numpy-new appears twice for tf, 8×224×224×3 float32, cpu"):
        overview([PLAIN, FAST, scaled(PLAIN, 2)])


def example(name: str) -> ModuleType:
    """A script of the documentation as a module."""
    path = Path(__file__).parents[2] / "docs" / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHOSEN = example("chosen")


@pytest.mark.parametrize("blocks", CHOSEN.BLOCKS)
@pytest.mark.parametrize("spread", CHOSEN.SPREADS)
def test_interval_of_the_fastest_of_twenty_holds_the_truth_in_95_of_100(spread: str, blocks: int) -> None:
    """In worlds where all are equal, one is faster, or five are close; 50 trials of each."""
    found = [CHOSEN.held(spread, truth, blocks, 50, seed=blocks) for truth in CHOSEN.TRUTHS]
    assert sum(one.after for one in found) / sum(one.answers for one in found) >= 0.95
    assert sum(one.claimed for one in found) / sum(one.answers for one in found) <= 0.05


def test_interval_fixed_beforehand_misses_where_the_fastest_of_equal_variants_was_chosen() -> None:
    """The reason for another interval: of 20 equal variants the fastest is a lucky one."""
    found = CHOSEN.held("10 %", "all equal", 12, 200)
    assert found.before / found.answers < 0.93
    assert found.after / found.answers >= 0.95


def test_saving_whose_interval_contains_1_is_not_claimed() -> None:
    random = np.random.default_rng(1)
    shown = 0
    for _ in range(40):
        _, logs = CHOSEN.world(random, "10 %", "all equal", 3)
        _, saving = CHOSEN.quoted(logs)
        if saving is not None and saving.low <= 1 <= saving.high:
            shown += 1
            assert not saving.sure
            assert saving.speed.startswith("undecided: ") or saving.same
    assert shown > 30


def test_claims_need_wider_intervals_where_a_table_has_more_answers() -> None:
    """Twenty answers are twenty chances to claim a saving wrongly."""
    close = one("numpy-copy", (3.6e-3, 3.7e-3, 3.9e-3, 3.65e-3), 8 * MIB)
    (alone,) = overview([PLAIN, close]).answers
    many = overview([replace(m, batch=k) for k in range(1, 61) for m in (PLAIN, close)]).answers
    assert alone.fastest.savings[0].sure
    assert not any(answer.fastest.savings[0].sure for answer in many)
    assert {answer.fastest.savings[0].low for answer in many} == {alone.fastest.savings[0].low}
