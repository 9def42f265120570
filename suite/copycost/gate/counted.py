"""Count the allocations of functions, each in a process of its own, in any interpreter."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import copycost_meter
from copycost.catalog.import_context import child_environment
from copycost.engine import messages
from copycost_meter.call_count import CallCount
from copycost_meter.errors import one_line

#: Seconds after which a function that does not return is given up.
_TIMEOUT = 120

#: Figures of a count of which more is worse.
FIGURES = ("allocations", "copies", "allocated_bytes", "peak_bytes")

#: Maximum length of an answer in bytes.
_LONGEST_ANSWER = 1 << 20


@dataclass(frozen=True)
class Counted:
    """A function, and its arguments.

    Attributes
    ----------
    target : str
        ``file.py::function`` or ``module:function``.
    inputs : tuple of str
        Shape and dtype of each argument that is an array of random values.
    maker : str or None
        Function that makes the arguments, in place of these.
    """

    target: str
    inputs: tuple[str, ...] = ()
    maker: str | None = None


class CountError(Exception):
    """Raised if a function cannot be counted. The message is one line."""


def count(function: Counted, folder: Path, python: str = sys.executable, path: Sequence[str] = ()) -> CallCount:
    """Count a function in a new process.

    Parameters
    ----------
    function : Counted
    folder : Path
        Working directory, to which the file of the function is relative.
    python : str, optional
        Interpreter that has the function's libraries and memray.
    path : sequence of str, optional
        Folders from which modules are imported before all others.

    Raises
    ------
    CountError
        If the function does not exist, raises, kills its process or does not return.
    """
    command = [python, "-m", "copycost_meter", "--json"]
    for text in function.inputs:
        command += ["--input", text]
    if function.maker is not None:
        command += ["--inputs", function.maker]
    try:
        process = subprocess.run(
            [*command, "--", function.target],
            cwd=folder, env=_environment(path), capture_output=True, stdin=subprocess.DEVNULL, timeout=_TIMEOUT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise CountError(f"did not return within {_TIMEOUT} s") from None
    except OSError as error:
        raise CountError(f"{python} cannot be started: {error.strerror}") from None
    if process.returncode:
        lines = process.stderr.decode(errors="replace").strip().splitlines()
        message = lines[-1].removeprefix("Error: ") if lines else f"its process ended with status {process.returncode}"
        raise CountError(one_line(message)[:300])
    try:
        found = messages.decode(process.stdout[-_LONGEST_ANSWER:], CallCount)
    except messages.MessageError:
        raise CountError("its answer could not be read") from None
    if found.missing is not None:
        raise CountError(f"is not counted: {found.missing}")
    counted: CallCount = found
    return counted


def _environment(path: Sequence[str]) -> Mapping[str, str]:
    """Return an environment in which a process imports this very meter, and nothing else of copycost's folder."""
    own = str(Path(str(copycost_meter.__file__)).parent.parent)
    entries = [*path, own, os.environ.get("PYTHONPATH", "")]
    return child_environment() | {"PYTHONPATH": os.pathsep.join(filter(None, entries)), "TF_CPP_MIN_LOG_LEVEL": "3"}
