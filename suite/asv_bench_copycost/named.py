"""Derive the benchmark that a process of asv has to run, where asv looks for it first.

asv looks for a benchmark in the module that its name gives. What `copycost_meter.also_in` derives is not there yet,
since the process has imported no other module of the suite. asv then makes an object of every benchmark of the suite:
most of a second for NumPy's, in each process.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder

#: Name of the script that asv starts, and its command for one benchmark: ``run FOLDER BENCHMARK …``.
_SCRIPT, _COMMAND = "benchmark.py", "run"


def derive_named(arguments: Sequence[str], prefixes: Sequence[str]) -> None:
    """Import the module of the benchmark that the process has to run, and derive it there from that of its time.

    Parameters
    ----------
    arguments : sequence of str
        Command line of the process. Nothing happens unless asv has started it for a benchmark of the plugin.
    prefixes : sequence of str
        Prefixes of the plugin's types.
    """
    if len(arguments) < 4 or os.path.basename(arguments[0]) != _SCRIPT or arguments[1] != _COMMAND:
        return
    # asv sets the affinity and the path of the suite's process before it imports the suite, and after this plugin.
    if "cpu_affinity" in "".join(arguments[4:5]) or "ASV_PYTHONPATH" in os.environ:
        return
    root, name = arguments[2], arguments[3].partition("-")[0]
    *parts, last = name.split(".")
    prefix = last.partition("_")[0]
    if prefix not in prefixes:
        return
    folder, package = os.path.split(os.path.abspath(root))
    finder = _SuiteFinder(folder, package)
    sys.meta_path.insert(0, finder)
    # The folder of the script has modules such as `util`; asv removes it before it imports the suite.
    hidden = [entry for entry in sys.path if entry == os.path.dirname(arguments[0])]
    sys.path[:] = [entry for entry in sys.path if entry not in hidden]
    try:
        for owner in (parts, parts[:-1]):  # a function of a module, or a method of a class
            if os.path.isfile(os.path.join(root, *owner) + ".py"):
                module = importlib.import_module(".".join([package, *owner]))
                _derive(module if owner is parts else getattr(module, parts[-1], None), prefix, last)
                return
    except (Exception, SystemExit):  # asv imports the module again, and reports what is wrong
        return
    finally:
        sys.meta_path.remove(finder)
        sys.path[:0] = hidden  # asv removes it itself, and fails if it is not there


class _SuiteFinder:
    """A module finder that finds the package of benchmarks, and nothing beside it, as that of asv does.

    asv's own cannot be imported while asv imports its plugins.
    """

    def __init__(self, folder: str, package: str) -> None:
        self._folder, self._package = folder, package

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        return PathFinder.find_spec(name, [self._folder]) if name == self._package else None


def _derive(owner: object, prefix: str, name: str) -> None:
    """Give a module or a class the benchmark of a name, unless it has it, or has no benchmark of time for it."""
    from copycost_meter.asv import also

    timed = getattr(owner, "time" + name[len(prefix) :], None)
    if timed is not None and not hasattr(owner, name):
        also(prefix)(owner if isinstance(owner, type) else timed)
