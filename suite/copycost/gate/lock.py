"""``copycost.lock``: what functions request from memory, kept in a repository."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from copycost.gate.counted import FIGURES, Counted, CountError, count
from copycost.model import numbers
from copycost_meter.call_count import CallCount

#: Name of the file.
NAME = "copycost.lock"

_HEAD = """\
# What each function requests from memory in one call. Written by `copycost lock`, which fails if a figure is higher.
# Review a change of this file as a change of the code.
"""

#: Name of each figure in the file.
_KEYS = {"allocations": "allocations", "copies": "copies", "allocated_bytes": "bytes", "peak_bytes": "peak"}


class LockError(ValueError):
    """Raised if a lock file cannot be used. The message is one line."""


@dataclass(frozen=True)
class Entry:
    """A function, and what it requests.

    Attributes
    ----------
    function : Counted
    figures : mapping of str to int
        Figures of `FIGURES`. One that differs from call to call is absent.
    changes : tuple of str
        Arguments that the function changes.
    """

    function: Counted
    figures: Mapping[str, int]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """A figure of a function that is not what the lock says.

    Attributes
    ----------
    name : str
        A key of the file.
    before, after : str
        As people read it.
    is_more : bool
    """

    name: str
    before: str
    after: str
    is_more: bool


@dataclass(frozen=True)
class Checked:
    """A function of a lock that was counted.

    Attributes
    ----------
    entry : Entry
        What the lock says. Without figures for a new function.
    now : Entry or None
        What was counted. None if it could not be.
    error : str or None
        Why it could not be counted.
    differences : tuple of Difference
    lines : tuple of (int, str)
        Bytes and origin of each request, the largest first.
    """

    entry: Entry
    now: Entry | None
    error: str | None = None
    differences: tuple[Difference, ...] = ()
    lines: tuple[tuple[int, str], ...] = field(default=(), compare=False)

    @property
    def is_more(self) -> bool:
        """Whether any figure is higher, or the function cannot be counted."""
        return self.error is not None or any(difference.is_more for difference in self.differences)


def entry_of(function: Counted, found: CallCount) -> Entry:
    """Return the entry of a function that was counted."""
    values = {name: getattr(found, name) for name in FIGURES}
    varying = {*found.varies, *(["copies"] if "allocations" in found.varies else [])}
    figures = {name: value for name, value in values.items() if value is not None and name not in varying}
    return Entry(function, figures, found.changed)


def check(entries: Sequence[Entry], folder: Path, at_once: int) -> list[Checked]:
    """Count the functions of entries, and compare them.

    Parameters
    ----------
    entries : sequence of Entry
    folder : Path
        Folder of the lock file, to which the functions' files are relative.
    at_once : int
        Number of processes.
    """

    def one(entry: Entry) -> Checked:
        try:
            found = count(entry.function, folder)
        except CountError as error:
            return Checked(entry, None, str(error))
        now = entry_of(entry.function, found)
        return Checked(entry, now, None, tuple(differences(entry, now)), found.lines)

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, entries))


def differences(entry: Entry, now: Entry) -> list[Difference]:
    """Return the figures of a function that are not what its entry says."""
    found = []
    for name in FIGURES:
        before, after = entry.figures.get(name), now.figures.get(name)
        if before is not None and after is None:
            found.append(Difference(_KEYS[name], f"{before:,}", "differs from call to call", True))
        elif before is not None and after is not None and before != after:
            old, new = (numbers.size(value) if "bytes" in name else f"{value:,}" for value in (before, after))
            found.append(Difference(_KEYS[name], old, new, after > before))
    if entry.figures and entry.changes != now.changes:
        old, new = (", ".join(names) or "nothing" for names in (entry.changes, now.changes))
        found.append(Difference("changes", old, new, not set(now.changes) <= set(entry.changes)))
    return found


def read(path: Path) -> list[Entry]:
    """Return the entries of a lock file.

    Raises
    ------
    LockError
        If there is no such file, or if it is damaged.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LockError(f"no file {path}: copycost lock FUNCTION creates it") from None
    except OSError as error:
        raise LockError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise LockError(f"{path} is not a lock: {' '.join(str(error).split())}") from None
    return [_entry(path, target, table) for target, table in document.items()]


def _entry(path: Path, target: str, table: Any) -> Entry:
    """Return the entry of a table, or raise LockError."""
    keys = {"input", "inputs", "changes", *_KEYS.values()}
    if not isinstance(table, dict) or (unknown := set(table) - keys):
        what = f"has no key {sorted(unknown)[0]!r}" if isinstance(table, dict) else "is no table"
        raise LockError(f"{path}: {target} {what}: expected {', '.join(sorted(keys))}")
    inputs, maker, changes = table.get("input", []), table.get("inputs"), table.get("changes", [])
    figures = {name: table[key] for name, key in _KEYS.items() if key in table}
    is_valid = (
        all(isinstance(names, list) and all(isinstance(name, str) for name in names) for names in (inputs, changes))
        and (maker is None or isinstance(maker, str))
        and all(type(value) is int and value >= 0 for value in figures.values())
    )
    if not is_valid:
        raise LockError(f"{path}: {target} has values of other types than copycost lock writes")
    return Entry(Counted(target, tuple(inputs), maker), figures, tuple(changes))


def text(entries: Sequence[Entry]) -> str:
    """Return the text of a lock file, with a table for each function, in alphabetical order."""
    tables = [_HEAD]
    for entry in sorted(entries, key=lambda entry: entry.function.target):
        function = entry.function
        lines = [f"[{_quoted(function.target)}]"]
        if function.maker is not None:
            lines.append(f"inputs = {_quoted(function.maker)}")
        else:
            lines.append(f"input = {_quoted(list(function.inputs))}")
        lines += [f"{_KEYS[name]} = {entry.figures[name]}" for name in FIGURES if name in entry.figures]
        lines.append(f"changes = {_quoted(list(entry.changes))}")
        tables.append("\n".join(lines) + "\n")
    return "\n".join(tables)


def _quoted(value: str | list[str]) -> str:
    """Return a text or a list of texts as TOML, whose escapes are those of JSON but for pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
