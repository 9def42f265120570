"""Find out whether a host may time: a function against itself, the speed of a copy, and what else runs there.

``python -m copycost.fleet.canary SECONDS WAIT CPUS`` prints the findings as JSON. WAIT is for the lock: seconds, or no.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np

from copycost.machine.doctor import cpu_use
from copycost.machine.parent import die_with_parent

#: Bytes of the array that is copied: more than fits in a cache.
_COPIED = 1 << 26

#: Seconds of copies, and seconds for which the host is watched while this process waits.
_COPYING, _WATCHING = 1.0, 2.0

#: CPUs that other processes may use on a host that times, at least, and as a fraction of all.
_OTHERS, _OTHERS_SHARE = 0.25, 0.01

#: Speed of a copy, as a fraction of the median over hosts of the same class, below which a host is unfit.
_SLOWEST = 0.8


@dataclass(frozen=True)
class Canary:
    """Findings about a host.

    Attributes
    ----------
    verdict : str
        On a function against itself: ``"same"`` or ``"unsure"`` if nothing is wrong.
    sentence : str
        The verdict in words.
    copy_bytes_per_second : float
    others : float
        CPUs that other processes use.
    cpus : int
        CPUs of the host.
    """

    verdict: str
    sentence: str
    copy_bytes_per_second: float
    others: float
    cpus: int


def scale(x: np.ndarray) -> np.ndarray:
    """Do what is judged against itself."""
    return x / 127.5 - 1.0


def examine(seconds: float, wait: str) -> Canary:
    """Measure this host for some seconds.

    Raises
    ------
    RuntimeError
        If the function cannot be judged.
    """
    cpus = os.cpu_count() or 1
    busy, _ = cpu_use(_WATCHING)
    speed = _copy_speed(_COPYING)
    command = [sys.executable, "-m", "copycost", "judge", "--json", "-", "--budget", str(seconds)]
    if wait != "inf":
        command += ["--no-lock"] if wait == "no" else ["--wait", wait]
    target = "copycost.fleet.canary:scale"
    process = subprocess.run(
        [*command, target, target], capture_output=True, text=True, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent
    )
    try:
        judged = json.loads(process.stdout)
    except ValueError:
        raise RuntimeError(process.stderr.strip().rpartition("\n")[2] or "copycost judge has failed") from None
    return Canary(judged["verdict"], judged["sentence"], speed, busy * cpus, cpus)


def _copy_speed(seconds: float) -> float:
    """Return the bytes per second, read and written, of a copy in memory: the median over the copies."""
    source, target = np.ones(_COPIED, np.uint8), np.zeros(_COPIED, np.uint8)
    times: list[float] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        start = time.perf_counter()
        np.copyto(target, source)
        times.append(time.perf_counter() - start)
    return 2 * _COPIED / median(times)


def unfit(canary: Canary, speeds: Iterable[float] = ()) -> list[str]:
    """Return why a host must not time; nothing if it may.

    Parameters
    ----------
    canary : Canary
    speeds : iterable of float, optional
        Bytes per second of a copy on other hosts of the same class.
    """
    reasons = []
    if canary.verdict not in ("same", "unsure"):
        reasons.append(f"a function differs from itself: {canary.sentence}")
    most = max(_OTHERS, _OTHERS_SHARE * canary.cpus)
    if canary.others > most:
        reasons.append(f"other processes use {canary.others:.2f} CPUs: at most {most:.2f} are allowed")
    others = list(speeds)
    if others and canary.copy_bytes_per_second < _SLOWEST * median(others):
        share = canary.copy_bytes_per_second / median(others)
        reasons.append(f"it copies at {100 * share:.0f} % of the speed of its class: at least {100 * _SLOWEST:.0f} %")
    return reasons


if __name__ == "__main__":
    die_with_parent()
    os.sched_setaffinity(0, set(map(int, sys.argv[3].split(","))))
    print(json.dumps(asdict(examine(float(sys.argv[1]), sys.argv[2]))))
