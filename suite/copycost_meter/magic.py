"""The magics ``%copycost`` and ``%%copycost`` of IPython and Jupyter: ``%load_ext copycost_meter``."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic import Magics, line_cell_magic, magics_class

from copycost_meter.arrays import found_arrays, library_of, with_copies
from copycost_meter.call_count import CallCount
from copycost_meter.counting import count_prepared

#: Name of the file that the code of a magic seems to be in. It appears beside the lines that request memory.
_FILE = "<copycost>"


@magics_class
class CopycostMagics(Magics):
    """The magics, which share their name."""

    @line_cell_magic
    def copycost(self, line: str, cell: str | None = None) -> CallCount:
        """Count the allocations of code, and find the arrays that it changes.

        ``%copycost CODE`` counts those of one line, and ``%%copycost SETUP`` those of the cell, after the set-up,
        which is not counted. Both work as ``%timeit`` does: the code runs six to ten times, and what it assigns is gone
        afterwards. Arrays that it names are copied before each run, so that yours do not change.
        """
        setup, code = ("", line) if cell is None else (line, cell)
        if not code.strip():
            raise UsageError("%copycost needs code, e.g.: %copycost f(x)")
        assert self.shell is not None
        setup, code = (self.shell.transform_cell(text) for text in (setup, code))
        return count_code(code, self.shell.user_ns, setup)


def count_code(code: str, namespace: Mapping[str, Any], setup: str = "") -> CallCount:
    """Count the allocations of code that runs in a copy of a namespace.

    Parameters
    ----------
    code : str
    namespace : mapping
        Variables of the code. Arrays that it names are copied, at any depth of lists, tuples and dicts.
    setup : str, optional
        Code that runs before, and is not counted.
    """
    linecache.cache[_FILE] = (len(code), None, code.splitlines(keepends=True), _FILE)
    trees = _with_result(code), ast.parse(setup, "<set-up>")
    counted, before = (compile(tree, file, "exec") for tree, file in zip(trees, (_FILE, "<set-up>")))
    names = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}

    def prepare() -> tuple[Callable[[], Any], Mapping[str, Any]]:
        copies: dict[int, Any] = {}
        own = {**namespace, **{name: with_copies(namespace[name], copies) for name in names if name in namespace}}
        exec(before, own)
        given = dict(own)

        def call() -> dict[str, Any]:
            exec(counted, own)
            made = {name: value for name, value in own.items() if given.get(name) is not value}
            own.clear()  # a function in it refers to it: without this, it would stay until garbage is collected
            return made

        return call, found_arrays({name: own[name] for name in names if name in own})

    _, arrays = prepare()
    first_line = code.strip().partition("\n")[0]
    return count_prepared(first_line, prepare, {library_of(array) for array in arrays.values()})


def _with_result(code: str) -> ast.Module:
    """Return code whose last expression, if it ends with one, is assigned to a variable, so that its value stays."""
    module = ast.parse(code, _FILE)
    if module.body and isinstance(last := module.body[-1], ast.Expr):
        module.body[-1] = ast.Assign([ast.Name("_copycost_result", ast.Store())], last.value)
        ast.fix_missing_locations(ast.copy_location(module.body[-1], last))
    return module
