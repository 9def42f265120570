"""Define a step: a few statements about a machine that must hold, and the function that tests them in a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from copycost.model.vocabulary import DeviceKind


class NothingToCheck(Exception):
    """Raised by a step that cannot test anything. The message is the reason."""


class Each(Enum):
    """What a step is repeated for, each time in a process of its own."""

    MACHINE = "once"
    RUNTIME = "every installed runtime of the device"
    CLOCK = "every installed runtime whose clock on the device is not that of another one"


@dataclass(frozen=True)
class Subject:
    """What a step tests.

    Attributes
    ----------
    device : DeviceKind
    runtime : str or None
        None for a step that does not depend on a runtime.
    """

    device: DeviceKind
    runtime: str | None = None


@dataclass(frozen=True)
class Finding:
    """One statement and whether it holds.

    Attributes
    ----------
    statement : str
    holds : bool
    figures : mapping
        What was measured, as JSON values. Names end with their unit, unless the value is a count or a ratio.
    """

    statement: str
    holds: bool
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes
    ----------
    name : str
    devices : tuple of DeviceKind
        Devices that the step is for.
    seconds : float
        Time limit.
    each : Each
    look : callable
        ``look(subject)`` tests the statements and yields each finding at once. It raises `NothingToCheck` if it cannot.
    """

    name: str
    devices: tuple[DeviceKind, ...]
    seconds: float
    each: Each
    look: Callable[[Subject], Iterator[Finding]]


#: Every step by its name, in the order of definition.
STEPS: dict[str, Step] = {}


def step(
    *devices: DeviceKind, seconds: float, each: Each = Each.MACHINE
) -> Callable[[Callable[[Subject], Iterator[Finding]]], Callable[[Subject], Iterator[Finding]]]:
    """Register the decorated function as a step; the function's name becomes the step's name."""

    def register(look: Callable[[Subject], Iterator[Finding]]) -> Callable[[Subject], Iterator[Finding]]:
        name = look.__name__.replace("_", "-")
        STEPS[name] = Step(name, devices, seconds, each, look)
        return look

    return register
