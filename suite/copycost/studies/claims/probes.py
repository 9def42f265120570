"""Provide inputs, counters and timers that the checks of several claims share."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from copycost import registry
from copycost.cases import images
from copycost.catalog import discovery
from copycost.model.runtime import RuntimeUnavailable
from copycost.model.vocabulary import Layout
from copycost_meter.count_allocations import count
from copycost_meter.events import AllocationSummary, median_summary
from copycost_meter.host_allocations import WINDOWS

#: Shape of the batch of images to preprocess.
SHAPE = (8, 224, 224, 3)

#: Size of such a batch in float32, in bytes.
NBYTES = int(np.prod(SHAPE)) * 4

#: Number of samples of each call, in each process.
_SAMPLES = 4

#: Minimum duration of a sample, in seconds.
_LEAST_SECONDS = 3e-3


def photographs(dtype: str, shape: tuple[int, int, int, int] = SHAPE) -> np.ndarray:
    """Return crops of the shipped photograph, with values 0 … 255."""
    batch, height, width, _ = shape
    return images.batch(images.read(), (batch, height, width), dtype, Layout.CHANNELS_LAST, seed=0)


def aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy aligned to 64 bytes: TensorFlow aborts the process if it imports other memory by DLPack."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    first = -memory.ctypes.data % 64
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def applications() -> dict[str, Callable[..., Any]]:
    """Return the preprocess_input of every module of ``keras.applications`` that has one, by module name."""
    import keras.applications

    names = [module.name for module in pkgutil.iter_modules(keras.applications.__path__)]
    modules = {
        name: importlib.import_module(f"keras.applications.{name}") for name in names if name != "imagenet_utils"
    }
    return {name: module.preprocess_input for name, module in modules.items() if hasattr(module, "preprocess_input")}


def variant(recipe: str, name: str, example: Any) -> Callable[..., Any]:
    """Return the prepared call of a shipped variant."""
    discovery.load_shipped()
    prepare = registry.variants[recipe, name].prepare
    assert prepare is not None  # variants registered in this process always have one
    return prepare(example)


def batches(count: int) -> str:
    """Format a number of bytes as a multiple of a batch."""
    return f"{count / NBYTES:.3g} × a batch" if count else "0 bytes"


def in_numpy(call: Callable[[], Any]) -> AllocationSummary:
    """Count the allocations of a NumPy call in the steady state."""
    return median_summary(windows("numpy", lambda i: call))[0]


def in_tensorflow(calls: Mapping[str, Callable[[], Any]]) -> dict[str, AllocationSummary]:
    """Count the allocations of each call in the steady state, from TensorFlow's allocator and from the C library.

    All calls share one run of the instruments, because starting an instrument takes longer than the calls.
    """
    for call in calls.values():
        for _ in range(2):
            call()
    size = 1 + WINDOWS  # per call; the first window frees the memory that the previous call left
    order = [call for call in calls.values() for _ in range(size)]
    events = windows("tensorflow", lambda i: order[max(0, i - 1)], len(order))
    return {name: median_summary(events[k * size + 1 : (k + 1) * size])[0] for k, name in enumerate(calls)}


def windows(
    runtime: str, prepare: Callable[[int], Callable[[], Any]], number: int = WINDOWS
) -> list[AllocationSummary]:
    """Count the host allocations of each of several calls with the instruments of `copycost run`.

    Parameters
    ----------
    runtime : {"numpy", "tensorflow"}
    prepare : callable
        ``prepare(i)`` returns a call. Allocations of `prepare` are not counted.
    number : int, optional
        Number of counted calls, after the first.

    Raises
    ------
    RuntimeUnavailable
        If the instruments do not see the runtime's memory on this machine.
    """
    traces = count(prepare, discovery.runtime(runtime).instruments(), windows=number)
    summaries = traces.host()
    if summaries is None:
        raise RuntimeUnavailable(traces.missing)
    return summaries


def seconds(**calls: Callable[[], Any]) -> dict[str, list[float]]:
    """Return samples of the seconds per call by name, taken interleaved; their median is the result of a process."""
    number = {}
    for name, call in calls.items():
        call()
        number[name] = max(1, int(_LEAST_SECONDS / max(1e-7, _timed(call, 3))))
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_SAMPLES):
        for name, call in calls.items():
            samples[name].append(_timed(call, number[name]))
    return samples


def _timed(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number
