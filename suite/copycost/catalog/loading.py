"""Import modules and files that register recipes and variants."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from copycost.model.naming import RegistrationError
from copycost.registry import registering


def load(source: str) -> None:
    """Import the module or the ``.py`` file `source`, so that what it defines is registered.

    Raises
    ------
    RegistrationError
        If it is a file that is not there.
    """
    if is_builtin(source):
        importlib.import_module(source)
        return
    with registering(source):
        if source.endswith(".py"):
            _load_file(source)
        else:
            importlib.import_module(source)


def _load_file(source: str) -> None:
    path = Path(source)
    if not path.is_file():
        raise RegistrationError(f"no file {source}")
    name = f"copycost_with_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a path that ends in .py always has one, and a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that it can import what lies beside it, as a script can
    # And a project from its root; after all else, so that nothing there is taken for what is installed.
    sys.path.append(os.getcwd())
    spec.loader.exec_module(module)


def is_builtin(source: str) -> bool:
    """Whether a module is one of copycost's own."""
    return not source.endswith(".py") and source.partition(".")[0] == "copycost"
