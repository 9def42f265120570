"""Define the PyTorch variants: into new tensors, `out=` or the input, and by `torch.compile`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from copycost.model.runtime import RuntimeUnavailable
from copycost.recipes import CAFFE_MEAN, RESIZED, TORCH_MEAN, TORCH_STD, each, first, per_channel, result_dtype
from copycost.registry import LAYOUTS, variant


class Formula(NamedTuple):
    """A recipe in PyTorch: as an expression, and into a buffer that may be the input."""

    expression: Callable[..., Any]
    into: Callable[..., Any]


def _dtype(x: Any) -> np.dtype:
    """Return the dtype of the result."""
    return result_dtype(str(x.dtype).removeprefix("torch."))


def _constant(values: tuple[float, ...], x: Any) -> Any:
    import torch

    return torch.from_numpy(per_channel(values, tuple(x.shape), _dtype(x))).to(x.device)


def tf(x: Any) -> Formula:
    """Return functions for x / 127.5 − 1."""
    import torch

    def into(x, out):
        torch.div(x, 127.5, out=out)
        return torch.sub(out, 1.0, out=out)

    return Formula(lambda x: x / 127.5 - 1.0, into)


def caffe(x: Any) -> Formula:
    """Return functions that reverse the channels and subtract the mean.

    `flip` copies, because tensors do not support negative strides.
    """
    import torch

    mean = _constant(CAFFE_MEAN, x)
    channels = -1 if x.shape[-1] == 3 else -3
    return Formula(
        lambda x: x.flip(channels) - mean,
        lambda x, out: torch.sub(x.flip(channels), mean, out=out),
    )


def torch(x: Any) -> Formula:
    """Return functions for (x / 255 − mean) / standard deviation."""
    import torch

    mean, std = _constant(TORCH_MEAN, x), _constant(TORCH_STD, x)

    def into(x, out):
        torch.div(x, 255.0, out=out)
        torch.sub(out, mean, out=out)
        return torch.div(out, std, out=out)

    return Formula(lambda x: (x / 255.0 - mean) / std, into)


def minmax(x: Any) -> Formula:
    """Return functions for (x − smallest) / (largest − smallest), or 0 if they are equal."""
    import torch

    def extremes(x):
        low, high = torch.aminmax(x)
        span = high - low
        return low, torch.where(span == 0, torch.ones_like(span), span)

    def expression(x):
        low, span = extremes(x)
        return (x - low) / span

    def into(x, out):
        low, span = extremes(x)
        torch.sub(x, low, out=out)
        return torch.div(out, span, out=out)

    return Formula(expression, into)


def resize_scale(x: Any) -> Formula:
    """Return functions that resize to 256×256 (bilinear) and compute x / 127.5 − 1.

    `interpolate` requires a batch with channels first, but accepts any strides.
    """
    import torch

    interpolate = torch.nn.functional.interpolate
    is_batch = x.dim() == 4
    channels_last = x.shape[-1] == 3

    def resized(x):
        y = x.to(torch.float32)  # `interpolate` returns uint8 for uint8
        y = y if is_batch else y[None]
        y = interpolate(y.permute(0, 3, 1, 2) if channels_last else y, (RESIZED, RESIZED), mode="bilinear")
        y = y.permute(0, 2, 3, 1) if channels_last else y
        return y if is_batch else y[0]

    def into(x, out):
        torch.div(resized(x), 127.5, out=out)
        return torch.sub(out, 1.0, out=out)

    return Formula(lambda x: resized(x) / 127.5 - 1.0, into)


def add(x: Any) -> Formula:
    """Return functions for a + b."""
    import torch

    dtype = getattr(torch, str(_dtype(x[0])))
    return Formula(
        lambda x: x[0].to(dtype) + x[1],
        lambda x, out: torch.add(x[0].to(dtype), x[1], out=out),
    )


def _compiled(function: Callable[..., Any], example: Any) -> Callable[..., Any]:
    """Compile a function by `torch.compile`, for one shape and in this process.

    Raises
    ------
    RuntimeUnavailable
        If there is no C++ compiler, which `torch.compile` needs for the CPU.
    """
    import torch
    from torch._inductor import config

    if first(example).device.type == "cpu" and shutil.which(os.environ.get("CXX", "g++")) is None:
        raise RuntimeUnavailable("torch.compile needs a C++ compiler: install g++, or name another in CXX")
    config.compile_threads = 1  # otherwise, torch starts a pool of processes that outlives its use
    return torch.compile(function, dynamic=False)


#: Known issue: the compiled minimum of uint8 is 0 (pytorch/pytorch#191499).
_UINT8_MINIMUM = "docs/results/known-issues.md#torch-compile-on-uint8"


def _register_expression(
    recipe: str, expression: Callable[[Any], Callable[..., Any]], layouts: tuple[str, ...] = LAYOUTS
) -> None:
    known = {"uint8": _UINT8_MINIMUM} if recipe == "minmax" else {}

    @variant(recipe=recipe, runtime="torch", writes="new", layouts=layouts)
    def torch_new(example):
        return expression(example)

    @variant(recipe=recipe, runtime="torch", writes="new", layouts=layouts, known=known)
    def torch_compile(example):
        return _compiled(expression(example), example)


def _register(recipe: str, formula: Callable[[Any], Formula]) -> None:
    _register_expression(recipe, lambda example: formula(example).expression)

    @variant(recipe=recipe, runtime="torch", writes="out")
    def torch_out(example):
        return formula(example).into

    @variant(recipe=recipe, runtime="torch", writes="input")
    def torch_inplace(example):
        into = formula(example).into
        return (lambda x: into(x, x[0])) if isinstance(example, tuple) else lambda x: into(x, x)


def register_expression(recipe: str, function: Callable[..., Any], constants: list[np.ndarray]) -> None:
    """Register ``function(x, *constants)``, both eager and compiled, for images with channels last."""

    def expression(example):
        import torch

        dtype = getattr(torch, str(_dtype(first(example))))
        arrays = [torch.from_numpy(constant).to(first(example).device, dtype) for constant in constants]
        return lambda x: function(each(x, lambda tensor: tensor.to(dtype)), *arrays)

    _register_expression(recipe, expression, ("channels_last",))


for _recipe, _formula in {
    "caffe": caffe, "tf": tf, "torch": torch, "minmax": minmax, "resize_scale": resize_scale, "add": add,
}.items():  # fmt: skip
    _register(_recipe, _formula)
