"""Real pixels, in the shape, dtype and layout that were asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from copycost.cases import images


@pytest.mark.parametrize("dtype", ["uint8", "float16", "float32", "float64"])
@pytest.mark.parametrize(("layout", "shape"), [("channels_last", (5, 40, 50, 3)), ("channels_first", (5, 3, 40, 50))])
def test_batches(dtype: str, layout: str, shape: tuple[int, ...]) -> None:
    batch = images.batch(images.read(), (5, 40, 50), dtype, layout, 0)
    assert (batch.shape, batch.dtype) == (shape, dtype)
    assert batch.flags.c_contiguous
    assert 0 <= batch.min() < 60
    assert 200 < batch.max() <= 255
    assert not np.array_equal(batch[0], batch[1])


def test_floats_are_not_whole_and_float16_holds_them_exactly() -> None:
    half, double = (images.batch(images.read(), (2, 30, 30), d, "channels_last", 3) for d in ("float16", "float64"))
    assert np.array_equal(half.astype(np.float64), double)
    assert (double % 1 != 0).mean() > 0.3


def test_seeds_differ_and_repeat() -> None:
    one, again, other = (images.batch(images.read(), (1, 9, 9), "uint8", "channels_last", s) for s in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_one_image_has_no_batch_axis() -> None:
    assert images.batch(images.read(), (None, 20, 30), "uint8", "channels_first", 0).shape == (3, 20, 30)


def test_a_photograph_smaller_than_asked_for_is_scaled_up(tmp_path: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(tmp_path / "small.png")
    batch = images.batch(images.read(tmp_path / "small.png"), (1, 300, 200), "uint8", "channels_last", 0)
    assert batch.shape == (1, 300, 200, 3)


def test_a_folder_of_images_of_every_mode(tmp_path: Path) -> None:
    for i, mode in enumerate(("RGB", "L", "RGBA", "P", "CMYK")):
        Image.new("RGB", (20, 20), (i * 50, 0, 0)).convert(mode).save(tmp_path / f"{i}.{'tif' if i == 4 else 'png'}")
    (tmp_path / "notes.txt").write_text("not an image, and not taken for one")
    found = images.read(tmp_path)
    assert (len(found.images), {i.mode for i in found.images}) == (5, {"RGB"})
    assert found.name == tmp_path.name


def test_a_truncated_image_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cut.jpg").write_bytes(images.PHOTOGRAPH.read_bytes()[:20_000])
    with pytest.raises(images.ImageError, match=r"cut\.jpg cannot be read") as caught:
        images.read(tmp_path / "cut.jpg")
    assert "\n" not in str(caught.value)


def test_sixteen_bits_become_eight_and_an_unknown_range_is_refused(tmp_path: Path) -> None:
    sixteen = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    Image.fromarray(sixteen).save(tmp_path / "sixteen.png")
    (image,) = images.read(tmp_path / "sixteen.png").images
    assert np.asarray(image)[..., 0].tolist() == (sixteen // 257).tolist()
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(images.ImageError, match="mode F"):
        images.read(tmp_path / "float.tif")


def test_a_long_thin_photograph_takes_no_more_memory_than_its_crops(tmp_path: Path) -> None:
    Image.new("RGB", (20_000, 1), (9, 9, 9)).save(tmp_path / "thin.png")
    tracemalloc.start()
    batch = images.batch(images.read(tmp_path / "thin.png"), (2, 100, 100), "uint8", "channels_last", 0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert batch.min() == batch.max() == 9
    assert peak < 20 * batch.nbytes
