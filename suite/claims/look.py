"""What the checks of several claims look with."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from suite import images, registry
from suite.engine.allocations import Tally, tally, trace_host

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
    registry.load_shipped()
    prepare = registry.variants[recipe, name].prepare
    assert prepare is not None  # it was registered in this process
    return prepare(example)


def batches(count: int) -> str:
    """Bytes as multiples of a batch."""
    return f"{count / NBYTES:.3g} × a batch" if count else "0 bytes"


def in_numpy(call: Callable[[], Any]) -> Tally:
    """What a call allocates from the C library, the second time."""
    windows, _ = trace_host([call, call])
    return tally(windows[0])


def in_tensorflow(call: Callable[[], Any]) -> Tally:
    """What a call allocates from TensorFlow's allocator, the third time."""
    trace = registry.runtime("tensorflow").trace
    assert trace is not None
    for _ in range(2):
        call()
    result, events = trace(call)
    del result
    return tally(events)


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
