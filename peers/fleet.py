"""What a fleet costs: ``python -m peers.fleet speed`` and ``python -m peers.fleet simulation``.

``speed`` measures 12 commits in two environments with one and with two workers, each on a CPU of its own, by turns.
``simulation`` replays seconds of cells, as a journal has them, for 1,000 commits in three environments on 20 hosts.
Both write a part of ``peers/results/fleet.json`` and of ``docs/results/fleet.md``.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from distributed import Client

from copycost.fleet import journal, plan, project
from copycost.fleet.hosts import assign
from copycost.fleet.plan import Cell
from copycost.machine.environment import processor
from copycost.model import numbers
from peers import toy_project
from peers.trials import RESULTS

_RESULT = RESULTS / "fleet.json"
_PAGE = Path(__file__).parents[1] / "docs" / "results" / "fleet.md"

#: Commits and environments of the measured fleet, and repetitions of each number of workers.
_COMMITS, _ENVIRONMENTS, _REPETITIONS = 12, 2, 3

#: Iterations of a loop in each cell: cells that are nothing but asv, and cells that work for some two seconds.
_LOOPS = (0, 80_000_000)

#: Commits, environments, shards and hosts of the simulated fleet.
_SIMULATED = (1000, 3, 20, 20)

_FLEET = [sys.executable, "-m", "copycost", "fleet"]


@contextmanager
def workers(folder: Path, number: int) -> Iterator[None]:
    """Start a scheduler and workers, each on a CPU of its own, and write ``fleet.toml``."""
    with ExitStack() as stack:
        log = stack.enter_context(open(folder / "dask.log", "ab"))
        file = folder / "scheduler.json"
        file.unlink(missing_ok=True)
        command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        started = [subprocess.Popen([sys.executable, *command, "--scheduler-file", str(file)], stdout=log, stderr=log)]
        stack.callback(_end, started)
        while not (file.exists() and file.read_text().endswith("}")):
            time.sleep(0.05)
        address = json.loads(file.read_text())["address"]
        for k, cpu in enumerate(sorted(os.sched_getaffinity(0))[:number]):
            started.append(
                subprocess.Popen(
                    ["taskset", "-c", str(cpu), *_FLEET, "worker", address], stdout=log, stderr=log,
                    env=os.environ | {"COPYCOST_HOST": f"host{k}"},
                )
            )  # fmt: skip
        (folder / "fleet.toml").write_text(f'[cluster]\nkind = "address"\naddress = "{address}"\n')
        with Client(address) as client:
            client.wait_for_workers(number, timeout=60)
        yield


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.wait()


def measured(folder: Path, *words: str) -> float:
    """Run the fleet, and return its seconds."""
    start = time.monotonic()
    subprocess.run(
        [*_FLEET, "run", "ALL", "--no-canary", *words, "--cluster", str(folder.parent / "fleet.toml")],
        cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    return time.monotonic() - start


def speed(loops: int) -> dict[str, Any]:
    """Measure counts, which need one CPU each, with one and with two workers by turns."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    cells: list[float] = []
    beyond: list[float] = []  # seconds of a run with one worker in which no cell is measured
    with tempfile.TemporaryDirectory(prefix="copycost-fleet-speed-") as name:
        folder = toy_project.make(Path(name) / "toy", _COMMITS, _ENVIRONMENTS, loops=loops)
        results = folder / ".asv" / "results"
        with workers(Path(name), 2):  # environments are made, and benchmarks listed
            measured(folder)
        for repetition in range(_REPETITIONS):
            for number in (1, 2) if repetition % 2 == 0 else (2, 1):
                for path in results.glob("host*"):
                    shutil.rmtree(path)
                (results / journal.NAME).unlink()
                with workers(Path(name), number):
                    seconds[number].append(measured(folder, "--exact"))
                done = [entry for entry in journal.read(results) if entry["event"] == "cell"]
                assert len(done) == _COMMITS * _ENVIRONMENTS
                cells += [entry["seconds"] for entry in done]
                if number == 1:
                    beyond.append(seconds[1][-1] - sum(entry["seconds"] for entry in done))
    efficiency = [one / (2 * two) for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {
        "cpu": processor(), "cpus": os.cpu_count(), "seconds_1": seconds[1], "seconds_2": seconds[2],
        "efficiency": efficiency, "cells": cells, "beyond": beyond,
    }  # fmt: skip


def simulation(cells: Sequence[float]) -> dict[str, Any]:
    """Replay measured seconds on many hosts: by the plan's queue, by one queue for all, and by a static split.

    All hosts are equally fast, and each cell takes one of the measured seconds, drawn at random.
    """
    commits, environments, shards, number = _SIMULATED
    order = random.Random(0)
    hosts = [f"host{k}" for k in range(number)]
    queue = [
        Cell(f"{commit:040x}", f"env{e}", f"{shard} of {shards}")
        for commit in range(commits)
        for e in range(environments)
        for shard in range(shards)
    ]
    seconds = {cell: order.choice(cells) for cell in queue}
    homes = assign((cell.series for cell in queue), hosts, {})
    affine: dict[str, float] = dict.fromkeys(hosts, 0.0)
    split: dict[str, float] = dict.fromkeys(hosts, 0.0)
    free = [(0.0, host) for host in hosts]
    for cell in queue:
        affine[homes[cell.series]] += seconds[cell]
        split[hosts[int(cell.commit, 16) * number // commits]] += seconds[cell]
        end, host = heapq.heappop(free)
        heapq.heappush(free, (end + seconds[cell], host))
    total = sum(seconds.values())
    return {
        "cells": len(queue), "hosts": number, "ideal_hours": total / number / 3600,
        "series_hours": max(affine.values()) / 3600, "queue_hours": max(end for end, _ in free) / 3600,
        "split_hours": max(split.values()) / 3600, "plan_seconds": _plan_seconds(commits, environments),
    }  # fmt: skip


def _plan_seconds(commits: int, environments: int) -> list[float]:
    """Return what it takes to find what is missing of a history: the first time, and after each cell."""
    with tempfile.TemporaryDirectory(prefix="copycost-fleet-plan-") as name:
        folder = toy_project.make(Path(name) / "toy", 1, environments)
        known = project.load(folder)
        host = known.results / "host"
        host.mkdir(parents=True)
        (host / "machine.json").write_text('{"machine": "host", "version": 1}')
        wanted = [Cell(f"{k:040x}", env, "all") for k in range(commits) for env in known.environments]
        rows = {f"suite.time_{k}": [[1.0], [], "v", 1, 0.1] for k in range(100)}
        text = json.dumps({"result_columns": ["result", "params", "version", "started_at", "duration"],
                           "results": rows})  # fmt: skip
        for k, cell in enumerate(wanted):
            if k % 2:
                (host / f"{cell.commit[:8]}-{cell.environment}.json").write_text(text)
        entries = [
            {"event": "cell", **vars(cell), "host": "host", "state": "done", "home": True, "versions": "other"}
            for cell in wanted[1::2]
        ]
        times = []
        for _ in range(4):
            start = time.monotonic()
            plan.plan(known, None, wanted, {"all": ()}, ["host"], entries)
            times.append(time.monotonic() - start)
        return times


def page(results: dict[str, Any]) -> str:
    """Return the page with both."""
    simulated = results["simulation"]
    (small, large) = results["speed"]
    commits, environments, shards, hosts = _SIMULATED
    rows = [
        ("all hosts work all the time", simulated["ideal_hours"]),
        ("one queue for all hosts (`--exact`)", simulated["queue_hours"]),
        ("a series stays on its host", simulated["series_hours"]),
        ("commits split beforehand", simulated["split_hours"]),
    ]
    first, *later = simulated["plan_seconds"]
    lines = [
        "# What a fleet costs",
        "",
        f"`python -m peers.fleet speed` counts (`--exact`) {_COMMITS} commits of a small project in {_ENVIRONMENTS}",
        f"environments with one and with two workers, by turns, each on a CPU of its own, on {large['cpu']},",
        f"{large['cpus']} CPUs, which also run the scheduler and `copycost fleet run`. The efficiency is the time with",
        "one worker over twice that with two.",
        "",
        "| median of a cell | one worker | two workers | efficiency | outside of cells, one worker |",
        "| --- | --- | --- | --- | --- |",
        *(_row(own) for own in (small, large)),
        "",
        "The shorter cells are nothing but `asv run`, which finds the benchmarks and starts its processes; the longer",
        "ones work on top of it.",
        "",
        "`python -m peers.fleet simulation` replays the seconds of the longer cells for"
        f" {commits:,} commits, {environments}",
        f"environments and {shards} shards ({simulated['cells']:,} cells) on {hosts} equally fast hosts:",
        "",
        "| cells are given | hours until the last is done |",
        "| --- | --- |",
        *(f"| {what} | {hours:.3f} |" for what, hours in rows),
        "",
        f"To find what is missing of {commits:,} commits in {environments} environments takes"
        f" {numbers.seconds(first)} once, and {numbers.seconds(median(later))} after each cell.",
    ]
    return "\n".join(lines) + "\n"


def _row(own: dict[str, Any]) -> str:
    efficiency = ", ".join(f"{value:.2f}" for value in own["efficiency"])
    texts = [numbers.seconds(median(own["cells"])), _listed(own["seconds_1"]), _listed(own["seconds_2"]), efficiency]
    return f"| {' | '.join([*texts, _listed(own['beyond'])])} |"


def _listed(seconds: Sequence[float]) -> str:
    return ", ".join(f"{value:.1f} s" for value in seconds)


def main() -> None:
    """Measure or simulate, and store it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["speed", "simulation"])
    options = parser.parse_args()
    results = json.loads(_RESULT.read_text()) if _RESULT.exists() else {}
    if options.what == "speed":
        results["speed"] = [speed(loops) for loops in _LOOPS]
    results["simulation"] = simulation(results["speed"][-1]["cells"])
    _RESULT.write_text(json.dumps(results, indent=1) + "\n")
    _PAGE.write_text(page(results))
    print(page(results))


if __name__ == "__main__":
    main()
