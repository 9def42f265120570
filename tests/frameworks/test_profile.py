"""What the profiler tells of one call, against what the call is known to do."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command

from copycost.analysis.operations import Operation, operations
from copycost.cases import images
from copycost.cases.case import CaseError
from copycost.catalog import description
from copycost.cli.profile import named
from copycost.engine.line_profiler import UNKNOWN, completed, lines, placed
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.machine import devices
from copycost.model import naming
from copycost.model.call_profile import CallProfile, MemoryChange, nested
from copycost.model.measurement import Measurement
from copycost.report.trace import trace
from copycost_meter.device_work import Span
from copycost_meter.events import AllocationEvent

N = 8 * 224 * 224 * 3 * 4


def looked_into(*words: str) -> tuple[Measurement, CallProfile]:
    with Session(Plan(devices.cpus(), 0, 0.0, None, devices.gpus()[1]), images.read()) as session:
        measurement, found = session.profile(named([*words, "8x224x224x3"]))
    assert found is not None
    return measurement, found


def by_name(profile: CallProfile) -> dict[str, Operation]:
    return {one.name.partition("  (")[0]: one for one in operations(profile)}


def test_the_lines_of_numpy_and_what_each_allocates() -> None:
    measurement, found = looked_into("tf", "numpy-new")
    assert measurement.status == "ok"
    its = by_name(found)
    for line in ("quotient = x / scale", "return quotient - offset"):
        assert (its[line].calls, its[line].allocations, its[line].allocated_bytes) == (1, 1, N)
        assert its[line].seconds > 0
    assert sum(one.allocated_bytes for one in its.values()) == 2 * N
    assert len(its) == 2
    assert "Python's lines" in found.instrument


def test_the_operations_of_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    _, found = looked_into("tf", "tf-eager")
    assert found.missing is None
    its = by_name(found)
    for op in ("RealDiv", "Sub"):
        assert (its[op].calls, its[op].allocations, its[op].allocated_bytes) == (1, 1, N)
    _, found = looked_into("tf", "tf-graph")
    its = by_name(found)
    (first,) = [one for name, one in its.items() if name.startswith("truediv")]
    assert (first.allocations, first.allocated_bytes) == (1, N)  # the next has its buffer
    assert sum(one.allocations for one in its.values()) == 1


@pytest.mark.parametrize(("variant", "requests"), [("tf-eager", 2), ("tf-graph", 1), ("tf-xla", 1)])
def test_what_memray_alone_sees_is_of_no_known_operation(
    variant: str, requests: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without oneDNN TensorFlow's profiler has no allocations: those of its operations are not known, and not 0."""
    pytest.importorskip("tensorflow")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    _, found = looked_into("tf", variant)
    its = by_name(found)
    row = its.pop(UNKNOWN)
    assert (row.calls, row.seconds, row.allocations, row.allocated_bytes) == (None, None, requests, requests * N)
    assert len(its) > 1
    assert {(one.allocations, one.allocated_bytes) for one in its.values()} == {(None, None)}
    assert "memray saw requests" in (found.missing or "")
    # Nothing is known of their time: a curve of live bytes would be made up.
    document = trace(found, {"variant": variant})
    assert {event["ph"] for event in document["traceEvents"]} == {"M", "X"}
    assert document["otherData"]["missing"] == found.missing


def test_operations_that_were_not_watched_have_no_allocations() -> None:
    spans = (Span("a", "python", 0.0, 1.0, 1.0), Span("b", "python", 1.0, 1.0, 1.0))
    watched = CallProfile(spans, (MemoryChange(8192, "host", "a", 0.5),), 2.0, "a profiler")
    assert [one.allocated_bytes for one in operations(completed(watched, (), None))] == [8192, 0]
    assert [one.allocated_bytes for one in operations(completed(watched, (), "not installed"))] == [8192, None]
    also = completed(
        watched, [AllocationEvent(5000, "host", "memray", "line"), AllocationEvent(100, "host", "memray", "line")], None
    )
    assert [(one.name, one.allocated_bytes) for one in operations(also)] == [("a", 8192), ("b", None), (UNKNOWN, 5000)]


def test_own_time_is_without_what_lies_within() -> None:
    spans = [Span(name, where, start, length, 0.0) for name, where, start, length in (
        ("whole", "a", 0.0, 10.0), ("first", "a", 1.0, 3.0), ("within", "a", 2.0, 1.0), ("last", "a", 4.0, 6.0),
        ("elsewhere", "b", 2.0, 5.0),
    )]  # fmt: skip
    assert [one.own_seconds for one in nested(spans)] == [1.0, 2.0, 1.0, 6.0, 5.0]


def test_a_line_takes_what_it_takes() -> None:
    def call() -> None:
        time.sleep(0.03)
        inner()

    def inner() -> None:
        time.sleep(0.01)

    _, spans, _ = lines(call)
    took = {span.name.partition("  (")[0]: span for span in spans}
    assert took["time.sleep(0.03)"].seconds >= 0.03
    assert took["inner()"].seconds >= 0.01
    assert took["inner()"].own_seconds < took["inner()"].seconds - 0.009


def test_a_device_has_its_own_times() -> None:
    clock = iter(range(100))

    def call(x: np.ndarray) -> np.ndarray:
        y = x + 1
        return y * 2

    _, spans, marked = lines(partial(call, np.ones(3)), lambda: next(clock))
    assert [name.partition("  (")[0] for *_, name in marked] == ["y = x + 1", "return y * 2"]
    assert [span.name for span in spans] == [name for *_, name in marked]
    assert [(one, other) for one, other, _ in marked] == [(0, 1), (2, 3)]


def test_requests_stand_at_the_end_of_their_line() -> None:
    spans = [Span("a", "Python", 0.0, 1.0, 1.0), Span("b", "Python", 1.0, 2.0, 2.0)]
    events = [
        AllocationEvent(5000, "host", "x", "a"),
        AllocationEvent(6000, "host", "x", "b"),
        AllocationEvent(-5000, "host", "x", "a"),
    ]
    assert [(one.bytes, one.at) for one in placed(events, spans)] == [(5000, 1.0), (6000, 3.0), (-5000, 3.0)]


def test_the_trace_is_one_that_perfetto_reads(command: Command, tmp_path: Path) -> None:
    """Of the Trace Event Format: an object with traceEvents; X has ts and dur, C its values, in microseconds."""
    file = tmp_path / "trace.json"
    done = command("profile", "tf", "numpy-new", "8x224x224x3", "--trace", str(file))
    assert done.returncode == 0, done.stderr
    assert "x / scale" in done.stdout
    document: dict[str, Any] = json.loads(file.read_text())
    events = document["traceEvents"]
    assert {event["ph"] for event in events} == {"M", "X", "C"}
    for event in events:
        assert {"name", "pid"} <= set(event)
        if event["ph"] == "X":
            assert event["ts"] >= 0
            assert event["dur"] > 0
    live = [event["args"]["bytes"] for event in events if event["ph"] == "C"]
    assert live[:2] == [N, 2 * N]
    assert document["otherData"]["copycost"]["variant"] == "numpy-new"


def test_live_bytes_go_up_and_down() -> None:
    profile = CallProfile(
        (),
        tuple(placed([AllocationEvent(9000, "host", "x", "a"), AllocationEvent(-9000, "host", "x", "a")], ())),
        1.0,
        "x",
    )
    document = trace(profile, {"variant": "v"})
    assert [event["args"]["bytes"] for event in document["traceEvents"] if event["ph"] == "C"] == [9000, 0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tf"], "one recipe and one variant"),
        (["tf", "numpy-nww"], "numpy-new"),
        (["tf", "numpy-new", "numpy-out"], "one recipe and one variant"),
        (["minmax", "keras-numpy"], "recipe 'minmax' has no variant 'keras-numpy'"),
    ],
)
def test_a_case_that_is_none_is_named(words: list[str], said: str) -> None:
    with pytest.raises(Exception, match=said) as raised:
        named(words)
    assert "\n" not in str(raised.value)


def test_a_case_has_a_shape_a_dtype_and_a_layout() -> None:
    case = named(["caffe", "numpy-out", "2x48x64x3", "uint8", "channels_first"])
    assert (case.batch, case.height, case.width, case.dtype, case.layout) == (2, 48, 64, "uint8", "channels_first")
    assert named(["caffe", "numpy-out", "48×64×3"]).batch is None
    with pytest.raises(CaseError, match="'48x64x4' is not a shape of images"):
        named(["caffe", "numpy-out", "48x64x4"])


#: A file that defines a variant; what stands before it is done as it is imported.
MINE = """
import numpy as np
from copycost import recipe, variant

@recipe(name="halved")
def halved(x): return x / 2

@variant(recipe="halved", runtime="numpy", writes="new", accepts=("float32",))
def halve(example): return lambda x: x * np.float32(0.5)
"""


@pytest.mark.parametrize(
    ("before", "said"),
    [
        ("import os; os._exit(3)", "mine.py ended the process that imported it (status 3)"),
        ("raise SystemExit(0)", "mine.py does not import: SystemExit: 0 (line 1)"),
        ("import sys; sys.exit('bye')", "mine.py does not import: SystemExit: bye (line 1)"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "mine.py ended the process that imported it"),
        ("1 / 0", "mine.py does not import: ZeroDivisionError"),
    ],
)
def test_a_file_that_ends_its_process_is_named_by_profile_in_one_line(
    command: Command, tmp_path: Path, before: str, said: str
) -> None:
    (tmp_path / "mine.py").write_text(before + "\n" + MINE)
    done = command("profile", "halved", "halve", "--with", "mine.py")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert said in done.stderr


def test_a_file_that_is_profiled_changes_nothing_of_the_command(command: Command, tmp_path: Path) -> None:
    """Whatever it does to the process that imports it, the table and the exit status are the command's own."""
    (tmp_path / "mine.py").write_text(
        "import atexit, os, signal, sys\n"
        "print('printed as it is imported')\n"
        "sys.stdout = sys.stderr = open(os.devnull, 'w')\n"
        "os.environ['COLUMNS'] = '1'\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "atexit.register(os._exit, 7)\n" + MINE
    )
    done = command("profile", "halved", "halve", "2x32x32x3", "--with", "mine.py")
    assert done.returncode == 0, done.stderr
    assert "halved, 2×32×32×3 float32, cpu" in done.stdout
    assert "printed as it is imported" not in done.stdout


def test_a_file_that_never_ends_to_import_is_given_up_by_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(description, "_IMPORT_TIMEOUT", 3)
    (tmp_path / "mine.py").write_text("import time; time.sleep(1000)\n" + MINE)
    with pytest.raises(naming.RegistrationError, match="was still importing after 3 s"):
        named(["halved", "halve"], [str(tmp_path / "mine.py")])


def test_what_cannot_run_says_why(command: Command) -> None:
    done = command("profile", "tf", "tf-eager", "gpu")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "CUDA" in done.stderr


def test_it_is_kept_with_a_run_whose_report_leads_to_it(command: Command, tmp_path: Path) -> None:
    small = ("--recipe", "tf", "--variant", "numpy-new", "--batch", "2", "--size", "32x32", "--dtype", "float32")
    assert command("run", *small, "--device", "cpu", "--out", "run").returncode == 0
    done = command("profile", "tf", "numpy-new", "2x32x32x3", "--run", "run")
    assert done.returncode == 0, done.stderr
    assert command("report", "run", "--html", "page").returncode == 0
    page = (tmp_path / "page" / "index.html").read_text()
    assert "profiles/0.json" in page
    assert json.loads((tmp_path / "page" / "profiles" / "0.json").read_text())["traceEvents"]


@pytest.mark.parametrize(
    ("runtime", "read"),
    [
        ("tensorflow", "list(of_protobuf(its.profiled(made)[1]))"),
        ("jax", "its.profiled(made)[1]"),
    ],
)
def test_the_calls_that_a_trace_is_asked_for_are_found_in_it(runtime: str, read: str) -> None:
    """With the framework's own profiler: of three calls of 5 ms each, without what was prepared for them."""
    pytest.importorskip(runtime)
    script = f"""
import time
from copycost_meter.profilers.xplane import call_windows, of_protobuf
from copycost.runtimes.{runtime} import RUNTIME
from copycost_meter.libraries import {runtime} as its
RUNTIME.start("cpu", 1)
made = lambda: its.annotated(lambda: time.sleep(0.005), lambda: (time.sleep(0.02), ())[1], 3)
windows = call_windows({read})
print(*[(end - begin) * 1e-9 for begin, end in windows], *[(b[0] - a[1]) * 1e-9 for a, b in zip(windows, windows[1:])])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    *calls, first_gap, second_gap = map(float, done.stdout.split())
    assert len(calls) == 3
    assert min(calls) >= 5
    assert min(first_gap, second_gap) >= 20
