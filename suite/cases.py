"""Which cases there are: profiles, their expansion, and why a case does not apply here."""

from __future__ import annotations

import fnmatch
import glob
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from suite import registry
from suite.recipes import result_dtype
from suite.registry import DEVICES, DTYPES, LAYOUTS, Recipe, Variant

CHANNELS = 3

#: Inputs that a case is measured on: a batch, its twin (see `suite.images.twin`), and another batch.
INPUTS = 3

#: Of each element of a reference: its value, and how far a result may be off.
_REFERENCE_BYTES = 8 + 8

#: Pixels along an image's side, and images in a batch, at most.
_LARGEST_SIDE = 32_768
_LARGEST_BATCH = 65_536

#: A child holds three pristine inputs and the one of the call, the result, its buffer and what poisons it (twice),
#: three results that were right, a snapshot, and the intermediates of a plain way of computing: in arrays of the
#: larger of input and result. Measured with TensorFlow: 13.
_ARRAYS_PER_CHILD = 16

#: What a process with TensorFlow in it takes before it has any array, in bytes.
_CHILD_BYTES = 400 * 2**20

#: What it takes of a device before that: a CUDA context, and what is written to flush the cache.
_CONTEXT_BYTES = 800 * 2**20


class CaseError(ValueError):
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
    """A named choice of axes, blocks a case is given at most, and seconds of timing for the whole run."""

    axes: Axes
    blocks: int
    budget: float


PROFILES = {
    "quick": Profile(
        Axes(("caffe", "tf", "torch"), (1, 32), ((224, 224),), ("uint8", "float32"), ("channels_last",)),
        blocks=9,
        budget=45,
    ),
    "standard": Profile(
        Axes(("*",), (1, 8, 32, 128), ((224, 224),), ("uint8", "float32"), ("channels_last",)),
        blocks=15,
        budget=480,
    ),
    "full": Profile(
        Axes(("*",), (1, 8, 32, 128), ((224, 224), (512, 512)), DTYPES, LAYOUTS),
        blocks=15,
        budget=7200,
    ),
}


@dataclass(frozen=True)
class Case:
    """Recipe × variant × batch × height × width × dtype × layout × device.

    ``batch`` is None for one image without a batch axis.
    """

    recipe: Recipe
    variant: Variant
    device: str
    dtype: str
    layout: str
    batch: int | None
    height: int
    width: int

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells a case from every other of a run."""
        return (*self.group, self.variant.name)

    @property
    def group(self) -> tuple[Any, ...]:
        """What cases have in common that are timed together."""
        return (
            self.recipe.name, self.device, self.dtype, self.layout, self.batch, self.height, self.width,
        )  # fmt: skip

    @property
    def shape(self) -> tuple[int, ...]:
        """Of each input."""
        image = (self.height, self.width, CHANNELS)
        if self.layout == "channels_first":
            image = (CHANNELS, self.height, self.width)
        return image if self.batch is None else (self.batch, *image)

    @property
    def elements(self) -> int:
        """Numbers in all inputs."""
        return self.recipe.inputs * (self.batch or 1) * self.height * self.width * CHANNELS

    @property
    def nbytes(self) -> int:
        """Bytes of all inputs."""
        return self.elements * np.dtype(self.dtype).itemsize

    @property
    def result_dtype(self) -> np.dtype:
        """What the result's dtype must be, where the reference does not return integers or booleans."""
        return np.dtype(self.recipe.dtype) if self.recipe.dtype else result_dtype(self.dtype)

    @property
    def computed_dtype(self) -> np.dtype:
        """The float dtype that the recipe is computed in."""
        return self.result_dtype if self.result_dtype.kind == "f" else result_dtype(self.dtype)

    def label(self) -> str:
        """The case in a few words."""
        number = "" if self.batch is None else f"{self.batch}×"
        layout = "" if self.layout == "channels_last" else f" {self.layout}"
        return (
            f"{self.recipe.name} {self.variant.name} {number}{self.height}×{self.width}×{CHANNELS}"
            f" {self.dtype}{layout} {self.device}"
        )


def select(
    profile: str = "quick",
    *,
    recipes: Sequence[str] = (),
    variants: Sequence[str] = (),
    devices: Sequence[str] = (),
    batches: int | Sequence[int | None] = (),
    sizes: Sequence[tuple[int, int]] = (),
    dtypes: Sequence[Any] = (),
    layouts: Sequence[str] = (),
    files: Sequence[str | os.PathLike[str]] = (),
) -> list[Case]:
    """The cases of a profile, each axis that is named in place of the profile's.

    Parameters
    ----------
    profile : {"quick", "standard", "full"}
    recipes, variants, devices : sequence of str
        Names or globs.
    batches : int, or sequence of int or None
        None: one image without a batch axis.
    sizes : sequence of (height, width)
    dtypes : sequence of str or dtype
    layouts : sequence of str
    files : sequence of path
        Python files with variants and recipes of your own; the profile's recipes are then joined by theirs.

    Raises
    ------
    CaseError
        For a name or a glob that matches nothing, or a value that no image has.
    RegistrationError
        For a file that does not import, or that defines what is there already.
    """
    recipes, variants, devices = map(registry.words, (recipes, variants, devices))
    axes = axes_of(profile, batches=batches, sizes=sizes, dtypes=dtypes, layouts=layouts)
    known = known_with(files)
    # A user's own recipes are what the user came for.
    own = tuple(glob.escape(name) for name, recipe in known.recipes.items() if not registry.ships(recipe.source))
    return expand(
        replace(axes, recipes=axes.recipes + own),
        known.variants.values(),
        known.recipes,
        only_recipes=recipes,
        only_variants=variants,
        only_devices=devices,
    )


@dataclass(frozen=True)
class Known:
    """Every recipe and variant that there is, by name."""

    recipes: dict[str, Recipe]
    variants: dict[tuple[str, str], Variant]


def known_with(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()) -> Known:
    """Return what ships, what installed packages define and what files define.

    Packages and files are imported in processes of their own, never in this one.

    Parameters
    ----------
    files : path, or sequence of path
        Python files with variants and recipes of your own.

    Raises
    ------
    RegistrationError
        For a file that does not import, or that defines what is there already.
    """
    registry.load_shipped()
    entries: list[Recipe | Variant] = [*registry.recipes.values(), *registry.variants.values()]
    for entry in entries:
        if entry.source == "__main__":
            raise registry.RegistrationError(
                f"'{entry.name}' is defined in the program that runs, where no measuring process finds it: "
                "put it into a file of its own, and name that in files"
            )
    paths = [os.fspath(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    for file in paths:
        if not file.endswith(".py"):
            raise registry.RegistrationError(f"{file} is not a .py file")
        if not os.path.isfile(file):
            raise registry.RegistrationError(f"no file {file}")
    known = Known(
        {name: recipe for name, recipe in registry.recipes.items() if registry.ships(recipe.source)},
        {key: variant for key, variant in registry.variants.items() if registry.ships(variant.source)},
    )
    for module in registry.plugins():
        try:
            known = _joined(known, {module: registry.describe(module)})
        except registry.RegistrationError as error:
            # Somebody else's package is no reason not to measure.
            warnings.warn(f"an installed package's variants are left out: {error}", stacklevel=3)
    return _joined(known, {file: registry.describe(str(Path(file).absolute())) for file in paths})


def axes_of(
    profile: str,
    *,
    batches: int | Sequence[int | None] = (),
    sizes: Sequence[tuple[int, int]] = (),
    dtypes: Sequence[Any] = (),
    layouts: Sequence[str] = (),
) -> Axes:
    """The axes of a profile, each that is named in place of the profile's.

    Raises
    ------
    RegistrationError
        For a name that there is not.
    """
    dtypes, layouts = map(registry.words, (dtypes, layouts))
    dtypes = [np.dtype(one).name if isinstance(one, type | np.dtype) else one for one in dtypes]
    batches = (batches,) if isinstance(batches, int) else batches
    registry.check_name("profile", profile, PROFILES)
    for what, given, allowed in (("dtype", dtypes, DTYPES), ("layout", layouts, LAYOUTS)):
        for name in given:
            registry.check_name(what, name, allowed)
    profiled = PROFILES[profile].axes
    return Axes(
        profiled.recipes,
        tuple(dict.fromkeys(batches)) or profiled.batches,
        tuple(dict.fromkeys(sizes)) or profiled.sizes,
        tuple(dict.fromkeys(dtypes)) or profiled.dtypes,
        tuple(dict.fromkeys(layouts)) or profiled.layouts,
    )


def defined_by(described: Mapping[str, tuple[list[Recipe], list[Variant]]], axes: Axes) -> list[Case]:
    """The cases of what files define, with every recipe that they compute, and of nothing that ships.

    Raises
    ------
    RegistrationError
        Where a file defines what there is already, or computes what there is not.
    """
    registry.load_shipped()
    shipped = {name: recipe for name, recipe in registry.recipes.items() if registry.ships(recipe.source)}
    known = _joined(Known(shipped, {}), described)
    if not known.variants:
        return []
    computed = dict.fromkeys(recipe for recipe, _ in known.variants)
    return expand(replace(axes, recipes=tuple(map(glob.escape, computed))), known.variants.values(), known.recipes)


def matching(
    cases: Sequence[Case], *, recipes: Sequence[str] = (), variants: Sequence[str] = (), devices: Sequence[str] = ()
) -> list[Case]:
    """The cases whose names match, each kind of name any of its globs; a kind without globs matches all.

    Raises
    ------
    CaseError
        For a glob that matches nothing.
    """
    for what, globs, name in (
        ("recipe", recipes, lambda case: case.recipe.name),
        ("variant", variants, lambda case: case.variant.name),
        ("device", devices, lambda case: case.device),
    ):
        names = chosen_names(what, globs, list(dict.fromkeys(map(name, cases))))
        cases = [case for case in cases if name(case) in names]
    return list(cases)


def _joined(known: Known, described: Mapping[str, tuple[list[Recipe], list[Variant]]]) -> Known:
    """What is known, and what files or modules define beside it; or RegistrationError."""
    recipes, variants = dict(known.recipes), dict(known.variants)
    for source, (more, _) in described.items():
        for recipe in more:
            if recipe.name in recipes:
                raise registry.RegistrationError(f"{source}: recipe '{recipe.name}' is defined twice")
            recipes[recipe.name] = recipe
    for source, (_, found) in described.items():
        for variant in found:
            if (variant.recipe, variant.name) in variants:
                raise registry.RegistrationError(
                    f"{source}: variant '{variant.name}' of recipe '{variant.recipe}' is defined twice"
                )
            try:
                registry.check_name("recipe", variant.recipe, recipes)
                registry.check_name("runtime", variant.runtime, registry.runtimes())
            except registry.RegistrationError as error:
                raise registry.RegistrationError(f"{source}: variant '{variant.name}': {error}") from None
            variants[variant.recipe, variant.name] = variant
    return Known(recipes, variants)


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
    recipe_names = chosen_names("recipe", only_recipes or axes.recipes, list(recipes))
    names = chosen_names("variant", only_variants, list(dict.fromkeys(v.name for v in variants)))
    device_names = chosen_names("device", only_devices, list(DEVICES))
    cases = []
    for recipe in recipe_names:
        for layout in axes.layouts:
            for height, width in axes.sizes:
                for batch in axes.batches:
                    for dtype in axes.dtypes:
                        for device in device_names:
                            cases += [
                                Case(recipes[recipe], v, device, dtype, layout, batch, height, width)
                                for v in variants
                                if v.recipe == recipe
                                and v.name in names
                                and device in (v.devices or registry.runtime(v.runtime).devices)
                            ]
    if not cases:
        raise CaseError("no variant that was chosen computes a recipe that was chosen on a device that was chosen")
    return cases


def check_axes(axes: Axes) -> None:
    """Raise CaseError for a value that no batch of images has."""
    for batch in axes.batches:
        if batch is not None and not isinstance(batch, int):
            raise CaseError(
                f"a batch of {batch!r}: it is a whole number of images, or None for one without a batch axis"
            )
        if batch is not None and not 1 <= batch <= _LARGEST_BATCH:
            raise CaseError(f"a batch of {batch}: 1 to {_LARGEST_BATCH:,} images can be measured")
    for size in axes.sizes:
        if not (isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
            raise CaseError(f"a size of {size!r}: it is a height and a width, as (224, 224)")
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
    variant = case.variant
    # First, so that all cases of a device that is not there have one reason.
    if case.device == "gpu" and no_gpu:
        return no_gpu
    if case.dtype not in variant.accepts:
        return f"it is for {', '.join(variant.accepts)} only"
    if case.layout not in variant.layouts:
        return f"it is for {', '.join(variant.layouts)} only"
    if variant.writes == "input" and case.result_dtype != case.dtype:
        return f"a {case.result_dtype} result does not fit over a {case.dtype} input"
    if lacking := registry.not_installed(registry.runtime(variant.runtime)):
        return lacking
    # As if the result were as large as an input; the session looks again when it knows.
    elements = case.elements // case.recipe.inputs
    return too_large(shared_bytes(case, elements) + child_bytes(case, elements), free_bytes)


def misfit(case: Case, results: Sequence[tuple[tuple[int, ...], np.dtype]]) -> str | None:
    """Why results of these shapes and dtypes cannot be written over the input of the case, or None."""
    if case.variant.writes != "input" or list(results) == [(case.shape, np.dtype(case.dtype))]:
        return None
    said = " and ".join(f"a {'×'.join(map(str, shape))} {dtype} result" for shape, dtype in results)
    return f"{said} does not fit over a {'×'.join(map(str, case.shape))} {case.dtype} input"


def too_large(needed_bytes: int, free_bytes: int, what: str = "of memory") -> str | None:
    """Why there is not enough memory, or None."""
    if needed_bytes <= free_bytes:
        return None
    return f"needs about {_gib(needed_bytes)}, and {_gib(free_bytes)} {what} is free"


def shared_bytes(case: Case, result_elements: int) -> int:
    """What the inputs of a case, their references and bounds take, shared by its whole group."""
    return INPUTS * (case.nbytes + _REFERENCE_BYTES * result_elements)


def child_bytes(case: Case, result_elements: int) -> int:
    """What one process takes that measures the case, roughly and rather too much."""
    return _CHILD_BYTES + _array_bytes(case, result_elements)


def device_bytes(case: Case, result_elements: int) -> int:
    """What that process takes of a device's memory."""
    return _CONTEXT_BYTES + _array_bytes(case, result_elements)


def _array_bytes(case: Case, result_elements: int) -> int:
    return _ARRAYS_PER_CHILD * max(case.nbytes, result_elements * case.result_dtype.itemsize)


def as_row(case: Case) -> dict[str, Any]:
    """The case's part of a measurement."""
    return {
        "recipe": case.recipe.name,
        "variant": case.variant.name,
        "runtime": case.variant.runtime,
        "writes": case.variant.writes,
        "device": case.device,
        "dtype": case.dtype,
        "layout": case.layout,
        "batch": case.batch,
        "height": case.height,
        "width": case.width,
        "channels": CHANNELS,
        "known": case.variant.known.get(case.dtype),
        "includes_transfers": case.variant.includes_transfers,
    }


def chosen_names(what: str, globs: Sequence[str], names: Sequence[str]) -> list[str]:
    """The names that any of the globs matches, in their own order; all where there is no glob.

    Raises
    ------
    CaseError
        For a glob that matches nothing.
    """
    if not globs:
        return list(names)
    for pattern in globs:
        if not fnmatch.filter(names, pattern):
            raise CaseError(registry.unknown(what, pattern, names))
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in globs)]


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
