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

from copycost import registry
from copycost.cases.case import CHANNELS, Case, CaseError
from copycost.cases.profiles import PROFILES, Axes
from copycost.catalog import description, discovery, loading
from copycost.model import naming
from copycost.registry import DEVICES, DTYPES, LAYOUTS, Recipe, Variant

#: Pixels along an image's side, and images in a batch, at most.
_LARGEST_SIDE = 32_768


_LARGEST_BATCH = 65_536


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
    recipes, variants, devices = map(naming.as_tuple, (recipes, variants, devices))
    axes = axes_of(profile, batches=batches, sizes=sizes, dtypes=dtypes, layouts=layouts)
    known = known_with(files)
    # A user's own recipes are what the user came for.
    own = tuple(glob.escape(name) for name, recipe in known.recipes.items() if not loading.is_builtin(recipe.source))
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
    discovery.load_shipped()
    entries: list[Recipe | Variant] = [*registry.recipes.values(), *registry.variants.values()]
    for entry in entries:
        if entry.source == "__main__":
            raise naming.RegistrationError(
                f"'{entry.name}' is defined in the program that runs, where no measuring process finds it: "
                "put it into a file of its own, and name that in files"
            )
    paths = [os.fspath(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    for file in paths:
        if not file.endswith(".py"):
            raise naming.RegistrationError(f"{file} is not a .py file")
        if not os.path.isfile(file):
            raise naming.RegistrationError(f"no file {file}")
    known = Known(
        {name: recipe for name, recipe in registry.recipes.items() if loading.is_builtin(recipe.source)},
        {key: variant for key, variant in registry.variants.items() if loading.is_builtin(variant.source)},
    )
    for module in discovery.plugins():
        try:
            known = _joined(known, {module: description.describe(module)})
        except naming.RegistrationError as error:
            # Somebody else's package is no reason not to measure.
            warnings.warn(f"an installed package's variants are left out: {error}", stacklevel=3)
    return _joined(known, {file: description.describe(str(Path(file).absolute())) for file in paths})


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
    dtypes, layouts = map(naming.as_tuple, (dtypes, layouts))
    dtypes = [np.dtype(one).name if isinstance(one, type | np.dtype) else one for one in dtypes]
    batches = (batches,) if isinstance(batches, int) else batches
    naming.check_name("profile", profile, PROFILES)
    for what, given, allowed in (("dtype", dtypes, DTYPES), ("layout", layouts, LAYOUTS)):
        for name in given:
            naming.check_name(what, name, allowed)
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
    discovery.load_shipped()
    shipped = {name: recipe for name, recipe in registry.recipes.items() if loading.is_builtin(recipe.source)}
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
                raise naming.RegistrationError(f"{source}: recipe '{recipe.name}' is defined twice")
            recipes[recipe.name] = recipe
    for source, (_, found) in described.items():
        for variant in found:
            if (variant.recipe, variant.name) in variants:
                raise naming.RegistrationError(
                    f"{source}: variant '{variant.name}' of recipe '{variant.recipe}' is defined twice"
                )
            try:
                naming.check_name("recipe", variant.recipe, recipes)
                naming.check_name("runtime", variant.runtime, discovery.runtimes())
            except naming.RegistrationError as error:
                raise naming.RegistrationError(f"{source}: variant '{variant.name}': {error}") from None
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
                                and device in (v.devices or discovery.runtime(v.runtime).devices)
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
            raise CaseError(naming.did_you_mean(what, pattern, names))
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in globs)]
