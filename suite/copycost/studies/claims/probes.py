"""What the checks of several claims look with."""

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
from copycost.engine.count_allocations import count
from copycost.engine.host_allocations import WINDOWS
from copycost.model.allocation import AllocationSummary, median_summary
from copycost.model.runtime import RuntimeUnavailable

#: What is preprocessed: a batch of so many images.
SHAPE = (8, 224, 224, 3)

#: Bytes of such a batch in float32.
NBYTES = int(np.prod(SHAPE)) * 4

#: Samples of each thing that is timed, in each process.
_SAMPLES = 4

#: A sample takes at least so many seconds.
_LEAST_SECONDS = 3e-3


def photographs(dtype: str, shape: tuple[int, int, int, int] = SHAPE) -> np.ndarray:
    """Crops of the photograph that ships, 0 … 255."""
    batch, height, width, _ = shape
    return images.batch(images.read(), (batch, height, width), dtype, "channels_last", seed=0)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy that TensorFlow takes by DLPack: where memory is not aligned to 64 bytes it ends the process."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    first = -memory.ctypes.data % 64
    copy = memory[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def applications() -> dict[str, Callable[..., Any]]:
    """Module → preprocess_input, of every module of ``keras.applications`` that has one."""
    import keras.applications

    names = [module.name for module in pkgutil.iter_modules(keras.applications.__path__)]
    modules = {
        name: importlib.import_module(f"keras.applications.{name}") for name in names if name != "imagenet_utils"
    }
    return {name: module.preprocess_input for name, module in modules.items() if hasattr(module, "preprocess_input")}


def variant(recipe: str, name: str, example: Any) -> Callable[..., Any]:
    """The call of a variant that ships."""
    discovery.load_shipped()
    prepare = registry.variants[recipe, name].prepare
    assert prepare is not None  # it was registered in this process
    return prepare(example)


def batches(count: int) -> str:
    """Bytes as multiples of a batch."""
    return f"{count / NBYTES:.3g} × a batch" if count else "0 bytes"


def in_numpy(call: Callable[[], Any]) -> AllocationSummary:
    """Count what a call of NumPy's functions allocates in the steady state."""
    return median_summary(windows("numpy", lambda i: call))[0]


def in_tensorflow(calls: Mapping[str, Callable[[], Any]]) -> dict[str, AllocationSummary]:
    """Count what each call allocates in the steady state, from TensorFlow's allocator and from the C library.

    All calls share a run of the instruments: starting one takes longer than the calls do.
    """
    for call in calls.values():
        for _ in range(2):
            call()
    each = 1 + WINDOWS  # of one call: the first frees what the last one left
    order = [call for call in calls.values() for _ in range(each)]
    found = windows("tensorflow", lambda i: order[max(0, i - 1)], len(order))
    return {name: median_summary(found[k * each + 1 : (k + 1) * each])[0] for k, name in enumerate(calls)}


def windows(
    runtime: str, prepare: Callable[[int], Callable[[], Any]], number: int = WINDOWS
) -> list[AllocationSummary]:
    """Count what each of several calls allocates in the host's memory, by the instruments of `copycost run`.

    Parameters
    ----------
    runtime : {"numpy", "tensorflow"}
    prepare : callable
        ``prepare(i)`` returns a call; what it allocates itself is not counted.
    number : int, optional
        Calls that are counted, after the first.

    Raises
    ------
    RuntimeUnavailable
        If the instruments do not see the runtime's memory here.
    """
    counted = count(prepare, discovery.runtime(runtime), windows=number)
    found = counted.host()
    if found is None:
        raise RuntimeUnavailable(counted.missing)
    return found


def seconds(**calls: Callable[[], Any]) -> dict[str, list[float]]:
    """Name → seconds per call, each in turn: the median of them is what a process has to say."""
    number = {}
    for name, call in calls.items():
        call()
        number[name] = max(1, int(_LEAST_SECONDS / max(1e-7, _timed(call, 3))))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(_SAMPLES):
        for name, call in calls.items():
            found[name].append(_timed(call, number[name]))
    return found


def _timed(call: Callable[[], Any], number: int) -> float:
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number
