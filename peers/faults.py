"""Run `copycost run` under faults of the system, and kill it at random moments.

``python -m peers.faults`` kills fifty runs, continues each by ``--resume``, and tries every condition of `CONDITIONS`.
It takes about ten minutes and writes ``peers/results/faults.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import track

from peers.trials import RESULTS

#: Eight cases that take about three seconds.
RUN = [
    "run", "--recipe", "tf", "--variant", "numpy-*", "--batch", "1", "--size", "32x48", "--dtype", "float32",
    "--budget", "1", "--out", "run",
]  # fmt: skip

_PAGE = Path(__file__).parents[1] / "docs" / "results" / "faults.md"

#: Seconds that an interrupted run may take to end, and its processes after it.
_PATIENCE = 20

#: Name of the variable by which processes are found that a run has started.
_MARK = "FAULT_MARK"


@dataclass(frozen=True)
class Condition:
    """A condition of the system.

    Attributes
    ----------
    name : str
    statuses : tuple of int
        Exit statuses that a run may have.
    environment : dict of str to str or None
        Variables; None takes a variable away.
    prepare : callable or None
        Called in the process before the command starts.
    wrapper : tuple of str
        Command that starts the run.
    signals : tuple of int
        Signals that are sent once the run has begun.
    variant : str or None
        Text of a file with a variant, ``greedy``, that the run measures besides the others.
    """

    name: str
    statuses: tuple[int, ...] = (0,)
    environment: dict[str, str | None] | None = None
    prepare: Callable[[], None] | None = None
    wrapper: tuple[str, ...] = ()
    signals: tuple[int, ...] = ()
    variant: str | None = None


def _limit(which: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(which, (value, value))


def _by_default(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)


def _namespace(command: str) -> tuple[str, ...]:
    """Return a command that mounts something for the run alone."""
    return ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", f'{command} && exec "$@"', "sh")


#: Runs a command in a group of processes, with a limit of their memory beyond which the kernel kills one of them. The
#: first branch is for version 1 of control groups, the second for version 2 (admin-guide/cgroup-v1/memory and cgroup-v2
#: in https://docs.kernel.org).
_MEMORY_GROUP = """
parent=/sys/fs/cgroup/memory$(awk -F: '$2 ~ /(^|,)memory(,|$)/ {print $3}' /proc/self/cgroup)
file=memory.limit_in_bytes
if [ ! -d /sys/fs/cgroup/memory ]; then
  parent=/sys/fs/cgroup$(awk -F: '$1 == 0 {print $3}' /proc/self/cgroup)
  file=memory.max
fi
group=$(mktemp -d "$parent/copycost-XXXXXX") && echo 1G > "$group/$file" && echo $$ > "$group/cgroup.procs" || exit 99
"$@"
status=$?
echo $$ > "$parent/cgroup.procs"
rmdir "$group"
exit $status
"""

_GREEDY = """\
import numpy as np

from copycost import variant


@variant(recipe="tf", runtime="numpy", writes="new")
def greedy(example):
    return lambda x: np.ones(3 << 29, np.uint8)
"""

CONDITIONS = (
    Condition("SIGTERM", (130,), signals=(signal.SIGTERM,)),
    # Under nohup, this process ignores it, and so would the run.
    Condition("SIGHUP", (130,), prepare=lambda: _by_default(signal.SIGHUP), signals=(signal.SIGHUP,)),
    Condition("SIGINT twice", (130,), signals=(signal.SIGINT, signal.SIGINT)),
    Condition("standard output closed", wrapper=("sh", "-c", 'exec "$@" >&-', "sh")),
    Condition("standard error closed", wrapper=("sh", "-c", 'exec "$@" 2>&-', "sh")),
    Condition("standard output is a pipe that nobody reads", (0, 141), wrapper=("sh", "-c", '"$@" | true', "sh")),
    Condition("disk full", (2,), wrapper=_namespace("mkdir run && mount -t tmpfs -o size=8k none run")),
    Condition("/dev/shm full", wrapper=_namespace("mount -t tmpfs -o size=4k none /dev/shm")),
    Condition("64 file descriptors", prepare=_limit(resource.RLIMIT_NOFILE, 64)),
    Condition("one CPU", prepare=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})),
    Condition("1.5 GiB of addresses", (0, 1), prepare=_limit(resource.RLIMIT_AS, 3 << 29)),
    Condition(
        "1 GiB of memory, of which a variant takes more",
        (1,),
        wrapper=("sh", "-c", _MEMORY_GROUP, "sh"),
        variant=_GREEDY,
    ),
    Condition("no home", environment={"HOME": None, "XDG_CACHE_HOME": None}),
    Condition("a home that cannot be written to", environment={"HOME": "/proc", "XDG_CACHE_HOME": None}),
    Condition("LC_ALL=C", environment={"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}),
    Condition("NO_COLOR", environment={"NO_COLOR": "1"}),
    Condition("TERM=dumb", environment={"TERM": "dumb"}),
    Condition("20 columns", environment={"COLUMNS": "20"}),
    Condition("not root", prepare=lambda: os.setuid(65534) if os.getuid() == 0 else None),
)


@dataclass(frozen=True)
class Done:
    """A run that has ended: exit status, what it has printed, process id, and the mark of its processes."""

    status: int
    output: str
    pid: int
    mark: str


def run(folder: Path, condition: Condition = Condition("none"), *words: str) -> Done:
    """Run the command under a condition, with a temporary folder of its own."""
    mark = uuid.uuid4().hex
    (folder / "tmp").mkdir(exist_ok=True)
    (folder / "tmp").chmod(0o777)
    environment = {**os.environ, _MARK: mark, "TMPDIR": str(folder / "tmp"), **(condition.environment or {})}
    present = {name: value for name, value in environment.items() if value is not None}
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(
            [*condition.wrapper, sys.executable, "-m", "copycost", *(words or RUN)],
            cwd=folder, env=present, stdout=output, stderr=output, preexec_fn=condition.prepare,
        )  # fmt: skip
        if condition.signals:
            _wait_for_begin(folder, process)
            for number in condition.signals:
                process.send_signal(number)
                time.sleep(0.02)
        status = process.wait(300)
    return Done(status, (folder / "output").read_text(errors="replace"), process.pid, mark)


def _wait_for_begin(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Wait until the run has a complete case."""
    path = folder / "run" / "measurements.jsonl"
    while process.poll() is None and not (path.exists() and path.stat().st_size):
        time.sleep(0.01)


def processes(mark: str) -> list[int]:
    """Return the processes that a run has started and that are still there, after some seconds of patience."""
    end = time.monotonic() + _PATIENCE
    while found := [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _has_mark(pid, mark)]:
        if time.monotonic() > end:
            return found
        time.sleep(0.05)
    return []


def _has_mark(pid: int, mark: str) -> bool:
    try:
        is_zombie = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return not is_zombie and mark.encode() in Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False


def left(folder: Path, *pids: int) -> list[str]:
    """Return what processes have left in the temporary folder of a run, and in shared memory."""
    paths = [
        *(folder / "tmp").glob("copycost-*"),
        *(p for pid in pids for p in Path("/dev/shm").glob(f"copycost-session-{pid}-*")),
    ]
    return [f"left {path}" for path in paths]


def faults_of(output: str) -> list[str]:
    """Return what is wrong with what a command has printed."""
    lines = [line for line in output.splitlines() if line.startswith("Error: ")]
    return ["a traceback"] * ("Traceback" in output) + ["more than one error"] * (len(lines) > 1)


def cases_of(folder: Path) -> Counter[str]:
    """Return how often each case is in a run."""
    lines = (folder / "run" / "measurements.jsonl").read_text().splitlines()
    return Counter(json.loads(line)["variant"] for line in lines)


def killed(seconds: float, expected: set[str]) -> list[str]:
    """Kill a run after some seconds, continue it, and return what is wrong."""
    with tempfile.TemporaryDirectory() as name:
        folder, mark = Path(name), uuid.uuid4().hex
        (folder / "tmp").mkdir()
        with open(os.devnull, "wb") as nothing:
            process = subprocess.Popen(
                [sys.executable, "-m", "copycost", *RUN],
                cwd=folder, env=os.environ | {_MARK: mark, "TMPDIR": str(folder / "tmp")},
                stdout=nothing, stderr=nothing,
            )  # fmt: skip
            time.sleep(seconds)
            process.kill()
            process.wait()
        wrong = ["a process was left"] if processes(mark) else []
        has_begun = (folder / "run" / "environment.json").exists()
        done = run(folder, Condition("none"), *RUN, *["--resume"] * has_begun)
        wrong += faults_of(done.output) + [f"status {done.status}: {done.output[-300:]}"] * (done.status != 0)
        if done.status == 0 and cases_of(folder) != Counter(expected):
            wrong.append(f"cases {dict(cases_of(folder))}")
        return wrong + left(folder, process.pid, done.pid)


def tried(condition: Condition, expected: set[str]) -> list[str] | None:
    """Run under a condition and return what is wrong, or None if it cannot be made here."""
    if condition.wrapper[:1] == ("unshare",) and not _has_namespaces():
        return None
    if _MEMORY_GROUP in condition.wrapper and not _has_memory_groups():
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        try:
            if condition.variant is None:
                done = run(folder, condition)
            else:
                (folder / "greedy.py").write_text(condition.variant)
                done = run(folder, condition, *RUN, "--variant", "greedy", "--with", "greedy.py")
                expected = {*expected, "greedy"}
        except PermissionError:  # another user cannot start this interpreter
            return None
        wrong = faults_of(done.output) + ["a process was left"] * bool(processes(done.mark))
        if done.status not in condition.statuses:
            wrong.append(f"status {done.status}: {done.output[-500:]}")
        is_complete = done.status == 0 or condition.variant is not None
        if is_complete and condition.wrapper[:1] != ("unshare",) and cases_of(folder) != Counter(expected):
            wrong.append(f"cases {dict(cases_of(folder))}")
        wrong += left(folder, done.pid)
        if done.status == 130:
            again = run(folder, Condition("none"), *RUN, "--resume")
            if again.status or cases_of(folder) != Counter(expected):
                wrong.append(f"it is not continued: status {again.status}")
        return wrong


def _has_namespaces() -> bool:
    """Return whether the user may mount a file system in a namespace of their own."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run([*_namespace("mount -t tmpfs none /mnt"), "true"], capture_output=True).returncode == 0


def _has_memory_groups() -> bool:
    """Return whether the user may limit the memory of a group of processes."""
    return subprocess.run(["sh", "-c", _MEMORY_GROUP, "sh", "true"], capture_output=True).returncode == 0


def expected_cases() -> tuple[set[str], float]:
    """Return the variants that a run measures, and the seconds that it takes."""
    with tempfile.TemporaryDirectory() as name:
        start = time.monotonic()
        done = run(Path(name))
        assert done.status == 0, done.output
        return set(cases_of(Path(name))), time.monotonic() - start


def page(results: dict[str, Any]) -> str:
    """Return the page with the conditions, and what was seen under each."""
    kills = results["kills"]
    held = sum(not faults for faults in kills.values())
    lines = [
        "# Runs under faults of the system",
        "",
        "`python -m peers.faults` kills `copycost run` at random moments, and starts it under conditions that a system",
        "can be in. A run holds if it ends with a documented status and at most one line of error, leaves no process",
        "and no file behind, measures each case once, and can be continued by `--resume` if it was ended.",
        "",
        f"Killed (SIGKILL) at {len(kills)} random moments, and continued: {held} held.",
        "",
        "| condition | seen |",
        "| --- | --- |",
    ]
    seen = {name: "not tried here" if faults is None else "; ".join(faults) or "held"
            for name, faults in results["conditions"].items()}  # fmt: skip
    return "\n".join([*lines, *(f"| {name} | {text} |" for name, text in seen.items())]) + "\n"


def main() -> None:
    """Try everything, and store what was seen."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    options = parser.parse_args()
    expected, seconds = expected_cases()
    order = random.Random(0)
    moments = [round(order.uniform(0, 1.05 * seconds), 3) for _ in range(options.kills)]
    results: dict[str, Any] = {"kills": {}, "conditions": {}}
    for moment in track(moments, description="killed"):
        results["kills"][str(moment)] = killed(moment, expected)
    for condition in track(CONDITIONS, description="conditions"):
        results["conditions"][condition.name] = tried(condition, expected)
    (RESULTS / "faults.json").write_text(json.dumps(results, indent=1) + "\n")
    _PAGE.write_text(page(results))
    wrong = [f"killed after {moment} s: {faults}" for moment, faults in results["kills"].items() if faults]
    wrong += [f"{name}: {faults}" for name, faults in results["conditions"].items() if faults]
    print("\n".join(wrong) or f"{len(moments)} kills and {len(CONDITIONS)} conditions held")


if __name__ == "__main__":
    main()
