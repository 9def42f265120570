"""Import modules and files that register recipes and variants."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path

from copycost.model.naming import RegistrationError
from copycost.model.source import Source
from copycost.registry import registering


def load(source: Source) -> None:
    """Import the module or the file `source` to register its recipes and variants.

    Raises
    ------
    RegistrationError
        If the file does not exist.
    """
    if source.is_shipped:
        importlib.import_module(source.name)
        return
    with registering(source):
        if source.is_file:
            _load_file(Path(source.name))
        else:
            importlib.import_module(source.name)


def _load_file(path: Path) -> None:
    if not path.is_file():
        raise RegistrationError(f"file not found: {path}")
    name = f"copycost_with_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None  # a path that ends in .py always has a spec and a loader
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))  # so that the file can import modules beside it, as a script can
    # The file may also import a project from its root. The root comes last so that it cannot shadow installed packages.
    sys.path.append(os.getcwd())
    spec.loader.exec_module(module)
