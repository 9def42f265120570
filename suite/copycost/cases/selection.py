"""Select cases: combine profiles and filters, and expand their axes into cases."""

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
from copycost.catalog import description, discovery
from copycost.catalog.description import Description
from copycost.model import naming
from copycost.model.source import Source
from copycost.model.vocabulary import DTYPES, DeviceKind, Layout
from copycost.registry import Recipe, Variant

#: Maximum number of pixels along an image's side, and of images in a batch.
_LARGEST_SIDE, _LARGEST_BATCH = 32_768, 65_536


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
    """Return the cases of a profile, with the given axes in place of the profile's.

    Parameters
    ----------
    profile : {"quick", "standard", "full"}
    recipes, variants, devices : sequence of str
        Names or globs.
    batches : int, or sequence of int or None
        None means one image without a batch axis.
    sizes : sequence of (height, width)
    dtypes : sequence of str or dtype
    layouts : sequence of str
    files : sequence of path
        Python files with your own variants and recipes. Their recipes are added to the profile's.

    Raises
    ------
    CaseError
        If a name or a glob matches nothing, or a batch or size is invalid.
    RegistrationError
        If a file does not import, or defines a recipe or variant that already exists.
    """
    recipes, variants, devices = map(naming.as_tuple, (recipes, variants, devices))
    axes = axes_of(profile, batches=batches, sizes=sizes, dtypes=dtypes, layouts=layouts)
    definitions = find_definitions(files)
    # Users who define their own recipes want to measure them, whatever the profile.
    own_recipes = tuple(
        glob.escape(name) for name, recipe in definitions.recipes.items() if not recipe.source.is_shipped
    )
    return expand(
        replace(axes, recipes=axes.recipes + own_recipes),
        definitions.variants.values(),
        definitions.recipes,
        only_recipes=recipes,
        only_variants=variants,
        only_devices=devices,
    )


@dataclass(frozen=True)
class Definitions:
    """All recipes and variants by name."""

    recipes: dict[str, Recipe]
    variants: dict[tuple[str, str], Variant]


def find_definitions(files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()) -> Definitions:
    """Return the recipes and variants that ship with copycost, of installed packages, and of files.

    Packages and files are imported in separate processes, never in this one.

    Parameters
    ----------
    files : path, or sequence of path
        Python files with your own variants and recipes.

    Raises
    ------
    RegistrationError
        If a file does not import, or defines a recipe or variant that already exists.
    """
    discovery.load_shipped()
    entries: list[Recipe | Variant] = [*registry.recipes.values(), *registry.variants.values()]
    for entry in entries:
        if entry.source.name == "__main__":
            raise naming.RegistrationError(
                f"'{entry.name}' is defined in the running program, where the measuring processes cannot import it: "
                "put it into a file of its own, and pass that file in files"
            )
    paths = [os.fspath(file) for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    for file in paths:
        if not file.endswith(".py"):
            raise naming.RegistrationError(f"{file} is not a .py file")
        if not os.path.isfile(file):
            raise naming.RegistrationError(f"file not found: {file}")
    definitions = Definitions(
        {name: recipe for name, recipe in registry.recipes.items() if recipe.source.is_shipped},
        {key: variant for key, variant in registry.variants.items() if variant.source.is_shipped},
    )
    for module in discovery.plugins():
        try:
            definitions = _joined(definitions, {module: description.describe(module)})
        except naming.RegistrationError as error:
            # A broken third-party package must not prevent measuring.
            warnings.warn(f"skipping the variants of an installed package: {error}", stacklevel=3)
    sources = [Source(str(Path(file).absolute())) for file in paths]
    return _joined(definitions, {source: description.describe(source) for source in sources})


def axes_of(
    profile: str,
    *,
    batches: int | Sequence[int | None] = (),
    sizes: Sequence[tuple[int, int]] = (),
    dtypes: Sequence[Any] = (),
    layouts: Sequence[str] = (),
) -> Axes:
    """Return the axes of a profile, with the given axes in place of the profile's.

    Raises
    ------
    RegistrationError
        If a name is unknown.
    """
    dtypes, layouts = map(naming.as_tuple, (dtypes, layouts))
    dtypes = [np.dtype(dtype).name if isinstance(dtype, type | np.dtype) else dtype for dtype in dtypes]
    batches = (batches,) if isinstance(batches, int) else batches
    naming.check_name("profile", profile, PROFILES)
    for dtype in dtypes:
        naming.check_name("dtype", dtype, DTYPES)
    for layout in layouts:
        naming.check_name("layout", layout, Layout)
    default = PROFILES[profile].axes
    return Axes(
        default.recipes,
        tuple(dict.fromkeys(batches)) or default.batches,
        tuple(dict.fromkeys(sizes)) or default.sizes,
        tuple(dict.fromkeys(dtypes)) or default.dtypes,
        tuple(dict.fromkeys(map(Layout, layouts))) or default.layouts,
    )


def defined_by(descriptions: Mapping[Source, Description], axes: Axes) -> list[Case]:
    """Return the cases of the variants that files define, for every recipe that they compute, and no shipped variants.

    Raises
    ------
    RegistrationError
        If a file defines a recipe or variant that already exists, or computes an unknown recipe.
    """
    discovery.load_shipped()
    shipped = {name: recipe for name, recipe in registry.recipes.items() if recipe.source.is_shipped}
    definitions = _joined(Definitions(shipped, {}), descriptions)
    if not definitions.variants:
        return []
    recipes = dict.fromkeys(recipe for recipe, _ in definitions.variants)
    axes = replace(axes, recipes=tuple(map(glob.escape, recipes)))
    return expand(axes, definitions.variants.values(), definitions.recipes)


def matching(
    cases: Sequence[Case], *, recipes: Sequence[str] = (), variants: Sequence[str] = (), devices: Sequence[str] = ()
) -> list[Case]:
    """Return the cases whose recipe, variant and device each match any of the respective globs; no globs match all.

    Raises
    ------
    CaseError
        If a glob matches nothing.
    """
    for kind, globs, name in (
        ("recipe", recipes, lambda case: case.recipe.name),
        ("variant", variants, lambda case: case.variant.name),
        ("device", devices, lambda case: case.device),
    ):
        names = chosen_names(kind, globs, list(dict.fromkeys(map(name, cases))))
        cases = [case for case in cases if name(case) in names]
    return list(cases)


def _joined(definitions: Definitions, descriptions: Mapping[Source, Description]) -> Definitions:
    """Return the definitions with those of files or modules added, or raise RegistrationError."""
    recipes, variants = dict(definitions.recipes), dict(definitions.variants)
    for source, described in descriptions.items():
        for recipe in described.recipes:
            if recipe.name in recipes:
                raise naming.RegistrationError(f"{source}: recipe '{recipe.name}' is defined twice")
            recipes[recipe.name] = recipe
    for source, described in descriptions.items():
        for variant in described.variants:
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
    return Definitions(recipes, variants)


def expand(
    axes: Axes,
    variants: Iterable[Variant],
    recipes: Mapping[str, Recipe],
    *,
    only_recipes: Sequence[str] = (),
    only_variants: Sequence[str] = (),
    only_devices: Sequence[str] = (),
) -> list[Case]:
    """Return every case of `axes`, with the cases of each group, which are timed together, next to each other.

    The ``only_…`` parameters are globs. ``only_recipes`` replaces the recipes of `axes`.

    Raises
    ------
    CaseError
        If a glob matches nothing, or a batch or size is invalid.
    """
    variants = list(variants)
    check_axes(axes)
    recipe_names = chosen_names("recipe", only_recipes or axes.recipes, list(recipes))
    names = chosen_names("variant", only_variants, list(dict.fromkeys(v.name for v in variants)))
    kinds = [DeviceKind(name) for name in chosen_names("device", only_devices, list(DeviceKind))]
    cases = []
    for recipe in recipe_names:
        for layout in axes.layouts:
            for height, width in axes.sizes:
                for batch in axes.batches:
                    for dtype in axes.dtypes:
                        for device in kinds:
                            cases += [
                                Case(recipes[recipe], v, device, dtype, layout, batch, height, width)
                                for v in variants
                                if v.recipe == recipe
                                and v.name in names
                                and device in (v.devices or discovery.runtime(v.runtime).devices)
                            ]
    if not cases:
        raise CaseError("no selected variant computes a selected recipe on a selected device: widen the selection")
    return cases


def check_axes(axes: Axes) -> None:
    """Raise CaseError if a batch or a size is invalid."""
    for batch in axes.batches:
        if batch is not None and not isinstance(batch, int):
            raise CaseError(
                f"invalid batch {batch!r}: expected a whole number of images, or None for one without a batch axis"
            )
        if batch is not None and not 1 <= batch <= _LARGEST_BATCH:
            raise CaseError(f"invalid batch {batch}: expected 1 to {_LARGEST_BATCH:,} images")
    for size in axes.sizes:
        if not (isinstance(size, tuple | list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
            raise CaseError(f"invalid size {size!r}: expected a height and a width, e.g. (224, 224)")
    for height, width in axes.sizes:
        for side in (height, width):
            if not 1 <= side <= _LARGEST_SIDE:
                raise CaseError(f"invalid size {height}x{width}: expected sides of 1 to {_LARGEST_SIDE:,} pixels")
        if Layout.CHANNELS_FIRST in axes.layouts and width == CHANNELS:
            raise CaseError(
                f"invalid width {CHANNELS} for channels_first: it cannot be told from {CHANNELS} trailing channels"
            )


def chosen_names(kind: str, globs: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the names that any of the globs matches, in the order of `names`; no globs match all.

    Raises
    ------
    CaseError
        If a glob matches nothing.
    """
    if not globs:
        return list(names)
    for pattern in globs:
        if not fnmatch.filter(names, pattern):
            raise CaseError(naming.did_you_mean(kind, pattern, names))
    return [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in globs)]
