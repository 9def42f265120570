"""Where to preprocess: the routes are made of what was measured, on the CPU here and on the fake device."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Command, read_json
from test_fakegpu import fakegpu, installed

from copycost import registry
from copycost.cases import images
from copycost.cases.case import Case
from copycost.cases.selection import find_definitions, select
from copycost.engine.plan import Plan
from copycost.machine import devices
from copycost.model.measurement import Measurement
from copycost.model.runtime import RuntimeUnavailable
from copycost.model.vocabulary import DeviceKind, Layout
from copycost.stats.sums import Bounded, paired
from copycost.studies.place.measure import measure
from copycost.studies.place.probes import Model, ModelJob
from copycost.studies.place.routes import (
    BreakEven,
    Inputs,
    Measured,
    Memory,
    Missing,
    Place,
    Route,
    break_evens,
    crossings,
    longer,
    routes,
)

assert installed  # a fixture

needs_tensorflow = pytest.mark.skipif(not importlib.util.find_spec("tensorflow"), reason="TensorFlow is not installed")

CPU, GPU = DeviceKind.CPU, DeviceKind.GPU
BATCHES = (1, 8, 32)
MIB = 2**20


def cases() -> list[Case]:
    """Of uint8, whose float32 result has four times its bytes."""
    found = select(recipes=["tf"], variants=["numpy-out", "numpy-new", "cupy-new"], batches=BATCHES, dtypes=["uint8"])
    assert {case.device for case in found} == {CPU, GPU}
    return found


def measured(case: Case, seconds: float, **fields: Any) -> Measurement:
    """What a session would give, with blocks that agree."""
    samples = [[seconds * factor] for factor in (0.999, 1.0, 1.001)]
    known: dict[str, Any] = {
        "recipe": "tf", "variant": case.variant.name, "runtime": case.variant.runtime, "writes": case.variant.writes,
        "device": case.device, "dtype": case.dtype, "layout": Layout.CHANNELS_LAST, "batch": case.batch,
        "height": case.height, "width": case.width, "channels": 3, "threads": 2, "status": "ok", "seconds": seconds,
        "samples": samples, "bytes_moved": 5 * case.nbytes, "input_changed": False,
    }  # fmt: skip
    return Measurement(**known | fields)


#: Seconds of an image on the CPU by variant, and on the device: of a batch, and of an image.
ON_CPU = {"numpy-out": 1e-3, "numpy-new": 2e-3}
ON_GPU = (2e-3, 1e-5)

#: Seconds for each 2²⁰ bytes that cross.
RATE = {Memory.PAGEABLE: 4e-3, Memory.PINNED: 1e-3}


def parts(model_on: DeviceKind = GPU, no_gpu: str | None = None) -> Measured:
    every = cases()
    rows = []
    for case in every:
        if case.device == CPU:
            rows.append(measured(case, ON_CPU[case.variant.name] * (case.batch or 1)))
        else:
            rows.append(measured(case, ON_GPU[0] + ON_GPU[1] * (case.batch or 1)))
    transfers: dict[tuple[int, Memory], Bounded | Missing] = {}
    for nbytes, memory in crossings(every, rows):
        seconds = RATE[memory] * nbytes / MIB
        transfers[nbytes, memory] = Bounded(seconds, 0.99 * seconds, 1.01 * seconds)
    models: dict[Inputs, Bounded | Missing] = {
        Inputs(batch, 224, 224, "uint8"): Bounded(5e-3 * batch, 4e-3 * batch, 6e-3 * batch) for batch in BATCHES
    }
    return Measured(model_on, tuple(every), tuple(rows), transfers, models, no_gpu)


def one(found: Sequence[Route], place: Place, batch: int, memory: Memory | None) -> Route:
    (route,) = [r for r in found if (r.place, r.inputs.batch, r.memory) == (place, batch, memory)]
    return route


def test_what_crosses_is_the_result_after_the_cpu_and_the_images_before_the_device() -> None:
    found = routes(parts())
    assert len(found) == len(BATCHES) * 3 * 2
    images = 224 * 224 * 3
    for batch in BATCHES:
        for memory in Memory:
            cpu, gpu, model = (one(found, place, batch, memory) for place in Place)
            assert (cpu.moved_bytes, gpu.moved_bytes, model.moved_bytes) == (
                4 * images * batch, images * batch, images * batch,
            )  # fmt: skip
            assert (cpu.variant, gpu.variant) == ("numpy-out", "cupy-new")
            for route, compute in (
                (cpu, 1e-3 * batch), (gpu, ON_GPU[0] + ON_GPU[1] * batch), (model, 5e-3 * batch),
            ):  # fmt: skip
                assert route.seconds is not None
                assert route.moved_bytes is not None
                transfer = RATE[memory] * route.moved_bytes / MIB
                assert route.seconds.value == pytest.approx(compute + transfer)
                rate = route.images_per_second
                assert rate is not None
                assert rate.value == pytest.approx(batch / (compute + transfer))
                assert rate.low < rate.value < rate.high


def test_the_break_even_batch_is_the_first_after_the_last_loss() -> None:
    whole = parts()
    # From pageable memory: 1 + 2.3 ms against 2 + 0.6 ms for one image; from pinned 1 + 0.6 ms against 2 + 0.1 ms.
    assert list(break_evens(routes(whole))) == [
        BreakEven(224, 224, "uint8", Memory.PAGEABLE, 1, 32), BreakEven(224, 224, "uint8", Memory.PINNED, 8, 32),
    ]  # fmt: skip
    slow = [measured(c, 10.0) if c.device == GPU and c.batch == 32 else m
            for c, m in zip(whole.cases, whole.measurements, strict=True)]  # fmt: skip
    assert {even.batch for even in break_evens(routes(replace(whole, measurements=tuple(slow))))} == {None}


def test_a_part_that_two_routes_share_makes_their_difference_no_less_certain() -> None:
    compute = Bounded(1e-3, 0.8e-3, 1.25e-3)
    inputs = Inputs(8, 224, 224, "uint8")
    slow, quick = (
        Route(Place.CPU, inputs, memory, 1, None, "numpy-out", compute, transfer)
        for memory, transfer in (
            (Memory.PAGEABLE, Bounded(4e-4, 3.95e-4, 4.05e-4)), (Memory.PINNED, Bounded(3e-4, 2.95e-4, 3.05e-4)),
        )
    )  # fmt: skip
    by = longer(slow, quick)
    assert (by.value, by.low, by.high) == pytest.approx((1e-4, 1e-4 - 7.07e-6, 1e-4 + 7.07e-6), rel=1e-3)
    other = longer(slow, replace(quick, compute=replace(compute)))  # another measurement, though of the same value
    assert other.low < 0 < other.high


def test_only_what_writes_to_a_given_array_can_write_to_pinned_memory() -> None:
    whole = parts()
    rows = [replace(m, status="failed") if m.variant == "numpy-out" else m for m in whole.measurements]
    found = routes(replace(whole, measurements=tuple(rows)))
    assert one(found, Place.CPU, 8, Memory.PAGEABLE).variant == "numpy-new"
    pinned = one(found, Place.CPU, 8, Memory.PINNED)
    assert (pinned.seconds, pinned.reason) == (
        None, "no variant that writes to a given array was timed: failed",
    )  # fmt: skip


def test_a_variant_that_changes_its_input_is_not_taken() -> None:
    """It would be the fastest; so would one that is wrong."""
    whole = parts()
    for fields in ({"input_changed": True}, {"status": "wrong"}, {"result_shares": "input"}):
        rows = [
            replace(m, **fields) if m.variant == "numpy-out" else m for m in whole.measurements
        ]  # fmt: skip
        found = routes(replace(whole, measurements=tuple(rows)))
        assert {route.variant for route in found if route.place == Place.CPU and route.seconds} == {"numpy-new"}


def test_what_was_not_measured_has_its_reason_and_no_time() -> None:
    found = routes(parts(CPU, "no device"))
    assert {route.memory for route in found} == {None}
    gpu = [route for route in found if route.place == Place.GPU]
    assert {(route.reason, route.seconds) for route in gpu} == {("no device", None)}
    cpu = one(found, Place.CPU, 8, None)
    assert (cpu.moved_bytes, cpu.transfer) == (0, None)
    assert not list(break_evens(found))
    whole = parts()
    failed = replace(whole, transfers=dict.fromkeys(whole.transfers, Missing("crashed")))
    assert {(route.reason, route.seconds) for route in routes(failed)} == {("crashed", None)}


def test_a_model_that_takes_no_longer_has_no_rate_without_end() -> None:
    route = Route(Place.MODEL, Inputs(8, 224, 224, "uint8"), None, 0, seconds=Bounded(1e-3, -1e-3, 3e-3))
    rate = route.images_per_second
    assert rate is not None
    assert (rate.low, rate.high) == (pytest.approx(8 / 3e-3), float("inf"))


# A model, in this process.


def sleeps(seconds: float) -> Callable[[Any], Any]:
    """A variant that hands on its images, and takes this long for it."""

    def prepare(example: Any) -> Any:
        import tensorflow as tf

        def call(x: Any) -> Any:
            y = tf.cast(x, tf.float32)
            if not seconds:
                return y
            slept = tf.py_function(lambda: time.sleep(seconds) or 0.0, [], tf.float32)
            return y + tf.reshape(slept, [])

        return tf.function(call)

    return prepare


def model(
    prepare: Callable[[Any], Any],
    monkeypatch: pytest.MonkeyPatch,
    reference: Callable[[Any], Any] = lambda x: x,
    magnitude: float | None = None,
) -> Model:
    """With a recipe that leaves the images as they are, unless another is given."""
    recipe = replace(registry.recipes["tf"], reference=reference, magnitude=magnitude)
    monkeypatch.setitem(registry.recipes, "tf", recipe)
    variant = replace(registry.variants["tf", "tf-graph"], prepare=prepare)
    monkeypatch.setitem(registry.variants, ("tf", "tf-graph"), variant)
    return ModelJob("tf", "tf-graph", CPU, 1, (2, 64, 64, 3), "uint8", "float32").start()


@needs_tensorflow
@pytest.mark.slow
def test_a_known_time_inside_a_model_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import copycost.variants.tensorflow  # noqa: F401

    slow = model(sleeps(0.02), monkeypatch)
    found = paired([slow.sample() for _ in range(3)])
    assert found.value > 0.01  # another process may have had the CPU while the layer alone was timed
    quick = paired([model(sleeps(0), monkeypatch).sample() for _ in range(3)])
    assert quick.value < found.value / 2


@needs_tensorflow
def test_what_gives_another_result_inside_a_model_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    import copycost.variants.tensorflow  # noqa: F401

    def forgets(example: Any) -> Any:
        return lambda x: tf.cast(x, tf.float32) * (1.0 if tf.executing_eagerly() else 1.1)

    with pytest.raises(RuntimeUnavailable, match="another"):
        model(forgets, monkeypatch)
    with pytest.raises(RuntimeUnavailable, match="its result is wrong: off by up to"):
        model(sleeps(0), monkeypatch, lambda x: x + 1)
    assert model(sleeps(0), monkeypatch, lambda x: x + 1, magnitude=1e8)  # whose rounding is larger than that
    with pytest.raises(RuntimeUnavailable, match="no images"):
        model(lambda example: lambda x: tf.cast(x, tf.int32), monkeypatch)


# The command.


ARGUMENTS = ("place", "tf", "--batch", 1, "--batch", 4, "--size", "64x64", "--dtype", "uint8", "--budget", 4)


@pytest.mark.slow
@pytest.mark.skipif(devices.gpus()[1] is None, reason="there is a device")
def test_without_a_device_the_cpu_and_the_model_are_compared(command: Command, tmp_path: Path) -> None:
    done = command(*ARGUMENTS, "--variant", "numpy-*", "--json", "out.json", "--picture", "out.svg")
    assert done.returncode == 0, done.stdout + done.stderr
    document = read_json((tmp_path / "out.json").read_text())
    assert document["model_on"] == "cpu"
    by_place = {(route["place"], route["inputs"]["batch"]): route for route in document["routes"]}
    for batch in (1, 4):
        assert by_place["cpu", batch]["seconds"]["low"] > 0
        assert by_place["gpu", batch]["reason"] == devices.gpus()[1]
        inside = by_place["model", batch]
        assert (inside["seconds"] is not None) == bool(importlib.util.find_spec("tensorflow"))
    assert str(devices.gpus()[1]) in done.stdout
    assert "<svg" in (tmp_path / "out.svg").read_text()
    assert command(*ARGUMENTS, "--device", "gpu").returncode == 2


@pytest.mark.slow
def test_routes_over_a_device(command: Command, tmp_path: Path, installed: dict[str, str]) -> None:
    done = command(*ARGUMENTS, "--variant", "numpy-*", "--variant", "fake-*", "--json", "out.json", env=installed)
    assert done.returncode == 0, done.stdout + done.stderr
    document = read_json((tmp_path / "out.json").read_text())
    assert document["model_on"] == "gpu"
    seconds = {Memory.PINNED: fakegpu.PINNED, Memory.PAGEABLE: fakegpu.PAGEABLE}
    for route in document["routes"]:
        images = 64 * 64 * 3 * route["inputs"]["batch"]
        assert route["moved_bytes"] == (4 * images if route["place"] == "cpu" else images)
        if route["place"] == "model":
            assert "GPU" in route["reason"] or "not installed" in route["reason"]
            continue
        assert route["reason"] is None
        known = seconds[route["memory"]] * route["moved_bytes"] / MIB
        assert known <= route["transfer"]["value"]  # more, if other processes keep the host from seeing the end
        assert route["seconds"]["value"] == pytest.approx(route["compute"]["value"] + route["transfer"]["value"])
        if route["place"] == "gpu":
            assert route["variant"].startswith("fake-")
            assert route["compute"]["value"] >= fakegpu.KERNEL
    assert [(even["memory"], even["largest"]) for even in document["break_even"]] == [("pageable", 4), ("pinned", 4)]
    assert done.stdout.count("Preprocessing on the GPU is") == 2
    alone = command(*ARGUMENTS, "--variant", "fake-transfers", env=installed)
    assert alone.returncode == 2
    assert "every selected variant takes and returns host arrays" in alone.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["place", "tff"], "tf"),
        (["place", "tf", "--picture", "out.txt"], ".svg"),
        (["place", "tf", "--device", "gpu*"], "expected cpu, gpu"),
        (["place", "tf", "--batch", 0], "batch"),
    ],
)
def test_what_is_wrong_is_said_before_work_begins(arguments: list[object], message: str, command: Command) -> None:
    done = command(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


@needs_tensorflow
@pytest.mark.slow
def test_what_is_measured_before_an_interrupt_is_kept() -> None:
    """Once the cases are, and the model is to come."""

    def on_step(step: str) -> None:
        if step.startswith("model"):
            raise KeyboardInterrupt

    known = find_definitions()
    chosen = select(
        recipes=["tf"], variants=["numpy-new"], devices=["cpu"], batches=[1], sizes=[(32, 48)], dtypes=["uint8"]
    )
    plan = Plan(1, 2, 1.0, None, "no device")
    found = measure(chosen, known.variants["tf", "tf-graph"], plan, images.read(), CPU, "no device", on_step)
    assert found.interrupted
    reasons = {route.place: route.reason for route in routes(found)}
    assert reasons == {Place.CPU: None, Place.GPU: "no device", Place.MODEL: "interrupted"}
    none_selected = replace(found, model_on=GPU, no_gpu=None, interrupted=False)
    reasons = {route.place: route.reason for route in routes(none_selected)}
    assert reasons[Place.GPU] == "no variant was selected"


@needs_tensorflow
@pytest.mark.slow
def test_a_users_recipe_is_measured_inside_a_model(command: Command, tmp_path: Path) -> None:
    """Its names may have characters that other programs take for theirs."""
    (tmp_path / "mine.py").write_text(
        "from copycost import recipe, variant\n"
        "@recipe('mine')\ndef mine(x): return x / 2\n"
        "@variant(recipe='mine', runtime='tensorflow', writes='new', name='tf-graph')\n"
        "def graph(example):\n    import tensorflow as tf\n"
        "    return tf.function(lambda x: tf.cast(x, tf.float32) / 2)\n"
    )
    done = command("place", "mine", "--with", "mine.py", *ARGUMENTS[4:], "--json", "out.json", "--picture", "out.png")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {route["place"]: route for route in read_json((tmp_path / "out.json").read_text())["routes"]}
    assert found["model"]["reason"] is None
    assert found["cpu"]["variant"] == "tf-graph"
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
