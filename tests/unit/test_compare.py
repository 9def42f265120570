"""Two sides compared: what is exact, what is refused, what the command says and exits with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from rich.console import Console
from test_asv_results import write
from test_results import M

from copycost.analysis.compare import Comparison, Side, compare, exact
from copycost.cases.selection import select
from copycost.engine.case_state import CaseState
from copycost.engine.records import BlockRecord, Sample
from copycost.gate.measure import _Pair
from copycost.machine.devices import Condition
from copycost.model.measurement import Measurement
from copycost.report import comparison
from copycost.results import store

HERE = {"engine": 2, "cpu": "a CPU", "cpus": 2, "threads": 2, "variables": {}, "image_sha256": "a", "gpus": []}

OK = replace(
    M, input_changed=False, result_shares="out", result_dtype="float32", result_contiguous=True, max_abs_error=1e-7,
    allocations=1, allocated_bytes=4096, peak_bytes=4096, retained_bytes=0,
)  # fmt: skip


def blocks(seconds: float, number: int, spread: float = 0.01, seed: int = 0) -> list[list[float]]:
    random = np.random.default_rng([seed, number])
    return (seconds * np.exp(random.normal(0, spread, (number, 4)))).tolist()


def timed(variant: str, samples: list[list[float]], **changes: Any) -> Measurement:
    return replace(OK, variant=variant, samples=samples, seconds=float(np.median(samples)), **changes)


def verdicts(base: Measurement, head: Measurement) -> dict[str, str]:
    return {row.metric: row.verdict for row in exact(base, head)}


def test_what_is_exact_is_worse_better_or_the_same() -> None:
    assert set(verdicts(OK, OK).values()) == {"same"}
    head = replace(
        OK, input_changed=True, result_shares="input", result_contiguous=False, allocated_bytes=8192, peak_bytes=2048,
        max_abs_error=2e-7,
    )  # fmt: skip
    found = verdicts(OK, head)
    assert {name for name, verdict in found.items() if verdict == "worse"} == {
        "input_changed", "result_shares", "result_contiguous", "allocated_bytes",
    }  # fmt: skip
    assert found["peak_bytes"] == "better"
    # An error that is right is neither.
    assert found["max_abs_error"] == "changed"
    assert verdicts(head, OK)["input_changed"] == "better"


def test_counts_that_vary_are_worse_only_beyond_what_was_seen() -> None:
    def varies(low: int, high: int) -> Measurement:
        return replace(OK, allocations=low, ranges={"allocations": [low, high]})

    assert verdicts(varies(2, 4), varies(2, 4))["allocations"] == "same"
    assert verdicts(varies(2, 4), varies(4, 6))["allocations"] == "unsure"
    assert verdicts(varies(2, 4), varies(5, 6))["allocations"] == "worse"
    assert verdicts(varies(2, 4), varies(1, 1))["allocations"] == "better"


@pytest.mark.parametrize("status", ["wrong", "failed", "crashed", "timeout"])
def test_what_no_longer_works_is_worse(status: str) -> None:
    bad = replace(OK, status=status, reason="off by one", samples=None, seconds=None)
    assert [(row.metric, row.verdict, row.reason) for row in exact(OK, bad)] == [("status", "worse", "off by one")]
    assert verdicts(bad, OK) == {"status": "better"}
    assert verdicts(bad, bad) == {"status": "unsure"}
    known = replace(bad, known="an issue")
    assert verdicts(known, known) == {"status": "same"}
    assert verdicts(OK, replace(bad, known="an issue")) == {"status": "changed"}


def test_what_was_not_measured_on_one_side_cannot_be_told() -> None:
    skipped = replace(OK, status="skipped", reason="no CUDA device", samples=None, seconds=None)
    (row,) = exact(OK, skipped)
    assert (row.verdict, row.reason) == ("unsure", "skipped: no CUDA device")
    assert verdicts(skipped, skipped) == {"status": "same"}


def test_nothing_that_was_measured_is_nothing_to_be_sure_of() -> None:
    skipped = replace(OK, status="skipped", reason="no CUDA device", samples=None, seconds=None)
    for its in ([], [skipped], [replace(skipped, status="failed")]):
        found = compare(Side(HERE, its), Side(HERE, its))
        assert not found.measured
        assert found.verdict == "unsure"
        assert "no case was measured on both sides" in comparison.sentence(found)
    other = replace(skipped, batch=9)
    found = compare(Side(HERE, [other, OK]), Side(HERE, [other, OK]), timed=False)
    assert found.verdict == "no worse"
    assert "1 case skipped on both sides: no CUDA device." in comparison.notes(found)


def test_cases_skipped_on_both_sides_are_not_counted_as_measured(capsys: pytest.CaptureFixture[str]) -> None:
    skipped = replace(OK, batch=9, status="skipped", reason="it is for float32 only", samples=None, seconds=None)
    side = Side(HERE, [OK, skipped])
    found = compare(side, side, timed=False)
    figures = len(exact(OK, OK))
    said = f"Exact figures of 1 case: {figures} of {figures} the same."
    assert said in comparison.markdown(found, "title")
    comparison.terminal(Console(width=120), found)
    assert said in capsys.readouterr().out


def test_a_time_that_was_wanted_and_is_not_there_cannot_be_told() -> None:
    untimed = replace(OK, samples=None, seconds=None, missing={"seconds": "no time was left"})
    found = compare(Side(HERE, [untimed]), Side(HERE, [OK]))
    (row,) = [row for row in found.rows if row.metric == "seconds"]
    assert (row.verdict, row.reason, found.verdict) == ("unsure", "no time was left", "unsure")
    assert compare(Side(HERE, [untimed]), Side(HERE, [OK]), timed=False).verdict == "no worse"


def sides(factor: float, number: int = 12, session: str | None = "one", machine: float = 1.0) -> tuple[Side, Side]:
    """Twelve cases, of which head's fourth takes `factor` times as long; all do on a machine that is slower then."""
    base = [timed(f"v{i}", blocks(0.001, number, seed=i)) for i in range(12)]
    times = [0.001 * machine * (factor if i == 3 else 1.0) for i in range(12)]
    head = [timed(f"v{i}", blocks(time, number, seed=100 + i)) for i, time in enumerate(times)]
    environment = HERE | ({"session": session} if session else {})
    return Side(environment, base), Side(environment, head)


def times(comparison: Comparison) -> dict[str, str]:
    return {row.case.variant: row.verdict for row in comparison.rows if row.metric == "seconds"}


def test_sides_that_were_measured_in_turn_show_a_small_change() -> None:
    found = compare(*sides(1.1))
    assert found.paired
    assert times(found)["v3"] == "slower"
    assert set(times(found).values()) == {"slower", "same"}
    assert found.verdict == "worse"
    assert compare(*sides(1.0)).verdict == "no worse"
    assert times(compare(*sides(0.9)))["v3"] == "faster"


def test_all_cases_of_a_comparison_are_sure_at_once() -> None:
    """Of a hundred comparisons of twelve cases that are the same, one may say otherwise of any."""
    random = np.random.default_rng(11)
    alarms = 0
    for _ in range(100):
        logs = random.normal(0, 0.1, (2, 12, 8, 1))
        base, head = (
            Side(HERE | {"session": "one"}, [timed(f"v{i}", np.exp(its).tolist()) for i, its in enumerate(side)])
            for side in logs
        )
        alarms += bool({"slower", "faster"} & set(times(compare(base, head)).values()))
    assert alarms <= 4  # P(more | one in a hundred) = 0.3 %; where cases were not corrected for, twelve


def test_runs_of_different_times_do_not() -> None:
    found = compare(*sides(1.1, session=None, machine=1.15))
    assert not found.paired
    assert set(times(found).values()) == {"unsure"}
    assert times(compare(*sides(6.0, session=None, machine=1.15)))["v3"] == "slower"
    assert set(times(compare(*sides(1.0, session=None, machine=0.7))).values()) == {"unsure"}


def test_few_cases_at_different_times_say_what_is_assumed() -> None:
    """Two runs of seven cases cannot show how far such runs are apart; eight can, and a session need not."""
    base, head = sides(1.0, session=None)
    for number, session, assumed in ((7, None, True), (8, None, False), (7, "one", False)):
        environment = HERE | ({"session": session} if session else {})
        found = compare(*(Side(environment, side.measurements[:number]) for side in (base, head)))
        (text,) = [note for note in comparison.notes(found) if "is assumed" in note] or [""]
        assert ("a standard deviation of 10 % is assumed" in text) == assumed


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cpu": "another"}, "CPU: a CPU in base, another in head"),
        ({"engine": 1}, "engine: 2 in base, 1 in head"),
        ({"variables": {"OMP_NUM_THREADS": "1"}}, "environment variables: none in base, OMP_NUM_THREADS=1 in head"),
        ({"gpus": [{"name": "NVIDIA H200"}]}, "GPU: none in base, NVIDIA H200 in head"),
        ({"image_sha256": "b" * 64}, "pixels: a in base, bbbbbbbbbbbb… in head"),
    ],
)
def test_other_machines_and_settings_are_refused_for_time_only(changes: dict[str, Any], reason: str) -> None:
    base, head = sides(3.0)
    worse = [replace(m, allocated_bytes=8192) for m in head.measurements]
    found = compare(base, Side(dict(head.environment) | changes, worse))
    assert found.refused == reason
    assert not times(found)
    assert sum(row.is_worse for row in found.rows) == 12


def test_the_choice_of_one_of_several_devices_is_no_other_environment() -> None:
    chosen = HERE | {"variables": {"CUDA_VISIBLE_DEVICES": "GPU-aaa"}}
    samples = blocks(1e-3, 6)
    found = compare(Side(HERE, [timed("cupy-new", samples)]), Side(chosen, [timed("cupy-new", samples)]))
    assert found.refused is None


def test_cases_that_only_one_side_has_are_named() -> None:
    base, head = sides(1.0)
    found = compare(Side(HERE, base.measurements[:6]), Side(HERE, head.measurements[3:]))
    assert [m.variant for m in found.only_base] == ["v0", "v1", "v2"]
    assert [m.variant for m in found.only_head] == [f"v{i}" for i in range(6, 12)]


def keep(folder: Path, side: Side) -> Path:
    with store.Run(folder, resume=False) as run:
        run.begin(side.environment, {}, len(side.measurements))
        for m in side.measurements:
            run.add(m)
        run.finish({}, finished=True)
    return folder


@pytest.mark.slow
def test_the_command_exits_by_its_verdict(command: Command, tmp_path: Path) -> None:
    base, slower = (keep(tmp_path / name, side) for name, side in zip("ab", sides(1.3), strict=True))
    same = keep(tmp_path / "same", sides(1.0)[1])
    unsure = keep(tmp_path / "few", sides(1.0, number=3)[1])
    few = keep(tmp_path / "base of few", sides(1.0, number=3)[0])
    done = command("compare", base, slower, "--json", "it.json", "--markdown", "it.md")
    assert done.returncode == 1, done.stderr
    assert "worse: time of 12 cases: 1 slower, 11 the same within 3 %" in done.stdout
    told = json.loads((tmp_path / "it.json").read_text())
    assert (told["verdict"], told["exit_status"], told["paired"]) == ("worse", 1, True)
    (row,) = [row for row in told["rows"] if row["verdict"] == "slower"]
    assert row["variant"] == "v3"
    assert row["ratio"]["sure_low"] <= row["ratio"]["low"] <= row["ratio"]["value"] <= row["ratio"]["high"]
    text = (tmp_path / "it.md").read_text()
    assert "batch 8 224×224×3 float32 cpu:\n\n| case | base" in text
    assert "\n| v3 | " in text
    assert "**slower**" in text
    # What is the same is there for who looks for it.
    assert (
        text.index("| v3 | ")
        < text.index("<details><summary>11 cases with the same time</summary>")
        < text.index("| v0 |")
    )
    told = command("report", base, slower, "--markdown", "-")
    assert told.returncode == 0, told.stderr
    assert "**slower**" in told.stdout
    assert told.stdout.startswith("### a → b\n")
    assert command("compare", base, same, "--strict").returncode == 0
    assert command("compare", few, unsure).returncode == 0
    assert command("compare", few, unsure, "--strict").returncode == 3
    assert command("compare", slower, base).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("compare", "nowhere", "nothing"), "no run at nowhere"),
        (("compare", "a", "a", "--tolerance", "0"), "0 percent is out of range: expected more than 0 and at most 100"),
        (("compare", "a", "a", "--tolerance", "much"), "'much' is not a percentage: expected a number, e.g. 3"),
        (("compare", "a", "a", "--json", "-", "--markdown", "-"), "cannot both go to standard output"),
        (("compare", "a", "a", "--json", "no/such/folder"), "cannot be written to"),
        (("compare", "a", "b"), "base and head have no case in common"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    words: tuple[str, ...], message: str, command: Command, tmp_path: Path
) -> None:
    side = sides(1.0)[0]
    keep(tmp_path / "a", side)
    keep(tmp_path / "b", Side(side.environment, [replace(m, batch=99) for m in side.measurements]))
    done = command(*words)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert message in done.stderr


@pytest.mark.slow
def test_commits_of_asvs_results(command: Command, tmp_path: Path) -> None:
    """Of the same machine and environment; what is exact is told, and time as of different times."""
    folder = tmp_path / "results"
    steady = [0.01 * (1 + 0.001 * i) for i in range(7)]
    write(folder, {"seconds": [steady, steady], "allocated_bytes": [4096, 0]}, commit="a" * 40)
    write(folder, {"seconds": [steady, steady], "allocated_bytes": [8192, 0]}, commit="b" * 40)
    write(folder, {"seconds": [steady, steady], "allocated_bytes": [4096, 0]}, commit="c" * 40)
    done = command("compare", f"{folder}@aaaa", f"{folder}@bbbb")
    assert done.returncode == 1, done.stderr
    assert "tf numpy-new batch 32 224×224×3 float32 cpu: allocated_bytes 4.00 KiB (4,096 B) → 8.00 KiB" in done.stdout
    assert command("compare", f"{folder}@aaaa", f"{folder}@cccc").returncode == 0
    done = command("compare", f"{folder}@aaaa", f"{folder}@dddd")
    assert (done.returncode, done.stderr) == (2, f"Error: {folder} has no result of commit dddd\n")
    for commit in ("", "aa"):
        done = command("compare", f"{folder}@{commit}", f"{folder}@bbbb")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert f"'{commit}' is not a commit" in done.stderr
    run = keep(tmp_path / "run", sides(1.0)[0])
    done = command("compare", run, f"{folder}@aaaa")
    assert done.returncode == 2
    assert "base is a run, head is here, virtualenv-py3.11-numpy2.4.6" in done.stderr
    done = command("compare", f"{run}@aaaa", run)
    assert (done.returncode, done.stderr) == (2, f"Error: no run at {run}@aaaa\n")
    done = command("compare", folder, f"{folder}@aaaa")
    assert done.returncode == 2
    assert "holds several results of asv: name a commit" in done.stderr


def test_a_hostile_name_is_nothing_but_itself_in_markdown() -> None:
    base, head = sides(1.3)
    name = "v|`<img src=x>`\n\n# *x* [a](http://x)" + "y" * 10_000
    worse = {"status": "wrong", "reason": name, "allocations": 2}
    both = (
        Side(side.environment, [*side.measurements[:3], replace(side.measurements[3], variant=name, **more)])
        for side, more in ((base, {}), (head, worse))
    )
    text = comparison.markdown(compare(*both), name)
    assert "**worse**" in text
    assert "<img" not in text.replace("\\<img", "")
    assert "\n#" not in text.removeprefix("###").replace("\n\n**", "")
    assert all(line.count("|") - line.count("\\|") in (0, 6, 8) for line in text.splitlines())
    assert max(map(len, text.splitlines())) < 2_000


@pytest.mark.parametrize("session", ["one", None])
def test_a_difference_by_the_clock_of_a_gpu_is_not_called_one(session: str | None) -> None:
    """Slower at a lower clock, in as many cycles. Interleaved, and runs of different times."""
    number, slower, lower = 12, 1 / 0.6, 900
    environment = HERE | ({"session": session} if session else {})

    def sides(base_clock: int | None, head_clock: int | None) -> tuple[str, str | None]:
        base, head = (
            timed("cupy-new", blocks(seconds, number, seed=seed), device="gpu", clocks_mhz=[clock] * number)
            for seconds, clock, seed in ((1e-3, base_clock, 0), (1e-3 * slower, head_clock, 1))
        )
        found = compare(Side(environment, [base]), Side(environment, [head]))
        (row,) = [row for row in found.rows if row.metric == "seconds"]
        return row.verdict, row.reason

    verdict, reason = sides(1500, lower)
    assert verdict == "unsure"
    assert reason is not None
    assert "in cycles of the GPU" in reason
    assert "1,500 MHz in base and 900 MHz in head" in reason
    assert sides(1500, 1500) == ("slower", None)
    assert sides(0, lower) == ("slower", None)  # no clock
    assert sides(None, lower) == ("slower", None)  # not known for one side: as before


def test_a_difference_at_equal_clocks_stays_one_among_cases_of_the_cpu() -> None:
    """Of 24 cases of two runs, four are on a GPU, and one of these is slower."""

    def run(seed: int, factor: float) -> list[Measurement]:
        cpu = [timed(f"v{k}", blocks(1e-3, 12, 0.002, seed + k)) for k in range(20)]
        gpu = [
            timed(f"g{k}", blocks(1e-3 * (factor if not k else 1), 12, 0.002, seed + 50 + k), device="gpu",
                  clocks_mhz=[1500] * 12)
            for k in range(4)
        ]  # fmt: skip
        return cpu + gpu

    found = compare(Side(HERE, run(0, 1.0)), Side(HERE, run(100, 1.2)))
    verdicts = {row.case.variant: row.verdict for row in found.rows if row.metric == "seconds"}
    assert verdicts["g0"] == "slower"


def test_a_gate_goes_on_while_the_clock_of_a_gpu_may_explain_a_difference() -> None:
    (case,) = select(recipes=["tf"], variants=["cupy-new"], batches=[1], dtypes=["float32"])

    def side(seconds: float, clock: int | None, seed: int) -> CaseState:
        records = [
            BlockRecord(tuple(Sample(value, 1, 0.0) for value in block), conditions=(Condition(clock_mhz=clock),))
            for block in blocks(seconds, 12, 0.005, seed)
        ]
        return CaseState(case, 1.0, 1.0, records=records)

    def decided(base_clock: int | None, head_clock: int | None, factor: float = 1.5) -> bool:
        pair = _Pair(None, side(1e-3, base_clock, 0), side(factor * 1e-3, head_clock, 1))  # type: ignore[arg-type]
        return pair.decided(0.03, 0.01)

    assert decided(1500, 1500)
    assert decided(None, 1000)
    assert not decided(1500, 1000)
    assert decided(1500, 1000, 1.0)  # as long, and that at another clock: the same
