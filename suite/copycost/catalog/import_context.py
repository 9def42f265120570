"""Import the code of a commit instead of what is installed."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from copycost.catalog.discovery import load_shipped
from copycost.catalog.loading import is_builtin, load
from copycost.model.naming import RegistrationError
from copycost.registry import recipes, variants


@dataclass(frozen=True)
class ImportContext:
    """Where a commit's code is imported from.

    Attributes
    ----------
    folder : str
        That of the commit's files, in which its code runs.
    path : tuple of str
        What comes before all else on ``sys.path``.
    names : tuple of str
        The modules and packages that the commit has.
    python : str
        The interpreter, whose environment has what the commit needs.
    engine : str or None
        Where that interpreter finds this package; None where it is the one that runs now.
    shipped : str or None
        The folder of this package in a commit of its own repository. Its recipes and variants take the place of those
        that ship here; the engine stays.
    """

    folder: str
    path: tuple[str, ...]
    names: tuple[str, ...]
    python: str
    engine: str | None = None
    shipped: str | None = None


#: The modules that register what ships, and those that only they import.
SHIPPED = ("copycost.recipes", "copycost.catalog.formula", "copycost.runtimes", "copycost.variants")


def load_at(place: ImportContext, source: str) -> None:
    """Import `source` in this process, which is from now on one of that commit."""
    enter(place)
    if not is_builtin(source):
        load(source)


def enter(place: ImportContext) -> None:
    """Make this process one of a commit: its folder, its path and what it ships."""
    os.chdir(place.folder)
    sys.path[:0] = place.path
    if place.shipped:
        _replace_shipped(Path(place.shipped))


def _replace_shipped(folder: Path) -> None:
    """Register what another commit of this package ships, in place of what ships here."""
    for name in [name for name in sys.modules if _is_shipped(name)]:
        del sys.modules[name]
    recipes.clear()
    variants.clear()
    sys.meta_path.insert(0, _Shipped(folder))
    load_shipped()


class _Shipped:
    """Finds the modules of `SHIPPED` in a folder, and no other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not _is_shipped(name):
            return None
        _, *parents, _ = name.split(".")
        return PathFinder.find_spec(name, [str(self.folder.joinpath(*parents))])


def _is_shipped(module: str) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in SHIPPED)


def check_origin(place: ImportContext) -> None:
    """Look whether what is imported by the names that a commit has comes from the commit.

    Raises
    ------
    RegistrationError
        For one that comes from elsewhere: an installation in place, a copy among the installed packages.
    """
    for name in place.names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not any(Path(file).is_relative_to(part) for part in (place.folder, *place.path)):
            raise RegistrationError(
                f"{name} was imported from {Path(file).parent}, and not from the commit: pip uninstall it there, "
                "or move it to where a commit is searched, its root and src/"
            )


def child_environment(place: ImportContext | None = None) -> dict[str, str]:
    """The environment of a process that is to import this very package, wherever it runs from."""
    here = (place and place.engine) or str(Path(__file__).parent.parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}
