"""Make batches of real pixels, from one photograph or a folder of them, in the shape and dtype of a case."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from copycost.model.vocabulary import Layout

#: Photograph that ships with copycost: Rear Admiral Grace Hopper, James S. Davis for the US Navy, 1984; public domain.
PHOTOGRAPH = Path(__file__).with_name("photograph.jpg")

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm"}

#: Factor by which a crop is smaller than the largest one that fits into the photograph, so that crops differ.
_MARGIN = 1.25

#: Number of pairs of elements that a twin swaps, and number of elements that they are chosen from.
_SWAPS, _CANDIDATES = 4, 256


class ImageError(Exception):
    """Raised for an image that does not exist or cannot be read. The message is one line."""


@dataclass(frozen=True)
class Photographs:
    """Decoded photographs, with a name and the SHA-256 of all their pixels to identify them in a run."""

    name: str
    sha256: str
    images: tuple[Image.Image, ...]


def read(path: Path | None = None) -> Photographs:
    """Decode an image file, every image of a folder, or the photograph that ships with copycost.

    Raises
    ------
    ImageError
    """
    path = path or PHOTOGRAPH
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.suffix.lower() in _SUFFIXES)
        if not files:
            raise ImageError(f"no image in the folder {path}")
    else:
        files = [path]
    images = tuple(_decode(file) for file in files)
    digest = hashlib.sha256()
    for image in images:
        digest.update(image.tobytes())
    return Photographs(path.name, digest.hexdigest(), images)


def batch(
    photographs: Photographs, shape: tuple[int | None, int, int], dtype: str, layout: Layout, seed: int
) -> np.ndarray:
    """Return random crops, some of them mirrored, as one contiguous array with values 0 to 255.

    Floats are not whole numbers, like the pixels of a resized photograph. Each float blends two crops with weights in
    quarters, which float16 represents exactly.

    Parameters
    ----------
    photographs : Photographs
    shape : (batch or None, height, width)
        A batch of None means one image without a batch axis.
    dtype : {"uint8", "float16", "float32", "float64"}
    layout : Layout
    seed : int

    Returns
    -------
    ndarray, shape (batch, height, width, 3) or (batch, 3, height, width)
    """
    number, height, width = shape
    random = np.random.default_rng(seed)
    pixels = np.empty((number or 1, height, width, 3), dtype)
    for i in range(len(pixels)):
        image = photographs.images[(i + seed) % len(photographs.images)]
        crop = _crop(image, height, width, random)
        if pixels.dtype.kind == "f":
            second_crop = _crop(image, height, width, random)
            pixels[i] = crop.astype(np.float32) * 0.75 + second_crop.astype(np.float32) * 0.25
        else:
            pixels[i] = crop
    if layout == Layout.CHANNELS_FIRST:
        pixels = np.moveaxis(pixels, -1, 1)
    return np.ascontiguousarray(pixels if number is not None else pixels[0])


def twin(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return a copy with a few pairs of elements swapped, and their indices: see `swap`."""
    copy = array.copy()
    return copy, swap(copy)


def swap(array: np.ndarray) -> np.ndarray:
    """Swap a few random pairs of elements in place.

    The array keeps its values, but in other places. So no sum, extreme or sample of a few elements can distinguish the
    array from what it was.

    Returns
    -------
    ndarray of intp
        Indices of the swapped elements in the flattened array, which is contiguous. Empty if all candidates, which are
        drawn at random, are equal.
    """
    random = np.random.default_rng()  # unseeded, so that the measured code cannot predict the swaps
    flat = array.reshape(-1)
    candidates = random.choice(flat.size, min(_CANDIDATES, flat.size), replace=False)
    half = len(candidates) // 2
    left, right = candidates[:half], candidates[half : 2 * half]
    distance = np.abs(flat[left].astype(np.float64) - flat[right])
    pairs = np.argsort(distance)[::-1][:_SWAPS]
    pairs = pairs[distance[pairs] > 0]
    left, right = left[pairs], right[pairs]
    flat[left], flat[right] = flat[right], flat[left]
    return np.concatenate([left, right])


def _decode(path: Path) -> Image.Image:
    if path.exists() and not path.is_file():  # reading a pipe may block, and reading a device may never end
        raise ImageError(f"{path} is not an image: expected a regular file")
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
            if image.mode in ("I", "F"):
                raise ImageError(
                    f"{path} has pixels of mode {image.mode}, whose range is unknown: save it with 8 bits per channel"
                )
            return image.convert("RGB")
    except FileNotFoundError:
        raise ImageError(f"image not found: {path}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image that Pillow can read") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read: {error}") from None


def _crop(image: Image.Image, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """Return a random part of the photograph with the right aspect, scaled to the size; half of the crops are mirrored.

    The crop is cut out before it is scaled. So it takes no more memory than the result, however long and thin it is.
    """
    scale = min(image.height / height, image.width / width) / _MARGIN
    crop_height, crop_width = height * scale, width * scale
    top, left = random.uniform(0, image.height - crop_height), random.uniform(0, image.width - crop_width)
    box = (left, top, left + crop_width, top + crop_height)
    crop = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return crop[:, ::-1] if random.integers(2) else crop
