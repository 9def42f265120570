"""Measurements made of records: what each status leaves missing, and why."""

from __future__ import annotations

import pytest

from copycost.engine.assemble import measurement
from copycost.engine.passes.allocations import with_ranges
from copycost.engine.records import AllocationTrace, Audit, BlockRecord, DeviceSample, Sample, Timing
from copycost.model.measurement import FIGURES, REQUIRED
from copycost_meter.events import AllocationEvent, AllocationSummary, Pool

ROW = dict.fromkeys(REQUIRED - {"threads", "status"})
AUDIT = Audit("ok", None, "2026-01-02T03:04:05+00:00", False, "nothing", "float32", True, 0.0, 0.0, "call = abs\n")
HOST, DEVICE = AllocationSummary(1, 10_000, 10_000, 0), AllocationSummary(2, 20_000, 15_000, 5_000)
ON_CPU = AllocationTrace(HOST, None, {}, 0, ("memray",))
ON_GPU = AllocationTrace(
    HOST, DEVICE, {}, 0, ("memray", "hook"), None, Pool(24_576, None, None), (AllocationEvent(8192, "device", "hook"),)
)


@pytest.mark.parametrize("status", ["skipped", "failed", "wrong", "crashed", "timeout"])
def test_every_figure_of_a_case_without_records_is_missing_for_its_status(status: str) -> None:
    m = measurement(ROW, 1, status, "a reason")
    assert m.missing == dict.fromkeys(FIGURES, status)
    assert (m.reason, m.instruments, m.audited, m.ranges) == ("a reason", (), None, {})


def test_a_case_that_fails_after_its_trace_keeps_its_findings() -> None:
    m = measurement(ROW, 1, "crashed", "killed", AUDIT, ON_CPU)
    assert (m.input_changed, m.code, m.audited) == (False, "call = abs\n", AUDIT.time)
    assert (m.allocations, m.peak_bytes, m.timeline) == (1, 10_000, [])
    assert m.missing["seconds"] == m.missing["clocks_mhz"] == "crashed"
    assert m.missing["device_allocations"] == m.missing["driver_bytes"] == "the case is on the CPU"


def test_without_times_they_are_missing_because_nothing_was_timed() -> None:
    m = measurement(ROW, 1, "unchecked", "no reference", Audit("unchecked", "no reference"), "memray is busy")
    assert m.missing["seconds"] == m.missing["slowed"] == "not timed"
    assert m.missing["max_ulp"] == "no reference"
    assert m.missing["code"] == "the source code cannot be extracted"
    untraced = ("allocations", "device_allocations", "driver_bytes", "timeline")
    assert {m.missing[name] for name in untraced} == {"memray is busy"}
    assert m.instruments == ("audit",)


def test_figures_of_a_device_are_added_to_those_of_the_host() -> None:
    m = measurement(ROW, 1, "ok", None, AUDIT, ON_GPU)
    assert (m.allocations, m.host_allocations, m.device_allocations) == (3, 1, 2)
    assert (m.retained_bytes, m.device_rounded_bytes) == (5_000, 24_576)
    assert m.missing["driver_bytes"] == "the instrument does not report it"
    assert m.instruments == ("audit", "memray", "hook")
    assert m.timeline == [{"bytes": 8192, "space": "device", "op": ""}]


def test_one_block_has_no_interval() -> None:
    timing = Timing((BlockRecord((Sample(0.5, 2, 0.0), Sample(0.5, 3, 0.0, "moved"))),), 0.75, "budget", 4, 100)
    m = measurement(ROW, 1, "ok", None, AUDIT, ON_CPU, timing)
    assert (m.seconds, m.seconds_first, m.calls, m.blocks, m.stopped_by) == (0.5, 0.75, 5, 1, "budget")
    assert (m.images_per_second, m.bytes_per_second, m.marks) == (8.0, 200.0, [["", "moved"]])
    assert m.missing["seconds_low"] == m.missing["least_change"] == "an interval needs two blocks"
    assert m.missing["copy_fraction"] == "the copy speed was not measured"
    assert m.missing["cold_seconds"] == "not on an asynchronous device"


def test_counts_that_differ_between_processes_have_ranges_by_space_and_in_total() -> None:
    other = AllocationTrace(
        AllocationSummary(4, 10_000, 10_000, 0), DEVICE, {"host_allocations": [4, 6], "allocations": [6, 8]}, 0, ()
    )
    assert with_ranges(ON_GPU, other).ranges == {"allocations": [3, 8], "host_allocations": [1, 6]}
    assert with_ranges(ON_GPU, ON_GPU) == ON_GPU
    assert with_ranges(ON_CPU, AllocationTrace(None, None, {}, 0, ())).ranges == {}


def test_a_device_whose_profiler_saw_nothing_has_no_time_of_its_own() -> None:
    record = BlockRecord((Sample(0.5, 2, 0.0),) * 2, (DeviceSample(0.1, None, 0.6, None),) * 2)
    m = measurement(ROW, 1, "ok", None, AUDIT, ON_GPU, Timing((record,) * 3, 0.75, "blocks", 4, 100, copy_speed=1e3))
    assert (m.launch_seconds, m.cold_seconds, m.device_seconds, m.cold_device_seconds) == (0.1, 0.6, None, None)
    assert (
        m.missing["device_seconds"]
        == m.missing["cold_device_seconds_low"]
        == ("the runtime reported no work of the device")
    )
    assert m.copy_fraction is None
    assert m.missing["copy_fraction"] == "the time of the device was not measured"
