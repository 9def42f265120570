"""Derive asv benchmarks of memory from benchmarks of time."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from collections.abc import Callable
from types import FunctionType
from typing import TypeVar

#: Prefixes of the names of the types that the asv plugin `asv_bench_copycost` defines.
TYPES = (
    "alloc", "allocbytes", "peakbytes", "keptbytes", "copies", "changed", "gpualloc", "gpubytes", "gpupeak", "gputime",
    "transfers",
)  # fmt: skip

#: Beginning of the name of a benchmark of time.
_TIME = "time_"

#: Attribute of the functions that `also` makes.
_DERIVED = "_copycost_derived"

Benchmark = TypeVar("Benchmark", type, Callable[..., object])


def also(*types: str) -> Callable[[Benchmark], Benchmark]:
    """Return a decorator that adds benchmarks of other types beside those of time.

    Beside ``time_scale``, ``also("allocbytes", "changed")`` defines ``allocbytes_scale`` and ``changed_scale``, with
    the same code, parameters and set-up. asv finds them if the plugin `asv_bench_copycost` is installed, and ignores
    them if it is not.

    Parameters
    ----------
    *types : str
        Prefixes of the types: ``alloc``, ``allocbytes``, ``peakbytes``, ``keptbytes``, ``copies``, ``changed``,
        ``gpualloc``, ``gpubytes``, ``gpupeak``, ``gputime``, ``transfers``.

    Returns
    -------
    callable
        A decorator of a class with benchmarks, or of a function of a module that is one.

    Raises
    ------
    ValueError
        If a type is unknown, or if there is no benchmark of time.
    """
    if unknown := [name for name in types if name not in TYPES]:
        raise ValueError(f"also({unknown[0]!r}): expected some of {', '.join(TYPES)}")

    def decorate(benchmark: Benchmark) -> Benchmark:
        timed = _timed(benchmark)
        if not timed:
            raise ValueError(f"also: {benchmark.__name__} has no benchmark whose name begins with {_TIME}")
        for function in timed:
            for prefix in types:
                sibling = _sibling(function, prefix + "_" + function.__name__[len(_TIME) :])
                if not inspect.isclass(benchmark):
                    function.__globals__.setdefault(sibling.__name__, sibling)
                elif getattr(getattr(benchmark, sibling.__name__, sibling), _DERIVED, False):  # not one that is written
                    is_static = isinstance(inspect.getattr_static(benchmark, function.__name__), staticmethod)
                    setattr(benchmark, sibling.__name__, staticmethod(sibling) if is_static else sibling)
        return benchmark

    return decorate


def also_in(package: str, *types: str) -> None:
    """Add benchmarks of other types beside those of time in all modules of a package.

    A file ``benchmarks/a_counts.py`` with these two lines leaves all other files of a suite as they are::

        from copycost_meter import also_in
        also_in(__package__, "allocbytes", "changed")

    asv imports the modules of a suite in the order of their names, so that the name of the file must come first. A
    module that cannot be imported is left out, with a line on standard error.

    Parameters
    ----------
    package : str
        Name of the package of benchmarks.
    *types : str
        See `also`.
    """
    decorate = also(*types)
    root = importlib.import_module(package)
    for found in pkgutil.walk_packages(root.__path__, f"{package}."):
        try:
            module = importlib.import_module(found.name)
        except Exception as error:  # the suite's own import fails as well, and asv reports it
            print(f"also_in: {found.name}: {type(error).__name__}: {error}", file=sys.stderr)
            continue
        for value in list(vars(module).values()):
            own = getattr(value, "__module__", None) == found.name
            if own and isinstance(value, (type, FunctionType)) and _timed(value):
                decorate(value)


def _timed(benchmark: object) -> list[FunctionType]:
    """Return the benchmarks of time of a class, or a function if it is one."""
    name = getattr(benchmark, "__name__", "")
    members = inspect.getmembers(benchmark) if inspect.isclass(benchmark) else [(name, benchmark)]
    return [f for key, f in members if key.startswith(_TIME) and isinstance(f, FunctionType)]


def _sibling(function: FunctionType, name: str) -> FunctionType:
    """Return a function with the same code and attributes, and another name."""
    sibling = FunctionType(
        function.__code__, function.__globals__, name, function.__defaults__, function.__closure__
    )  # fmt: skip
    sibling.__kwdefaults__ = function.__kwdefaults__
    sibling.__dict__.update(function.__dict__)
    for name_of_one in ("benchmark_name", "pretty_name"):
        sibling.__dict__.pop(name_of_one, None)
    setattr(sibling, _DERIVED, True)
    sibling.__module__, sibling.__doc__ = function.__module__, function.__doc__
    sibling.__qualname__ = function.__qualname__[: -len(function.__name__)] + name
    return sibling
