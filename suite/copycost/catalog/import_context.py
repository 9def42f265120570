"""Import the code of a commit instead of the installed packages."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from copycost.catalog.discovery import load_shipped
from copycost.catalog.loading import load
from copycost.model.naming import RegistrationError
from copycost.model.source import Source
from copycost.registry import parametrized, recipes, variants


@dataclass(frozen=True)
class ImportContext:
    """Folder, path and interpreter that a commit's code is imported with.

    Attributes
    ----------
    folder : str
        Folder of the commit's files, and working directory of its code.
    path : tuple of str
        Entries that precede all others on ``sys.path``.
    names : tuple of str
        Modules and packages that the commit contains.
    python : str
        Interpreter whose environment has the dependencies of the commit.
    engine : str or None
        Folder from which that interpreter imports copycost. None if it is the running interpreter.
    shipped : str or None
        Folder of copycost in a commit of copycost's own repository. Its recipes and variants replace the shipped ones,
        while the engine stays the same.
    """

    folder: str
    path: tuple[str, ...]
    names: tuple[str, ...]
    python: str
    engine: str | None = None
    shipped: str | None = None


#: Modules and packages that are replaced by those of a commit of copycost: recipes, variants, and the runtimes and the
#: formula decorator that belong to them.
SHIPPED = ("copycost.recipes", "copycost.catalog.formula", "copycost.runtimes", "copycost.variants")


def load_at(place: ImportContext, source: Source) -> None:
    """Import `source` in this process, which belongs to the commit from then on."""
    enter(place)
    if not source.is_shipped:
        load(source)


def enter(place: ImportContext) -> None:
    """Switch this process to a commit: to its folder, path, and shipped recipes and variants."""
    os.chdir(place.folder)
    sys.path[:0] = place.path
    if place.shipped:
        _replace_shipped(Path(place.shipped))


def _replace_shipped(folder: Path) -> None:
    """Replace the shipped recipes and variants by those of another commit of this package."""
    for name in [name for name in sys.modules if _is_shipped(name)]:
        del sys.modules[name]
    recipes.clear()
    variants.clear()
    parametrized.clear()
    sys.meta_path.insert(0, _Shipped(folder))
    load_shipped()


class _Shipped:
    """A module finder that finds the modules of `SHIPPED`, and no others, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not _is_shipped(name):
            return None
        _, *parents, _ = name.split(".")
        return PathFinder.find_spec(name, [str(self.folder.joinpath(*parents))])


def _is_shipped(module: str) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in SHIPPED)


def check_origin(place: ImportContext) -> None:
    """Check that imported modules whose names the commit contains come from the commit.

    Raises
    ------
    RegistrationError
        If a module comes from elsewhere, such as an editable install or a copy among the installed packages.
    """
    for name in place.names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not any(Path(file).is_relative_to(folder) for folder in (place.folder, *place.path)):
            raise RegistrationError(
                f"{name} was imported from {Path(file).parent}, and not from the commit: pip uninstall it there, "
                "or move it to the root or src/ of the repository, where a commit's modules are searched"
            )


#: Names of variables with secrets, such as GITHUB_TOKEN, AWS_SECRET_ACCESS_KEY and SSH_AUTH_SOCK.
_SECRET = re.compile(r"TOKEN(?!IZERS)|SECRET|PASSW|PASSPHRASE|_PWD$|CREDENTIAL|COOKIE|_?KEY$|(^|_)AUTH(_|$)", re.I)


def child_environment(place: ImportContext | None = None) -> dict[str, str]:
    """Return environment variables that make a child process import this very copy of copycost.

    CUDA numbers devices there as `nvidia-smi` does. By default the fastest is first, and on unlike devices the name,
    the clock and the free memory would be those of another one. PyTorch asks whether there is a device without
    initialising CUDA, which would not work in a fork.

    Variables whose names are those of secrets are left out: measured code is a stranger's.
    """
    own = {name: value for name, value in os.environ.items() if not _SECRET.search(name)}
    folder = (place and place.engine) or str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
    return own | {
        "PYTHONPATH": path, "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTORCH_NVML_BASED_CUDA_CHECK": "1",
    }  # fmt: skip
