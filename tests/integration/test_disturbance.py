"""What the system tells of a disturbed sample."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import measure

from copycost.machine import disturbance
from copycost.machine.disturbance import State, mark, stolen_ticks, waited_ns
from copycost.model.vocabulary import Mark


def test_marks_by_what_counters_did() -> None:
    before = State(waited_ns=1000, stolen_ticks=7, throttled=0, cpu=0)
    ms = 1_000_000
    assert mark(before, before, ms) == ""
    assert mark(before, replace(before, waited_ns=1000 + 9_000), ms) == ""  # under a hundredth: a timer's interrupt
    assert mark(before, replace(before, waited_ns=1000 + 11_000), ms) == "waited"
    assert mark(before, replace(before, stolen_ticks=8), ms) == "stolen"
    assert mark(before, replace(before, throttled=1, stolen_ticks=8), ms) == "throttled"
    assert mark(before, replace(before, cpu=1), ms) == "moved"
    nothing = State(None, None, 0, None)
    assert mark(nothing, nothing, ms) == ""


def test_the_lines_of_the_kernel() -> None:
    """proc_stat(5): user nice system idle iowait irq softirq steal; and Documentation/scheduler/sched-stats.rst."""
    assert (
        stolen_ticks(["cpu", "2319940", "22209", "664682", "2796565", "12098", "0", "3436", "7405", "0", "0"]) == 7405
    )
    assert waited_ns(["904377", "1234", "1"]) == 1234
    line = "cpu  2319940 22209 664682 2796565 12098 0 3436 7405 0 0"
    assert stolen_ticks(line.split()) == 7405
    assert waited_ns(["904377", "1234", "1"]) == 1234
    assert stolen_ticks([]) is None
    assert waited_ns([]) is None


@pytest.fixture
def one_cpu() -> Iterator[int]:
    """This process on one CPU, with another one that spins there too."""
    allowed = os.sched_getaffinity(0)
    cpu = min(allowed)
    os.sched_setaffinity(0, {cpu})
    spinning = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    yield cpu
    spinning.kill()
    spinning.wait()
    os.sched_setaffinity(0, allowed)


@pytest.mark.skipif(not os.path.exists("/proc/thread-self/schedstat"), reason="the kernel keeps no schedstat")
def test_a_neighbour_on_the_same_cpu_is_seen(one_cpu: int) -> None:
    before = disturbance.state()
    start = time.perf_counter_ns()
    while time.perf_counter_ns() - start < 300_000_000:
        pass
    assert mark(before, disturbance.state(), time.perf_counter_ns() - start) in ("waited", "stolen", "throttled")


def test_every_sample_has_a_mark_and_none_is_dropped() -> None:
    (m,) = measure(variants=("numpy-out",), blocks=2, budget=60)
    assert m.marks is not None
    assert m.samples is not None
    assert [len(block) for block in m.marks] == [len(block) for block in m.samples] == [4, 4]
    assert {mark for block in m.marks for mark in block} <= {*Mark}
