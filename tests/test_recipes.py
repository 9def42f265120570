"""The references against Keras' own function, and the formulas that cannot run here against the references."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from suite import registry
from suite.engine.audit import judge

PIXELS = np.random.default_rng(0).integers(0, 256, (2, 8, 6, 3)).astype(np.float64)


@pytest.mark.parametrize("mode", ["caffe", "tf", "torch"])
def test_a_reference_is_what_keras_computes_in_float64(mode: str) -> None:
    from keras.applications.imagenet_utils import preprocess_input

    reference = registry.recipes[mode].reference
    assert reference is not None
    expected = preprocess_input(PIXELS.copy(), mode=mode, data_format="channels_last")
    np.testing.assert_allclose(reference(PIXELS), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("recipe", ["caffe", "tf", "torch"])
@pytest.mark.parametrize("variant", ["cupy-new", "cupy-out", "cupy-inplace"])
@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
def test_cupy_formulas_on_numpy_whose_interface_cupy_has(
    recipe: str, variant: str, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is checked is the formula. The kernels, the hook and the fence have not run without a device."""
    if variant == "cupy-inplace" and dtype == "uint8":
        pytest.skip("a float32 result does not fit over a uint8 input")

    class NumpyAsCupy:
        def __getattr__(self, name: str) -> object:
            return (lambda *args: None) if name == "ElementwiseKernel" else getattr(np, name)

    monkeypatch.setitem(sys.modules, "cupy", NumpyAsCupy())  # type: ignore[arg-type]
    prepare, reference = registry.variants[recipe, variant].prepare, registry.recipes[recipe].reference
    assert prepare is not None
    assert reference is not None
    x = PIXELS.astype(dtype)
    result_dtype = np.dtype("float32" if dtype == "uint8" else dtype)
    args = (x.copy(), np.empty(x.shape, result_dtype)) if variant == "cupy-out" else (x.copy(),)
    result = prepare(x)(*args)
    assert judge(result, reference(PIXELS), result_dtype, registry.recipes[recipe].magnitude).reason is None
