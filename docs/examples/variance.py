"""What makes the time of one and the same call differ, a number on each source.

Processes, forks of each and buffers of each fork are all alive at once and sampled round after round in random order,
so that the nested analysis of variance can tell them from each other and from what passes with time.
Run it on a quiet machine: ``python docs/examples/variance.py`` takes a quarter of an hour; ``--quick`` three minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import random
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import fmean, median, quantiles, stdev, variance

SHAPES = {"small": (1, 64, 64, 3), "large": (32, 224, 224, 3)}  # 48 KiB, in a core's cache; 18 MiB, in none
SAMPLE = 0.002  # seconds
ALL = os.sched_getaffinity(0)


def prepare(kind: str, size: str):
    """The call of recipe tf on a batch of its own, and how to wait for it."""
    import numpy as np

    x = np.full(SHAPES[size], 100.0, np.float32)
    if kind == "numpy":
        out = np.empty_like(x)

        def call():
            np.divide(x, 127.5, out=out)
            np.subtract(out, 1.0, out=out)

        return call
    import tensorflow as tf

    tensor = tf.constant(x)

    @tf.function
    def graph(x):
        return x / 127.5 - 1.0

    return lambda: graph(tensor) is None or tf.test.experimental.sync_devices()


def take(call, calls: int) -> float:
    """Seconds per call of one sample, after one call that is not timed."""
    call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def forked(kind: str, size: str, buffers: int, connection: Connection) -> None:
    """Serve samples from buffers of its own."""
    most = int(os.environ.get("DISPLACED", "0"))
    displaced = bytearray(random.SystemRandom().randrange(0, most, 16)) if most else None  # noqa: F841
    calls = [prepare(kind, size) for _ in range(buffers)]
    for call in calls:
        take(call, 20)
    n = max(1, int(SAMPLE / take(calls[0], 20)))
    while True:
        buffer, cpus = connection.recv()
        if kind == "numpy":  # TensorFlow's threads are not ours to place
            os.sched_setaffinity(0, cpus)
        connection.send(take(calls[buffer], n))


def process(kind: str, size: str, forks: int, buffers: int, connection: Connection) -> None:
    """A fresh process that has imported its framework, and forks."""
    __import__("tensorflow" if kind == "tensorflow" else "numpy")
    ends = []
    for _ in range(forks):
        end, other_end = multiprocessing.Pipe()
        if os.fork() == 0:
            forked(kind, size, buffers, other_end)
        ends.append(end)
    connection.send("ready")
    while True:
        fork, buffer, cpus = connection.recv()
        ends[fork].send((buffer, cpus))
        connection.send(ends[fork].recv())


class Crowd:
    """Processes with their forks, all alive."""

    def __init__(self, kind: str, size: str, processes: int, forks: int, buffers: int, padding=None) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.ends, self.processes = [], []
        for i in range(processes):
            end, other_end = spawn.Pipe()
            if padding is not None:
                os.environ["PADDING"] = "x" * padding[i]
            child = spawn.Process(target=process, args=(kind, size, forks, buffers, other_end))
            child.start()
            self.ends.append(end)
            self.processes.append(child)
        os.environ.pop("PADDING", None)
        for end in self.ends:
            end.recv()
        self.cells = [(p, f, b) for p in range(processes) for f in range(forks) for b in range(buffers)]

    def sample(self, cell, cpus=None) -> float:
        p, f, b = cell
        self.ends[p].send((f, b, cpus or ALL))
        return self.ends[p].recv()

    def rounds(self, seconds: float, pinned: bool = False) -> dict[tuple[int, int, int], list[float]]:
        """log(seconds) of every cell in every round, in random order; pinned: a round is on one CPU, the next on
        another."""
        samples = {cell: [] for cell in self.cells}
        end = time.monotonic() + seconds
        while time.monotonic() < end or len(samples[self.cells[0]]) < 5:
            cpus = {random.choice(sorted(ALL))} if pinned else ALL
            for cell in random.sample(self.cells, len(self.cells)):
                samples[cell].append(math.log(self.sample(cell, cpus)))
        return samples

    def close(self) -> None:
        for process in self.processes:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), 9)
            process.kill()
            process.join()


def centre(samples):
    """What all cells have in common in each round, and every cell without it."""
    common = [median(values) for values in zip(*samples.values(), strict=True)]
    return common, {cell: [v - c for v, c in zip(values, common, strict=True)] for cell, values in samples.items()}


def medians(centred):
    """The median of each cell, which a burst over a few samples does not move, and the variance of the noise in it:
    what shows in the difference of its odd and its even rounds."""
    noise = fmean((median(values[::2]) - median(values[1::2])) ** 2 for values in centred.values()) / 4
    return {cell: median(values) for cell, values in centred.items()}, noise


def components(samples, forks: int, buffers: int) -> dict[str, float]:
    """Standard deviations, as fractions, of each source: a nested analysis of variance of medians."""
    common, centred = centre(samples)
    middle, noise = medians(centred)

    def within(level):
        """Variance among the means of a level, within the level above."""
        means, groups = {}, {}
        for cell, value in middle.items():
            means.setdefault(cell[:level], []).append(value)
        for key, values in means.items():
            groups.setdefault(key[:-1], []).append(fmean(values))
        return fmean(variance(values) for values in groups.values())

    buffer_ms, fork_ms, process_ms = within(3), within(2), within(1)
    deviations = {
        "buffer to buffer": buffer_ms - noise,
        "fork to fork": fork_ms - buffer_ms / buffers,
        "process to process": process_ms - fork_ms / forks,
    }
    deviations = {name: math.sqrt(max(0.0, value)) for name, value in deviations.items()}
    quartiles = [quantiles(values, n=4) for values in centred.values()]
    deviations["sample to sample, standard deviation"] = math.sqrt(
        fmean(variance(values) for values in centred.values())
    )
    deviations["sample to sample, from the quartiles"] = fmean(q[2] - q[0] for q in quartiles) / 1.349
    deviations["round to round, all alike"] = stdev(common)
    part = max(1, len(common) // 6)
    deviations["sixth to sixth of the time, all alike"] = stdev(
        median(common[i : i + part]) for i in range(0, len(common) - part + 1, part)
    )
    return deviations


def spin() -> None:
    while True:
        pass


def stream() -> None:
    import numpy as np

    a, b = np.ones(2**24), np.ones(2**24)
    while True:
        np.copyto(a, b)


def beside(neighbours, crowd: Crowd, seconds: float, pinned: bool) -> dict[str, float]:
    """Spread of samples, and of the median ratio of twelve pairs of samples, of one buffer each of two processes."""
    processes = [multiprocessing.get_context("spawn").Process(target=work, daemon=True) for work in neighbours]
    for process in processes:
        process.start()
    time.sleep(1.0 if processes else 0.0)
    samples = crowd.rounds(seconds, pinned)
    for process in processes:
        process.kill()
        process.join()
    first, second = (samples[cell] for cell in crowd.cells[:2])
    pairs = [a - b for a, b in zip(first, second, strict=True)]
    blocks = [pairs[i : i + 12] for i in range(0, len(pairs) - 11, 12)]
    return {
        "samples": stdev(first),
        "median ratio of 12 pairs": stdev(map(median, blocks)),
    }


def huge_pages(kind: str, size: str, seconds: float) -> float:
    """How much longer a call takes where NumPy asks for no huge pages, as a fraction."""
    crowds = []
    for asks in ("1", "0"):
        os.environ["NUMPY_MADVISE_HUGEPAGE"] = asks
        crowds.append(Crowd(kind, size, 3, 1, 1))
    del os.environ["NUMPY_MADVISE_HUGEPAGE"]
    ratios = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        cpus = {random.choice(sorted(ALL))}
        cell = random.choice(crowds[0].cells)
        with_pages, without_pages = (math.log(crowd.sample(cell, cpus)) for crowd in crowds)
        ratios.append(without_pages - with_pages)
    for crowd in crowds:
        crowd.close()
    return median(ratios)


def idle(crowd: Crowd, times: int) -> float:
    """How much longer the first sample after half a second of sleep takes than the one after it, as a fraction."""
    cell = crowd.cells[0]
    ratios = []
    for _ in range(times):
        time.sleep(0.5)
        first = crowd.sample(cell)
        ratios.append(math.log(first / crowd.sample(cell)))
    return median(ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a sixth of the time, and rougher")
    parser.add_argument("--json", metavar="FILE", help="write what was found")
    parser.add_argument("--placement", metavar="KIND:SIZE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = 10.0 if options.quick else 60.0
    if options.placement:  # in a process of which the caller says where things come to lie
        kind, size = options.placement.split(":")
        crowd = Crowd(kind, size, 8, 1, 1, json.loads(os.environ["PADDINGS"]))
        samples = crowd.rounds(seconds / 4, pinned=True)
        crowd.close()
        middle, noise = medians(centre(samples)[1])
        print(math.sqrt(max(0.0, variance(middle.values()) - noise)))
        return
    tables: dict[str, dict[str, float]] = {}
    for kind in ("numpy", "tensorflow"):
        for size in SHAPES:
            part = tables[f"{kind}, {size}"] = {}
            print(f"{kind}, {size}", file=sys.stderr, flush=True)
            crowd = Crowd(kind, size, 5, 3, 3)
            part |= components(crowd.rounds(seconds, pinned=True), 3, 3)
            part["first sample after 0.5 s idle, longer by"] = idle(crowd, 20)
            crowd.close()
            crowd = Crowd(kind, size, 2, 1, 1)
            for label, neighbours in (
                ("alone", []), ("beside one that spins", [spin]), ("beside two that spin", [spin, spin]),
                ("beside one that copies", [stream]),
            ):  # fmt: skip
                for where, pinned in (("any CPU", False), ("the same CPU", True)):
                    if pinned and kind == "tensorflow":
                        continue
                    for what, value in beside(neighbours, crowd, seconds / 6, pinned).items():
                        part[f"{label}, {where}: {what}"] = value
            crowd.close()
            if kind == "numpy":
                still = ["setarch", "-R"]
                equal_paddings = json.dumps([0] * 8)
                for label, before, variables in (
                    ("addresses random", [], {"PADDINGS": equal_paddings}),
                    ("addresses fixed", still, {"PADDINGS": equal_paddings}),
                    ("environment of 0 to 3.5 KiB", still, {"PADDINGS": json.dumps([512 * i for i in range(8)])}),
                    ("heap displaced by 0 to 64 KiB", still, {"PADDINGS": equal_paddings, "DISPLACED": "65536"}),
                ):
                    process = subprocess.run(
                        [*before, sys.executable, __file__, "--placement", f"{kind}:{size}"]
                        + ["--quick"] * options.quick,
                        env=os.environ | variables, capture_output=True, text=True, check=True,
                    )  # fmt: skip
                    part[f"process to process, {label}"] = float(process.stdout)
                part["without huge pages, longer by"] = huge_pages(kind, size, seconds / 6)
    rows = list(dict.fromkeys(name for part in tables.values() for name in part))
    print(f"| | {' | '.join(tables)} |")
    print(f"| --- |{' ---: |' * len(tables)}")
    for name in rows:
        cells = (f"{100 * part[name]:.1f} %" if name in part else "" for part in tables.values())
        print(f"| {name} | {' | '.join(cells)} |")
    if options.json:
        with open(options.json, "w") as file:
            json.dump(tables, file, indent=1)


if __name__ == "__main__":
    main()
