"""Count the allocations of functions, each in a process of its own, in any interpreter."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
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
    status, answer, said = _run([*command, "--", function.target], folder, path)
    if status:
        lines = said.decode(errors="replace").strip().splitlines()
        message = lines[-1].removeprefix("Error: ") if lines else f"its process ended with status {status}"
        raise CountError(one_line(message)[:300])
    try:
        found = messages.decode(answer, CallCount)
    except messages.MessageError:
        raise CountError("its answer could not be read") from None
    if found.missing is not None:
        raise CountError(f"is not counted: {found.missing}")
    counted: CallCount = found
    return counted


def _run(command: Sequence[str], folder: Path, path: Sequence[str]) -> tuple[int, bytes, bytes]:
    """Run a command and end all that it has started; return its status, its answer and the end of its errors."""
    with tempfile.TemporaryFile() as answers, tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=_environment(path), stdin=subprocess.DEVNULL, stdout=answers, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise CountError(f"{command[0]} cannot be started: {error.strerror}") from None
        try:
            status = process.wait(_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise CountError(f"did not return within {_TIMEOUT} s") from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        answers.seek(0)
        errors.seek(max(0, errors.seek(0, os.SEEK_END) - 4096))
        return status, answers.read(_LONGEST_ANSWER), errors.read()


def _environment(path: Sequence[str]) -> Mapping[str, str]:
    """Return an environment in which a process imports this very meter, and nothing else of copycost's folder."""
    own = str(Path(str(copycost_meter.__file__)).parent.parent)
    entries = [*path, own, os.environ.get("PYTHONPATH", "")]
    return child_environment() | {
        "PYTHONPATH": os.pathsep.join(filter(None, entries)), "TF_CPP_MIN_LOG_LEVEL": "3",
        # The files of two commits may have the same size and time: Python would take the one for the other.
        "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
