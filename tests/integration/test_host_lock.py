"""The lock of this machine: what is timed at once, what waits, and who is said to hold it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import Command

from copycost.machine import host_lock
from copycost.machine.host_lock import LockError

#: Holds a lock for a while, and prints when, on a clock that all processes share.
HOLD = """
import sys, time
from copycost.machine import host_lock
gpus, wait = sys.argv[1].split(), float(sys.argv[2])
with host_lock.held(gpus, None if wait < 0 else wait):
    start = time.monotonic()
    time.sleep(0.5)
    print(start, time.monotonic())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COPYCOST_LOCK_DIR", str(tmp_path))
    return tmp_path


def overlap(gpus: Sequence[str], wait: float = 60) -> bool:
    """Return whether processes that use some GPUs, "" for the CPU, hold the lock at the same time."""
    processes = [
        subprocess.Popen([sys.executable, "-c", HOLD, used, str(wait)], stdout=subprocess.PIPE, text=True)
        for used in gpus
    ]
    times = [tuple(map(float, process.communicate(timeout=60)[0].split())) for process in processes]
    assert not any(process.returncode for process in processes)
    spans = sorted(times)
    return any(first[1] > second[0] for first, second in pairwise(spans))


@pytest.mark.parametrize(
    ("gpus", "at_once"),
    [
        (("", "", ""), False),
        (("", "GPU-1"), False),
        (("GPU-1", "GPU-1"), False),
        (("GPU-1", "GPU-2", "GPU-3"), True),
        (("GPU-1 GPU-2", "GPU-2 GPU-3"), False),
    ],
)
def test_what_is_timed_at_once(gpus: tuple[str, ...], at_once: bool) -> None:
    """The CPU by one only, and beside no GPU; each GPU by one only."""
    assert overlap(gpus) is at_once


def test_without_the_lock_they_are_timed_at_once() -> None:
    assert overlap(("", ""), wait=-1)


def holding(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """Return a process that holds the lock, once it does."""
    process = subprocess.Popen([sys.executable, "-m", "copycost", "with-lock", "--", *command], cwd=folder)
    end = time.monotonic() + 60
    while host_lock.holder() is None:
        assert time.monotonic() < end
        time.sleep(0.02)
    return process


def test_who_holds_it_is_said(command: Command, tmp_path: Path) -> None:
    with holding(tmp_path, "sleep", "100") as process:
        done = command("with-lock", "--wait", "0.2", "--", "echo", "never")
        assert done.returncode == 2
        first, last = done.stderr.splitlines()
        assert f"held by process {process.pid} (" in first
        assert "with-lock -- sleep 100)" in first
        assert last.startswith(f"Error: this machine is locked by process {process.pid} (")
        assert not done.stdout
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert host_lock.holder() is None
        assert command("with-lock", "--", "echo", "free").stdout == "free\n"


def test_a_command_has_its_own_exit_status_and_its_children_have_the_lock(command: Command) -> None:
    assert command("with-lock", "--", "sh", "-c", "exit 7").returncode == 7
    nested = f"{sys.executable} -m copycost with-lock --wait 1 -- echo inner && echo outer"
    done = command("with-lock", "--", "sh", "-c", nested)
    assert done.stdout == "inner\nouter\n"
    assert not done.stderr
    done = command("with-lock", "--", "no-such-program")
    assert (done.returncode, done.stderr) == (2, "Error: no program no-such-program\n")


def test_a_process_with_the_id_of_the_holder_is_not_the_holder(tmp_path: Path) -> None:
    """A container numbers its processes from one: the id alone would be that of an ancestor in another container."""
    with holding(tmp_path, "sleep", "100") as process:
        (path,) = tmp_path.glob("*.lock")
        path.write_text(f"{os.getpid()} 1/2\nforged\n")
        with pytest.raises(LockError, match="is locked by"), host_lock.held(wait=0):
            pass
        process.kill()


MARKS = """
from copycost import variant
from copycost.machine import host_lock


@variant(recipe="tf", runtime="numpy", writes="new")
def marks(example):
    def call(x):
        with open("held", "a") as file:
            file.write("." if host_lock.holder() is None else "#")
        return x / 127.5 - 1.0
    return call
"""


def test_a_run_holds_it_while_it_times_and_not_before(command: Command, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MARKS)
    words = ("run", "--recipe", "tf", "--variant", "marks", "--with", "mine.py", "--batch", "1", "--size", "32x48",
             "--dtype", "float32", "--out", "it")  # fmt: skip
    assert command(*words, "--blocks", "2").returncode == 0
    held = (tmp_path / "held").read_text()
    assert held.startswith(".....")
    assert held.strip(".").strip("#") == ""  # audit and counts, and then all that is timed
    assert held.endswith("#####")
    (tmp_path / "held").unlink()
    assert command(*words[:-2], "--blocks", "2", "--no-lock", "--out", "other").returncode == 0
    assert set((tmp_path / "held").read_text()) == {"."}


def test_what_was_measured_before_the_lock_is_kept(command: Command, tmp_path: Path) -> None:
    words = ("run", "--recipe", "tf", "--variant", "numpy-*", "--batch", "1", "--size", "32x48", "--dtype", "float32",
             "--out", "it", "--blocks", "2")  # fmt: skip
    with holding(tmp_path, "sleep", "100") as process:
        done = command(*words, "--wait", "0.3")
        assert done.returncode == 2
        assert "What is measured is kept: --resume --out it" in done.stderr
        assert "Traceback" not in done.stderr
        process.kill()
    done = command("run", "--resume", "--out", "it")
    assert done.returncode == 0, done.stderr
    done = command("run", "--wait", "1", "--no-lock", "--out", "never")
    assert done.returncode == 2
    assert "--wait and --no-lock cannot both be given" in done.stderr


def test_a_folder_that_does_not_exist_is_one_line(command: Command, tmp_path: Path) -> None:
    done = command("with-lock", "--", "true", env={"COPYCOST_LOCK_DIR": str(tmp_path / "absent")})
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be used: No such file or directory" in done.stderr
