"""What can be measured: recipes (what is computed) and variants (how), and where each is defined."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import json
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from suite.runtime import Runtime

WRITES = ("new", "out", "input")
DTYPES = ("uint8", "float16", "float32", "float64")
RESULT_DTYPES = (
    "float16", "float32", "float64", "bool", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64",
)  # fmt: skip
LAYOUTS = ("channels_last", "channels_first")
DEVICES = ("cpu", "gpu")

#: How long a user's file may take to import in the process that only looks what is in it, in seconds.
_IMPORT_TIMEOUT = 120


class RegistrationError(ValueError):
    """A recipe, a variant or a file of them that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Recipe:
    """What is computed.

    Attributes
    ----------
    name : str
    magnitude : float or None
        S, where every element may be off by ``8 · eps(result dtype) · S``, beyond what an error analysis of the
        reference allows (see `suite.engine.rounding`). None: by no more than that.
    source : str
        The module or the file that defines it.
    inputs : {1, 2}
        With two, whoever computes it is given a pair.
    dtype : str or None
        Of every result. None: that of the reference where it returns integers or booleans; else float32 for integers,
        and floats keep theirs.
    reference : callable
        float64 arrays of channels-last images in, a float64 array out. None where only the name travels.
    """

    name: str
    magnitude: float | None
    source: str
    inputs: int = 1
    dtype: str | None = None
    reference: Callable[..., np.ndarray] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Variant:
    """One way of computing a recipe in one runtime.

    Attributes
    ----------
    name, recipe, runtime : str
    writes : {"new", "out", "input"}
        Where the result goes: an array of its own, a buffer prepared once, or over the input.
    accepts : tuple of str
        The input dtypes that it is for.
    devices : tuple of str
        The kinds of device it runs on; empty: all that its runtime knows.
    layouts : tuple of str
        The layouts that it is for.
    known : mapping of str to str
        Input dtype → the evidence that a library's path is known to be wrong, or to raise, for it.
    source : str
        The module or the file that defines it.
    includes_transfers : bool
        Whether a call on a device begins and ends with arrays of the host.
    prepare : callable
        ``prepare(example)`` returns the call that is measured. None where only the description travels.
    """

    name: str
    recipe: str
    runtime: str
    writes: str
    accepts: tuple[str, ...]
    devices: tuple[str, ...]
    layouts: tuple[str, ...]
    known: Mapping[str, str]
    source: str
    includes_transfers: bool = False
    prepare: Callable[[Any], Callable[..., Any]] | None = field(default=None, compare=False, repr=False)


recipes: dict[str, Recipe] = {}
variants: dict[tuple[str, str], Variant] = {}
_source: list[str] = []  # what is being loaded, innermost last


def recipe(
    name: str | None = None, *, magnitude: float | None = None, inputs: int = 1, dtype: str | None = None
) -> Callable[[Callable[..., np.ndarray]], Callable[..., np.ndarray]]:
    """Register a function as a recipe's reference: float64 channels-last images in, float64 out.

    Parameters
    ----------
    name : str, optional
        The default is the function's name, with ``-`` for ``_``.
    magnitude : float, optional
        Allow every element to be off by ``8 · eps(result dtype) · magnitude``, where that is more than the error
        analysis of the reference allows: for a formula whose honest implementations differ by more than its roundings.
    inputs : {1, 2}, optional
        With two, the reference and every variant are given a pair of them.
    dtype : str, optional
        Of every result. The default is that of the reference where it returns integers or booleans; otherwise float32
        for integers, and floats keep theirs.

    Raises
    ------
    RegistrationError
        If the name is taken, or a word is not one of those allowed.
    """

    if callable(name):
        raise RegistrationError("@recipe needs its parentheses: @recipe()")
    if magnitude is not None and not (isinstance(magnitude, int | float) and 0 < magnitude < float("inf")):
        raise RegistrationError(f"a magnitude of {magnitude!r}: it is a finite number above 0")
    if inputs not in (1, 2):
        raise RegistrationError(f"a recipe of {inputs!r} inputs: it has 1 or 2")
    if dtype is not None:
        check_name("dtype", dtype, RESULT_DTYPES)

    def register(reference: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        chosen = _name("recipe", reference.__name__.replace("_", "-") if name is None else name)
        if chosen in recipes:
            raise RegistrationError(f"recipe '{chosen}' is defined twice")
        recipes[chosen] = Recipe(chosen, magnitude, _where(reference), inputs, dtype, reference)
        return reference

    return register


def variant(
    *,
    recipe: str,
    runtime: str,
    writes: str,
    accepts: Iterable[str] = DTYPES,
    name: str | None = None,
    devices: Iterable[str] = (),
    layouts: Iterable[str] = LAYOUTS,
    known: Mapping[str, str] | None = None,
    includes_transfers: bool = False,
) -> Callable[[Callable[[Any], Callable[..., Any]]], Callable[[Any], Callable[..., Any]]]:
    """Register ``prepare(example)``, which returns ``call(x)`` or, for ``writes="out"``, ``call(x, out)``.

    Parameters
    ----------
    recipe : str
        The name of the recipe that is computed.
    runtime : str
        The runtime whose arrays the call is given: ``"numpy"``, ``"tensorflow"``, ``"cupy"`` …
    writes : {"new", "out", "input"}
        Where the result goes.
    accepts : iterable of str, optional
        Input dtypes; the default is all.
    name : str, optional
        The default is the function's name, with ``-`` for ``_``.
    devices : iterable of {"cpu", "gpu"}, optional
        The default is every device the runtime knows.
    layouts : iterable of {"channels_last", "channels_first"}, optional
        The default is both.
    known : mapping, optional
        Input dtype → evidence that this path of a library is wrong or raises.
    includes_transfers : bool, optional
        Whether the call is given arrays of the host, and returns such, though a device computes: it is then told apart
        from what begins and ends on the device.

    Raises
    ------
    RegistrationError
        If a word is not one of those allowed or the name is taken for this recipe.
    """
    accepts, devices, layouts = words(accepts), words(devices), words(layouts)
    _name("recipe", recipe)
    _name("runtime", runtime)
    check_name("writes", writes, WRITES)
    for dtype, evidence in (known or {}).items():
        check_name("dtype", dtype, DTYPES)
        if not isinstance(evidence, str) or not evidence:
            raise RegistrationError(f"known[{dtype!r}] is {evidence!r}: it names the evidence")
    for dtype in accepts:
        check_name("dtype", dtype, DTYPES)
    for device in devices:
        check_name("device", device, DEVICES)
    for layout in layouts:
        check_name("layout", layout, LAYOUTS)

    def register(prepare: Callable[[Any], Callable[..., Any]]) -> Callable[[Any], Callable[..., Any]]:
        chosen = _name("variant", prepare.__name__.replace("_", "-") if name is None else name)
        if (recipe, chosen) in variants:
            raise RegistrationError(f"variant '{chosen}' of recipe '{recipe}' is defined twice")
        variants[recipe, chosen] = Variant(
            chosen, recipe, runtime, writes, accepts, devices, layouts, dict(known or {}), _where(prepare),
            bool(includes_transfers), prepare,
        )  # fmt: skip
        return prepare

    return register


def check_name(what: str, given: str, allowed: Iterable[str]) -> None:
    """Raise RegistrationError, with the names most like it, unless `given` is allowed."""
    allowed = list(allowed)
    if given not in allowed:
        if not isinstance(given, str):
            raise RegistrationError(f"{what} {given!r} is no name; there are {' and '.join(allowed)}")
        raise RegistrationError(unknown(what, given, allowed))


def unknown(what: str, given: str, allowed: Sequence[str]) -> str:
    """That there is no such name, and which are like it; or some that there are."""
    close = (
        difflib.get_close_matches(given, allowed, n=3, cutoff=0.4) or [name for name in allowed if given in name][:3]
    )
    if close:
        return f"unknown {what} '{given}'; did you mean {' or '.join(close)}?"
    more = f" and {len(allowed) - 8} more" if len(allowed) > 8 else ""
    return f"unknown {what} '{given}'; there is {', '.join(allowed[:8])}{more}"


def _name(what: str, given: object) -> str:
    """A name that can be printed, or RegistrationError."""
    if not isinstance(given, str) or not given or not given.isprintable() or given != given.strip():
        raise RegistrationError(f"{given!r} is no name for a {what}")
    return given


@dataclass(frozen=True)
class Place:
    """Where a commit's code is imported from.

    Attributes
    ----------
    folder : str
        That of the commit's files, in which its code runs.
    path : tuple of str
        What comes before all else on ``sys.path``.
    names : tuple of str
        The modules and packages that the commit has.
    python : str
        The interpreter, whose environment has what the commit needs.
    engine : str or None
        Where that interpreter finds this package; None where it is the one that runs now.
    shipped : str or None
        The folder of this package in a commit of its own repository. Its recipes and variants take the place of those
        that ship here; the engine stays.
    """

    folder: str
    path: tuple[str, ...]
    names: tuple[str, ...]
    python: str
    engine: str | None = None
    shipped: str | None = None


#: The modules that register what ships, and those that only they import.
SHIPPED = ("suite.recipes", "suite.expression", "suite.native", "suite.variants", "suite.claims.systems")


def load_at(place: Place, source: str) -> None:
    """Import `source` in this process, which is from now on one of that commit."""
    _enter(place)
    if not ships(source):
        load(source)


def _enter(place: Place) -> None:
    os.chdir(place.folder)
    sys.path[:0] = place.path
    if place.shipped:
        _replace_shipped(Path(place.shipped))


def _replace_shipped(folder: Path) -> None:
    """Register what another commit of this package ships, in place of what ships here."""
    for name in [name for name in sys.modules if _is_shipped(name)]:
        del sys.modules[name]
    recipes.clear()
    variants.clear()
    sys.meta_path.insert(0, _Shipped(folder))
    load_shipped()


class _Shipped:
    """Finds the modules of `SHIPPED` in a folder, and no other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if not _is_shipped(name):
            return None
        _, *parents, _ = name.split(".")
        return PathFinder.find_spec(name, [str(self.folder.joinpath(*parents))])


def _is_shipped(module: str) -> bool:
    return any(module == one or module.startswith(f"{one}.") for one in SHIPPED)


def check_origin(place: Place) -> None:
    """Look whether what is imported by the names that a commit has comes from the commit.

    Raises
    ------
    RegistrationError
        For one that comes from elsewhere: an installation in place, a copy among the installed packages.
    """
    for name in place.names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not any(Path(file).is_relative_to(part) for part in (place.folder, *place.path)):
            raise RegistrationError(
                f"{name} was imported from {Path(file).parent}, and not from the commit: pip uninstall it there, "
                "or move it to where a commit is searched, its root and src/"
            )


def load(source: str) -> None:
    """Import the module or the ``.py`` file `source`, so that what it defines is registered.

    Raises
    ------
    RegistrationError
        If it is a file that is not there.
    """
    if ships(source):
        importlib.import_module(source)
        return
    _source.append(source)
    try:
        if source.endswith(".py"):
            _load_file(source)
        else:
            importlib.import_module(source)
    finally:
        _source.pop()


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


def ships(source: str) -> bool:
    """Whether a module is one of copycost's own."""
    return not source.endswith(".py") and source.partition(".")[0] == "suite"


def shipped_runtimes() -> tuple[str, ...]:
    """The names of the runtimes there are files for."""
    import suite.variants

    return tuple(module.name for module in pkgutil.iter_modules(suite.variants.__path__))


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
        return importlib.import_module(f"suite.variants.{name}").RUNTIME
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
    """Register the shipped recipes, the variants of every runtime in ``suite.variants``, and those of the documents."""
    load("suite.recipes")
    for name in shipped_runtimes():
        load(f"suite.variants.{name}")
    load("suite.claims.systems")


def plugins() -> tuple[str, ...]:
    """The modules that installed packages name as having variants: their entry points ``copycost.variants``."""
    return tuple(dict.fromkeys(point.module for point in entry_points(group="copycost.variants")))


def child_environment(place: Place | None = None) -> dict[str, str]:
    """The environment of a process that is to import this very package, wherever it runs from."""
    here = (place and place.engine) or str(Path(__file__).parent.parent)
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))}


def describe(source: str, place: Place | None = None) -> tuple[list[Recipe], list[Variant]]:
    """What a user's file or module defines, learned in a process of its own: what importing it does stays there.

    Parameters
    ----------
    source : str
    place : Place, optional
        Where it is imported from.

    Raises
    ------
    RegistrationError
        If it does not import, with the line that its traceback ends in, or what it imports is not of the place.
    """
    with tempfile.TemporaryFile() as file:
        given = json.dumps([source, place and asdict(place)])
        process = subprocess.Popen(
            [place.python if place else sys.executable, "-P", "-m", "suite.registry", given, str(file.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[file.fileno()],
            start_new_session=True,
            env=child_environment(place),
            cwd=place.folder if place else None,
        )
        try:
            status = process.wait(_IMPORT_TIMEOUT)
            file.seek(0)
            answer = json.loads(file.read())
        except subprocess.TimeoutExpired:
            raise RegistrationError(f"{source} was still importing after {_IMPORT_TIMEOUT} s") from None
        except ValueError:
            answer = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and what the file has started
            process.wait()
    if answer is None:
        raise RegistrationError(f"{source} ended the process that imported it (status {status})")
    if answer["error"]:
        raise RegistrationError(answer["error"])
    several = ("accepts", "devices", "layouts")
    found = [Variant(**v | {name: tuple(v[name]) for name in several}) for v in answer["variants"]]
    return [Recipe(**r) for r in answer["recipes"]], found


def _answer(source: str, place: dict[str, Any] | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"error": None}
    try:
        load_shipped()
        if place:
            _enter(Place(**place))
        shipped: tuple[Any, Any] = (set(recipes), set(variants)) if not ships(source) else ((), ())
        load(source)
        if place:
            check_origin(Place(**place))
        answer["recipes"] = [_plain(r, "reference") for r in recipes.values() if r.name not in shipped[0]]
        answer["variants"] = [_plain(v, "prepare") for key, v in variants.items() if key not in shipped[1]]
    except RegistrationError as error:
        answer["error"] = f"{source}: {error}" if source not in str(error) else str(error)
    except BaseException as error:  # a file may raise anything, SystemExit too
        answer["error"] = f"{source} does not import: {_raised_at(source, error)}"
    return answer


def _raised_at(source: str, error: BaseException) -> str:
    """`error` in one line: its type, its message and the last line of `source` that led to it."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == source]
    if isinstance(error, SyntaxError) and error.filename == source:
        lines.append(error.lineno)
    message = f"{type(error).__name__}: {' '.join(str(error).split())}".encode(errors="backslashreplace").decode()
    return f"{message} (line {lines[-1]})" if lines else message


def _plain(entry: Recipe | Variant, function: str) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if key != function}


def _where(function: Callable[..., Any]) -> str:
    return _source[-1] if _source else function.__module__


def words(given: Iterable[str]) -> tuple[str, ...]:
    """One word, or several, as several."""
    return (given,) if isinstance(given, str) else tuple(given)


if __name__ == "__main__":
    # Run as `-m`, this file is `__main__`; what it loads registers in `suite.registry`.
    from suite import registry

    with open(int(sys.argv[2]), "w") as answers:
        answers.write(json.dumps(registry._answer(*json.loads(sys.argv[1]))))
    os._exit(0)  # whatever threads the file has started, or has left for the end
