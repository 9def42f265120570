"""Measure, in a process of its own, what a session does not: transfers to a device, and work inside a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from copycost import registry
from copycost.catalog import discovery, loading
from copycost.engine.references import ExpectedResults, refer
from copycost.model.runtime import RuntimeUnavailable
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind, Layout

#: Minimum duration of a sample, in seconds, and maximum number of calls in it.
_SAMPLE_SECONDS, _MOST_CALLS = 0.02, 1000

#: Samples of a block.
_SAMPLES = 5

#: First layer of the model: filters, their height and width, and stride. They are those of MobileNet (Howard et al.
#: 2017, arXiv:1704.04861, table 1), one of the cheapest: preprocessing counts for more beside a cheap layer.
_FILTERS, _KERNEL, _STRIDE = 32, 3, 2

#: Largest difference that rounding explains between results of the layer, relative to the largest of them.
_CLOSE = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-9}


@dataclass(frozen=True)
class TransferJob:
    """Parameters for timing the transfer of `nbytes` bytes of one kind of host memory to the device of a runtime."""

    runtime: str
    threads: int
    nbytes: int
    pinned: bool

    def start(self) -> Transfer:
        """Allocate the buffers on both sides."""
        return Transfer(self)


class Transfer:
    """A buffer of the host and one of the device."""

    def __init__(self, job: TransferJob) -> None:
        runtime = discovery.runtime(job.runtime)
        runtime.start(DeviceKind.GPU, job.threads)
        assert runtime.gpu is not None
        assert runtime.gpu.upload is not None
        self.fence = runtime.fence
        self.upload = runtime.gpu.upload(np.ones(job.nbytes, np.uint8), job.pinned)

    def sample(self) -> list[float]:
        """Return samples of the seconds of a transfer, from its request until it is done."""
        n = _number_of_calls(self._call)
        return [_seconds(self._call, n) for _ in range(_SAMPLES)]

    def _call(self) -> None:
        self.upload()
        self.fence()


@dataclass(frozen=True)
class ModelJob:
    """Parameters for timing a variant of TensorFlow inside a model.

    Attributes
    ----------
    recipe, variant : str
    device : DeviceKind
    threads : int
    shape : tuple of int
        Shape of the images, with channels last.
    dtype : str
        Dtype of the images.
    computed_dtype : str
        Float dtype that the recipe is computed in.
    """

    recipe: str
    variant: str
    device: DeviceKind
    threads: int
    shape: tuple[int, ...]
    dtype: str
    computed_dtype: str

    def start(self) -> Model:
        """Build the model with the variant and without it."""
        return Model(self)


class Model:
    """The first layer of a model, a convolution, as a graph: with preprocessing in front of it, and without."""

    def __init__(self, job: ModelJob) -> None:
        import tensorflow as tf

        runtime = discovery.runtime("tensorflow")
        runtime.start(job.device, job.threads)
        prepare = registry.variants[job.recipe, job.variant].prepare
        loading.load(Source("copycost.recipes"))
        recipe = registry.recipes[job.recipe]
        assert prepare is not None  # the fork server has imported it
        assert recipe.reference is not None
        pixels = np.random.default_rng(0).integers(0, 256, job.shape, np.uint8).astype(job.dtype, copy=False)
        self.images = runtime.array(pixels, False)
        scale = prepare(self.images)
        self.scaled = scale(self.images)
        dtype = self.scaled.dtype
        if not dtype.is_floating or self.scaled.ndim not in (3, 4) or self.scaled.shape[-1] != job.shape[-1]:
            raise RuntimeUnavailable("its results are no images that a convolution takes")
        computed = np.dtype(job.computed_dtype)
        expected = refer(recipe.reference, [pixels], Layout.CHANNELS_LAST, computed, recipe.magnitude, recipe.tolerance)
        truth = ExpectedResults([expected], computed)
        if reason := truth.refuse(0, [runtime.to_numpy(self.scaled)]):
            raise RuntimeUnavailable(f"its result is wrong: {reason}")
        weights = np.random.default_rng(1).normal(size=(_KERNEL, _KERNEL, job.shape[-1], _FILTERS))
        kernel = tf.constant(weights, dtype)

        def layer(images: Any) -> Any:
            batch = images if len(images.shape) == 4 else images[None]
            return tf.nn.conv2d(batch, kernel, _STRIDE, "SAME")

        self.alone = tf.function(layer)
        self.inside = tf.function(lambda images: layer(scale(images)))
        self.fence = runtime.fence
        alone, inside = (np.asarray(result) for result in (self.alone(self.scaled), self.inside(self.images)))
        if np.abs(inside - alone).max() > _CLOSE[dtype.name] * np.abs(alone).max():
            raise RuntimeUnavailable("inside the model, its result is another one")

    def sample(self) -> tuple[list[float], list[float]]:
        """Return samples of the seconds of the layer with preprocessing and without, taken alternately."""
        both = (self._call(self.inside, self.images), self._call(self.alone, self.scaled))
        numbers = [_number_of_calls(call) for call in both]
        samples: tuple[list[float], list[float]] = ([], [])
        for _ in range(_SAMPLES):
            for values, call, n in zip(samples, both, numbers, strict=True):
                values.append(_seconds(call, n))
        return samples

    def _call(self, function: Callable[[Any], Any], argument: Any) -> Callable[[], None]:
        def call() -> None:
            function(argument)
            self.fence()

        return call


def _number_of_calls(call: Callable[[], None]) -> int:
    """Return how many calls make up a sample; the first call, which may be slow, does not count."""
    call()
    n = 1
    while n < _MOST_CALLS and _seconds(call, n) * n < _SAMPLE_SECONDS:
        n = min(2 * n, _MOST_CALLS)
    return n


def _seconds(call: Callable[[], None], n: int) -> float:
    start = perf_counter()
    for _ in range(n):
        call()
    return (perf_counter() - start) / n
