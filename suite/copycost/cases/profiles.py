"""Define the profiles: named choices of cases, blocks and time."""

from __future__ import annotations

from dataclasses import dataclass

from copycost.model.vocabulary import DTYPES, Layout


@dataclass(frozen=True)
class Axes:
    """Values of each axis of the cases.

    Attributes
    ----------
    recipes : tuple of str
        Globs of recipe names.
    batches : tuple of int or None
    sizes : tuple of (height, width)
    dtypes : tuple of str
    layouts : tuple of Layout
    """

    recipes: tuple[str, ...]
    batches: tuple[int | None, ...]
    sizes: tuple[tuple[int, int], ...]
    dtypes: tuple[str, ...]
    layouts: tuple[Layout, ...]


#: Variants that the fastest one is compared with: what most people write, and what Keras' documentation recommends.
BASELINES = ("numpy-new", "keras-numpy")


@dataclass(frozen=True)
class Profile:
    """A named choice of axes, maximum number of blocks of a case, and seconds of timing for the whole run."""

    axes: Axes
    blocks: int
    budget: float


PROFILES = {
    "quick": Profile(
        Axes(("caffe", "tf", "torch"), (1, 32), ((224, 224),), ("uint8", "float32"), (Layout.CHANNELS_LAST,)),
        blocks=9,
        budget=60,
    ),
    "standard": Profile(
        Axes(("*",), (1, 8, 32, 128), ((224, 224),), ("uint8", "float32"), (Layout.CHANNELS_LAST,)),
        blocks=15,
        budget=480,
    ),
    "full": Profile(
        Axes(("*",), (1, 8, 32, 128), ((224, 224), (512, 512)), DTYPES, tuple(Layout)),
        blocks=15,
        budget=7200,
    ),
}
