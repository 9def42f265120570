"""Implement `copycost track`: run asv with suitable options, report its progress, and publish its pages."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import TextIO

from copycost.results.store import ENVIRONMENT, MEASUREMENTS, RunError
from copycost.tracking import machine

CONFIGURATION = Path("asv.conf.json")

#: Lines that asv prints when it knows the amount of work, and when it starts a commit and an environment.
_PLAN = re.compile(r"\((\d+) commits \* (\d+) environments")
_COMMIT = re.compile(r"For .* commit (\w+)")
_ENVIRONMENT = re.compile(r"Benchmarking (\S+)")


def run(revisions: str, options: tuple[str, ...], log: Path, on_progress: Callable[[float, int, str], None]) -> int:
    """Run asv over some commits and return its exit status.

    Parameters
    ----------
    revisions : str
        An argument of `asv run`: a range, ``ALL``, ``NEW`` …; or ``now``, which measures the checked-out commit with
        this interpreter.
    options : tuple of str
        Further options of `asv run`.
    log : Path
        File that receives asv's output.
    on_progress : callable
        ``on_progress(position, sessions, step)`` reports progress: the number of sessions done, their total number (0:
        not known yet), and the current step.

    Raises
    ------
    RunError
        If the current folder has no asv configuration, or no commit is checked out.
    """
    if not CONFIGURATION.is_file():
        raise RunError(f"there is no {CONFIGURATION} here: `copycost init` writes one")
    arguments = [revisions]
    if revisions == "now":
        arguments = ["--python=same", "--set-commit-hash", _head()]
    command = [sys.executable, "-m", "asv", "run", *arguments, "--record-samples", "--show-stderr"]
    command += ["--launch-method", "forkserver"]
    runs_folder = os.environ.get("COPYCOST_RUNS")
    machine.record()
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="copycost-track-") as scratch, open(log, "w") as output:
        runs = Path(runs_folder or Path(scratch, "runs")).absolute()
        runs.mkdir(parents=True, exist_ok=True)
        process = subprocess.Popen(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            # Files that an interrupted asv leaves behind are removed with the folder.
            env=os.environ | {"COPYCOST_RUNS": str(runs), "TMPDIR": scratch},
            start_new_session=True,  # so that asv receives Ctrl-C only once, from the handler below
        )
        state = _State()
        reader = Thread(target=_follow, args=(process, output, state), daemon=True)
        reader.start()
        try:
            while reader.is_alive():
                reader.join(0.5)
                on_progress(*state.progress(runs))
            return process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)  # asv then stops the processes that it started
            process.wait()
            raise


def publish(folder: Path, log: Path) -> None:
    """Write asv's pages into ``folder/asv`` and add a link to the report in `folder`.

    Raises
    ------
    RunError
        If `asv publish` fails.
    """
    pages = folder / "asv"
    command = [sys.executable, "-m", "asv", "publish", "--no-pull", "--html-dir", str(pages.absolute())]
    process = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    with open(log, "a") as output:
        output.write(process.stdout + process.stderr)
    if process.returncode:
        raise RunError(f"`asv publish` ended with {process.returncode}: {last_words(log)}")
    index = pages / "index.html"
    page = index.read_text()
    link = '<ul class="nav navbar-nav"><li><a href="../index.html">copycost report</a></li></ul>'
    index.write_text(page.replace("</nav>", f"{link}</nav>", 1))


def results_folder() -> Path:
    """Return the results folder of asv's configuration."""
    from asv.config import Config

    return Path(Config.load(str(CONFIGURATION)).results_dir)


def changed() -> bool:
    """Return whether the working tree differs from the checked-out commit."""
    process = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], capture_output=True, text=True)
    return bool(process.stdout.strip())


def last_words(log: Path) -> str:
    """Return the end of asv's output in one line."""
    lines = [line.strip(" ·") for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return " / ".join(lines[-3:])[-400:]


def reasons(log: Path) -> dict[str, list[str]]:
    """Return the distinct reasons that asv's output gives for failed and n/a benchmarks."""
    text = log.read_text(errors="replace")
    return {
        "failed": list(dict.fromkeys(re.findall(r"(?:benchmarks\.Failed|^ *RuntimeError): (.+)", text, re.MULTILINE))),
        "n/a": list(dict.fromkeys(re.findall(r"^ *n/a: (.+)", text, re.MULTILINE))),
    }


class _State:
    """Progress of asv, derived from its output and the files of its sessions."""

    def __init__(self) -> None:
        self.sessions = 0  # total number; 0: not known yet
        self.number_begun = 0
        self.since = 0.0  # start time of the latest session
        self.commit = self.environment = ""
        self.step = "starting asv"

    def heard(self, line: str) -> None:
        """Update the state from a line of asv's output."""
        if plan := _PLAN.search(line):
            self.sessions = int(plan[1]) * int(plan[2])
        if commit := _COMMIT.search(line):
            self.commit, self.environment = commit[1][:8], ""
        if environment := _ENVIRONMENT.search(line):
            self.number_begun, self.since = self.number_begun + 1, time.time()
            # asv terminates its next line only when the session has ended.
            self.environment, self.step = environment[1], "measuring"
        elif words := re.search(r"(Creating|Installing|Building|Discovering)", line):
            self.step = words[1].lower()
        elif ".track_" in line:
            self.step = "reading"

    def progress(self, runs: Path) -> tuple[float, int, str]:
        """Return the number of sessions done, their total number, and the current activity."""
        position: float = self.number_begun
        step = " ".join(filter(None, (self.step, self.commit, self.environment)))
        if self.step == "measuring":
            position -= 1
            folders = [folder for folder in runs.iterdir() if folder.stat().st_mtime >= self.since]
            measured, cases = _measured(max(folders, key=lambda folder: folder.stat().st_mtime)) if folders else (0, 0)
            if cases:
                position += measured / cases
                step = f"{measured} of {cases} cases, {self.commit} {self.environment}"
        return position, self.sessions, step


def _follow(process: subprocess.Popen[str], output: TextIO, state: _State) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        output.write(line)
        output.flush()
        state.heard(line)


def _measured(folder: Path) -> tuple[int, int]:
    """Return the number of a run's cases that are on disk, and its total number of cases."""
    try:
        cases = json.loads((folder / ENVIRONMENT).read_text())["cases"]
        return (folder / MEASUREMENTS).read_text().count("\n"), cases
    except (OSError, ValueError, KeyError):
        return 0, 0


def _head() -> str:
    process = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    if process.returncode:
        raise RunError("no commit to record the measurements for: run this command in a git repository with a commit")
    return process.stdout.strip()
