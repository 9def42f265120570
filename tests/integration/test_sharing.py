"""Cases that share a process: which do, and that a failure in it is only ever the case's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import by_variant, measure

from copycost.model.measurement import Measurement

#: Variants that write their process to a file at every call, and those that fail in a process that others share.
NEIGHBOURS = """
import os
import signal
import sys
import time

import tensorflow as tf
from copycost import variant

FOLDER = {folder!r}
prepared = []


def neighbour(name, harm=lambda: None):
    def prepare(example):
        prepared.append(name)

        def call(x):
            with open(os.path.join(FOLDER, name), "a") as file:
                file.write(str(os.getpid()) + chr(10))
            if len(prepared) > 1:
                harm()
            return x / 127.5 - 1.0

        return call

    prepare.__name__ = name
    variant(recipe="tf", runtime="tensorflow", writes="new")(prepare)


def fail():
    raise ValueError("this process is not mine alone")


neighbour("first")
neighbour("second")
neighbour("third")
neighbour("fourth")
neighbour("raises", fail)
neighbour("dies", lambda: os.kill(os.getpid(), signal.SIGKILL))
neighbour("hangs", lambda: time.sleep(1000))


@variant(recipe="tf", runtime="tensorflow", writes="new")
def always_dies(example):
    return lambda x: os.kill(os.getpid(), signal.SIGKILL)
"""


def pids(folder: Path, name: str) -> list[int]:
    """The processes of a variant's calls, in order, each once."""
    return list(dict.fromkeys(map(int, (folder / name).read_text().split())))


def measured(folder: Path, names: Sequence[str], share: str) -> dict[str, Measurement]:
    path = folder / "neighbours.py"
    path.write_text(NEIGHBOURS.format(folder=str(folder)))
    return by_variant(measure(variants=tuple(names), files=(path,), blocks=3, budget=60, timeout=15, share=share))


@pytest.mark.parametrize("onednn", ["0", "1"])
def test_trusted_cases_share_processes_where_it_changes_nothing(
    onednn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For audits always; for blocks after the first, if TensorFlow has its own allocator."""
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", onednn)
    found = measured(tmp_path, ("first", "second", "third", "fourth"), "all")
    assert {(m.status, m.blocks) for m in found.values()} == {("ok", 3)}
    processes = [pids(tmp_path, name) for name in found]
    assert [len(of_case) for of_case in processes] == [4] * 4  # the audit, and three blocks
    audit, *blocks = (len(set(of_pass)) for of_pass in zip(*processes, strict=True))
    assert audit < 4
    assert blocks[0] == 4
    assert all(number < 4 if onednn == "1" else number == 4 for number in blocks[1:]), blocks


def test_a_user_file_has_a_process_per_case_unless_it_is_trusted(tmp_path: Path) -> None:
    found = measured(tmp_path, ("first", "second"), "shipped")
    assert {m.status for m in found.values()} == {"ok"}
    assert not set(pids(tmp_path, "first")) & set(pids(tmp_path, "second"))


@pytest.mark.parametrize("bad", ["raises", "dies", "hangs"])
def test_a_failure_in_a_shared_process_is_measured_again_alone(bad: str, tmp_path: Path) -> None:
    """What fails only beside others is right alone, and so are those that it took down with it."""
    found = measured(tmp_path, ("first", bad, "second", "third"), "all")
    assert {name: (m.status, m.reason, m.blocks) for name, m in found.items()} == dict.fromkeys(found, ("ok", None, 3))
    assert {m.allocated_bytes for m in found.values()} == {found["first"].allocated_bytes}, [
        (m.variant, m.missing.get("allocated_bytes")) for m in found.values()
    ]


def test_a_case_that_always_dies_ends_no_other(tmp_path: Path) -> None:
    found = measured(tmp_path, ("first", "always-dies", "second", "third"), "all")
    assert found["always-dies"].status == "crashed"
    # TensorFlow may have written a line about the GPU that it did not find.
    assert (found["always-dies"].reason or "").startswith("its process was killed by SIGKILL")
    assert {(found[name].status, found[name].blocks) for name in ("first", "second")} == {("ok", 3)}
