"""Import a user's file in a separate process and return the recipes and variants that it defines."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import IO, Any

from copycost.catalog.discovery import load_shipped
from copycost.catalog.import_context import ImportContext, check_origin, child_environment, enter
from copycost.catalog.loading import load
from copycost.machine.confine import launcher
from copycost.model.naming import RegistrationError
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind, Layout, Writes
from copycost.registry import Recipe, Variant, benchmark_axes, recipes, variants
from copycost_meter.targets import TargetError

#: Seconds that a user's file may take to import in the process that only inspects it.
_IMPORT_TIMEOUT = 120

#: Maximum length of an answer in bytes: a longer one is cut, and cannot be read.
_LONGEST_ANSWER = 1 << 24


@dataclass(frozen=True)
class Description:
    """What a user's file or module defines.

    Attributes
    ----------
    recipes : list of Recipe
    variants : list of Variant
    axes : mapping of str to tuple
        Axes that its benchmark class sets (``batches``, ``sizes``, ``dtypes``, ``layouts``), in place of the profile's.
    imports : tuple of str
        Installed packages that it imports.
    """

    recipes: list[Recipe]
    variants: list[Variant]
    axes: Mapping[str, tuple[Any, ...]]
    imports: tuple[str, ...] = ()


def describe(source: Source, place: ImportContext | None = None, confined: str | None = None) -> Description:
    """Return the recipes and variants of a user's file or module, which is imported in a separate process.

    Side effects of the import stay in that process.

    Parameters
    ----------
    source : Source
    place : ImportContext, optional
        Where to import the source from.
    confined : str, optional
        Folder to whose files the process is confined: see `copycost.machine.confine`. By default it is not confined.

    Raises
    ------
    RegistrationError
        If the source does not import (the message has the last line of its traceback), or if a module that it imports
        does not come from `place`.
    """
    (answer,) = describe_together([(source, place)], confined)
    if isinstance(answer, RegistrationError):
        raise answer
    return answer


def describe_together(
    sources: Sequence[tuple[Source, ImportContext | None]], confined: str | None = None
) -> list[Description | RegistrationError]:
    """Describe several files or modules, whose processes run side by side; as `describe`.

    An interrupt ends all processes at once.

    Parameters
    ----------
    sources : sequence of (Source, ImportContext or None)
    confined : str, optional

    Returns
    -------
    list
        A description or an error for each source.
    """
    with ExitStack() as stack:
        started = [stack.enter_context(_importing(source, place, confined)) for source, place in sources]
        answers: list[Description | RegistrationError] = []
        for (source, _), (process, file) in zip(sources, started, strict=True):
            try:
                answers.append(_answered(source, process, file))
            except RegistrationError as error:
                answers.append(error)
        return answers


@contextmanager
def _importing(
    source: Source, place: ImportContext | None, confined: str | None
) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    """Start a process that imports a source, and yield it and the file of its answer; end it and what it started."""
    with tempfile.TemporaryFile() as file:
        request = json.dumps([asdict(source), place and asdict(place)])
        interpreter = place.python if place else sys.executable
        process = subprocess.Popen(
            [interpreter, "-P", *launcher(confined), "copycost.catalog.description", request, str(file.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[file.fileno()],
            start_new_session=True,
            env=child_environment(place),
            cwd=place.folder if place else None,
        )
        try:
            yield process, file
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answered(source: Source, process: subprocess.Popen[bytes], file: IO[bytes]) -> Description:
    """Wait for the process that imports a source, and return what it has described."""
    try:
        status = process.wait(_IMPORT_TIMEOUT)
        file.seek(0)
        answer = json.loads(file.read(_LONGEST_ANSWER))
    except subprocess.TimeoutExpired:
        raise RegistrationError(f"{source} was still importing after {_IMPORT_TIMEOUT} s") from None
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or "error" not in answer:
        raise RegistrationError(f"{source} ended the process that imported it (status {status})")
    if answer["error"]:
        raise RegistrationError(answer["error"])
    try:
        return _description(answer)
    except (KeyError, TypeError, ValueError, AttributeError):  # the file has written something else
        raise RegistrationError(f"{source} has answered in a way that cannot be read") from None


def _description(answer: Mapping[str, Any]) -> Description:
    """Return what an answer describes."""
    axes = {name: tuple(tuple(v) if isinstance(v, list) else v for v in vs) for name, vs in answer["axes"].items()}
    return Description(
        [_recipe(fields) for fields in answer["recipes"]], [_variant(fields) for fields in answer["variants"]], axes,
        tuple(answer["imports"]),
    )  # fmt: skip


def _recipe(fields: Mapping[str, Any]) -> Recipe:
    """Return the recipe whose fields were read from JSON."""
    return Recipe(**{**fields, "source": Source(**fields["source"])})


def _variant(fields: Mapping[str, Any]) -> Variant:
    """Return the variant whose fields were read from JSON."""
    return Variant(
        **{
            **fields,
            "source": Source(**fields["source"]),
            "writes": Writes(fields["writes"]),
            "accepts": tuple(fields["accepts"]),
            "devices": tuple(map(DeviceKind, fields["devices"])),
            "layouts": tuple(map(Layout, fields["layouts"])),
        }
    )


def _answer(source: Source, place: dict[str, Any] | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"error": None}
    try:
        load_shipped()
        if place:
            enter(ImportContext(**place))
        modules = set(sys.modules)
        shipped: tuple[Any, Any] = (set(recipes), set(variants)) if not source.is_shipped else ((), ())
        load(source)
        if place:
            check_origin(ImportContext(**place))
        answer["recipes"] = [_plain(r, "reference", "make") for r in recipes.values() if r.name not in shipped[0]]
        answer["variants"] = [_plain(v, "prepare") for key, v in variants.items() if key not in shipped[1]]
        answer["axes"] = benchmark_axes.get(source, {})
        answer["imports"] = _installed(set(sys.modules) - modules)
    except (RegistrationError, TargetError) as error:
        answer["error"] = f"{source}: {error}" if source.name not in str(error) else str(error)
    except BaseException as error:  # a file may raise anything, including SystemExit
        answer["error"] = f"{source} does not import: {_raised_at(source.name, error)}"
    return answer


def _installed(modules: Iterable[str]) -> list[str]:
    """Return the packages of some modules that are installed in this environment."""
    folders = {sysconfig.get_paths()[name] for name in ("purelib", "platlib")}
    names = {name.partition(".")[0] for name in modules}
    files = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
    return sorted(
        name for name, file in files.items() if file and any(file.startswith(f"{f}{os.sep}") for f in folders)
    )


def _raised_at(path: str, error: BaseException) -> str:
    """Return an error as one line: its type, its message and the last line of the file in its traceback."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
    if isinstance(error, SyntaxError) and error.filename == path:
        lines.append(error.lineno)
    message = f"{type(error).__name__}: {' '.join(str(error).split())}".encode(errors="backslashreplace").decode()
    return f"{message} (line {lines[-1]})" if lines else message


def _plain(entry: Recipe | Variant, *functions: str) -> dict[str, Any]:
    return {key: value for key, value in asdict(entry).items() if key not in functions}


if __name__ == "__main__":
    source, place = json.loads(sys.argv[1])
    with open(int(sys.argv[2]), "w") as answers:
        answers.write(json.dumps(_answer(Source(**source), place)))
    os._exit(0)  # skip threads and exit handlers that the file may have left
