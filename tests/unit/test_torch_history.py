"""The history of PyTorch's caching allocator on a GPU, as `torch.cuda.memory._snapshot` gives it."""

from __future__ import annotations

from copycost.runtimes.torch import RUNTIME
from copycost_meter.events import pool, summarize
from copycost_meter.libraries.torch import history_events

#: Two tensors of 1,000,000 bytes, for the first of which the driver is asked; one is released.
HISTORY = [
    {"action": "segment_alloc", "addr": 4096, "size": 2**21, "stream": 0},
    {"action": "alloc", "addr": 4096, "size": 1_000_000, "stream": 0},
    {"action": "alloc", "addr": 1_004_096, "size": 1_000_000, "stream": 0},
    {"action": "free_requested", "addr": 4096, "size": 1_000_000, "stream": 0},
    {"action": "free_completed", "addr": 4096, "size": 1_000_000, "stream": 0},
    {"action": "snapshot", "addr": 0, "size": 0, "stream": 0},
]


def test_requests_and_releases_are_counted_once() -> None:
    events = history_events(HISTORY)
    seen = summarize(event for event in events if event.space == "device")
    assert (seen.allocations, seen.allocated_bytes, seen.peak_bytes, seen.retained_bytes) == (
        2, 2_000_000, 2_000_000, 1_000_000,
    )  # fmt: skip
    assert pool(events, sees_driver=True).driver_bytes == 2**21


def test_the_history_is_read_on_a_gpu_only() -> None:
    """On the CPU memray sees every tensor."""
    assert RUNTIME.instruments(on_host=True).trace is None
    of_device = RUNTIME.instruments(on_host=False)
    assert of_device.trace is not None
    assert of_device.name == "torch-history"
