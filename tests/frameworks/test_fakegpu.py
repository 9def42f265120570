"""All that deals with a device, on one that is made up: it works on its own while the host goes on.

Each guard is taken away once, and must be missed.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from conftest import read_json

HERE = Path(__file__).parents[1] / "fakegpu"
sys.path.insert(0, str(HERE))

import fakegpu  # noqa: E402
import fakevariants  # noqa: E402
from fakegpu import FAKE, KERNEL, LAUNCH, PER_MIB, RUNTIME  # noqa: E402

from copycost import registry  # noqa: E402
from copycost.engine import clock  # noqa: E402
from copycost.engine.assemble import measurement  # noqa: E402
from copycost.engine.passes import allocations, call_profile, device_timing, timing  # noqa: E402
from copycost.engine.passes.audit import audit  # noqa: E402
from copycost.engine.prepared_call import PreparedCall  # noqa: E402
from copycost.engine.records import BlockRecord, Timing  # noqa: E402
from copycost.engine.references import ExpectedResults, refer  # noqa: E402
from copycost.model.measurement import REQUIRED  # noqa: E402
from copycost.model.runtime import Runtime  # noqa: E402
from copycost_meter.device_work import MOST, Copy, Launch, Span  # noqa: E402
from copycost_meter.events import AllocationEvent, pool, summarize  # noqa: E402

# Here they are used as they are: for the other tests there is no such runtime.
for _key in [key for key, one in registry.variants.items() if one.runtime == RUNTIME.name]:
    del registry.variants[_key]

SHAPE = (2, 64, 64, 3)
N = int(np.prod(SHAPE)) * 4
MIB = 2**20
ROW = dict.fromkeys(REQUIRED - {"threads", "status"})


def block(
    prepare: Callable[[Any], Callable[..., Any]], writes: str = "new", runtime: Runtime = RUNTIME
) -> PreparedCall:
    """A block of recipe tf on float32."""
    values = [np.random.default_rng(k).uniform(0, 255, SHAPE).astype(np.float32) for k in range(3)]
    f32 = np.dtype(np.float32)
    truth = ExpectedResults([refer(lambda x: x / 127.5 - 1, [x], "channels_last", f32) for x in values], f32)
    nothing = truth.blank_out() if writes == "out" else None
    return PreparedCall(runtime, prepare, writes, "gpu", [(x,) for x in values], truth, nothing)


@pytest.fixture(autouse=True)
def _idle() -> Iterator[None]:
    yield
    FAKE.wait()


VARIANTS = {
    "fake-new": (fakevariants.fake_new, "new", 2),
    "fake-out": (fakevariants.fake_out, "out", 2),
    "fake-inplace": (fakevariants.fake_inplace, "input", 2),
    "fake-fused": (fakevariants.fake_fused, "new", 1),
    "fake-graph": (fakevariants.fake_graph, "out", 1),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_the_device_is_waited_for(name: str) -> None:
    """What the host takes, to the fence, is at least what the device worked for; less, and it was not waited for."""
    prepare, writes, kernels = VARIANTS[name]

    def seconds(runtime: Runtime) -> float:
        one = block(prepare, writes, runtime)
        assert audit(one).status == "ok"
        timing.make_inputs(one, writes == "input", 0)
        timing.timed_calls(one, 1)
        return min(timing.sample(one, 8).seconds for _ in range(5))  # another process may have had the CPU

    assert seconds(RUNTIME) >= kernels * KERNEL
    assert seconds(replace(RUNTIME, fence=lambda: None)) < kernels * KERNEL


def test_what_was_queued_before_is_not_timed() -> None:
    """Neither by a sample of many calls nor, where each call has its reset, by single ones."""
    FAKE.submit(0.05)
    ns, _ = clock.batched(lambda x: FAKE.submit(KERNEL), [None], (), 4, FAKE.wait)
    assert 4 * KERNEL <= ns * 1e-9 < 0.05
    FAKE.submit(0.05)
    ns, _ = clock.batched(lambda x, out: FAKE.submit(KERNEL), [None], (None,), 4, FAKE.wait)
    assert 4 * KERNEL <= ns * 1e-9 < 0.05

    def reset() -> tuple[None]:
        FAKE.submit(0.02)
        return (None,)

    ns, reset_ns, _ = clock.one_by_one(lambda x: FAKE.submit(KERNEL), reset, 3, FAKE.wait)
    assert 3 * KERNEL <= ns * 1e-9 < 0.02
    assert reset_ns * 1e-9 >= 3 * 0.02
    ns = min(clock.queued(lambda x: FAKE.submit(KERNEL), reset, 3, FAKE.wait)[0] for _ in range(5))
    assert ns * 1e-9 < 3 * KERNEL  # it does not wait for the device


def test_a_launch_is_timed_with_nothing_else_queued() -> None:
    """Where a queue has an end, who queues more has to wait."""
    idle = []

    def reset() -> tuple[None]:
        FAKE.submit(0.001)
        return (None,)

    clock.queued(lambda x: idle.append(not FAKE.queue), reset, 3, FAKE.wait)
    assert idle == [True] * 3


@pytest.mark.parametrize("name", VARIANTS)
def test_times_of_the_device(name: str) -> None:
    prepare, writes, kernels = VARIANTS[name]
    one = block(prepare, writes)
    assert audit(one).status == "ok"
    timing.make_inputs(one, writes == "input", 0)
    timing.timed_calls(one, 1)
    # As if a call took a millisecond: a sample then has twenty, however slow the host is.
    samples = [device_timing.sample(one, 1e-3) for _ in range(5)]
    arrays = {"fake-new": 3, "fake-out": 2, "fake-inplace": 1, "fake-fused": 2, "fake-graph": 2}[name]
    # Another process may have had the CPU while a call was queued: the device was idle, and every time is longer.
    launch, device, cold = (min(getattr(s, of) for s in samples) for of in ("launch", "device", "cold_device"))
    assert kernels * LAUNCH <= launch < kernels * KERNEL
    assert device == pytest.approx(kernels * KERNEL, rel=0.05)  # all of it is in the cache
    # Twice the cache is read: nothing that a call reads or writes first is there any more, and nothing must be written
    # back to make room for it.
    assert cold == pytest.approx(kernels * KERNEL + arrays * N / MIB * PER_MIB, rel=0.05)
    assert all(s.cold > s.cold_device for s in samples)


def test_a_cache_that_is_flushed_by_writing_makes_the_call_write_back() -> None:
    """The guard of the test above: a cold call would be longer by the bytes of the flush that it displaces."""
    assert RUNTIME.gpu is not None
    one = block(fakevariants.fake_fused, "new", replace(RUNTIME, gpu=replace(RUNTIME.gpu, read=partial(written, True))))
    timing.make_inputs(one, False, 0)
    cold = min(device_timing.sample(one, 1e-3).cold_device or 1 for _ in range(5))
    assert cold > 1.2 * (KERNEL + 2 * N / MIB * PER_MIB)


def written(is_written: bool, nbytes: int) -> Callable[[], None]:
    return fakegpu.read(nbytes, is_written)


# Requests, total, peak and kept, in arrays of N bytes, as on a real device.
ORACLE = {
    "fake-new": (2, 2, 2, 1),
    "fake-out": (0, 0, 0, 0),
    "fake-inplace": (0, 0, 0, 0),
    "fake-fused": (1, 1, 1, 1),
    "fake-graph": (0, 0, 0, 0),  # captured before the traced call, and not in it
}


@pytest.mark.parametrize("name", VARIANTS)
def test_allocations_of_the_device(name: str) -> None:
    prepare, writes, _ = VARIANTS[name]
    found = allocations.trace(block(prepare, writes))
    count, total, peak, kept = ORACLE[name]
    assert found.device is not None
    assert found.pool is not None
    seen = found.device
    assert (seen.allocations, seen.allocated_bytes, seen.peak_bytes, seen.retained_bytes) == (
        count, total * N, peak * N, kept * N,
    )  # fmt: skip
    assert found.host is not None
    assert found.host.allocated_bytes == 0
    assert found.leaked_bytes == 0
    assert not found.ranges
    # N is a multiple of what the pool rounds to, and in a steady call nothing is asked of the driver.
    assert (found.pool.rounded_bytes, found.pool.driver_allocations, found.pool.driver_bytes) == (total * N, 0, 0)
    assert fakegpu.INSTRUMENT in found.instruments


def test_what_is_allocated_before_the_call_is_not_counted() -> None:
    """The input of a traced call is made outside of the trace."""
    one = block(fakevariants.fake_out, "out")
    inside = one.fenced_call
    one.fenced_call = lambda i: lambda: inside(i)()  # type: ignore[method-assign]
    found = allocations.trace(one)
    assert found.device is not None
    assert found.device.allocations == 1


def test_an_instrument_that_loses_an_allocation_is_not_believed() -> None:
    def deaf(function: Callable[[], Any]) -> tuple[Any, list[Any]]:
        result, events = fakegpu.trace(function)
        lost = next(event for event in events if event.space == "device")
        return result, [event for event in events if event is not lost]

    found = allocations.trace(block(fakevariants.fake_new, "new", replace(RUNTIME, trace=deaf)))
    assert found.device is None
    assert found.device_missing is not None
    assert "cannot be counted here" in found.device_missing


def test_what_the_pool_asks_the_driver_for_is_no_request_of_the_call() -> None:
    def grows(function: Callable[[], Any]) -> tuple[Any, list[Any]]:
        result, events = fakegpu.trace(function)
        return result, [AllocationEvent(fakegpu.SEGMENT, "driver", fakegpu.INSTRUMENT), *events]

    found = allocations.trace(block(fakevariants.fake_new, "new", replace(RUNTIME, trace=grows)))
    assert found.device is not None
    assert found.pool is not None
    assert (found.device.allocations, found.device.allocated_bytes) == (2, 2 * N)
    assert (found.pool.driver_allocations, found.pool.driver_bytes) == (1, fakegpu.SEGMENT)
    assert found.leaked_bytes == 0


def test_memory_that_is_asked_for_as_the_device_works_belongs_to_the_call() -> None:
    """What runs when the host has long returned: it is waited for before the call is over."""

    def late(example: Any) -> Callable[..., Any]:
        inner = fakevariants.fake_fused(example)

        def call(x: Any) -> Any:
            FAKE.submit(KERNEL, lambda: len(bytearray(MIB - 1)))
            return inner(x)

        return call

    found = allocations.trace(block(late))
    assert found.host is not None
    assert (found.host.allocations, found.host.allocated_bytes) == (1, MIB)


def test_a_call_that_keeps_its_memory_leaks() -> None:
    kept = []

    def keeps(example: Any) -> Callable[..., Any]:
        inner = fakevariants.fake_fused(example)

        def call(x: Any) -> Any:
            kept.append(fakegpu.Array(SHAPE, np.float32))
            return inner(x)

        return call

    found = allocations.trace(block(keeps))
    assert found.leaked_bytes == N
    kept.clear()


def test_the_pool_tells_what_it_asked_the_driver_for() -> None:
    result, events = fakegpu.trace(lambda: fakegpu.Array((3 * MIB + 100,), np.uint8))
    found = pool(events, sees_driver=True)
    assert summarize(e for e in events if e.space == "device").allocated_bytes == 3 * MIB + 100
    assert (found.rounded_bytes, found.driver_allocations, found.driver_bytes) == (
        3 * MIB + fakegpu.ROUNDED, 1, 3 * MIB + fakegpu.ROUNDED,
    )  # fmt: skip
    assert pool(events, sees_driver=False).driver_bytes is None
    del result


def test_a_result_that_comes_later_is_seen_as_it_is_read() -> None:
    """What is read of a result is what the device will have made of it: the copy waits, as a GPU's does."""

    def late(example: Any) -> Callable[..., Any]:
        def call(x: Any) -> Any:
            out = fakegpu.Array(SHAPE, np.float32)
            FAKE.submit(0.01, lambda: np.copyto(out.values, x.values / np.float32(127.5) - np.float32(1)))
            return out

        return call

    assert audit(block(late)).status == "ok"
    eager = replace(RUNTIME, to_numpy=lambda result: result.values.copy())
    assert audit(block(late, runtime=eager)).status == "wrong"


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """The environment in which the fake device is a runtime of an installed package, and its driver is there."""
    info = tmp_path / "site" / "fakegpu-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fakegpu\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[copycost.runtimes]\nfakegpu = fakegpu:RUNTIME\n[copycost.variants]\nfakevariants = fakevariants\n"
    )
    return {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(HERE), os.environ.get("PYTHONPATH", "")]),
        "PATH": os.pathsep.join([str(HERE), os.environ["PATH"]]),
    }


ARGUMENTS = (
    "--recipe",
    "tf",
    "--variant",
    "fake-*",
    "--batch",
    2,
    "--size",
    "64x64",
    "--dtype",
    "float32",
    "--blocks",
    1,
)


def test_a_session_on_the_device(command: Any, tmp_path: Path, installed: dict[str, str]) -> None:
    done = command("run", *ARGUMENTS, "--device", "gpu", "--json", "out.json", "--out", "run", env=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    document = read_json((tmp_path / "out.json").read_text())
    schema = json.loads((Path(__file__).parents[2] / "suite" / "copycost" / "results" / "schema.json").read_text())
    jsonschema.validate(document, schema)
    assert document["environment"]["gpus"][0]["name"] == "Fake 1"
    found = {m["variant"]: m for m in document["measurements"]}
    assert set(found) == {*VARIANTS, "fake-transfers"}
    for name, (_, _, kernels) in VARIANTS.items():
        m = found[name]
        assert (m["status"], m["reason"]) == ("ok", None)
        count, total, peak, kept = ORACLE[name]
        assert [m[f"device_{what}"] for what in ("allocations", "allocated_bytes", "peak_bytes", "retained_bytes")] == [
            count, total * N, peak * N, kept * N,
        ]  # fmt: skip
        assert (m["device_rounded_bytes"], m["driver_allocations"], m["driver_bytes"]) == (total * N, 0, 0)
        assert m["allocations"] == count
        # The device's clock is the host's, which other processes may keep waiting.
        assert m["device_seconds"] == pytest.approx(kernels * KERNEL, rel=0.3)
        assert m["launch_seconds"] >= kernels * LAUNCH
        assert m["seconds"] >= kernels * KERNEL
        assert m["cold_device_seconds"] > 1.2 * m["device_seconds"]
        # A copy of the same size is in the cache as well.
        assert m["copy_fraction"] == pytest.approx(1 / kernels, rel=0.3)
        assert set(m["clocks_mhz"]) == {1500}
        assert set(m["temperatures_c"]) == {40}
        assert m["includes_transfers"] is False
    assert found["fake-transfers"]["includes_transfers"] is True
    assert found["fake-inplace"]["input_changed"] is True


def test_a_device_whose_memory_no_instrument_sees_has_no_count_and_no_zero(
    command: Any, installed: dict[str, str]
) -> None:
    arguments = (*ARGUMENTS[:2], "--variant", "fake-new", *ARGUMENTS[4:], "--device", "gpu", "--json", "-")
    done = command("run", *arguments, env=installed | {"FAKE_FAULT": "lost event"})
    (m,) = read_json(done.stdout)["measurements"]
    assert m["status"] == "ok"
    told = (
        "allocations of fakegpu on the device cannot be counted here: of a buffer of 1,048,576 bytes, fake-hook saw 0"
    )
    for name in ("device_allocations", "device_peak_bytes", "device_rounded_bytes", "allocations", "allocated_bytes"):
        assert m[name] is None
        assert told in m["missing"][name]
    assert (m["host_allocations"] is None) == (importlib.util.find_spec("memray") is None)


def test_what_a_gpu_is_slowed_by_marks_the_samples(command: Any, installed: dict[str, str]) -> None:
    hot = {"FAKE_SMI": json.dumps([{"clocks_throttle_reasons.active": "0x0000000000000044"}])}
    arguments = (*ARGUMENTS[:2], "--variant", "fake-fused", *ARGUMENTS[4:], "--device", "gpu", "--json", "-")
    (m,) = read_json(command("run", *arguments, env=installed | hot).stdout)["measurements"]
    assert {mark for block in m["marks"] for mark in block} == {"throttled"}
    assert m["slowed"] == [["power cap", "heat, by hardware"]] * m["blocks"]


@pytest.mark.parametrize("starts", [1, 3, 6])
def test_a_device_that_is_lost_on_the_way_is_a_failure(
    starts: int, command: Any, tmp_path: Path, installed: dict[str, str]
) -> None:
    """Between two audits, or in a block. Without any start that succeeded, the cases are skipped."""
    path = tmp_path / "starts"
    path.write_text("1\n" * starts)
    arguments = (*ARGUMENTS, "--device", "gpu", "--json", "-", "--out", "run")
    # One process at a time: of two that start together, one may see the loss before the other has worked.
    one = {"FAKE_SMI": json.dumps([{"memory.free": "1000"}])}
    done = command("run", *arguments, env=installed | one | {"FAKE_STARTS": str(path)})
    found = read_json(done.stdout)["measurements"]
    assert done.returncode == 1
    assert {(m["status"], m["reason"]) for m in found} <= {("failed", "the device is lost"), ("ok", None)}
    assert "failed" in {m["status"] for m in found}


def test_a_device_that_was_never_seen_is_a_skip(command: Any, tmp_path: Path, installed: dict[str, str]) -> None:
    (tmp_path / "starts").write_text("")
    arguments = (*ARGUMENTS, "--device", "gpu", "--json", "-", "--out", "run")
    done = command("run", *arguments, env=installed | {"FAKE_STARTS": str(tmp_path / "starts")})
    assert done.returncode == 0
    found = read_json(done.stdout)["measurements"]
    assert {(m["status"], m["reason"]) for m in found} == {("skipped", "the device is lost")}


@pytest.mark.parametrize("seen", [None, 0.0])
def test_a_clock_that_saw_no_work_gives_no_time(seen: float | None) -> None:
    """As where a profiler may not look at the device: the host's times are there, and those of the device are not."""
    assert RUNTIME.gpu is not None
    blind = replace(RUNTIME, gpu=replace(RUNTIME.gpu, seconds=lambda *_: seen))
    one = block(fakevariants.fake_new, "new", blind)
    timing.make_inputs(one, False, 0)
    host = timing.sample(one, 1)
    on_device = device_timing.sample(one, host.seconds)
    assert on_device.launch > 0
    assert on_device.device == on_device.cold_device == seen
    record = BlockRecord((host,), (on_device,))
    m = measurement(ROW, 1, "ok", None, timing=Timing((record,) * 3, 0.1, "blocks", 2, 2 * N, copy_speed=1e9))
    assert m.seconds is not None
    assert m.device_seconds is m.device_seconds_low is m.copy_fraction is None
    assert m.missing["device_seconds"] in (
        "the runtime reported no work of the device", "shorter than the resolution of the device's clock",
    )  # fmt: skip


def test_a_device_without_room_is_a_reason(command: Any, installed: dict[str, str]) -> None:
    full = {"FAKE_SMI": json.dumps([{"memory.free": "1"}])}
    done = command("run", *ARGUMENTS, "--device", "gpu", "--json", "-", env=installed | full)
    assert done.returncode == 0
    for m in read_json(done.stdout)["measurements"]:
        assert m["status"] == "skipped"
        assert m["reason"].startswith("needs about ")
        assert m["reason"].endswith("of the device's memory is free")


def test_one_of_several(command: Any, tmp_path: Path, installed: dict[str, str]) -> None:
    two = {"FAKE_SMI": json.dumps([{}, {"index": "1", "uuid": "GPU-other", "name": "Fake 2"}])}
    arguments = (*ARGUMENTS[:2], "--variant", "fake-fused", *ARGUMENTS[4:], "--json", "-")
    done = command("run", *arguments, "--device", "gpu:1", env=installed | two)
    assert done.returncode == 0, done.stderr
    document = read_json(done.stdout)
    assert [gpu["name"] for gpu in document["environment"]["gpus"]] == ["Fake 2"]
    assert [m["status"] for m in document["measurements"]] == ["ok"]
    done = command("run", *arguments, "--device", "gpu:2", env=installed | two)
    assert done.returncode == 2
    assert "unknown device gpu:2: expected one of gpu:0 (Fake 1), gpu:1 (Fake 2)" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_call_is_profiled_on_one_of_several(command: Any, installed: dict[str, str]) -> None:
    two = {"FAKE_SMI": json.dumps([{}, {"index": "1", "uuid": "GPU-other", "name": "Fake 2"}])}
    case = ("profile", "tf", "fake-fused", "2×64×64×3")
    assert command(*case, "gpu:1", env=installed | two).returncode == 0
    done = command(*case, "gpu:2", env=installed | two)
    assert done.returncode == 2
    assert "unknown device gpu:2: expected one of gpu:0 (Fake 1), gpu:1 (Fake 2)" in done.stderr


def test_nothing_of_a_runtime_that_is_elsewhere_is_imported_by_the_parent(tmp_path: Path) -> None:
    """The parent, and a process before it forks, know the runtime and initialise nothing: it has no start of theirs."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys; from copycost.catalog import discovery; "
         "discovery.load_shipped(); print(*sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert not {"cupy", "tensorflow", "cupyx", "torch", "jax"} & set(done.stdout.split())


def test_a_device_that_runs_out_of_memory_fails_that_case_only(command: Any, installed: dict[str, str]) -> None:
    """The driver says that there is room, and there is not: one line, and the next case is measured."""
    arguments = ("--recipe", "tf", "--variant", "fake-fused", "--size", "512x512", "--dtype", "float32")
    arguments += ("--blocks", 1, "--batch", 8, "--batch", 1, "--device", "gpu", "--json", "-")
    done = command("run", *arguments, env=installed | {"FAKE_SMI": json.dumps([{"memory.free": "100000"}])})
    assert done.returncode == 1
    found = {m["batch"]: m for m in read_json(done.stdout)["measurements"]}
    assert found[8]["status"] == "failed"
    assert found[8]["reason"].startswith("raised MemoryError: out of device memory: 25165824 bytes were requested")
    assert found[1]["status"] == "ok"


def test_a_line_of_the_host_is_told_with_what_the_device_did_for_it() -> None:
    found = call_profile.profile(block(fakevariants.fake_new), 2 * N)
    told = {span.name.partition("  (")[0]: span for span in found.spans if span.where == "device"}
    host = {span.name.partition("  (")[0]: span for span in found.spans if span.where == "Python"}
    assert told
    assert sum(span.seconds for span in told.values()) >= 2 * KERNEL
    assert set(told) <= set(host)
    assert sum(change.bytes for change in found.changes if change.bytes > 0 and change.space == "device") == 2 * N


def test_kernels_are_told_with_how_they_were_launched(command: Any, tmp_path: Path, installed: dict[str, str]) -> None:
    found = call_profile.profile(block(fakevariants.fake_new), 2 * N)
    kernels = [span for span in found.spans if isinstance(span.work, Launch)]
    assert found.no_kernels is None
    # 96 blocks of 256 threads; six of eight blocks fit, by their registers.
    assert [span.work for span in kernels] == [Launch((96, 1, 1), (256, 1, 1), 40, 0, 0.75)] * 2
    assert all(span.seconds >= KERNEL and span.where == "GPU, stream 7" for span in kernels)
    assert 0 <= kernels[0].start < kernels[1].start
    arguments = ("profile", "tf", "fake-new", "2×64×64×3", "gpu", "--trace", "out.json")
    done = command(*arguments, env=installed | {"COLUMNS": "170"})
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("96 × 256", "75 %", "grid × block"))
    told = [event["args"] for event in json.loads((tmp_path / "out.json").read_text())["traceEvents"]]
    assert sum(args.get("registers") == 40 for args in told) == 2
    done = command(*arguments[:-2], env=installed | {"FAKE_CUPTI": "forbidden"})
    assert "No kernels: CUPTI: raised cuptiError: CUPTI_ERROR_INSUFFICIENT_PRIVILEGES" in " ".join(done.stdout.split())


def test_a_call_that_works_on_the_host_is_seen_by_what_it_copies(
    command: Any, tmp_path: Path, installed: dict[str, str]
) -> None:
    """TensorFlow runs operations without a kernel for the GPU on the host, and says nothing."""

    def through_the_host(example: Any) -> Callable[..., Any]:
        return lambda x: RUNTIME.array(RUNTIME.to_numpy(x) / np.float32(127.5) - np.float32(1), False)

    assert allocations.trace(block(through_the_host)).transferred_bytes == 2 * N
    assert allocations.trace(block(fakevariants.fake_new)).transferred_bytes == 0
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import numpy as np\n"
        "from copycost import variant\n"
        "from copycost.catalog.discovery import runtime\n"
        "@variant(recipe='tf', runtime='fakegpu', writes='new')\n"
        "def through_the_host(example):\n"
        "    its = runtime('fakegpu')\n"
        "    return lambda x: its.array(its.to_numpy(x) / np.float32(127.5) - np.float32(1), False)\n"
    )
    names = ("--variant", "fake-out", "--variant", "fake-transfers", "--variant", "through-the-host")
    arguments = ("run", "--recipe", "tf", *names, "--with", str(mine), "--batch", "2", "--size", "64x64",
                 "--dtype", "float32", "--device", "gpu", "--blocks", "1", "--json", "run.json", "--out")  # fmt: skip
    done = command(*arguments, "run", env=installed)
    assert done.returncode == 0, done.stderr
    rows = {row["variant"]: row for row in json.loads((tmp_path / "run.json").read_text())["measurements"]}
    assert {name: row["transferred_bytes"] for name, row in rows.items()} == {
        "fake-out": 0, "fake-transfers": 2 * N, "through-the-host": 2 * N,
    }  # fmt: skip
    shown = command("show", "run", env=installed).stdout
    assert " ".join(shown.split()).count("192 KiB between host and device") == 1  # fake-transfers says what it is for
    assert rows["fake-out"]["instruments"][-1] == "fake-clock"
    done = command(*arguments, "blind", env=installed | {"FAKE_CUPTI": "forbidden"})
    assert done.returncode == 0, done.stderr
    for row in json.loads((tmp_path / "run.json").read_text())["measurements"]:
        assert row["transferred_bytes"] is None
        assert "INSUFFICIENT_PRIVILEGES" in row["missing"]["transferred_bytes"]


def _spans(number: int, work: Any) -> Callable[[Any], Any]:
    return lambda function: ([Span("memcpy", "GPU, 1", 0.0, 1e-6, 1e-6, work)] * number, None)


@pytest.mark.parametrize(
    ("kernels", "reason"),
    [
        (None, "no profiler"),
        (lambda function: 1 / 0, "ZeroDivisionError"),
        (lambda function: ([], "it may not look"), "it may not look"),
        (_spans(1, None), "does not know what a copy has moved"),
        (_spans(1, Copy(4, "unknown", "device")), "does not know what a copy has moved"),
        (_spans(MOST, Copy(4, "pinned", "device")), "more than 4,000 kernels and copies"),
    ],
)
def test_a_profiler_that_fails_leaves_transfers_unknown(kernels: Any, reason: str) -> None:
    blind = replace(RUNTIME, gpu=replace(RUNTIME.gpu, kernels=kernels))
    found = allocations.trace(block(fakevariants.fake_new, runtime=blind))
    assert found.transferred_bytes is None
    assert reason in (found.transfers_missing or "")
    assert found.device is not None


def test_the_bandwidth_of_a_call_is_told_beside_that_of_a_copy(command: Any, installed: dict[str, str]) -> None:
    found = call_profile.profile(block(fakevariants.fake_new), 2 * N)
    least = KERNEL - 1e-9  # two readings of a clock are rounded, the more the longer the machine has been up
    assert found.device_seconds >= 2 * least
    assert found.copy_seconds is not None
    assert found.copy_seconds >= least
    done = command("profile", "tf", "fake-new", "2×64×64×3", "gpu", env=installed)
    assert done.returncode == 0, done.stderr
    assert "TB/s. A copy in the device's memory that moves as many bytes runs at" in " ".join(done.stdout.split())


def test_copies_are_told_with_their_bytes() -> None:
    upload = fakegpu.upload(np.zeros(MIB, np.uint8), True)

    def call() -> None:
        upload()
        FAKE.wait()

    (span,), reason = fakegpu.RUNTIME.gpu.kernels(call)
    assert reason is None
    assert span.work == Copy(MIB, "pinned", "device")
    assert span.seconds == pytest.approx(fakegpu.PINNED)
    assert fakegpu.RUNTIME.gpu.kernels(FAKE.wait) == ([], "CUPTI saw no work of the device")


def test_the_pace_of_the_host_is_not_in_the_times_of_the_device() -> None:
    """A line that queues a kernel, makes the host wait and queues another takes the device less than the wait."""

    def slow(example: Any) -> Callable[..., Any]:
        def call(x: Any) -> Any:
            out = fakegpu.Array(SHAPE, np.float32)
            _waits(x, out)
            return out

        return call

    def spent(runtime: Runtime) -> float:
        found = call_profile.profile(block(slow, runtime=runtime), 2 * N)
        return sum(span.seconds for span in found.spans if span.where == "device")

    assert RUNTIME.gpu is not None
    assert min(spent(RUNTIME) for _ in range(3)) < 2.5e-3
    assert spent(replace(RUNTIME, gpu=replace(RUNTIME.gpu, busy=None))) > 5e-3


def _waits(x: Any, out: Any) -> None:
    FAKE.kernel(lambda: np.divide(x.values, np.float32(127.5), out=out.values), x, out, written=out)
    time.sleep(5e-3)
    FAKE.kernel(lambda: np.subtract(out.values, np.float32(1), out=out.values), out, written=out)


NVTX = """
def start_range(name):
    print("begin", name, flush=True)
    return name

def end_range(name):
    print("end", name, flush=True)
"""

#: A recipe and a variant that says when it is called.
NOISY = """
from copycost import recipe, variant

@recipe("noisy")
def noisy(x):
    return x + 1

@variant(recipe="noisy", runtime="fakegpu", writes="out")
def loud(example):
    from fakevariants import _less_one
    def call(x, out):
        print("call", flush=True)
        return _less_one(x, out)
    return call
"""


@pytest.fixture
def ranges(tmp_path: Path, installed: dict[str, str]) -> dict[str, str]:
    """NVIDIA's package nvtx, which prints each range."""
    (tmp_path / "site" / "nvtx.py").write_text(NVTX)
    return installed


def test_calls_are_made_here_within_a_range(command: Any, tmp_path: Path, ranges: dict[str, str]) -> None:
    """Of a recipe of the user's file, which is imported once."""
    (tmp_path / "noisy.py").write_text(NOISY)
    done = command("profile", "noisy", "loud", "2×64×64×3", "gpu", "--with", "noisy.py", "--here", env=ranges)
    assert (done.returncode, done.stderr) == (0, "")
    *before, begin, first, second, third, end, last = done.stdout.splitlines()
    assert set(before) == {"call"}
    assert [begin, first, second, third, end, last] == [
        "begin copycost_call", "call", "call", "call", "end copycost_call",
        "Made 3 calls of noisy loud 2×64×64×3 float32 gpu within the range copycost_call.",
    ]  # fmt: skip
    for variant in ("fake-new", "fake-inplace", "fake-out"):
        assert command("profile", "tf", variant, "2×64×64×3", "gpu", "--here", env=ranges).returncode == 0
    assert command("profile", "tf", "numpy-new", "2×64×64×3", "--here", env=ranges).returncode == 0


@pytest.mark.parametrize("profiler", ["ncu", "nsys"])
def test_the_command_of_a_profiler_runs_as_it_is_printed(
    profiler: str, command: Any, tmp_path: Path, ranges: dict[str, str]
) -> None:
    """With a script in place of NVIDIA's profiler: it takes options, and starts what follows them."""
    script = tmp_path / "site" / profiler
    script.write_text('#!/bin/sh\nwhile [ "$1" != python ]; do echo "option $1"; shift; done\nshift\n'
                      f'exec {shlex.quote(sys.executable)} "$@"\n')  # fmt: skip
    script.chmod(0o755)
    case = ("profile", "tf", "fake-new", "2×64×64×3", "gpu")
    done = command(*case, f"--{profiler}", env=ranges)
    (line,) = done.stdout.splitlines()
    path = {"PATH": os.pathsep.join([str(tmp_path / "site"), ranges["PATH"]])}
    within = subprocess.run(
        line, shell=True, cwd=tmp_path, env=os.environ | ranges | path, capture_output=True, text=True
    )  # fmt: skip
    assert "end copycost_call" in within.stdout, within.stderr
    assert ("option copycost_call" in within.stdout) == (profiler == "ncu")
    (tmp_path / "site" / "nvtx.py").write_text("raise ImportError")
    done = command(*case, "--ncu", env=ranges)
    assert "--nvtx" not in done.stdout
    assert "nvtx is not installed" in done.stderr


def test_samples_on_the_device_have_ranges(ranges: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import test_fakegpu as t; from copycost.engine.passes import device_timing, timing\n"
        "one = t.block(t.fakevariants.fake_new); one.name = 'tf fake-new'\n"
        "its = one.call; one.call = lambda *args: (print('call'), its(*args))[1]\n"
        "timing.make_inputs(one, False, 0); timing.timed_calls(one, 1); timing.sample(one, 2)\n"
        "device_timing.sample(one, 0.001)\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]), ranges["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    lines = done.stdout.splitlines()
    begins, ends = ([k for k, line in enumerate(lines) if line == f"{edge} tf fake-new"] for edge in ("begin", "end"))
    assert len(begins) == len(ends) == 2, done.stderr
    assert all(end - begin > 1 for begin, end in zip(begins, ends, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("numpy-new", "--ncu"), "--ncu is for a case on a GPU"),
        (("numpy-new", "--here", "--ncu"), "exclude each other"),
        (("numpy-new", "--here", "--trace", "out.json"), "exclude each other"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: tuple[str, ...], message: str, command: Any) -> None:
    done = command("profile", "tf", *options)
    assert done.returncode == 2
    assert message in done.stderr


def test_a_call_that_raises_here_ends_the_command_with_one_line(command: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "from copycost import variant\n@variant(recipe='tf', runtime='numpy', writes='new')\n"
        "def bad(example):\n    def call(x): raise ValueError('no')\n    return call\n"
    )
    done = command("profile", "tf", "bad", "--with", "bad.py", "--here")
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["Error: tf bad 32×224×224×3 float32 cpu: raised ValueError: no"]
