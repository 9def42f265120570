"""Findings that runs share: which a run reuses, when it does not, and that it says so."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, read_json

from copycost.cases.selection import select
from copycost.engine.audit_cache import AuditCache, Findings, open_cache
from copycost.engine.records import AllocationTrace, Audit
from copycost.machine import environment
from copycost_meter.events import AllocationEvent, AllocationSummary, Pool

RUN = ("run", "--recipe", "tf", "--variant", "numpy-out", "--variant", "numpy-new", "--batch", 1, "--size", "32x24",
       "--dtype", "float32", "--device", "cpu", "--blocks", 3, "--json", "-")  # fmt: skip

#: Fields that the audit and the trace give.
FOUND = ("input_changed", "result_shares", "max_abs_error", "max_ulp", "code", "timeline", "allocations",
         "allocated_bytes", "peak_bytes", "retained_bytes", "instruments", "missing", "ranges")  # fmt: skip

FINDINGS = Findings(
    Audit("ok", None, "2026-01-02T03:04:05+00:00", False, "nothing", "float32", True, 0.5, 1.0, "call = abs\n"),
    AllocationTrace(
        AllocationSummary(1, 2, 3, 4, 5, 6), AllocationSummary(7), {"host_peak_bytes": [3, 9]}, 5, ("memray",), None,
        Pool(8192, None, None), (AllocationEvent(8000, "device", "memray", "add", 8192),),
    ),
    False,
)  # fmt: skip


def run(command: Command, cache: Path, *more: str, env: dict[str, str] | None = None) -> tuple[dict[str, Any], str]:
    out = command(
        *RUN, "--out", cache / f"run-{time.monotonic_ns()}", *more, env={"COPYCOST_CACHE_DIR": str(cache)} | (env or {})
    )
    assert out.returncode == 0, out.stderr
    return read_json(out.stdout), out.stderr


def audited(document: dict[str, Any]) -> set[bool]:
    """Whether each case was audited before its run."""
    return {row["audited"] < document["environment"]["time"] for row in document["measurements"]}


def test_the_second_run_times_and_takes_the_rest_from_the_first(command: Command, tmp_path: Path) -> None:
    first, said = run(command, tmp_path)
    assert audited(first) == {False}
    assert "earlier runs" not in said
    time.sleep(1)  # times of audits are in whole seconds
    second, said = run(command, tmp_path)
    assert audited(second) == {True}
    assert "Audit and allocations of 2 of 2 cases are those of earlier runs" in said
    assert second["environment"]["spent_seconds"]["audit"] == second["environment"]["spent_seconds"]["allocations"] == 0
    for one, other in zip(first["measurements"], second["measurements"], strict=True):
        assert {name: one[name] for name in FOUND} == {name: other[name] for name in FOUND}
        assert one["samples"] != other["samples"]
    fresh, _ = run(command, tmp_path, "--fresh")
    assert audited(fresh) == {False}


@pytest.mark.parametrize("env", [{"OMP_NUM_THREADS": "1"}, {"MALLOC_ARENA_MAX": "1"}])
def test_another_environment_is_audited_anew(env: dict[str, str], command: Command, tmp_path: Path) -> None:
    run(command, tmp_path)
    time.sleep(1)
    assert audited(run(command, tmp_path, env=env)[0]) == {False}


@pytest.mark.parametrize("text", ["", "{}", "[]", "nul", '{"audit": 1, "trace": {}, "one_thread": true}'])
def test_damaged_findings_are_made_anew(text: str, command: Command, tmp_path: Path) -> None:
    run(command, tmp_path)
    for path in (tmp_path / "audits").iterdir():
        path.write_text(text)
    time.sleep(1)
    document, _ = run(command, tmp_path)
    assert audited(document) == {False}
    time.sleep(1)
    assert audited(run(command, tmp_path)[0]) == {True}


def test_a_folder_that_cannot_be_written_to_is_no_error(command: Command, tmp_path: Path) -> None:
    (tmp_path / "audits").write_text("a file")
    assert audited(run(command, tmp_path)[0]) == {False}


def test_what_a_user_wrote_is_audited_in_every_run(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from copycost import variant\n"
        "@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def mine(example):\n"
        "    return lambda x: x / 127.5 - 1\n"
    )
    cache = AuditCache(tmp_path / "audits", "here")
    (case,) = select(recipes=("tf",), variants=("mine",), devices=("cpu",), batches=(1,), sizes=((8, 8),),
                     dtypes=("float64",), layouts=("channels_last",), files=(path,))  # fmt: skip
    cache.save(case, FINDINGS)
    assert cache.load(case) is None
    assert not (tmp_path / "audits").exists()


def test_findings_belong_to_one_case_in_one_environment_and_expire(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COPYCOST_CACHE_DIR", str(tmp_path))
    here = environment.capture(2, "photograph.jpg", "0" * 64)
    cache = open_cache(here)
    (case,) = select(recipes=("tf",), variants=("numpy-out",), devices=("cpu",), batches=(1,), sizes=((8, 8),),
                     dtypes=("float32",), layouts=("channels_last",))  # fmt: skip
    cache.save(case, FINDINGS)
    assert open_cache(here | {"load": 99.0, "time": "later"}).load(case) == FINDINGS
    changes: tuple[dict[str, Any], ...] = (
        {"libraries": {}},
        {"cpu_flags": []},
        {"threads": 1},
        {"image_sha256": "1" * 64},
        {"engine": 0},
    )
    for change in changes:
        assert open_cache(here | change).load(case) is None
    for other in (replace(case, batch=2), replace(case, dtype="uint8"), replace(case, layout="channels_first")):
        assert cache.load(other) is None
    (path,) = (tmp_path / "audits").iterdir()
    assert json.loads(path.read_text())["trace"]["leaked_bytes"] == 5
    os.utime(path, (0, 0))
    assert open_cache(here).load(case) is None
    assert not path.exists()
