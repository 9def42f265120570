"""The code that a report gives to be copied, run as a stranger would run it."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from copycost import registry
from copycost.cases import images
from copycost.catalog import discovery
from copycost.engine.compare_arrays import judge
from copycost.engine.references import refer
from copycost.engine.source_code import code
from copycost.recipes import result_dtype

# The document's C++ operation can be loaded into a process once, which is another test's.
SHIPPED = [
    v for v in registry.variants.values() if v.runtime != "cupy" and v.source.name != "copycost.variants.documents"
]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("by", SHIPPED, ids=lambda v: f"{v.recipe}-{v.name}")
def test_the_code_does_what_the_variant_does(by: registry.Variant, dtype: str, tmp_path: Path, monkeypatch) -> None:
    recipe = registry.recipes[by.recipe]
    if dtype not in by.accepts or dtype in by.known or (by.writes == "input" and dtype == "uint8"):
        pytest.skip("it is not for this dtype")
    if by.name == "torch-compile" and by.recipe != "tf":
        pytest.skip("its text is of the same kind for every recipe, and it compiles for seconds")
    runtime = discovery.runtime(by.runtime)
    lacking = discovery.not_installed(runtime)
    if lacking:
        pytest.skip(lacking)
    pixels = [images.batch(images.read(), (2, 64, 64), dtype, "channels_last", k) for k in range(recipe.inputs)]
    assert recipe.reference is not None
    to = result_dtype(recipe.dtype or dtype)
    (reference,) = refer(recipe.reference, pixels, "channels_last", to)
    shape = reference.values.shape
    if by.writes == "input" and shape != pixels[0].shape:
        pytest.skip("the result does not fit over the input")

    def given() -> object:
        arrays = tuple(runtime.array(one, by.writes == "input" and k == 0) for k, one in enumerate(pixels))
        return arrays if recipe.inputs == 2 else arrays[0]

    assert by.prepare is not None
    text = code(by.prepare(given()), by.prepare)
    assert text is not None
    file = tmp_path / "snippet.py"
    file.write_text(text)
    module = ModuleType("snippet")
    vars(module)["x"] = given()
    monkeypatch.setitem(sys.modules, "snippet", module)
    exec(compile(text, str(file), "exec"), vars(module))
    call = vars(module)["call"]
    assert callable(call)
    x = given()
    out = runtime.array(np.full(shape, np.nan, to), True) if by.writes == "out" else None
    result = call(x) if out is None else call(x, out)
    if result is None:
        result = out if out is not None else (x[0] if isinstance(x, tuple) else x)
    verdict = judge(runtime.to_numpy(result), reference, to)
    assert verdict.reason is None, text


def test_what_cannot_be_written_down_has_no_code() -> None:
    table = np.random.default_rng(0).uniform(size=1000)
    assert code(lambda x: x + table) is None
    assert code(np.add) is None


def test_what_is_too_much_to_look_through_has_no_code() -> None:
    everything = np.broadcast_to(np.float32(1), 2**50)  # it repeats one number, and has no memory of its own
    kept = [np.float32(1)] * 10_000
    assert code(lambda x: x + everything) is None
    assert code(lambda x: kept.append(x)) is None


def test_two_things_of_one_name_are_not_mixed_up() -> None:
    def outer(value):
        def inner(x):
            return x + value

        return inner

    value = 2
    first = outer(1)

    def call(x):
        return first(x) * value

    assert code(call) is None


def test_constants_come_with_it() -> None:
    mean = np.array((1.5, 2.5, 3.5), np.float32)

    def call(x):
        return x - mean

    text = code(call)
    assert text is not None
    assert "mean = np.array([1.5, 2.5, 3.5], np.float32)" in text
    assert text.startswith("import numpy as np\n")
