"""The whole of recipe × variant × dtype × layout: every case is right, or is skipped for a reason that is allowed."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from conftest import measure

from copycost import registry
from copycost.catalog import discovery
from copycost.model.measurement import Measurement
from copycost.registry import DTYPES, LAYOUTS

#: Why a case may be skipped.
ALLOWED = (
    r"it is for uint8 only",  # a table of a byte's values
    r"it is for uint8, float32, float64 only",  # numexpr and Numba have no float16
    r"it is for float16, float32, float64 only",  # of bytes they would give another dtype
    r"it is for uint8, float32 only",  # Keras' layers compute in float32
    r"it is for channels_last only",  # and on images as Keras has them
    r"a float32 result does not fit over a (uint8|float16|float64) input",
    r"a [\d×]+ \w+ result does not fit over a [\d×]+ \w+ input",  # a resized image
    r"no CUDA device: .*|CUDA_VISIBLE_DEVICES=.*",
    r"(cupy|torch|triton|jax|numba|numexpr|tensorflow|keras) is not installed: pip install .*",
    r"torch.compile needs a C\+\+ compiler: .*",
    r"C\+\+ compiler .* not found: .*",
)

#: What a library is known to do here (docs/results/known-issues.md).
KNOWN = {
    ("caffe", "keras-tensor", "uint8"): "wrong",
    ("tf", "keras-tensor", "uint8"): "failed",
    ("torch", "keras-tensor", "uint8"): "failed",
    ("minmax", "torch-compile", "uint8"): "wrong",
}

#: What changes its input, besides Keras on floating arrays: what says that it writes there.
OVER = (
    "numpy-inplace", "tf-variable-inplace", "torch-inplace", "jax-donated", "cupy-inplace", "divide-slice",
    "tf-assign-add", "tf-assign-add-read", "tf-assign-sub",
)  # fmt: skip


#: What takes half a second for every case, in which a library starts, and what takes a second and more to compile.
STARTS = re.compile("tf-|keras|jax|torch|numba|tensor|array")
COMPILES = re.compile("graph|xla|jit|compile|donated|variable|numba")


def is_in(recipe: str, variant: str, dtype: str, layout: str) -> bool:
    """All are; of those that start a library every dtype in one layout, and half of the dtypes to compile for."""
    if COMPILES.search(variant) and (dtype in ("uint8", "float32")) != (recipe in ("tf", "minmax", "add")):
        return False
    return is_its_layout(variant, dtype, layout)


def is_its_layout(variant: str, dtype: str, layout: str) -> bool:
    """Both are; of those that start a library one for each dtype."""
    first = layout == "channels_first"
    return not STARTS.search(variant) or first == (dtype in ("float16", "float64"))


@pytest.fixture(scope="module")
def matrix() -> list[Measurement]:
    """Every case, audited and traced. One of each kind is timed in other tests."""
    return list(
        measure(
            recipes=("*",), batches=(2,), size=(32, 40), dtypes=DTYPES, layouts=LAYOUTS, devices_=("*",), blocks=0,
            only=lambda case: is_in(case.recipe.name, case.variant.name, case.dtype, case.layout),
        )
    )  # fmt: skip


def test_every_case_is_right_or_skipped_for_an_allowed_reason(
    matrix: list[Measurement], capsys: pytest.CaptureFixture[str]
) -> None:
    counts = Counter((m.status, bool(m.known), (m.reason or "").partition(":")[0]) for m in matrix)
    with capsys.disabled():
        print(f"\n  {len(matrix):4} cases of {len(registry.recipes)} recipes")
        for (status, known, reason), number in counts.most_common():
            print(f"  {number:4} {status}{' (known)' if known else ''}  {reason}")
    for m in matrix:
        if m.status == "skipped":
            assert any(re.fullmatch(reason, m.reason or "") for reason in ALLOWED), (m.recipe, m.variant, m.reason)
        elif m.known:
            assert m.status == KNOWN[m.recipe, m.variant, m.dtype], m.reason
        else:
            assert m.status == "ok", (m.recipe, m.variant, m.dtype, m.layout, m.reason)


def test_the_matrix_is_complete(matrix: list[Measurement]) -> None:
    expected = {
        (v.recipe, v.name, device, dtype, layout)
        for v in registry.variants.values()
        for device in v.devices or discovery.runtime(v.runtime).devices
        for dtype in DTYPES
        for layout in LAYOUTS
        if is_in(v.recipe, v.name, dtype, layout)
    }
    assert {(m.recipe, m.variant, m.device, m.dtype, m.layout) for m in matrix} == expected
    assert len(matrix) == len(expected)


def test_every_runtime_computes_every_recipe_that_it_can() -> None:
    """Keras has three modes, a table one value for each byte, numexpr no resize, and a fused kernel no reduction.

    What the documents alone have is each for one recipe.
    """
    names: dict[str, set[str]] = {}
    for (recipe, name), variant in registry.variants.items():
        if variant.source.name != "copycost.variants.documents":
            names.setdefault(name, set()).add(recipe)
    every = {recipe.name for recipe in registry.recipes.values() if recipe.source.name == "copycost.recipes"}
    modes = {"caffe", "tf", "torch"}
    lacking = {
        "keras-numpy": every - modes,
        "keras-tensor": every - modes,
        "numpy-table": every - modes,  # a value of its own for each byte
        "numexpr-out": {"resize_scale"},
        "cupy-fused": {"minmax"},
        "cupy-vector": {"minmax", "resize_scale", "add"},
        "cupy-numba": {"minmax", "resize_scale", "add"},
        "torch-triton": {"minmax", "resize_scale", "add"},
        "cupy-graph": {"minmax", "resize_scale"},  # they allocate
    }
    assert {name: every - its for name, its in names.items() if its != every} == lacking


def test_results_have_the_dtype_of_the_contract(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            wide = m.dtype == "uint8" or m.recipe == "resize_scale"
            assert m.result_dtype == ("float32" if wide else m.dtype)


def test_who_changes_the_input(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            # Integers are copied to float32 first; what does nothing changes nothing.
            keras = m.variant == "keras-numpy" and m.dtype != "uint8" and m.recipe != "unchanged"
            assert m.input_changed == (m.variant in OVER or keras), (m.recipe, m.variant, m.dtype)


def test_what_the_result_shares(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            keras = (m.variant == "keras-numpy" and m.dtype != "uint8") or m.recipe == "unchanged"
            place = "input" if keras else {"new": "nothing"}.get(m.writes, m.writes)
            # Reading channels in reverse over its own input XLA cannot reuse it: JAX gives new memory, TensorFlow the
            # variable with new memory in it.
            if (m.recipe, m.variant) == ("caffe", "jax-donated"):
                continue
            assert m.result_shares == place, (m.recipe, m.variant, m.dtype)


def test_only_keras_numpy_in_caffe_mode_gives_a_view_that_is_not_contiguous(matrix: list[Measurement]) -> None:
    for m in matrix:
        if m.status == "ok":
            view = m.recipe == "caffe" and m.variant == "keras-numpy"
            assert m.result_contiguous == (not view), (m.recipe, m.variant, m.layout)


def test_one_image_without_a_batch_axis() -> None:
    """What depends on the number of axes: channels, resizing, tiles, constants."""
    one_of_each = (
        "*-out",
        "*-table",
        "*-blocked",
        "numpy-inplace",
        "torch-inplace",
        "jax-donated",
        "keras-*",
        "tf-graph",
        "divide-*",
        "tf-while-*",
    )
    found = list(
        measure(
            recipes=("*",), variants=one_of_each, batches=(None,), size=(40, 32), dtypes=("uint8", "float32"),
            layouts=LAYOUTS, blocks=0,
            only=lambda case: is_its_layout(case.variant.name, case.dtype, case.layout),
        )
    )  # fmt: skip
    assert {m.status for m in found if not m.known} <= {"ok", "skipped"}, [m.reason for m in found if m.unexpected]
    assert {m.recipe for m in found if m.status == "ok"} == set(registry.recipes)
    assert all(m.batch is None for m in found)


def test_a_batch_whose_pixels_are_all_alike(flat: object) -> None:
    """minmax divides by the spread, which is then 0: the result is 0."""
    found = list(measure(recipes=("minmax",), dtypes=("uint8", "float32"), image=flat, blocks=0))  # type: ignore[arg-type]
    assert "ok" in {m.status for m in found}
    for m in found:
        assert m.known or m.status in ("ok", "skipped"), (m.variant, m.dtype, m.reason)
        if m.status == "ok":
            assert m.max_abs_error == 0, (m.variant, m.dtype)
