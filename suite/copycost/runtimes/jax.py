"""Define the JAX runtime, for arrays on the CPU.

XLA's CPU client allocates every array through the C library, so that memray sees all of them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.lib.array_utils import byte_bounds

from copycost.model.runtime import ConsumedArrayError, Runtime
from copycost.model.vocabulary import DeviceKind


def _start(device: DeviceKind, threads: int) -> None:
    import jax

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_x64", True)  # otherwise, float64 becomes float32
    # Otherwise, another thread releases the memory that a call no longer needs, sometimes during the next call.
    jax.config.update("jax_cpu_enable_async_dispatch", False)


def _array(pixels: np.ndarray, mutable: bool) -> Any:
    import jax.numpy as jnp

    return jnp.array(pixels)


def _restore(array: Any, pristine: Any) -> Any:
    import jax.numpy as jnp

    return jnp.array(pristine)  # a copy


def _to_numpy(result: Any) -> np.ndarray:
    import jax

    if isinstance(result, np.ndarray):
        return result
    if not isinstance(result, jax.Array):
        raise TypeError(f"returned {type(result).__name__}, not a JAX array")
    if result.is_deleted():
        raise ConsumedArrayError("the array was donated")
    return np.asarray(result)


def _extent(array: Any) -> tuple[int, int] | None:
    import jax

    if isinstance(array, np.ndarray):
        return byte_bounds(array)
    if not isinstance(array, jax.Array):
        return None
    if array.is_deleted():
        raise ConsumedArrayError("the array was donated")
    start = array.unsafe_buffer_pointer()
    return start, start + array.nbytes


def _wait(result: Any) -> Any:
    return result.block_until_ready() if hasattr(result, "block_until_ready") else result


RUNTIME = Runtime(
    name="jax",
    packages=("jax", "jax.numpy"),
    install="pip install -e '.[jax]' in a clone of copycost",
    devices=(DeviceKind.CPU,),
    start=_start,
    array=_array,
    restore=_restore,
    to_numpy=_to_numpy,
    extent=_extent,
    contiguous=lambda array: not isinstance(array, np.ndarray) or bool(array.flags.c_contiguous),
    fence=lambda: None,
    wait=_wait,  # JAX has no fence for all queued work, only for individual arrays
    slow_to_start=True,
)
