"""Find the runtimes, recipes and variants that ship or that installed packages add."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from copycost.catalog.loading import load
from copycost.model.naming import check_name

if TYPE_CHECKING:
    from copycost.model.runtime import Runtime


def shipped_runtimes() -> tuple[str, ...]:
    """The names of the runtimes there are files for."""
    import copycost.runtimes

    return tuple(module.name for module in pkgutil.iter_modules(copycost.runtimes.__path__))


def runtimes() -> tuple[str, ...]:
    """The names of all runtimes: those that ship, and the entry points ``copycost.runtimes`` of installed packages."""
    return shipped_runtimes() + tuple(point.name for point in entry_points(group="copycost.runtimes"))


def runtime(name: str) -> Runtime:
    """The runtime of that name.

    Raises
    ------
    RegistrationError
        If there is none.
    """
    if name in shipped_runtimes():
        return importlib.import_module(f"copycost.runtimes.{name}").RUNTIME
    check_name("runtime", name, runtimes())
    (point, *_) = entry_points(group="copycost.runtimes", name=name)
    return point.load()


def not_installed(runtime: Runtime) -> str | None:
    """What a runtime needs that is not installed, and how to get it; or None."""
    for package in runtime.packages:
        root = package.partition(".")[0]
        if importlib.util.find_spec(root) is None:
            return f"{root} is not installed: {runtime.install}"
    return None


def load_shipped() -> None:
    """Register the recipes and variants that ship."""
    load("copycost.recipes")
    for name in shipped_runtimes():
        load(f"copycost.variants.{name}")
    load("copycost.variants.documents")


def plugins() -> tuple[str, ...]:
    """The modules that installed packages name as having variants: their entry points ``copycost.variants``."""
    return tuple(dict.fromkeys(point.module for point in entry_points(group="copycost.variants")))
