"""Find the runtimes, recipes and variants that ship with copycost or come with installed packages."""

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
from copycost.model.source import Source


def shipped_runtimes() -> tuple[str, ...]:
    """Return the names of the runtimes that ship with copycost."""
    import copycost.runtimes

    return tuple(module.name for module in pkgutil.iter_modules(copycost.runtimes.__path__))


def runtimes() -> tuple[str, ...]:
    """Return the names of all runtimes: shipped ones, and ``copycost.runtimes`` entry points of installed packages."""
    return shipped_runtimes() + tuple(point.name for point in entry_points(group="copycost.runtimes"))


def runtime(name: str) -> Runtime:
    """Return the runtime of this name.

    Raises
    ------
    RegistrationError
        If no runtime has this name.
    """
    if name in shipped_runtimes():
        return importlib.import_module(f"copycost.runtimes.{name}").RUNTIME
    check_name("runtime", name, runtimes())
    (point, *_) = entry_points(group="copycost.runtimes", name=name)
    return point.load()


def not_installed(runtime: Runtime) -> str | None:
    """Return which package of a runtime is not installed and how to install it, or None."""
    for package in runtime.packages:
        root = package.partition(".")[0]
        if importlib.util.find_spec(root) is None:
            return f"{root} is not installed: {runtime.install}"
    return None


def load_shipped() -> None:
    """Register the recipes and variants that ship with copycost."""
    load(Source("copycost.recipes"))
    for name in shipped_runtimes():
        load(Source(f"copycost.variants.{name}"))
    load(Source("copycost.variants.documents"))


def plugins() -> tuple[Source, ...]:
    """Return the modules named by the ``copycost.variants`` entry points of installed packages."""
    return tuple(dict.fromkeys(Source(point.module) for point in entry_points(group="copycost.variants")))
