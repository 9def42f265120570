"""Pipelines: what each way gives is what the file holds, and what is measured is what happened."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from copycost.cases import images
from copycost.machine import devices
from copycost.studies.pipelines import files, ways
from copycost.studies.pipelines.block import Block, Job
from copycost.studies.pipelines.measure import BASELINE, TOLERANCE, Pipeline, measure
from copycost.studies.pipelines.ways import WAYS

#: So many files that the last batch is a smaller one.
NUMBER, BATCH = 11, 4


@pytest.fixture(scope="module")
def measured() -> dict[str, Pipeline]:
    found, interrupted = measure(
        WAYS.values(), images.read(), number=NUMBER, batch=BATCH, blocks=2, threads=devices.cpus()
    )  # fmt: skip
    assert not interrupted
    return {one.name: one for one in found}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    return files.write(tmp_path_factory.mktemp("jpeg"), images.read(), NUMBER)


def test_every_way_is_right(measured: dict[str, Pipeline]) -> None:
    for one in measured.values():
        assert one.status == "ok", (one.name, one.reason)
        assert one.levels is not None
        assert one.levels <= TOLERANCE[one.decoder], one.name


def test_every_way_is_measured_and_compared(measured: dict[str, Pipeline]) -> None:
    for one in measured.values():
        assert [len(block) for block in one.samples] == [2, 2]
        assert one.images_per_second is not None
        assert one.images_per_second_low is not None
        assert one.images_per_second_high is not None
        assert one.images_per_second_low <= one.images_per_second <= one.images_per_second_high
        assert one.seconds_first is not None
        # What a batch becomes has to be somewhere: at least one request of its size.
        assert one.allocations is not None
        assert one.allocations >= 1
        assert one.allocated_bytes is not None
        assert one.allocated_bytes >= NUMBER / 3 * 224 * 224 * 3 * 4, one.name
        assert (one.ratio is None) == (one.name == BASELINE)


def test_files_are_photographs_that_differ(paths: tuple[str, ...]) -> None:
    assert len(set(paths)) == len({Path(path).read_bytes() for path in paths}) == NUMBER
    with Image.open(paths[0]) as image:
        assert (image.size, image.mode, image.format) == ((500, 375), "RGB", "JPEG")


def test_the_reference_against_pillow_and_tensorflow(paths: tuple[str, ...]) -> None:
    """Its three ways of resizing are those of the libraries that they are named for."""
    tf = pytest.importorskip("tensorflow")
    with Image.open(paths[0]) as image:
        pixels = np.asarray(image)
        resized = {
            "nearest": np.asarray(image.resize((224, 224), Image.Resampling.NEAREST), np.float64),
            "antialias": np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR), np.float64),
            "bilinear": tf.image.resize(pixels, (224, 224)).numpy().astype(np.float64),
        }
    for resize, rounded in (("nearest", 0.0), ("antialias", 1.0), ("bilinear", 1e-2)):
        ours = (files.reference(paths[0], resize, "tf") + 1) * 127.5
        assert np.abs(ours - resized[resize]).max() <= rounded + 1e-9, resize
    bgr = files.reference(paths[0], "nearest", "caffe") + np.array([103.939, 116.779, 123.68])
    assert np.abs(bgr[..., ::-1] - resized["nearest"]).max() < 1e-9


def test_the_ways_of_resizing_differ_by_more_than_is_allowed(paths: tuple[str, ...]) -> None:
    """Or a way that resizes otherwise than it says would pass."""
    made = [files.reference(paths[0], resize, "tf") for resize in ("nearest", "bilinear", "antialias")]
    for i, one in enumerate(made):
        for other in made[:i]:
            assert np.abs(one - other).max() * 127.5 > max(TOLERANCE.values())


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda batch: batch[..., ::-1], "off by up to"),
        (lambda batch: batch[:, ::-1], "off by up to"),
        (lambda batch: batch.astype(np.float64), "gave float64"),
        (lambda batch: batch[1:], "gave float32 of shape"),
        (lambda batch: batch * np.float32(np.nan), "is not finite"),
    ],
    ids=["channels", "upside down", "dtype", "one is lacking", "not a number"],
)
def test_what_is_wrong_is_found(spoil: Any, says: str, paths: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    right = WAYS[BASELINE].prepare

    def prepare(files: Any, batch: int) -> Any:
        epoch = right(files, batch)
        return lambda: map(spoil, epoch())

    way = SimpleNamespace(**{**vars(WAYS[BASELINE]), "prepare": prepare})
    monkeypatch.setitem(ways.WAYS, BASELINE, way)
    block = Block(Job(BASELINE, paths, BATCH, 1))
    block.first()
    checked = block.check()
    wrong = checked.reason or f"off by up to {checked.levels}"
    assert wrong.startswith(says)
    if checked.reason is None:
        assert checked.levels is not None
        assert checked.levels > TOLERANCE["Pillow"]


def test_a_batch_that_is_given_again_is_found(paths: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    right = WAYS[BASELINE].prepare

    def prepare(files: Any, batch: int) -> Any:
        def epoch() -> Iterator[Any]:
            first, _, last = right(files, batch)()
            yield from (first, first, last)

        return epoch

    monkeypatch.setitem(ways.WAYS, BASELINE, SimpleNamespace(**{**vars(WAYS[BASELINE]), "prepare": prepare}))
    block = Block(Job(BASELINE, paths, BATCH, 1))
    block.first()
    levels = block.check().levels
    assert levels is not None
    assert levels > TOLERANCE["Pillow"]


def test_an_interrupted_measurement_keeps_its_whole_blocks() -> None:
    said: list[str] = []

    def on_step(step: str) -> None:
        said.append(step)
        if len(said) == 5:  # in the second of two blocks of three steps each
            raise KeyboardInterrupt

    (one,), interrupted = measure(
        [WAYS[BASELINE]], images.read(), number=8, batch=4, blocks=2, threads=1, traced=False, on_step=on_step
    )
    assert interrupted
    assert [len(block) for block in one.samples] == [2]
    assert one.images_per_second is not None
    assert one.images_per_second_low is None


def test_an_epoch_that_ends_early_is_found(paths: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    right = WAYS[BASELINE].prepare

    def prepare(files: Any, batch: int) -> Any:
        def epoch() -> Iterator[Any]:
            batches = right(files, batch)()
            yield next(batches)

        return epoch

    monkeypatch.setitem(ways.WAYS, BASELINE, SimpleNamespace(**{**vars(WAYS[BASELINE]), "prepare": prepare}))
    block = Block(Job(BASELINE, paths, BATCH, 1))
    block.first()
    assert block.check().reason == f"gave {BATCH} images of {NUMBER}"


def test_the_command(command: Command, tmp_path: Path) -> None:
    done = command("pipelines", "tf-map", "--files", 8, "--batch", 4, "--blocks", 2, "--json", "p.json")
    assert done.returncode == 0, done.stderr
    assert "8 JPEG files to 224×224×3 float32, in batches of 4" in done.stdout
    document = json.loads((tmp_path / "p.json").read_text())
    assert {one["name"] for one in document["pipelines"]} == {"loop", "tf-map"}
    assert document["environment"]["image_sha256"]


def test_a_way_that_there_is_not(command: Command) -> None:
    done = command("pipelines", "tf-mapp")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: unknown pipeline 'tf-mapp'; did you mean tf-map")
