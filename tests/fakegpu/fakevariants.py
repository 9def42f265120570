"""Ways of computing recipe tf on the fake device."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from fakegpu import FAKE, FAULT, RUNTIME, Array

from copycost import variant
from copycost.recipes import result_dtype


def _divided(x: Array, out: Array) -> Array:
    FAKE.kernel(partial(np.divide, x.values, out.dtype.type(127.5), out=out.values), x, out, written=out)
    return out


def _less_one(x: Array, out: Array) -> Array:
    one = 1.1 if FAULT == "wrong result" else 1
    FAKE.kernel(partial(np.subtract, x.values, out.dtype.type(one), out=out.values), x, out, written=out)
    return out


def _scaled(x: np.ndarray, out: np.ndarray) -> None:
    np.divide(x, out.dtype.type(127.5), out=out)
    np.subtract(out, out.dtype.type(1), out=out)


@variant(recipe="tf", runtime="fakegpu", writes="new")
def fake_new(example: Array) -> Callable[..., Any]:
    dtype = result_dtype(example.dtype)

    def call(x: Array) -> Array:
        scaled = _divided(x, Array(x.shape, dtype))
        return _less_one(scaled, Array(x.shape, dtype))

    return call


@variant(recipe="tf", runtime="fakegpu", writes="out")
def fake_out(example: Array) -> Callable[..., Any]:
    def call(x: Array, out: Array) -> Array:
        return _less_one(_divided(x, out), out)

    return call


@variant(recipe="tf", runtime="fakegpu", writes="out")
def fake_graph(example: Array) -> Callable[..., Any]:
    """As a CUDA graph is: captured anew for each combination of addresses, which takes memory of the host."""
    graphs: dict[tuple[int, int], bytearray] = {}

    def call(x: Array, out: Array) -> Array:
        if (x.at, out.at) not in graphs:
            graphs[x.at, out.at] = bytearray(100_000)
        FAKE.kernel(partial(_scaled, x.values, out.values), x, out, written=out)
        return out

    return call


@variant(recipe="tf", runtime="fakegpu", writes="input")
def fake_inplace(example: Array) -> Callable[..., Any]:
    return lambda x: _less_one(_divided(x, x), x)


@variant(recipe="tf", runtime="fakegpu", writes="new")
def fake_fused(example: Array) -> Callable[..., Any]:
    dtype = result_dtype(example.dtype)

    def call(x: Array) -> Array:
        out = Array(x.shape, dtype)

        FAKE.kernel(partial(_scaled, x.values, out.values), x, out, written=out)
        return out

    return call


@variant(recipe="tf", runtime="fakegpu", writes="new", includes_transfers=True)
def fake_transfers(example: Array) -> Callable[..., Any]:
    """To the host and back, as a function does that was written for arrays of the host."""
    return lambda x: RUNTIME.array(RUNTIME.to_numpy(x) / np.float32(127.5) - np.float32(1), False)
