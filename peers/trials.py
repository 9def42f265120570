"""Trials: is a hidden change found, and is nothing found where nothing changed?

``python -m peers.trials`` does what is left of them all, some five hours on two cores, and can be interrupted and gone
on with at any time; ``--minutes 30`` does a portion. What came of each is a line in ``peers/results/``.
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
    "asv-interleaved": lambda *given: tools.asv(*given, "--interleave-rounds"),
    "pytest-benchmark": tools.pytest_benchmark,
    "pyperf": tools.pyperf,
}

CHANGES = ("none", "+2%", "+5%", "+10%", "copy", "mutation", "value")

#: Trials of each tool: where nothing changes, and of every change.
_NUMBERS = {"copycost": (40, 20), "copycost-beside-a-neighbour": (40, 0), "copycost-120s": (0, 20)}
_PEERS = (20, 10)


@dataclass(frozen=True)
class Trial:
    """One comparison of a tool's.

    Attributes
    ----------
    tool, change : str
    number : int
        Of its kind, from 0.
    """

    tool: str
    change: str
    number: int

    @property
    def function(self) -> str:
        """What is changed, the same for every tool."""
        return random.Random(f"{self.change} {self.number}").choice(tools.FUNCTIONS)


def plan() -> list[Trial]:
    """Every trial; those of one tool are spread over the whole time."""
    lists = []
    for tool in TOOLS:
        none, each = _NUMBERS.get(tool, _PEERS)
        of_change = {
            change: none if change == "none" else each if tool != "copycost-120s" or change in ("+5%", "+10%") else 0
            for change in CHANGES
        }
        kinds = [[Trial(tool, change, n) for n in range(number)] for change, number in of_change.items()]
        lists.append([trial for several in zip_longest(*kinds) for trial in several if trial])
    longest = max(map(len, lists))
    placed = [((i + 0.5) / len(its) * longest, trial) for its in lists for i, trial in enumerate(its)]
    return [trial for _, trial in sorted(placed, key=lambda one: one[0])]


def changed(source: str, trial: Trial) -> str:
    """The subject with the trial's change in it."""
    if trial.change == "none":
        return re.sub(r"(?<=are here: )0", f"{trial.tool} {trial.number}", source)
    if trial.change in ("copy", "mutation", "value"):
        return source.replace("] = {}", f"] = {{{trial.function!r}: {trial.change!r}}}")
    factor = 1 + float(trial.change.strip("+%")) / 100
    return source.replace(f'"{trial.function}": 1.0', f'"{trial.function}": {factor}')


def run(trial: Trial, repository: Path) -> dict[str, object]:
    """Make the two commits, let the tool compare them, and give what came of it."""
    tools.git(repository, "checkout", "-q", "-f", "main")
    path = repository / "imaging.py"
    source = (tools.SUBJECT / "imaging.py").read_text()
    path.write_text(f"{source}\n# base of {trial.tool} {trial.change} {trial.number}\n")
    base = tools.commit(repository, "base")
    edited = changed(path.read_text(), trial)
    assert edited != path.read_text()
    path.write_text(edited)
    head = tools.commit(repository, "head")
    start = time.monotonic()
    with neighbour() if trial.tool.endswith("neighbour") else quiet():
        found = TOOLS[trial.tool](repository, base, head)
    seconds = time.monotonic() - start
    return asdict(trial) | {
        "function": None if trial.change == "none" else trial.function,
        "at": int(time.time()),
        "seconds": round(seconds, 2),
        "machine": f"{processor()}, {len(os.sched_getaffinity(0))} CPUs, Python {platform.python_version()}",
        **asdict(found),
    }


@contextmanager
def quiet() -> Iterator[None]:
    """Nothing beside the tool."""
    yield


@contextmanager
def neighbour() -> Iterator[None]:
    """A process that computes and copies, for a while and again after a pause, on one CPU or the other."""
    process = subprocess.Popen([sys.executable, "-m", "peers.trials", "--neighbour"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def disturb() -> None:
    """Be the neighbour."""
    import numpy as np

    order = random.Random(time.time_ns())
    one, two = np.ones(2**22), np.ones(2**22)
    while True:
        until = time.monotonic() + order.uniform(0.2, 3)
        work = order.choice([lambda: np.copyto(one, two), lambda: sum(range(20_000))])
        while time.monotonic() < until:
            work()
        time.sleep(order.uniform(0.2, 2))


def done() -> set[Trial]:
    """The trials whose results are kept."""
    found = set()
    for path in RESULTS.glob("*.jsonl"):
        for line in path.read_text().splitlines():
            row = json.loads(line)
            found.add(Trial(row["tool"], row["change"], row["number"]))
    return found


def main() -> None:
    """Do the trials that are left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long")
    parser.add_argument("--tool", choices=TOOLS, action="append", help="only trials of this one")
    parser.add_argument("--neighbour", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.neighbour:
        disturb()
    end = time.monotonic() + 60 * options.minutes
    before = done()
    chosen = [trial for trial in plan() if trial.tool in (options.tool or TOOLS)]
    left = [trial for trial in chosen if trial not in before]
    RESULTS.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="copycost-trials-") as folder,
        Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TimeRemainingColumn(),
        ) as progress,
    ):  # fmt: skip
        bar = progress.add_task("preparing", total=len(chosen), completed=len(chosen) - len(left))
        repository = Path(folder) / "subject"
        tools.prepare(repository)
        for trial in left:
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
        sys.exit("Interrupted. The same command goes on.")
