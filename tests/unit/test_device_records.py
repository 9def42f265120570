"""What profilers record about kernels and copies, and the occupancy of a kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from copycost.analysis.operations import operations
from copycost.model.call_profile import CallProfile, MemoryChange
from copycost_meter.device_work import Copy, Launch, Span
from copycost_meter.profilers import xplane
from copycost_meter.profilers.occupancy import Limits, occupancy
from copycost_meter.profilers.records import kineto_spans, xplane_work

#: Of compute capability 8.0 (CUDA C++ programming guide, technical specifications per compute capability).
A100 = Limits(threads=2048, blocks=32, registers=65536, shared_bytes=164 * 1024, reserved_bytes=1024)

#: Of compute capability 7.5, where nothing is reserved.
T4 = Limits(threads=1024, blocks=16, registers=65536, shared_bytes=64 * 1024, reserved_bytes=0)


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "limits", "known"),
    [
        (256, 32, 0, A100, 1.0),
        (256, 33, 0, A100, 0.75),  # a warp gets 1,280 registers: 51 warps, in fours 48, six blocks
        (256, 40, 0, A100, 0.75),
        (256, 64, 0, A100, 0.5),
        (256, 128, 0, A100, 0.25),
        (1024, 33, 0, A100, 0.5),  # one block of the two that would fit otherwise
        (32, 16, 0, A100, 0.5),  # 32 blocks at most
        (96, 16, 0, A100, 63 / 64),  # 21 blocks of three warps
        (128, 32, 40 * 1024, A100, 0.25),  # four blocks by their shared memory: 41 KiB each, and 1 KiB reserved
        (128, 32, 41 * 1024, A100, 3 * 4 / 64),
        (64, 32, 0, T4, 1.0),
        (64, 32, 8 * 1024, T4, 0.5),
        (33, 32, 0, T4, 1.0),  # two warps
    ],
)
def test_occupancy_is_that_of_the_calculator(
    threads: int, registers: int, shared: int, limits: Limits, known: float
) -> None:
    assert occupancy((threads, 1, 1), registers, shared, limits) == pytest.approx(known)
    assert occupancy((1, 1, threads), registers, shared, limits) == pytest.approx(known)


def test_limits_are_those_in_the_attributes_of_a_device() -> None:
    attributes = {
        "MaxThreadsPerMultiProcessor": 2048, "MaxBlocksPerMultiprocessor": 32, "MaxRegistersPerMultiprocessor": 65536,
        "MaxSharedMemoryPerMultiprocessor": 164 * 1024, "ReservedSharedMemoryPerBlock": 1024, "WarpSize": 32,
    }  # fmt: skip
    assert Limits.of(attributes) == A100
    del attributes["MaxBlocksPerMultiprocessor"]
    assert Limits.of(attributes) is None


def test_a_kernel_and_a_copy_of_xla() -> None:
    details = "regs:32 static_shared:4224 dynamic_shared:1024 grid:196,2,1 block:1024,1,1 occ_pct:62.5"
    assert xplane_work({"kernel_details": details}) == Launch((196, 2, 1), (1024, 1, 1), 32, 5248, 0.625)
    for name in ("size", "num_bytes"):
        copied = f"kind_src:pinned kind_dst:device {name}:4096 dest:0 async:1"
        assert xplane_work({"memcpy_details": copied}) == Copy(4096, "pinned", "device")
    assert xplane_work({"correlation_id": 3}) is None
    # What the profiler does not tell is not 0.
    assert xplane_work({"kernel_details": "regs:32 grid:1,1,1"}) is None
    assert xplane_work({"memcpy_details": "kind_src:pinned"}) is None


def test_a_trace_of_pytorch() -> None:
    kernel = {
        "ph": "X", "cat": "kernel", "name": "void at::native::div", "ts": 130.0, "dur": 20.0, "pid": 0, "tid": 7,
        "args": {
            "stream": 7, "registers per thread": 18, "shared memory": 64, "grid": [98, 1, 1], "block": [512, 1, 1],
            "est. achieved occupancy %": 75,
        },
    }  # fmt: skip
    copy = {
        "ph": "X", "cat": "gpu_memcpy", "name": "Memcpy HtoD (Pinned -> Device)", "ts": 110.0, "dur": 10.0, "tid": 7,
        "args": {"stream": 13, "bytes": 4096, "memory bandwidth (GB/s)": 0.4},
    }  # fmt: skip
    host = {"ph": "X", "cat": "cpu_op", "name": "aten::div", "ts": 105.0, "dur": 3.0, "args": {}}
    call = {"ph": "X", "cat": "user_annotation", "name": "copycost call", "ts": 100.0, "dur": 60.0, "args": {}}
    again = call | {"cat": "gpu_user_annotation", "ts": 110.0}
    first, second = kineto_spans([kernel, again, host, call, copy], "copycost call")
    assert (first.name, first.where, first.work) == (
        "copy, pinned to device", "GPU, stream 13", Copy(4096, "pinned", "device"),
    )  # fmt: skip
    assert (second.start, second.seconds) == pytest.approx((30e-6, 20e-6))
    assert second.work == Launch((98, 1, 1), (512, 1, 1), 18, 64, 0.75)
    assert not kineto_spans([host, call], "copycost call")
    unknown = kernel | {"args": kernel["args"] | {"est. achieved occupancy %": -1}}
    assert kineto_spans([unknown], "copycost call")[0].work == Launch((98, 1, 1), (512, 1, 1), 18, 64, None)


def test_what_the_host_requests_for_an_operation_is_not_told_of_its_kernel() -> None:
    launch = Launch((1, 1, 1), (32, 1, 1), 16, 0, None)
    spans = (
        Span("div", "GPU, stream 7", 0.0, 1.0, 1.0, launch), Span("div", "GPU, stream 7", 1.0, 1.0, 1.0, launch),
        Span("div", "thread", 0.0, 0.1, 0.1), Span("copy", "GPU, stream 7", 2.0, 0.5, 0.5, Copy(8, "a", "b")),
    )  # fmt: skip
    found = operations(CallProfile(spans, (MemoryChange(4096, "device", "div", 0.0),), 3.0, "a profiler"))
    assert [(one.where, one.calls, one.allocations, one.launch, one.moved_bytes) for one in found] == [
        ("GPU, stream 7", 2, None, launch, None), ("GPU, stream 7", 1, None, None, 8), ("thread", 1, 1, None, None),
    ]  # fmt: skip


def test_a_trace_of_jax_has_its_calls_kernels_and_requests() -> None:
    """As `jax.profiler.ProfileData` gives it: two calls, a kernel in each, and what was prepared before the second."""

    def event(name: str, at_us: float, us: float, **stats: object) -> SimpleNamespace:
        return SimpleNamespace(name=name, start_ns=at_us * 1e3, duration_ns=us * 1e3, stats=list(stats.items()))

    details = "regs:16 static_shared:0 dynamic_shared:0 grid:98,1,1 block:512,1,1 occ_pct:100"
    stream = [event("fusion", at, 3.0, kernel_details=details) for at in (12.0, 25.0, 32.0)]
    memory = {"allocator_name": "GPU_0_bfc", "requested_bytes": 5000, "allocation_bytes": 5120}
    host = [
        event("copycost call", 10.0, 10.0), event("copycost call", 30.0, 10.0),
        event("MemoryDeallocation", 19.0, 0.0, **memory), event("MemoryAllocation", 11.0, 0.0, **memory),
    ]  # fmt: skip
    planes = [
        SimpleNamespace(name="/host:CPU", lines=[SimpleNamespace(name="python", events=host)]),
        SimpleNamespace(name="/device:GPU:0", lines=[
            SimpleNamespace(name="Stream #13(Compute)", events=stream), SimpleNamespace(name="XLA Ops", events=stream),
        ]),
    ]  # fmt: skip
    events = list(xplane.of_profile_data(SimpleNamespace(planes=planes)))
    assert xplane.kernel_seconds(events) == pytest.approx(3e-6)
    spans = xplane.kernel_spans(events)
    assert [span.start for span in spans] == pytest.approx([2e-6, 15e-6, 22e-6])
    assert {span.work for span in spans} == {Launch((98, 1, 1), (512, 1, 1), 16, 0, 1.0)}
    assert [(one.bytes, one.rounded, one.space) for one in xplane.allocations(events, "it")] == [
        (5000, 5120, "device"), (-5000, 5120, "device"),
    ]  # fmt: skip
    assert xplane.kernel_seconds([one for one in events if not one.on_stream]) is None


def test_an_annotated_call_lasts_until_it_is_done_and_no_longer() -> None:
    """Its arguments are there before, so that their copies do not count."""
    order: list[str] = []

    @contextlib.contextmanager
    def annotation(name: str) -> Iterator[None]:
        order.append(f"begin {name}")
        yield
        order.append("end")

    def prepare() -> tuple[str]:
        order.append("prepare")
        return ("argument",)

    def call(x: str) -> str:
        order.append(f"call with {x}")
        return "result"

    xplane.make_calls(call, prepare, 20, annotation, lambda values: order.append(f"wait for {values}"))
    assert order == [
        "prepare", "wait for ('argument',)", "begin copycost call", "call with argument", "wait for result", "end",
    ] * 3  # fmt: skip
