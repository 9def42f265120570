"""Real pixels: a photograph, or a folder of them, as batches of the shape and dtype that a case asks for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

#: The photograph that ships: Rear Admiral Grace Hopper, James S. Davis for the US Navy, 1984; public domain.
PHOTOGRAPH = Path(__file__).with_name("photograph.jpg")

_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm"}

#: How much smaller than the photograph a crop is, so that crops differ.
_MARGIN = 1.25

#: Pairs of elements that change places in a twin, and elements that they are chosen from.
_SWAPS, _DRAWN = 4, 256


class ImageError(Exception):
    """An image that is not there or cannot be read; the message is one line."""


@dataclass(frozen=True)
class Photographs:
    """Decoded photographs, and what identifies them in a run: the name and the SHA-256 of all their pixels."""

    name: str
    sha256: str
    images: tuple[Image.Image, ...]


def read(path: Path | None = None) -> Photographs:
    """Decode an image file, every image of a folder, or the photograph that ships.

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
    photographs: Photographs, shape: tuple[int | None, int, int], dtype: str, layout: str, seed: int
) -> np.ndarray:
    """Random crops, some of them mirrored, as one contiguous array with values 0 to 255.

    Floats are not whole numbers, as the pixels of a resized photograph are not: each is a blend of two crops in
    quarters, which float16 holds exactly.

    Parameters
    ----------
    photographs : Photographs
    shape : (batch or None, height, width)
        None: one image, without a batch axis.
    dtype : {"uint8", "float16", "float32", "float64"}
    layout : {"channels_last", "channels_first"}
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
        one = _crop(image, height, width, random)
        if pixels.dtype.kind == "f":
            other = _crop(image, height, width, random)
            pixels[i] = one.astype(np.float32) * 0.75 + other.astype(np.float32) * 0.25
        else:
            pixels[i] = one
    if layout == "channels_first":
        pixels = np.moveaxis(pixels, -1, 1)
    return np.ascontiguousarray(pixels if number is not None else pixels[0])


def twin(array: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A copy in which a few pairs of elements have changed places, and where they are: see `swap`."""
    copy = array.copy()
    return copy, swap(copy)


def swap(array: np.ndarray) -> np.ndarray:
    """Let a few pairs of elements change places, at random.

    The values are the same ones, in other places: no sum, extreme or sample of a few elements tells the array from what
    it was.

    Returns
    -------
    ndarray of intp
        Their indices into the flattened array, which is contiguous. Empty where all elements that were drawn are equal.
    """
    random = np.random.default_rng()  # not to be foreseen by what is measured
    flat = array.reshape(-1)
    drawn = random.choice(flat.size, min(_DRAWN, flat.size), replace=False)
    one, other = drawn[: len(drawn) // 2], drawn[len(drawn) // 2 : 2 * (len(drawn) // 2)]
    apart = np.abs(flat[one].astype(np.float64) - flat[other])
    chosen = np.argsort(apart)[::-1][:_SWAPS]
    chosen = chosen[apart[chosen] > 0]
    one, other = one[chosen], other[chosen]
    flat[one], flat[other] = flat[other], flat[one]
    return np.concatenate([one, other])


def _decode(path: Path) -> Image.Image:
    if path.exists() and not path.is_file():  # a pipe may be waited for, and a device be read for ever
        raise ImageError(f"{path} is not an image: it is no file")
    try:
        with Image.open(path) as image:
            if image.mode.startswith("I;16"):
                return Image.fromarray((np.asarray(image) // 257).astype(np.uint8)).convert("RGB")
            if image.mode in ("I", "F"):
                raise ImageError(
                    f"{path} has pixels of mode {image.mode}, whose range is not known: save it with 8 bits"
                )
            return image.convert("RGB")
    except FileNotFoundError:
        raise ImageError(f"no image {path}") from None
    except UnidentifiedImageError:
        raise ImageError(f"{path} is not an image that Pillow can read") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ImageError(f"{path} cannot be read: {error}") from None


def _crop(image: Image.Image, height: int, width: int, random: np.random.Generator) -> np.ndarray:
    """A random part of the photograph, of the right aspect, scaled to the size; half of them mirrored.

    Cut out before it is scaled: however long and thin, it takes no more memory than the result.
    """
    scale = min(image.height / height, image.width / width) / _MARGIN
    tall, wide = height * scale, width * scale
    top, left = random.uniform(0, image.height - tall), random.uniform(0, image.width - wide)
    box = (left, top, left + wide, top + tall)
    crop = np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
    return crop[:, ::-1] if random.integers(2) else crop
