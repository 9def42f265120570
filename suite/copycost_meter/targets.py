"""Find a function by the text that names it, and import it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any


class TargetError(ValueError):
    """Raised if a text names no function, or if its arguments cannot be made. The message is one line."""


@dataclass(frozen=True)
class Place:
    """Where a function is.

    Attributes
    ----------
    folder : str
        Folder from which its module is imported.
    module : str
        Dotted name of the module.
    function : str
        Name of the function, or dotted names of a class and its function.
    is_packaged : bool
        Whether it was named by a file of a package, and not by its module or by a file of its own.
    """

    folder: str
    module: str
    function: str
    is_packaged: bool = False


def locate(target: str) -> Place:
    """Return the place that a target names: ``file.py::function``, ``file.py:function`` or ``module:function``.

    A file that belongs to a package is imported as a module of it.

    Raises
    ------
    TargetError
        If the target has another form, or if there is no such file.
    """
    name, _, function = target.partition(":")
    function = function[1:] if function.startswith(":") else function
    if not name or not all(part.isidentifier() for part in function.split(".")):
        raise TargetError(f"'{target}' is no function: expected file.py::function or module:function")
    if not name.endswith(".py"):
        if not all(part.isidentifier() for part in name.split(".")):
            raise TargetError(f"'{target}' is no function: '{name}' is neither a module nor a .py file")
        return Place(os.getcwd(), name, function)
    try:
        path = Path(name).resolve()
        is_file = path.is_file()
    except (OSError, ValueError, RuntimeError):  # a name that is too long, has a null character, or a loop of links
        is_file = False
    if not is_file:
        raise TargetError(f"no file {name}")
    parts, folder = [path.stem], path.parent
    while (folder / "__init__.py").is_file() and folder != folder.parent:
        parts.insert(0, folder.name)
        folder = folder.parent
    is_packaged = len(parts) > 1
    if is_packaged and parts[-1] == "__init__":
        parts.pop()
    return Place(str(folder), ".".join(parts), function, is_packaged)


def load(place: Place) -> Callable[..., Any]:
    """Import the module of a place, and return its function.

    Raises
    ------
    TargetError
        If the module has no such function.
    """
    if place.folder not in sys.path:
        sys.path.append(place.folder)
    found: Any = _imported(place)
    for name in place.function.split("."):
        if not hasattr(found, name):
            functions = [key for key, value in vars(found).items() if callable(value) and not key.startswith("_")]
            known = f": expected one of {', '.join(functions[:8])}" if functions else ""
            raise TargetError(f"{place.module} has no {place.function}{known}")
        found = getattr(found, name)
    if not callable(found):
        raise TargetError(f"{place.module}:{place.function} is {type(found).__name__}, not a function")
    function: Callable[..., Any] = found
    return function


def _imported(place: Place) -> ModuleType:
    """Import a module. A file whose name is that of a module that is already imported gets another name."""
    path = Path(place.folder, f"{place.module}.py")
    if place.is_packaged or not path.is_file():
        module = importlib.import_module(place.module)
        file = getattr(module, "__file__", None)
        if place.is_packaged and not (file and Path(file).resolve().is_relative_to(place.folder)):
            raise TargetError(f"{place.module} was imported from {file}, and not from {place.folder}")
        return module
    if getattr(sys.modules.get(place.module), "__file__", None) == str(path):
        return sys.modules[place.module]
    found = importlib.util.find_spec(place.module) if place.module not in sys.modules else None
    if found is not None and found.origin == str(path):
        return importlib.import_module(place.module)
    # Another module has this name, such as one of the standard library.
    spec = importlib.util.spec_from_file_location(f"{place.module}_", path)
    assert spec is not None  # a path that ends in .py always has a spec and a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
