"""How far off a result may be: what is wrong is found, and what is honest is not refused."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from copycost import registry
from copycost.cases import images
from copycost.engine.compare_arrays import judge
from copycost.engine.references import refer
from copycost.engine.rounding import Reference, bounded
from copycost.recipes import CAFFE_MEAN, TORCH_MEAN, TORCH_STD

sys.path.insert(0, str(Path(__file__).parents[2] / "docs" / "examples"))
import tolerance

F16, F32, F64 = (np.dtype(name) for name in ("float16", "float32", "float64"))
FLOATS = (F16, F32, F64)
MEAN, STD = np.array(TORCH_MEAN), np.array(TORCH_STD)
BGR = np.array(CAFFE_MEAN)


def pixels(dtype: str, shape: tuple[int, int, int] = (2, 64, 48)) -> np.ndarray:
    return images.batch(images.read(), shape, dtype, "channels_last", 0)


def of(recipe: str, dtype: str) -> tuple[Any, Reference, np.dtype]:
    """Pixels of a dtype, the reference of a recipe of them, and the dtype of the result."""
    its = registry.recipes[recipe]
    assert its.reference is not None
    x = tuple(pixels(dtype) + k for k in range(its.inputs))
    to = np.dtype(its.dtype or ("float32" if dtype == "uint8" else dtype))
    (reference,) = refer(its.reference, x, "channels_last", to)
    return x if its.inputs > 1 else x[0], reference, to


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("recipe", ["caffe", "tf", "torch", "minmax", "resize_scale", "add", "scale"])
def test_zeros_are_wrong(recipe: str, dtype: str) -> None:
    _, reference, to = of(recipe, dtype)
    assert judge(np.zeros(reference.values.shape, to), reference, to).reason


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "formula", [lambda x: x / 127.5 - 1, lambda x: x * 1e-6, lambda x: np.exp(-x), lambda x: x * x]
)
def test_zeros_are_wrong_whatever_the_size_of_the_result(formula: Callable[..., Any], dtype: np.dtype) -> None:
    x = pixels(str(dtype)) / dtype.type(64)
    (reference,) = bounded(formula, x.astype(F64), dtype, True)
    assert judge(np.zeros(x.shape, dtype), reference, dtype).reason


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize("recipe", tolerance.FORMULAS)
def test_a_constant_ten_units_off_is_found(recipe: str, dtype: str) -> None:
    found, all_ = tolerance.found(recipe, dtype, 10)
    assert found == all_


@pytest.mark.parametrize("recipe", tolerance.FORMULAS)
def test_an_unchanged_constant_is_right(recipe: str) -> None:
    for dtype in ("uint8", "float16", "float32", "float64"):
        assert tolerance.found(recipe, dtype, 0)[0] == 0


def test_means_that_are_off_by_more_than_one_are_found_in_half_precision() -> None:
    x, reference, to = of("caffe", "float16")
    assert judge(x[..., ::-1] - (BGR + 1.5).astype(F16), reference, to).reason


# Each formula as many people write it, with operators that all libraries have. `c` makes a constant of the library.
HONEST: dict[str, list[Callable[..., Any]]] = {
    "tf": [
        lambda x, c: x / 127.5 - 1.0,
        lambda x, c: x * (1 / 127.5) - 1.0,
        lambda x, c: (x - 127.5) / 127.5,
        lambda x, c: (x - 127.5) * (1 / 127.5),
        lambda x, c: x / 255.0 * 2.0 - 1.0,
        lambda x, c: (x / 255.0 - 0.5) * 2.0,
        lambda x, c: (x / 255.0 - 0.5) / 0.5,
        lambda x, c: x * (2 / 255) - 1.0,
        lambda x, c: -1.0 + x / 127.5,
        lambda x, c: (x * 2.0 - 255.0) / 255.0,
        lambda x, c: (x + x) / 255.0 - 1.0,
        lambda x, c: -(1.0 - x * (1 / 127.5)),
    ],
    "caffe": [
        lambda x, c: x[..., ::-1] - c(BGR),
        lambda x, c: x[..., ::-1] + c(-BGR),
        lambda x, c: (x - c(BGR[::-1]))[..., ::-1],
        lambda x, c: -(c(BGR) - x[..., ::-1]),
        lambda x, c: x[..., ::-1] * 1.0 - c(BGR),
    ],
    "torch": [
        lambda x, c: (x / 255.0 - c(MEAN)) / c(STD),
        lambda x, c: (x * (1 / 255) - c(MEAN)) / c(STD),
        lambda x, c: (x / 255.0 - c(MEAN)) * c(1 / STD),
        lambda x, c: (x * (1 / 255) - c(MEAN)) * c(1 / STD),
        lambda x, c: x * c(1 / (255 * STD)) - c(MEAN / STD),
        lambda x, c: x * c(1 / (255 * STD)) + c(-MEAN / STD),
        lambda x, c: (x - c(255 * MEAN)) / c(255 * STD),
        lambda x, c: (x - c(255 * MEAN)) * c(1 / (255 * STD)),
        lambda x, c: x / c(255 * STD) - c(MEAN / STD),
        lambda x, c: x / 255.0 / c(STD) - c(MEAN / STD),
    ],
    "minmax": [
        lambda x, c: (x - x.min()) / (x.max() - x.min()),
        lambda x, c: (x - x.min()) * (1 / (x.max() - x.min())),
        lambda x, c: x * (1 / (x.max() - x.min())) - x.min() * (1 / (x.max() - x.min())),
        lambda x, c: x / (x.max() - x.min()) - x.min() / (x.max() - x.min()),
    ],
    "scale": [lambda x, c: x / 255.0, lambda x, c: x * (1 / 255), lambda x, c: x / 51.0 * 0.2],
}  # fmt: skip


def _with_numpy(formula: Callable[..., Any], x: np.ndarray, to: np.dtype) -> np.ndarray:
    return formula(x.astype(to), lambda values: np.array(values, to))


def _with_torch(formula: Callable[..., Any], x: np.ndarray, to: np.dtype) -> np.ndarray:
    import torch

    class Flipping(torch.Tensor):  # PyTorch has no negative steps
        def __getitem__(self, index: Any) -> Any:
            return torch.flip(self, (-1,)) if index == (..., slice(None, None, -1)) else super().__getitem__(index)

    return formula(torch.tensor(x.astype(to)).as_subclass(Flipping), lambda v: torch.tensor(v.astype(to))).numpy()


def _with_jax(formula: Callable[..., Any], x: np.ndarray, to: np.dtype) -> np.ndarray:
    import jax

    with jax.enable_x64(to == F64):
        return np.asarray(jax.jit(lambda y: formula(y, lambda v: jax.numpy.array(v, to)))(x.astype(to)))


def _with_tensorflow(formula: Callable[..., Any], x: np.ndarray, to: np.dtype, **options: Any) -> np.ndarray:
    import tensorflow as tf

    class Tensor:  # its minimum is a function
        def __init__(self, tensor: Any) -> None:
            self.tensor = tensor
            self.min, self.max = (lambda: tf.reduce_min(tensor)), (lambda: tf.reduce_max(tensor))

    @tf.function(**options)
    def call(y: Any) -> Any:
        y.min, y.max = (lambda: tf.reduce_min(y)), (lambda: tf.reduce_max(y))
        return formula(y, lambda v: tf.constant(v, to))

    return call(tf.constant(x.astype(to))).numpy()


def _with_xla(formula: Callable[..., Any], x: np.ndarray, to: np.dtype) -> np.ndarray:
    return _with_tensorflow(formula, x, to, jit_compile=True)


LIBRARIES = {
    "numpy": _with_numpy,
    "torch": _with_torch,
    "jax": _with_jax,
    "tensorflow": _with_tensorflow,
    "xla": _with_xla,
}


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("recipe", HONEST)
def test_an_honest_formula_is_right(recipe: str, library: str) -> None:
    """5 recipes in 34 forms, 5 libraries, up to 4 dtypes: none is refused."""
    package = {"xla": "tensorflow"}.get(library, library)
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    for dtype in ("uint8", "float16", "float32", "float64") if library in ("numpy", "jax") else ("float16", "float32"):
        x, reference, to = of(recipe, dtype)
        for i, formula in enumerate(HONEST[recipe]):
            result = np.ascontiguousarray(LIBRARIES[library](formula, x, to))
            assert judge(result, reference, to).reason is None, (dtype, i)


@pytest.mark.parametrize("size", [(64, 48), (300, 200), (512, 512)])
def test_an_honest_interpolation_is_right(size: tuple[int, int]) -> None:
    from copycost.recipes import bilinear

    x = images.batch(images.read(), (1, *size), "float32", "channels_last", 0)
    reference = registry.recipes["resize_scale"].reference
    assert reference is not None
    (right,) = refer(reference, [x], "channels_last", F32)
    above, below, down = bilinear(size[0])
    left, across, along = bilinear(size[1])
    d, a = down.astype(F32)[:, None, None], along.astype(F32)[:, None]
    forms: list[tuple[str, Callable[[Any, Any, Any], Any]]] = [
        ("lerp", lambda p, q, t: p + (q - p) * t),
        ("weights", lambda p, q, t: p * (1 - t) + q * t),
    ]
    for name, mix in forms:
        rows_first = mix(x[:, above], x[:, below], d)
        rows_first = mix(rows_first[:, :, left], rows_first[:, :, across], a)
        columns_first = mix(x[:, :, left], x[:, :, across], a)
        columns_first = mix(columns_first[:, above], columns_first[:, below], d)
        for pixels_ in (rows_first, columns_first):
            for result in (pixels_ / F32.type(127.5) - F32.type(1), pixels_ * F32.type(1 / 127.5) - F32.type(1)):
                assert judge(np.ascontiguousarray(result), right, F32).reason is None, name


FORMULAS: dict[str, Callable[..., Any]] = {
    "an affine one": lambda x: (x - 120.0) / 60.0,
    "a root": lambda x: np.sqrt(x / 255.0),
    "a power": lambda x: (x / 255.0) ** 2.2,
    "gamma and back": lambda x: np.exp(np.log(x / 255.0 + 0.01) * 0.45),
    "by the batch": lambda x: (x - x.mean()) / x.std(),
    "by the channel": lambda x: (x - x.mean(axis=(0, 1, 2))) / (x.std(axis=(0, 1, 2)) + 1e-3),
    "a tone curve": lambda x: np.tanh(x / 128.0 - 1),
    "clipped": lambda x: np.clip(x * 1.2 - 20, 0, 255) / 255,
    "a choice": lambda x: np.where(x > 100, x / 255, x * 2),
    "grey": lambda x: x @ np.array([0.299, 0.587, 0.114]),
    "padded and turned": lambda x: np.rot90(np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), axes=(1, 2)) / 255,
    "into an array of its own": lambda x: _into(x),
    "over its input": lambda x: _over(x),
}


def _into(x: Any) -> Any:
    y = np.empty_like(x)
    y[..., 0], y[..., 1:] = x[..., 2] / 3, x[..., :2] - 0.1
    return y


def _over(x: Any) -> Any:
    x /= 127.5
    x -= 1
    return x


@pytest.mark.parametrize("dtype", [F16, F32])
@pytest.mark.parametrize("name", FORMULAS)
def test_the_formula_itself_in_the_dtype_is_within_the_bound_and_not_far_below(name: str, dtype: np.dtype) -> None:
    formula = FORMULAS[name]
    x = pixels(str(dtype))
    (reference,) = bounded(formula, x.astype(F64), dtype, True)
    assert np.array_equal(reference.values, formula(x.astype(F64)))
    # The sum of so many squares is more than float16 holds.
    wide = x.astype(F32) if name.startswith("by the") else x.copy()
    result = np.ascontiguousarray(np.asarray(formula(wide))).astype(dtype)
    assert judge(result, reference, dtype).reason is None
    # A bound that anything passes is none: at the median element it is some roundings of the values in the formula.
    assert np.median(reference.bound) < 200 * np.finfo(dtype).eps * max(1.0, np.abs(reference.values).max())


def test_a_formula_that_leaves_numpy_is_judged_by_how_much_it_moves() -> None:
    def formula(x: Any) -> Any:
        return np.vectorize(lambda one: float(one) / 127.5 - 1)(np.asarray(x))

    x = pixels("float32", (1, 16, 16))
    (reference,) = bounded(formula, x.astype(F64), F32, True)
    for result in (x / F32.type(127.5) - F32.type(1), x * F32.type(1 / 127.5) - F32.type(1)):
        assert judge(result, reference, F32).reason is None
    for result in (x / F32.type(127.501) - F32.type(1), np.zeros_like(x), x * F32.type(1 / 127.5) - F32.type(0.9999)):
        assert judge(result, reference, F32).reason


def test_integers_may_be_those_of_either_side_of_a_step_that_rounding_reaches() -> None:
    x = np.array([10.0, 100.0, 127.5, 255.0])
    (reference,) = bounded(lambda x: np.rint(x / 255.0 * 10).astype(np.uint8), x, F32, True)
    assert reference.values.dtype == np.uint8
    assert reference.values.tolist() == [0, 4, 5, 10]
    assert reference.bound.tolist() == [0, 0, 0, 0]
    (reference,) = bounded(lambda x: (x / 255.0 > 0.5).astype(np.uint8), x, F32, True)
    assert reference.bound.tolist() == [0, 0, 1, 0]  # 127.5 / 255 is half, but for rounding
    (reference,) = bounded(lambda x: x / 255.0 > 0.25, x, F32, True)
    assert (reference.values.dtype, reference.bound.tolist()) == (np.bool_, [0, 0, 0, 0])


def test_a_reference_may_give_several_arrays() -> None:
    x = pixels("uint8")
    scaled, mask = refer(lambda x: (x / 255.0, x > 127), [x], "channels_last", F32)
    assert judge((x / np.float32(255)).astype(F32), scaled, F32).reason is None
    assert judge(x > 127, mask, mask.values.dtype).reason is None
    assert judge(x > 126, mask, mask.values.dtype).reason


@pytest.mark.parametrize(
    ("returned", "said"),
    [(np.array([]), "an empty array"), ("text", "not real numbers"), (np.array([np.inf]), "finite")],
)
def test_a_reference_that_gives_no_numbers_is_refused(returned: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        bounded(lambda x: returned, np.zeros(3), F32, True)
