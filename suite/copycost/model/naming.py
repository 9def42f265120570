"""Check names that a user gives, and suggest the nearest valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class RegistrationError(ValueError):
    """Raised for an unusable recipe, variant or file that defines them. The message is one line."""


def check_name(kind: str, name: str, valid_names: Iterable[str]) -> None:
    """Raise RegistrationError with the nearest valid names unless `name` is one of them.

    `kind` says what is named, for the message.
    """
    valid_names = list(valid_names)
    if name not in valid_names:
        if not isinstance(name, str):
            raise RegistrationError(f"invalid {kind} {name!r}: expected one of {', '.join(valid_names)}")
        raise RegistrationError(did_you_mean(kind, name, valid_names))


def did_you_mean(kind: str, name: str, valid_names: Sequence[str]) -> str:
    """Return the message for an unknown name, with similar valid names or else the first valid ones."""
    matches = difflib.get_close_matches(name, valid_names, n=3, cutoff=0.4)
    matches = matches or [valid_name for valid_name in valid_names if name in valid_name][:3]
    if matches:
        return f"unknown {kind} '{name}'; did you mean {' or '.join(matches)}?"
    rest = f" and {len(valid_names) - 8} more" if len(valid_names) > 8 else ""
    return f"unknown {kind} '{name}'; expected one of {', '.join(valid_names[:8])}{rest}"


def as_tuple(names: Iterable[str]) -> tuple[str, ...]:
    """Return a single string or an iterable of strings as a tuple."""
    return (names,) if isinstance(names, str) else tuple(names)
