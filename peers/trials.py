"""Run trials that test whether tools find hidden changes and raise no false alarms.

``python -m peers.trials`` runs all remaining trials. All trials take about five hours on two cores. The command can be
interrupted and continued at any time; ``--minutes 30`` runs a part. Each result is a line in ``peers/results/``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from itertools import zip_longest
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from copycost.machine.environment import processor
from peers import tools

RESULTS = Path(__file__).with_name("results")

TOOLS: dict[str, Callable[[Path, str, str], tools.Found]] = {
    "copycost": partial(tools.copycost, seconds=30),
    "copycost-beside-a-neighbour": partial(tools.copycost, seconds=30),
    "copycost-120s": partial(tools.copycost, seconds=120),
    "asv": tools.asv,
    "asv-interleaved": lambda *arguments: tools.asv(*arguments, "--interleave-rounds"),
    "pytest-benchmark": tools.pytest_benchmark,
    "pyperf": tools.pyperf,
}

CHANGES = ("none", "+2%", "+5%", "+10%", "copy", "mutation", "value")

#: Number of trials per tool: without a change, and for each change.
_NUMBERS = {"copycost": (40, 20), "copycost-beside-a-neighbour": (40, 0), "copycost-120s": (0, 20)}
_PEERS = (20, 10)


@dataclass(frozen=True)
class Trial:
    """One comparison by a tool.

    Attributes
    ----------
    tool, change : str
    number : int
        Index among the trials of the same tool and change, from 0.
    """

    tool: str
    change: str
    number: int

    @property
    def function(self) -> str:
        """Name of the changed function, which is the same for every tool."""
        return random.Random(f"{self.change} {self.number}").choice(tools.FUNCTIONS)


def plan() -> list[Trial]:
    """Return every trial, with the trials of each tool spread over the whole time."""
    lists = []
    for tool in TOOLS:
        none, count = _NUMBERS.get(tool, _PEERS)
        of_change = {
            change: none if change == "none" else count if tool != "copycost-120s" or change in ("+5%", "+10%") else 0
            for change in CHANGES
        }
        kinds = [[Trial(tool, change, n) for n in range(number)] for change, number in of_change.items()]
        lists.append([trial for row in zip_longest(*kinds) for trial in row if trial])
    longest = max(map(len, lists))
    positions = [((i + 0.5) / len(trials) * longest, trial) for trials in lists for i, trial in enumerate(trials)]
    return [trial for _, trial in sorted(positions, key=lambda pair: pair[0])]


def changed(source: str, trial: Trial) -> str:
    """Return the subject's source with the trial's change."""
    if trial.change == "none":
        return re.sub(r"(?<=are here: )0", f"{trial.tool} {trial.number}", source)
    if trial.change in ("copy", "mutation", "value"):
        return source.replace("] = {}", f"] = {{{trial.function!r}: {trial.change!r}}}")
    factor = 1 + float(trial.change.strip("+%")) / 100
    return source.replace(f'"{trial.function}": 1.0', f'"{trial.function}": {factor}')


def run(trial: Trial, repository: Path) -> dict[str, object]:
    """Create the two commits, let the tool compare them, and return the result."""
    tools.git(repository, "checkout", "-q", "-f", "main")
    path = repository / "imaging.py"
    source = (tools.SUBJECT / "imaging.py").read_text()
    path.write_text(f"{source}\n# base of {trial.tool} {trial.change} {trial.number}\n")
    base = tools.commit(repository, "base")
    source_of_head = changed(path.read_text(), trial)
    assert source_of_head != path.read_text()
    path.write_text(source_of_head)
    head = tools.commit(repository, "head")
    start = time.monotonic()
    with neighbour() if trial.tool.endswith("neighbour") else quiet():
        result = TOOLS[trial.tool](repository, base, head)
    seconds = time.monotonic() - start
    return asdict(trial) | {
        "function": None if trial.change == "none" else trial.function,
        "at": int(time.time()),
        "seconds": round(seconds, 2),
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} CPUs, Python {platform.python_version()}",
        **asdict(result),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Run the tool without a neighbour."""
    yield


@contextmanager
def neighbour() -> Iterator[None]:
    """Run a process next to the tool that alternates between work (computing or copying) and pauses, on any CPU."""
    process = subprocess.Popen([sys.executable, "-m", "peers.trials", "--neighbour"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def disturb() -> None:
    """Compute, copy and pause at random, forever."""
    import numpy as np

    order = random.Random(time.time_ns())
    target, source = np.ones(2**22), np.ones(2**22)
    while True:
        until = time.monotonic() + order.uniform(0.2, 3)
        work = order.choice([lambda: np.copyto(target, source), lambda: sum(range(20_000))])
        while time.monotonic() < until:
            work()
        time.sleep(order.uniform(0.2, 2))


def stored_trials() -> set[Trial]:
    """Return the trials that have a stored result."""
    trials = set()
    for path in RESULTS.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            trials.add(Trial(row["tool"], row["change"], row["number"]))
    return trials


def main() -> None:
    """Run the remaining trials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this many minutes")
    parser.add_argument("--tool", choices=TOOLS, action="append", help="run only the trials of this tool")
    parser.add_argument("--neighbour", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.neighbour:
        disturb()
    end = time.monotonic() + 60 * options.minutes
    before = stored_trials()
    chosen = [trial for trial in plan() if trial.tool in (options.tool or TOOLS)]
    remaining = [trial for trial in chosen if trial not in before]
    RESULTS.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="copycost-trials-") as folder,
        Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        ) as progress,
    ):  # fmt: skip
        bar = progress.add_task("preparing", total=len(chosen), completed=len(chosen) - len(remaining))
        repository = Path(folder) / "subject"
        tools.prepare(repository)
        for trial in remaining:
            if time.monotonic() > end:
                break
            progress.update(bar, description=f"{trial.tool} {trial.change}")
            row = run(trial, repository)
            with open(RESULTS / f"{trial.tool}.jsonl", "a") as file:
                file.write(json.dumps(row) + "\n")
            progress.advance(bar)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("Interrupted. Run the same command again to continue.")
