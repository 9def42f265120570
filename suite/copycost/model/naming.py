"""Check names that a user gives, and suggest the nearest valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class RegistrationError(ValueError):
    """Raised for an unusable recipe, variant or file that defines them. The message is one line."""


def check_name(what: str, given: str, allowed: Iterable[str]) -> None:
    """Raise RegistrationError with the nearest valid names unless `given` is allowed."""
    allowed = list(allowed)
    if given not in allowed:
        if not isinstance(given, str):
            raise RegistrationError(f"invalid {what} {given!r}: expected one of {', '.join(allowed)}")
        raise RegistrationError(did_you_mean(what, given, allowed))


def did_you_mean(what: str, given: str, allowed: Sequence[str]) -> str:
    """Return the message for an unknown name, with similar valid names or else the first valid ones."""
    close = (
        difflib.get_close_matches(given, allowed, n=3, cutoff=0.4) or [name for name in allowed if given in name][:3]
    )
    if close:
        return f"unknown {what} '{given}'; did you mean {' or '.join(close)}?"
    more = f" and {len(allowed) - 8} more" if len(allowed) > 8 else ""
    return f"unknown {what} '{given}'; expected one of {', '.join(allowed[:8])}{more}"


def as_tuple(given: Iterable[str]) -> tuple[str, ...]:
    """Return a single string or an iterable of strings as a tuple."""
    return (given,) if isinstance(given, str) else tuple(given)
