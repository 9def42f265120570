"""Find the function or the script that is explained, and load it from a syntax tree."""

from __future__ import annotations

import ast
import importlib.util
import linecache
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from copycost_meter.targets import TargetError


@dataclass(frozen=True)
class Target:
    """A function of a module or of a file, or a script.

    Attributes
    ----------
    module : str
        Name of the module: ``"__main__"`` for a script.
    path : Path
        File with the source.
    function : str or None
        None for a script.
    tree : Module
        Syntax tree of the file.
    is_module : bool
        Whether the target was named by its module, and not by its file.
    """

    module: str
    path: Path
    function: str | None
    tree: ast.Module
    is_module: bool = False

    @property
    def name(self) -> str:
        """Name for people: ``scale.py:scale``."""
        return self.path.name if self.function is None else f"{self.path.name}:{self.function}"

    def definition(self) -> ast.FunctionDef | None:
        """Return the syntax tree of the function, or None for a script."""
        found = [
            node for node in self.tree.body if isinstance(node, ast.FunctionDef) and node.name == self.function
        ]  # fmt: skip
        return found[-1] if found else None


def resolve(text: str) -> Target:
    """Return the target that a text names: ``package.module:function``, ``file.py::function`` or ``script.py``.

    Raises
    ------
    TargetError
        If there is no such file, module or function, or if the file is not Python.
    """
    place, _, function = text.partition(":")
    function = function.removeprefix(":")
    if place.endswith(".py"):
        path, module = Path(place), "__main__" if not function else Path(place).stem
    elif not function:
        raise TargetError(f"'{text}' names no function: expected module:function, file.py:function or script.py")
    else:
        path, module = _file_of(place), place
    try:
        source = path.read_text(encoding="utf-8")
        tree = ast.parse(source, str(path))
    except OSError as error:
        raise TargetError(f"{path}: {error.strerror}") from None
    except (SyntaxError, ValueError, RecursionError) as error:
        raise TargetError(f"{path} is not a Python file: {' '.join(str(error).split())}") from None
    target = Target(module, path.resolve(), function or None, tree, not place.endswith(".py"))
    if function and target.definition() is None:
        names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        raise TargetError(
            f"{path} has no function {function} at its top level: expected one of {', '.join(names) or '–'}"
        )
    return target


def _file_of(module: str) -> Path:
    """Return the file of a module, which may be in the working directory."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        raise TargetError(f"no module {module} found here or among the installed packages")
    return Path(spec.origin)


def _load(target: Target, code: CodeType, names: Mapping[str, Any] | None) -> ModuleType:
    """Execute the file of a target, and return the module.

    Parameters
    ----------
    target : Target
    code : code
        The file, compiled.
    names : mapping, optional
        Variables that the module has before its first line.
    """
    spec = importlib.util.find_spec(target.module) if target.is_module else None
    module = importlib.util.module_from_spec(spec) if spec is not None else ModuleType(target.module)
    module.__file__ = str(target.path)
    vars(module).update(names or {})
    folder = str(target.path.parent)
    if spec is None and folder not in sys.path:
        sys.path.insert(0, folder)  # as `python script.py` does
    before, arguments = sys.modules.get(target.module), sys.argv
    sys.modules[target.module] = module  # dataclasses and pickle look for it there
    if target.function is None:
        sys.argv = [str(target.path)]
    try:
        exec(code, vars(module))
    except SystemExit as end:
        if target.function is not None or end.code not in (None, 0):
            raise
    finally:
        sys.argv = arguments
        if before is not None:
            sys.modules[target.module] = before
        elif target.module != "__main__":
            sys.modules.pop(target.module, None)
    return module


def function_of(
    target: Target, tree: ast.Module | None = None, names: Mapping[str, Any] | None = None
) -> Callable[..., Any]:
    """Return the function of a target, or a function that runs the script."""
    code = compile(tree or target.tree, str(target.path), "exec")  # its requests are none of the script's
    if target.function is None:
        return lambda: _load(target, code, names)
    function: Callable[..., Any] = getattr(_load(target, code, names), target.function)
    return function


def line(target: Target, number: int) -> str:
    """Return a line of the file, without spaces around it."""
    return linecache.getline(str(target.path), number).strip()
