"""Shared parts of the commands: option types, the options that select cases, and the handling of user errors."""

from __future__ import annotations

import errno
import functools
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from copycost.cases import case, images, selection
from copycost.cases.case import Case
from copycost.cases.profiles import PROFILES, Axes
from copycost.gate import commits, measure
from copycost.machine import devices
from copycost.machine.host_lock import LockError
from copycost.model import naming
from copycost.model.vocabulary import DTYPES, Layout
from copycost.results import store
from copycost.tracking import project
from copycost_meter.arguments import parse_shape
from copycost_meter.errors import one_line
from copycost_meter.targets import TargetError

#: Exceptions for user errors: they end a command with one line and exit status 2.
_USAGE = (
    naming.RegistrationError, case.CaseError, images.ImageError, store.RunError, project.ProjectError,
    commits.RepositoryError, measure.NothingToMeasure, TargetError, LockError,
)  # fmt: skip

#: Errors of a full disk or quota. They name no file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

#: Exit status after an interrupt: 128 + SIGINT, as in shells.
INTERRUPTED = 130


def install_interrupt_handlers() -> None:
    """Make the first Ctrl-C, SIGTERM or SIGHUP raise KeyboardInterrupt, and ignore later ones during cleanup.

    SIGHUP is what a terminal sends that is closed. Under ``nohup`` it stays ignored.
    """

    def interrupt(*_: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        signal.signal(number, interrupt)


class Seconds(click.ParamType):
    """A click type for a positive number of seconds, at most 10,000,000."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: D102
        try:
            seconds = float(value)
        except ValueError:
            self.fail(f"'{value}' is not a number of seconds: expected e.g. 60")
        if not 0 < seconds <= 1e7:
            self.fail(f"{value} seconds is out of range: expected more than 0 and at most 10,000,000")
        return seconds


#: Maximum number of characters of a message.
_LONGEST = 500


def one_line_message(message: str) -> str:
    """Return a message as one line of at most 500 printable characters.

    Characters that are not printable are escaped. A longer message keeps its beginning, which names the problem, and
    its end, which names the solution.
    """
    return _ends(one_line(_ends(message, 2000)), _LONGEST)  # one_line reads at most 2,000 characters


def _ends(text: str, most: int) -> str:
    half = (most - 3) // 2
    return text if len(text) <= most else f"{text[:half]} … {text[-half:]}"


def printable(path: str | os.PathLike[str]) -> str:
    """Return a path with every character that is not printable escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(path))


def errors(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn user errors, and OSErrors that name a file, into a one-line message and exit status 2."""

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except _USAGE as error:
            raise click.UsageError(str(error)) from None
        except OSError as error:
            if error.filename is None and error.errno not in _FULL:
                raise
            where = f"{error.filename}: " if error.filename is not None else ""
            raise click.UsageError(f"{where}{error.strerror}") from None

    return guarded


class FilePath(click.ParamType):
    """A click type for a path, which need not exist; rejects invalid names and paths that may not be read."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: D102
        if value == "":
            name = param.opts[0] if isinstance(param, click.Option) else param and param.human_readable_name
            raise click.UsageError(f"{name} is empty: expected the name of a file or a folder", ctx)
        try:
            os.stat(value)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except ValueError:
            self.fail(f"'{value}' is not a valid path: it contains a null character")
        except OSError as error:
            self.fail(f"'{value}' is not a usable path: {error.strerror}")
        return str(value)


class ArrayShape(click.ParamType):
    """A click type for the shape and dtype of an array: ``8x224x224x3:float32``."""

    name = "SHAPE:DTYPE"

    def convert(  # noqa: D102
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[tuple[int, ...], str]:
        try:
            return parse_shape(str(value))
        except TargetError as error:
            self.fail(str(error))


class Size(click.ParamType):
    """A click type for a height and a width."""

    name = "HxW"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:  # noqa: D102
        sides = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", str(value))
        if not sides:
            self.fail(f"'{value}' is not a size: expected HEIGHTxWIDTH, e.g. 224x224")
        return int(sides[1]), int(sides[2])


class Batch(click.ParamType):
    """A click type for the number of images in a batch; ``none`` is one image without a batch axis."""

    name = "N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:  # noqa: D102
        if value == "none":
            return value  # click treats None as an option that is not given
        try:
            return int(value)
        except ValueError:
            self.fail(
                f"'{value}' is not a batch: expected a number of images, or none for one image without a batch axis"
            )


class Device(click.ParamType):
    """A click type for a kind of device, or for one GPU by its number, which hides the other GPUs from the process."""

    name = "GLOB"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: D102
        if gpu := re.fullmatch(r"gpu:(\d{1,9})", str(value)):
            try:
                devices.choose(int(gpu[1]))
            except LookupError as error:
                self.fail(str(error))
            return "gpu"
        return str(value)


class Word(click.ParamType):
    """A choice that suggests the nearest valid value."""

    def __init__(self, name: str, allowed: Sequence[str]) -> None:
        self.name, self.allowed = name, allowed

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: D102
        try:
            naming.check_name(self.name, value, self.allowed)
        except naming.RegistrationError as error:
            self.fail(str(error))
        return value


def lock_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the lock of this machine: ``wait`` is None if it is not to be taken."""

    @functools.wraps(function)
    def with_wait(*args: Any, no_lock: bool, wait: float | None, **kwargs: Any) -> Any:
        if no_lock and wait is not None:
            raise click.UsageError("--wait and --no-lock cannot both be given: --wait is for the lock")
        return function(*args, wait=None if no_lock else math.inf if wait is None else wait, **kwargs)

    wait = click.option(
        "--wait",
        type=Seconds(),
        metavar="SECONDS",
        help="How long to wait until nothing else is timed on this machine.  [default: as long as it takes]",
    )
    no_lock = click.option("--no-lock", is_flag=True, help="Do not wait for other measurements, nor hold them up.")
    decorated: Callable[..., Any] = wait(no_lock(with_wait))
    return decorated


SELECTION = [
    click.option("--profile", type=Word("profile", list(PROFILES)), default="quick", show_default=True,
                 help="Set of cases to select: quick, standard or full."),
    click.option("--recipe", "recipe", multiple=True, metavar="GLOB",
                 help="Select only matching recipes. Can be repeated."),
    click.option("--variant", "variant", multiple=True, metavar="GLOB",
                 help="Select only matching variants. Can be repeated."),
    click.option("--device", "device", multiple=True, type=Device(), metavar="GLOB",
                 help="Select only these devices: cpu, gpu, or one GPU, e.g. gpu:1."),
    click.option("--batch", "batch", multiple=True, type=Batch(), metavar="N",
                 help="Number of images in a batch, or none for one image without a batch axis."),
    click.option("--size", "size", multiple=True, type=Size(), metavar="HxW",
                 help="Height and width of the images, e.g. 224x224."),
    click.option("--dtype", "dtype", multiple=True, type=Word("dtype", DTYPES), metavar="NAME",
                 help="Input dtype: uint8, float16, float32, float64."),
    click.option("--layout", "layout", multiple=True, type=Word("layout", list(Layout)), metavar="NAME",
                 help="Layout of the images: channels_last or channels_first."),
    click.option("--with", "with_files", multiple=True, type=FilePath(), metavar="FILE",
                 help="Python file that defines your own variants and recipes. Can be repeated."),
]  # fmt: skip


def selection_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that select cases."""
    for option in reversed(SELECTION):
        function = option(function)
    return function


def choose(options: dict[str, Any]) -> list[Case]:
    """Return the cases that the options select."""
    return selection.select(
        options["profile"],
        recipes=options["recipe"],
        variants=options["variant"],
        devices=options["device"],
        files=options["with_files"],
        **given_axes(options),
    )


def axes_of(options: dict[str, Any]) -> Axes:
    """Return the axes of the profile, replaced by those that the options give."""
    return selection.axes_of(options["profile"], **given_axes(options))


def given_axes(options: dict[str, Any]) -> dict[str, Any]:
    """Return the values that the options give for each axis: none for an axis that they leave to the profile."""
    return {
        "batches": [None if batch == "none" else batch for batch in options["batch"]],
        "sizes": options["size"],
        "dtypes": options["dtype"],
        "layouts": options["layout"],
    }


def new_folder(suffix: str = "") -> Path:
    """Return a path in reports/ that does not exist yet, named after the current time."""
    name = datetime.now(UTC).strftime("%Y%m%d-%H%M%S") + suffix
    folders = (Path("reports") / f"{name}{ending}" for ending in ("", *(f"-{n}" for n in range(2, 1000))))
    return next(folder for folder in folders if not folder.exists())


def check_writable(name: str | None, *, folder: bool = False) -> None:
    """Raise RunError if a file or folder cannot be written, without creating or changing anything.

    Parameters
    ----------
    name : str or None
        None, and ``-`` for standard output, can always be written.
    folder : bool
        Whether `name` is a folder, which would be created with its parents.
    """
    if name is None or (name == "-" and not folder):
        return
    path = Path(os.path.realpath(name))  # writing follows a link even if its target does not exist
    place = path
    if not path.exists():
        place = next(parent for parent in path.parents if parent.exists()) if folder else path.parent
    why = None
    if place == path and path.is_dir() != folder:
        why = "it is not a folder" if folder else "it is a folder"
    elif place != path and not place.is_dir():
        why = f"{place} is not a folder"
    elif not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
        why = "permission denied"
    if why:
        raise store.RunError(f"{name} cannot be written to: {why}")


def write_json(name: str, document: dict[str, Any]) -> None:
    """Write a document to a file, or to standard output for ``-``."""
    write_text(name, json_text(document))


def json_text(document: dict[str, Any]) -> str:
    """Return a document as the text of a file."""
    return json.dumps(document, allow_nan=False) + "\n"


def write_texts(texts: Mapping[str, str]) -> None:
    """Write each text to its file, pipes first: only writing shows whether a pipe has a reader."""
    for name in sorted(texts, key=is_stream, reverse=True):
        write_text(name, texts[name])


def is_stream(name: str) -> bool:
    """Return whether a name is a pipe, a device or ``-``, which cannot be replaced by a new file."""
    return name == "-" or (os.path.exists(name) and not os.path.isfile(name))


def write_text(name: str, text: str) -> None:
    """Write text to a file, or to standard output for ``-``."""
    if name == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        write_bytes(name, text.encode(errors="replace"))


def write_bytes(name: str, content: bytes) -> None:
    """Write to a file."""
    # Open the existing file rather than replace it, so that a link, a pipe or a device stays one.
    try:
        with open(name, "wb", opener=_opener) as file:
            file.write(content)
    except OSError as error:
        raise store.RunError(f"{name} cannot be written to: {error.strerror}") from None


def _opener(name: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a named pipe that has no reader would block.
    fd = os.open(name, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(fd, True)
    return fd
