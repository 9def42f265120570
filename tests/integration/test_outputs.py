"""Results that are not one array of floats: integers, booleans, several arrays."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import by_variant, measure

import copycost
from copycost.model.measurement import Measurement

FILE = """
import numpy as np
from copycost import recipe, variant

@recipe(name="scaled-and-mask")
def scaled_and_mask(x):
    return x / 255.0, x > 127

@recipe(name="inverted", dtype="uint8")
def inverted(x):
    return (255 - x).astype(np.uint8)

def numpy(recipe, writes="new"):
    return variant(recipe=recipe, runtime="numpy", writes=writes, accepts=("uint8",))

@numpy("scaled-and-mask")
def both(example):
    return lambda x: (x / np.float32(255), x > 127)

@variant(recipe="scaled-and-mask", runtime="tensorflow", writes="new", accepts=("uint8",))
def tensors(example):
    import tensorflow as tf
    return tf.function(lambda x: (tf.cast(x, tf.float32) / 255.0, x > 127))

@numpy("scaled-and-mask", "out")
def into_both(example):
    def call(x, out):
        scaled, mask = out
        np.divide(x, np.float32(255), out=scaled)
        np.greater(x, 127, out=mask)
    return call

@numpy("scaled-and-mask", "out")
def into_one(example):
    return lambda x, out: np.divide(x, np.float32(255), out=out[0])

@numpy("scaled-and-mask")
def another_mask(example):
    return lambda x: (x / np.float32(255), x > 126)

@numpy("scaled-and-mask")
def only_one(example):
    return lambda x: x / np.float32(255)

@numpy("scaled-and-mask")
def mask_of_bytes(example):
    return lambda x: (x / np.float32(255), (x > 127).astype(np.uint8))

@numpy("inverted")
def bytes_new(example):
    return lambda x: 255 - x

@numpy("inverted", "out")
def bytes_out(example):
    return lambda x, out: np.subtract(np.uint8(255), x, out=out)

@numpy("inverted", "out")
def bytes_unwritten(example):
    def call(x, out):
        np.subtract(np.uint8(255), x[..., :2], out=out[..., :2])
    return call

@numpy("inverted", "input")
def bytes_inplace(example):
    return lambda x: np.subtract(np.uint8(255), x, out=x)

@numpy("inverted")
def one_off(example):
    return lambda x: 254 - x

@numpy("inverted")
def remembered(example):
    answers = {}
    def call(x):
        key = x.tobytes()
        if key not in answers:
            answers[key] = 255 - x
        return answers[key]
    return call
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measurement]:
    path = tmp_path_factory.mktemp("outputs") / "outputs.py"
    path.write_text(FILE)
    recipes = ("scaled-and-mask", "inverted")
    return by_variant(measure(files=(path,), recipes=recipes, dtypes=("uint8",), batches=(2,)))


EXPECTED = {
    "both": ("ok", ""),
    "tensors": ("ok", ""),
    "into-both": ("ok", ""),
    "into-one": ("wrong", "returned ndarray, not 2 arrays"),
    "another-mask": ("wrong", "array 1 of the result: off by up to 1, where 0 is allowed"),
    "only-one": ("wrong", "returned ndarray, not 2 arrays"),
    "mask-of-bytes": ("wrong", "array 1 of the result: returned uint8, not bool"),
    "bytes-new": ("ok", ""),
    "bytes-out": ("ok", ""),
    "bytes-unwritten": ("wrong", "off by"),
    "bytes-inplace": ("ok", ""),
    "one-off": ("wrong", "off by up to 255, where 0 is allowed"),
    "remembered": ("wrong", "off by"),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_results_of_integers_booleans_and_several_arrays_are_judged(found: dict[str, Measurement], name: str) -> None:
    status, reason = EXPECTED[name]
    m = found[name]
    assert m.status == status, m.reason
    assert reason in (m.reason or "")


def test_what_is_said_of_several_arrays_is_said_of_all(found: dict[str, Measurement]) -> None:
    n = 2 * 64 * 48 * 3
    m = found["both"]
    assert (m.result_dtype, m.result_shares, m.retained_bytes) == ("float32, bool", "nothing", 5 * n)
    assert m.bytes_moved == n + 4 * n + n
    assert found["into-both"].result_shares == "out"
    # Some versions of NumPy convert the input in a buffer, taken anew in each call.
    assert found["into-both"].allocated_bytes in (0, np.getbufsize() * 4)
    assert found["bytes-inplace"].bytes_moved == 2 * n
    assert found["bytes-inplace"].input_changed


def test_a_function_that_returns_a_tuple_is_measured_in_this_process() -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)
    m = copycost.measure(lambda x: (x / np.float32(255), x > 127), x, lambda x: (x / 255, x > 127))
    assert (m.status, m.reason, m.result_dtype) == ("ok", None, "float32, bool")
    m = copycost.measure(lambda x: (x / np.float32(255), x > 126), x, lambda x: (x / 255, x > 127))
    assert m.status == "wrong"
    m = copycost.measure(lambda x: (x / np.float32(255), x > 127), x)
    assert (m.status, m.result_dtype) == ("unchecked", "float32, bool")
