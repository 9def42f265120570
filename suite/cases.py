"""Which cases there are: profiles, their expansion, and why a case does not apply here."""

from __future__ import annotations

import fnmatch
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from suite import registry
from suite.recipes import result_dtype
from suite.registry import DEVICES, DTYPES, Recipe, Variant

LAYOUTS = ("channels_last", "channels_first")
CHANNELS = 3

#: Pixels along an image's side, and images in a batch, at most.
_LARGEST_SIDE = 32_768
_LARGEST_BATCH = 65_536

#: A child holds three pristine inputs and the one of the call, the result, its buffer and what poisons it (twice),
#: three results that were right, a snapshot, and the intermediates of a plain way of computing: in arrays of the
#: larger of input and result. Measured with TensorFlow: 13.
_ARRAYS_PER_CHILD = 16

#: What a process with TensorFlow in it takes before it has any array, in bytes.
_CHILD_BYTES = 400 * 2**20


class CaseError(Exception):
    """A selection that names nothing, or an axis given an absurd value; the message is one line."""


@dataclass(frozen=True)
class Axes:
    """The values that each axis of a case takes.

    Attributes
    ----------
    recipes : tuple of str
        Globs.
    batches : tuple of int or None
    sizes : tuple of (height, width)
    dtypes, layouts : tuple of str
    """

    recipes: tuple[str, ...]
    batches: tuple[int | None, ...]
    sizes: tuple[tuple[int, int], ...]
    dtypes: tuple[str, ...]
    layouts: tuple[str, ...]


@dataclass(frozen=True)
class Profile:
    """A named choice of axes, blocks a case is given, and seconds of timing for the whole run."""

    axes: Axes
    blocks: int
    budget: float


PROFILES = {
    "quick": Profile(
        Axes(("caffe", "tf", "torch"), (1, 32), ((224, 224),), ("uint8", "float32"), ("channels_last",)),
        blocks=5,
        budget=45,
    ),
    "standard": Profile(
        Axes(("*",), (1, 8, 32, 128), ((224, 224),), ("uint8", "float32"), ("channels_last",)),
        blocks=7,
        budget=600,
    ),
    "full": Profile(
        Axes(("*",), (1, 8, 32, 128), ((224, 224), (512, 512)), DTYPES, LAYOUTS),
        blocks=7,
        budget=7200,
    ),
}


@dataclass(frozen=True)
class Case:
    """Recipe × variant × batch × height × width × dtype × layout × device.

    ``batch`` is None for one image without a batch axis. ``source`` and ``known`` are the variant's.
    """

    recipe: str
    variant: str
    runtime: str
    writes: str
    device: str
    dtype: str
    layout: str
    batch: int | None
    height: int
    width: int
    source: str
    accepts: tuple[str, ...] = DTYPES
    known: str | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells a case from every other of a run."""
        return (*self.group, self.variant)

    @property
    def group(self) -> tuple[Any, ...]:
        """What cases have in common that are timed together."""
        return (
            self.recipe, self.device, self.dtype, self.layout, self.batch, self.height, self.width,
        )  # fmt: skip

    @property
    def elements(self) -> int:
        """Numbers in the input."""
        return (self.batch or 1) * self.height * self.width * CHANNELS

    def label(self) -> str:
        """The case in a few words."""
        number = "" if self.batch is None else f"{self.batch}×"
        layout = "" if self.layout == "channels_last" else f" {self.layout}"
        return (
            f"{self.recipe} {self.variant} {number}{self.height}×{self.width}×{CHANNELS}"
            f" {self.dtype}{layout} {self.device}"
        )


def expand(
    axes: Axes,
    variants: Iterable[Variant],
    recipes: Mapping[str, Recipe],
    *,
    only_recipes: Sequence[str] = (),
    only_variants: Sequence[str] = (),
    only_devices: Sequence[str] = (),
) -> list[Case]:
    """Every case of `axes`, those that are timed together side by side.

    The ``only_…`` are globs; ``only_recipes`` takes the place of the recipes of `axes`.

    Raises
    ------
    CaseError
        For a glob that matches nothing, or a value that no image has.
    """
    variants = list(variants)
    check_axes(axes)
    recipe_names = _matching("recipe", only_recipes or axes.recipes, list(recipes))
    names = _matching("variant", only_variants, list(dict.fromkeys(v.name for v in variants)))
    device_names = _matching("device", only_devices, list(DEVICES))
    cases = []
    for recipe in recipe_names:
        for layout in axes.layouts:
            for height, width in axes.sizes:
                for batch in axes.batches:
                    for dtype in axes.dtypes:
                        for device in device_names:
                            cases += [
                                Case(
                                    recipe, v.name, v.runtime, v.writes, device, dtype, layout, batch, height, width,
                                    v.source, v.accepts, v.known.get(dtype),
                                )
                                for v in variants
                                if v.recipe == recipe
                                and v.name in names
                                and device in (v.devices or registry.runtime(v.runtime).devices)
                            ]  # fmt: skip
    if not cases:
        raise CaseError("no variant that was chosen computes a recipe that was chosen on a device that was chosen")
    return cases


def check_axes(axes: Axes) -> None:
    """Raise CaseError for a value that no batch of images has."""
    for batch in axes.batches:
        if batch is not None and not 1 <= batch <= _LARGEST_BATCH:
            raise CaseError(f"a batch of {batch}: 1 to {_LARGEST_BATCH:,} images can be measured")
    for height, width in axes.sizes:
        for side in (height, width):
            if not 1 <= side <= _LARGEST_SIDE:
                raise CaseError(f"a size of {height}x{width}: a side is 1 to {_LARGEST_SIDE:,} pixels")
        if "channels_first" in axes.layouts and width == CHANNELS:
            raise CaseError(
                f"a width of {CHANNELS} in channels_first cannot be told from {CHANNELS} channels that come last"
            )


def skip_reason(case: Case, no_gpu: str | None, free_bytes: int) -> str | None:
    """Why a case does not apply on this machine, or None.

    Parameters
    ----------
    case : Case
    no_gpu : str or None
        Why there is no CUDA device.
    free_bytes : int
        Memory that can be had.
    """
    if case.dtype not in case.accepts:
        return f"it is for {', '.join(case.accepts)} only"
    result = str(result_dtype(case.dtype))
    if case.writes == "input" and result != case.dtype:
        return f"a {result} result does not fit over a {case.dtype} input"
    if case.device == "gpu" and no_gpu:
        return no_gpu
    runtime = registry.runtime(case.runtime)
    for package in runtime.packages:
        root = package.partition(".")[0]
        if importlib.util.find_spec(root) is None:
            return f"{root} is not installed: {runtime.install}"
    needed = needed_bytes(case)
    if needed > free_bytes:
        return f"needs about {_gib(needed)}, and {_gib(free_bytes)} of memory is free"
    return None


def shared_bytes(case: Case) -> int:
    """What the three inputs of a case and their float64 references take, shared by its whole group."""
    return 3 * case.elements * (_itemsize(case.dtype) + 8)


def child_bytes(case: Case) -> int:
    """What one process takes that measures the case, roughly and rather too much."""
    largest = max(_itemsize(case.dtype), result_dtype(case.dtype).itemsize)
    return _CHILD_BYTES + _ARRAYS_PER_CHILD * case.elements * largest


def needed_bytes(case: Case) -> int:
    """What measuring the case alone takes."""
    return shared_bytes(case) + child_bytes(case)


def as_row(case: Case) -> dict[str, Any]:
    """The case's part of a measurement."""
    row = asdict(case)
    del row["source"], row["accepts"]
    return row | {"channels": CHANNELS}


def _itemsize(dtype: str) -> int:
    return {"uint8": 1, "float16": 2, "float32": 4, "float64": 8}[dtype]


def _matching(what: str, globs: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that any of the globs matches, in their own order; all where there is no glob."""
    if not globs:
        return list(names)
    for glob in globs:
        if not fnmatch.filter(names, glob):
            near = registry.nearest(glob, names)
            raise CaseError(f"unknown {what} '{glob}'; did you mean {near}?")
    return [name for name in names if any(fnmatch.fnmatchcase(name, glob) for glob in globs)]


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
