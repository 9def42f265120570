"""Names that a user gives: check them, and suggest the nearest valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


class RegistrationError(ValueError):
    """A recipe, a variant or a file of them that cannot be used; the message is one line."""


def check_name(what: str, given: str, allowed: Iterable[str]) -> None:
    """Raise RegistrationError, with the names most like it, unless `given` is allowed."""
    allowed = list(allowed)
    if given not in allowed:
        if not isinstance(given, str):
            raise RegistrationError(f"{what} {given!r} is no name; there are {' and '.join(allowed)}")
        raise RegistrationError(did_you_mean(what, given, allowed))


def did_you_mean(what: str, given: str, allowed: Sequence[str]) -> str:
    """That there is no such name, and which are like it; or some that there are."""
    close = (
        difflib.get_close_matches(given, allowed, n=3, cutoff=0.4) or [name for name in allowed if given in name][:3]
    )
    if close:
        return f"unknown {what} '{given}'; did you mean {' or '.join(close)}?"
    more = f" and {len(allowed) - 8} more" if len(allowed) > 8 else ""
    return f"unknown {what} '{given}'; there is {', '.join(allowed[:8])}{more}"


def as_tuple(given: Iterable[str]) -> tuple[str, ...]:
    """One word, or several, as several."""
    return (given,) if isinstance(given, str) else tuple(given)
