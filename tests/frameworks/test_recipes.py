"""The references against Keras' own function, and the formulas that cannot run here against the references."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from copycost import registry
from copycost.engine.compare_arrays import judge
from copycost.engine.references import refer
from copycost.recipes import AFFINE, first

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3)).astype(np.float64)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_a_reference_is_what_keras_computes_in_float64(mode: str) -> None:
    from keras.applications.imagenet_utils import preprocess_input

    reference = registry.recipes[mode].reference
    assert reference is not None
    expected = preprocess_input(PIXELS.copy(), mode=mode, data_format="channels_last")
    np.testing.assert_allclose(reference(PIXELS), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("recipe", ["caffe", "tf", "torch", "minmax", "resize_scale", "add"])
@pytest.mark.parametrize("variant", ["cupy-new", "cupy-out", "cupy-inplace"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_cupy_formulas_on_numpy_whose_interface_cupy_has(
    recipe: str, variant: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is checked is the formula. The kernels, the hook and the fence have not run without a device."""
    if variant == "cupy-inplace" and (dtype == "uint8" or recipe == "resize_scale"):
        pytest.skip("the result does not fit over the input")

    class NumpyAsCupy:
        def __getattr__(self, name: str) -> object:
            return (lambda *args: None) if name == "ElementwiseKernel" else getattr(np, name)

    monkeypatch.setitem(sys.modules, "cupy", NumpyAsCupy())  # type: ignore[arg-type]
    prepare, reference = registry.variants[recipe, variant].prepare, registry.recipes[recipe].reference
    assert prepare is not None
    assert reference is not None
    of = registry.recipes[recipe]
    x = tuple(PIXELS.astype(dtype) for _ in range(of.inputs)) if of.inputs > 1 else PIXELS.astype(dtype)
    expected = reference((PIXELS, PIXELS) if of.inputs > 1 else PIXELS)
    result_dtype = np.dtype(of.dtype or ("float32" if dtype == "uint8" else dtype))
    args = (x, np.empty(expected.shape, result_dtype)) if variant == "cupy-out" else (x,)
    (right,) = refer(reference, (x if of.inputs > 1 else (x,)), "channels_last", result_dtype)
    result = prepare(x)(*args)
    assert judge(result, right, result_dtype).reason is None
    assert (result is first(x)) == (variant == "cupy-inplace")


@pytest.mark.parametrize("size", [(224, 224), (40, 48), (512, 300), (256, 256), (1, 7)])
def test_the_resize_is_tensorflows(size: tuple[int, int]) -> None:
    import tensorflow as tf

    x = np.random.default_rng(1).integers(0, 256, (2, *size, 3)).astype(np.float64)
    reference = registry.recipes["resize_scale"].reference
    assert reference is not None
    expected = tf.image.resize(x, (256, 256), antialias=False).numpy() / np.float64(127.5) - 1
    (right,) = refer(reference, [x], "channels_last", np.dtype("float32"))
    assert judge(expected.astype(np.float32), right, np.dtype("float32")).reason is None
    assert reference(x[0]).shape == (256, 256, 3)


def test_enlarging_is_pillows_too() -> None:
    """Where nothing is made smaller, Pillow's bilinear filter is the same; it rounds to bytes."""
    from PIL import Image

    x = np.random.default_rng(1).integers(0, 256, (60, 70, 3)).astype(np.uint8)
    reference = registry.recipes["resize_scale"].reference
    assert reference is not None
    pillow = np.asarray(Image.fromarray(x).resize((256, 256), Image.Resampling.BILINEAR)).astype(float)
    assert np.abs((reference(x.astype(np.float64)) + 1) * 127.5 - pillow).max() <= 1


def test_minmax_and_add() -> None:
    minmax, add = (registry.recipes[name].reference for name in ("minmax", "add"))
    assert minmax is not None
    assert add is not None
    y = minmax(PIXELS)
    assert (y.min(), y.max()) == (0, 1)
    np.testing.assert_allclose(y * (PIXELS.max() - PIXELS.min()) + PIXELS.min(), PIXELS)
    assert not minmax(np.full((2, 4, 4, 3), 9.0)).any()
    assert np.array_equal(add((PIXELS, PIXELS)), 2 * PIXELS)


@pytest.mark.parametrize("recipe", ["caffe", "tf", "torch"])
def test_one_multiplication_and_one_addition_are_the_recipe(recipe: str) -> None:
    factors, summands, back = AFFINE[recipe]
    reference = registry.recipes[recipe].reference
    assert reference is not None
    x = PIXELS[..., ::-1] if back else PIXELS
    np.testing.assert_allclose(x * factors + summands, reference(PIXELS), rtol=0, atol=1e-12)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
@pytest.mark.parametrize("channels_last", [True, False])
def test_the_fused_kernel_of_the_resize_compiled_for_the_cpu(tmp_path: Path, channels_last: bool) -> None:
    """The kernel's body is C++: here its elements are a loop, on a device they are threads."""
    from copycost.variants.cupy import _RESIZE

    source = tmp_path / "kernel.cpp"
    source.write_text(
        "#include <algorithm>\nusing std::min; using std::max;\n"
        'extern "C" void resize(const unsigned char *x, float *result, int height, int width, bool channels_last,\n'
        "                       long n) {\nfor (long i = 0; i < n; i++) {\nfloat &y = result[i];\n" + _RESIZE + "}}\n"
    )
    library = tmp_path / "kernel.so"
    subprocess.run(["g++", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
    x = np.random.default_rng(2).integers(0, 256, (2, 40, 50, 3)).astype(np.uint8)
    reference = registry.recipes["resize_scale"].reference
    assert reference is not None
    expected = reference(x.astype(np.float64))
    given = np.ascontiguousarray(x if channels_last else np.moveaxis(x, -1, 1))
    result = np.empty(expected.shape if channels_last else np.moveaxis(expected, -1, 1).shape, np.float32)
    resize = ctypes.CDLL(str(library)).resize
    resize(
        ctypes.c_void_p(given.ctypes.data), ctypes.c_void_p(result.ctypes.data), 40, 50, channels_last,
        ctypes.c_long(result.size),
    )  # fmt: skip
    result = result if channels_last else np.moveaxis(result, 1, -1)
    (right,) = refer(reference, [x], "channels_last", np.dtype("float32"))
    assert judge(np.ascontiguousarray(result), right, np.dtype("float32")).reason is None
