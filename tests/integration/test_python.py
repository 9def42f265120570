"""One function measured from Python, cases as a DataFrame, and the fixture for other projects' tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from test_cli import schema

import copycost
from copycost import recipes
from copycost.api import look
from copycost.model.measurement import Measurement
from copycost.model.source import Source
from copycost.results import store

X = np.random.default_rng(0).uniform(0, 255, (4, 60, 50, 3)).astype(np.float32)


def new(x: np.ndarray) -> np.ndarray:
    scaled = x / np.float32(127.5)
    return scaled - np.float32(1)


def over(x: np.ndarray) -> None:
    x /= np.float32(127.5)
    x -= np.float32(1)


def into(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    np.divide(x, np.float32(127.5), out=out)
    return np.subtract(out, np.float32(1), out=out)


def test_a_function_that_is_right() -> None:
    m = copycost.measure(new, X, recipes.tf)
    assert (m.status, m.recipe, m.variant, m.writes) == ("ok", "tf", "new", "new")
    assert (m.allocations, m.allocated_bytes, m.retained_bytes) == (2, 2 * X.nbytes, X.nbytes)
    assert (m.input_changed, m.result_shares) == (False, "nothing")
    assert (m.batch, m.height, m.width, m.channels, m.dtype) == (4, 60, 50, 3, "float32")
    assert m.seconds is not None
    assert m.seconds_low is not None
    assert m.seconds_low <= m.seconds
    assert m.blocks == 5
    assert m.missing["copy_fraction"] == "the copy speed was not measured"


def test_a_function_without_a_reference_is_unchecked() -> None:
    m = copycost.measure(new, X)
    assert (m.status, m.reason) == ("unchecked", "no reference was given")
    assert m.allocated_bytes == 2 * X.nbytes
    assert m.seconds is not None
    assert m.max_abs_error is None


def test_what_writes_over_its_input_is_seen_and_the_callers_is_untouched() -> None:
    before = X.copy()
    m = copycost.measure(over, X, recipes.tf)
    assert (m.status, m.writes, m.input_changed, m.result_shares) == ("ok", "input", True, "input")
    assert m.allocations == 0
    assert np.array_equal(X, before)


def test_a_buffer_is_copied_and_poisoned() -> None:
    out = np.zeros_like(X)
    m = copycost.measure(into, X, recipes.tf, out=out)
    assert (m.status, m.writes, m.result_shares, m.allocations) == ("ok", "out", "out", 0)
    assert not out.any()
    m = copycost.measure(lambda x, out: out, X, recipes.tf, out=out)
    assert (m.status, "not finite" in (m.reason or "")) == ("wrong", True)


def test_what_is_wrong_or_raises_is_a_measurement_that_says_so() -> None:
    wrong = copycost.measure(lambda x: x / 128 - 1, X, recipes.tf)
    assert (wrong.status, (wrong.reason or "")[:9]) == ("wrong", "off by up")
    failed = copycost.measure(lambda x: x.nothing, X)
    assert failed.status == "failed"
    assert "AttributeError" in (failed.reason or "")
    assert failed.missing["seconds"] == "failed"
    reference = copycost.measure(new, X, reference=lambda x: None)
    assert (reference.status, "reference" in (reference.reason or "")) == ("failed", True)


def test_an_answer_that_is_remembered_is_wrong() -> None:
    remembered: list[np.ndarray] = []

    def first_answer(x: np.ndarray) -> np.ndarray:
        remembered.append(new(x))
        return remembered[0].copy()

    assert copycost.measure(first_answer, X, recipes.tf).status == "wrong"


def test_a_pair_and_arrays_that_are_no_images() -> None:
    m = copycost.measure(lambda x: x[0] + x[1], (X, X), recipes.add)
    assert (m.status, m.recipe, m.bytes_moved) == ("ok", "add", 3 * X.nbytes)
    m = copycost.measure(lambda x: x * 2, np.arange(5000, dtype=np.float64))
    assert (m.batch, m.height, m.width, m.channels) == (None, 1, 5000, 1)
    assert m.allocated_bytes == 40_000
    assert copycost.measure(lambda x: x + 1, np.ones((3, 20, 20))).layout == "channels_first"


def test_arrays_in_lists_and_dicts() -> None:
    def shifted(batch: dict[str, Any]) -> list[np.ndarray]:
        return [image + batch["shift"] for image in batch["images"]]

    images = [X, X[:1], X]  # the same array twice
    batch = {"images": images, "shift": np.ones(1, np.float32), "name": "kept"}
    m = copycost.measure(shifted, batch, lambda batch: tuple(shifted(batch)))
    assert (m.status, m.reason, m.input_changed) == ("ok", None, False)
    assert m.allocated_bytes == 2 * X.nbytes + X[:1].nbytes

    def shifted_in_place(batch: dict[str, Any]) -> list[np.ndarray]:
        batch["images"][1] += batch["shift"]
        return [images[0] + batch["shift"], batch["images"][1], images[2] + batch["shift"]]

    m = copycost.measure(shifted_in_place, batch, lambda batch: tuple(shifted(batch)))
    assert m.input_changed
    m = copycost.measure(lambda batch: shifted(batch)[:2], batch, lambda batch: tuple(shifted(batch)))
    assert (m.status, m.reason) == ("wrong", "returned list of 2, not 3 arrays (call 1)")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((3, X), TypeError, "call is int"),
        ((new, [1, 2, 3]), ValueError, "x is a list of 3 without arrays"),
        ((new, "x"), TypeError, "x is str, not a NumPy array"),
        ((new, np.array(["a"])), ValueError, "dtype <U1"),
        ((new, np.empty((0, 3))), ValueError, "shape"),
        ((new, X, X), TypeError, "reference is ndarray, not a function"),
        ((new, X, None, (X, X)), ValueError, "out is a tuple of 2: expected one array"),
        ((new, X, None, None, "numpi"), ValueError, "did you mean numpy"),
    ],
)
def test_bad_arguments_are_one_clear_line(arguments: tuple[Any, ...], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        copycost.measure(*arguments)
    assert "\n" not in str(caught.value)


def test_tensorflow_and_its_variables() -> None:
    import tensorflow as tf

    x = tf.constant(np.tile(X, (8, 1, 1, 1)))
    n = 8 * X.nbytes
    eager = copycost.measure(lambda x: x / 127.5 - 1.0, x, recipes.tf, runtime="tensorflow")
    assert (eager.status, eager.allocations, eager.allocated_bytes, eager.device) == ("ok", 2, 2 * n, "cpu")

    @tf.function(jit_compile=True)
    def over(v: Any) -> None:
        v.assign(v / 127.5 - 1.0)

    m = copycost.measure(over, tf.Variable(x), recipes.tf, runtime="tensorflow")
    assert (m.status, m.writes, m.allocations, m.input_changed) == ("ok", "input", 0, True)
    read = copycost.measure(lambda v: v / 127.5 - 1.0, tf.Variable(x), recipes.tf, runtime="tensorflow")
    assert (read.status, read.writes, read.input_changed) == ("ok", "new", False), read.reason
    added = look(lambda x: x[0].assign_add(x[1]), (tf.Variable(x), x), recipes.add, runtime="tensorflow")
    assert (added.status, added.input_changed, added.result_shares) == ("ok", True, "input"), added.reason


@pytest.mark.parametrize(
    ("m", "line"),
    [
        ({}, "v (tf): 4.01 ms ±11 %, 2 allocations of 2 × the input (24.0 KiB), input unchanged"),
        ({"allocations": 0}, "v (tf): 4.01 ms ±11 %, no allocations, input unchanged"),
        (
            {"input_changed": True, "result_shares": "input"},
            "v (tf): 4.01 ms ±11 %, 2 allocations of 2 × the input (24.0 KiB), "
            "changes its input, shares the input's memory",
        ),
        (
            {"status": "unchecked", "recipe": "", "seconds": None},
            "v: not timed, 2 allocations of 2 × the input (24.0 KiB), input unchanged, result unchecked",
        ),
        (
            {"allocations": None, "missing": {"allocations": "memray is not installed"}},
            "v (tf): 4.01 ms ±11 %, allocations not counted (memray is not installed), input unchanged",
        ),
        ({"status": "failed", "reason": "raised ValueError: x"}, "v (tf): failed: raised ValueError: x"),
    ],
)
def test_a_measurement_is_one_line(m: dict[str, Any], line: str) -> None:
    fields: dict[str, Any] = {
        "recipe": "tf", "variant": "v", "runtime": "numpy", "writes": "new", "device": "cpu", "dtype": "float32",
        "layout": "channels_last", "batch": None, "height": 32, "width": 32, "channels": 3, "threads": 1,
        "status": "ok", "seconds": 0.00401, "seconds_low": 0.0037, "seconds_high": 0.00446, "allocations": 2,
        "allocated_bytes": 24576, "input_changed": False, "result_shares": "nothing",
    }  # fmt: skip
    found = Measurement(**fields | m)
    assert str(found) == line
    assert repr(found) == f"<{line}>"


def test_a_measurement_keeps_to_the_schema() -> None:
    document = store.document({"engine": 1}, [copycost.measure(new, X, recipes.tf), look(new, X)])
    rows = {"$defs": schema().schema.get("$defs", {}), **schema().schema["properties"]["measurements"]}
    Draft202012Validator(rows).validate(document["measurements"])


def test_cases_from_python_are_a_frame() -> None:
    cases = copycost.select(
        recipes=["tf"], variants=["numpy-o*", "numpy-t*"], batches=[2, None], sizes=[(30, 20)], devices=["cpu"]
    )
    frame = copycost.run(cases, blocks=3, budget=1)
    assert len(frame) == 2 * 2 * 2
    assert set(frame["status"]) == {"ok", "skipped"}
    timed = frame[frame["status"] == "ok"]
    assert (timed["seconds"] > 0).all()
    assert timed["batch"].isna().sum() == 3
    assert copycost.run(cases[:1], blocks=0)["seconds"].isna().all()
    with pytest.raises(ValueError, match="invalid blocks -1"):
        copycost.run(cases, blocks=-1)
    for wrong in ({"batches": [2.5]}, {"sizes": [224]}, {"sizes": [(8, 8.5)]}):
        with pytest.raises(ValueError, match=r"invalid (batch|size) "):
            copycost.select(**wrong)  # type: ignore[arg-type]
    assert {case.recipe.name for case in copycost.select(recipes="tf", devices="cpu")} == {"tf"}
    assert {(case.batch, case.dtype) for case in copycost.select(batches=8, dtypes=[np.uint8])} == {(8, "uint8")}
    with pytest.raises(ValueError, match=r"unknown recipe 'zzz'; expected one of caffe, tf, .*"):
        copycost.select(recipes=["zzz"])
    with pytest.raises(TypeError, match=r"expected cases from copycost\.select"):
        copycost.run("tf")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="invalid blocks '3': expected a number"):
        copycost.run(cases, blocks="3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="needs parentheses"):
        copycost.recipe(lambda x: x)  # type: ignore[arg-type]
    for wrong in ({"recipes": ["tff"]}, {"profile": "swift"}, {"dtypes": ["int8"]}, {"layouts": ["last"]}):
        with pytest.raises(ValueError, match=r"did you mean|expected one of"):
            copycost.select(**wrong)  # type: ignore[arg-type]


def test_what_is_found_without_a_reference() -> None:
    buffer = np.empty_like(X)
    reused = look(lambda x: np.multiply(x, np.float32(2), out=buffer), X)
    assert (reused.status, reused.reason) == ("wrong", "an earlier result was changed by a later call (call 2)")
    forgotten = look(lambda x: None, X)
    assert (forgotten.status, forgotten.reason) == ("wrong", "returned nothing, and its input is unchanged")
    assert look(np.fft.fft, X.astype(np.float64)).result_dtype == "complex128"
    assert look(lambda x: x[::2], X).result_shares == "input"
    assert look(new, X).missing["max_abs_error"] == "no reference was given"

    def interrupted(x: np.ndarray) -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        look(interrupted, X)


def test_under_another_tracker_allocations_are_missing_with_the_reason(tmp_path: Path) -> None:
    import memray

    with memray.Tracker(tmp_path / "theirs.bin"):
        m = look(new, X)
    assert m.status == "unchecked"
    assert m.allocations is None
    assert m.missing["allocations"].startswith("memray: ")


def test_a_recipe_of_images_with_channels_first() -> None:
    first = np.ascontiguousarray(np.moveaxis(X, -1, 1))
    mean = np.array(recipes.CAFFE_MEAN, np.float32)[:, None, None]
    m = look(lambda x: x[:, ::-1] - mean, first, recipes.caffe)
    assert (m.status, m.layout) == ("ok", "channels_first"), m.reason


def test_an_interrupted_run_gives_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    from copycost.engine.session import Session

    measure = Session.measure

    def interrupted(self: Session, cases: Any) -> Any:
        for number, measurement in enumerate(measure(self, cases)):
            if number == 2:
                raise KeyboardInterrupt
            yield measurement

    monkeypatch.setattr(Session, "measure", interrupted)
    cases = copycost.select(recipes=["tf"], variants=["numpy-*"], batches=[1], sizes=[(20, 20)], devices=["cpu"])
    with pytest.warns(UserWarning, match=f"interrupted with 2 of {len(cases)} cases measured"):
        assert len(copycost.run(cases, blocks=0)) == 2


def test_a_variant_of_a_notebook_is_refused_with_the_way_out() -> None:
    from copycost import registry

    try:

        @copycost.variant(recipe="tf", runtime="numpy", writes="new")
        def of_a_notebook(example: Any) -> Any:
            return new

        entry = registry.variants["tf", "of-a-notebook"]
        registry.variants["tf", "of-a-notebook"] = replace(entry, source=Source("__main__"))
        with pytest.raises(ValueError, match="put it into a file of its own"):
            copycost.select()
    finally:
        del registry.variants["tf", "of-a-notebook"]


def test_the_fixture_gives_a_measurement(copycost: Callable[..., Measurement]) -> None:
    m = copycost(into, X, reference=recipes.tf, out=np.empty_like(X))
    assert (m.status, m.allocated_bytes, m.input_changed) == ("ok", 0, False)
    assert m.missing["seconds"] == "not timed"
    with pytest.raises(pytest.fail.Exception, match="raised ZeroDivisionError"):
        copycost(lambda x: 1 / 0, X)
    with pytest.raises(pytest.fail.Exception, match="returned nothing"):
        copycost(lambda x: None, X)


#: Beside a thread that allocates small things all the time, and with the collector on.
THOUSAND = """
import threading
import numpy as np
import pytest

X = np.ones((1, 60, 50, 3), np.float32)

def twice(x):
    scaled = x / np.float32(127.5)
    return scaled - np.float32(1)

def into(x, out):
    return np.divide(x, np.float32(127.5), out=out)

@pytest.fixture(autouse=True)
def restless():
    stop = threading.Event()
    def allocate():
        while not stop.wait(0.0005):
            [bytes(200) for _ in range(50)]
    thread = threading.Thread(target=allocate)
    thread.start()
    yield
    stop.set()
    thread.join()

@pytest.mark.parametrize("i", range(500))
def test_assertions(copycost, i):
    assert copycost(into, X, out=np.empty_like(X)).allocated_bytes == 0
    m = copycost(twice, X)
    assert (m.allocations, m.allocated_bytes, m.input_changed) == (2, 2 * X.nbytes, False)
"""


def test_a_thousand_allocation_assertions_in_another_project(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(THOUSAND)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x"], cwd=tmp_path, capture_output=True, text=True, timeout=600
    )
    assert "500 passed" in done.stdout, done.stdout + done.stderr


def test_the_time_of_jax_is_that_of_its_work() -> None:
    """JAX returns before its work is done. Of two programs the one with 60 times the work takes far longer."""
    import jax
    import jax.numpy as jnp

    x = jnp.ones((600, 600), jnp.float32)
    once = copycost.measure(jax.jit(lambda x: x @ x), x, runtime="jax")
    often = copycost.measure(
        jax.jit(lambda x: jax.lax.fori_loop(0, 60, lambda _, y: (x @ y) * 0.001, x)), x, runtime="jax"
    )
    assert once.seconds is not None
    assert often.seconds is not None
    assert often.seconds > 10 * once.seconds


def test_a_tensor_on_a_gpu_is_not_measured_on_the_cpu() -> None:
    """Its copies would be made there, silently."""
    torch = pytest.importorskip("torch")

    class OnGpu(torch.Tensor):  # type: ignore[misc, name-defined]
        device = "cuda:0"

    x = torch.ones(2, 8, 8, 3).as_subclass(OnGpu)
    with pytest.raises(ValueError, match="x is on a GPU, where torch can only be measured by copycost run"):
        copycost.measure(lambda x: x + 1, x, runtime="torch")
