"""The answer first: which way to take for each kind of batch, what it saves, and what should worry the reader."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from suite import format
from suite.comparison import ratio
from suite.measurement import Measurement
from suite.results import measurements

#: What a way is compared with: NumPy as it is written first, and Keras' function of an array.
PLAIN, KERAS = "numpy-new", "keras-numpy"

#: What cases have in common that can take each other's place.
_GROUP = ("recipe", "device", "dtype", "layout", "height", "width", "channels", "batch")

#: Groups that are answered at most: more are not read.
MOST = 96

#: Of a hundred answers one may be wrong about which of two is faster.
_FALSE_ALARMS = 0.01


@dataclass(frozen=True)
class Saving:
    """What one way takes of what another does.

    Attributes
    ----------
    base : Measurement
    times : float or None
        How many times as fast, with its 95 % interval; None where the samples do not tell.
    low, high : float or None
    sure : bool
        Whether it is surely faster, or surely slower; else no difference can be told.
    allocated_bytes : int or None
        That it allocates less; negative: more.
    """

    base: Measurement
    times: float | None
    low: float | None
    high: float | None
    sure: bool
    allocated_bytes: int | None

    @property
    def speed(self) -> str:
        """How many times as fast, with its interval, or in words that it cannot be told; before the other's name."""
        if self.times is None or self.low is None or self.high is None:
            return "not compared with"
        if not self.sure:
            return "too close or too noisy to tell from"
        return f"{format.three(self.times)} × ({format.three(self.low)} to {format.three(self.high)}) as fast as"

    @property
    def beside(self) -> str:
        """What stands beside the other's name: its time, and what it does to its input."""
        changes = ", which changes its input" if self.base.input_changed and self.base.writes != "input" else ""
        return f"({format.seconds(self.base.seconds)}{changes})"

    @property
    def memory(self) -> str:
        """How many bytes a call allocates less."""
        if self.allocated_bytes is None:
            return "allocations not compared"
        if not self.allocated_bytes:
            return "allocates as much" if self.base.allocated_bytes else "both allocate nothing"
        return f"allocates {format.size(abs(self.allocated_bytes))} {'less' if self.allocated_bytes > 0 else 'more'}"

    def __str__(self) -> str:
        return f"{self.speed} {self.base.variant} {self.beside}, {self.memory}"


@dataclass(frozen=True)
class Way:
    """One way that is recommended, and what it saves."""

    measurement: Measurement
    savings: tuple[Saving, ...]


@dataclass(frozen=True)
class Answer:
    """For one recipe, dtype and shape on one device.

    Attributes
    ----------
    fastest : Way
        Of those that are right and leave their input as it was.
    ties : tuple of str
        Variants that are not surely slower.
    lean : Way or None
        The fastest of those that allocate nothing besides; None where there is none, or where it is the fastest.
    over : Way or None
        The fastest that computes over its input, where that is surely faster than the fastest.
    """

    fastest: Way
    ties: tuple[str, ...]
    lean: Way | None
    over: Way | None


@dataclass(frozen=True)
class Worry:
    """Something that a way does that a reader may not expect, and in how many of its measured cases it does.

    Attributes
    ----------
    variant, what : str
    recipes : tuple of str
        In which it does.
    example : Measurement
        The first such case, or the first of which there is a reason.
    cases, of : int
    """

    variant: str
    what: str
    recipes: tuple[str, ...]
    example: Measurement
    cases: int
    of: int

    def __str__(self) -> str:
        where = f"in {self.cases} of {self.of} cases ({', '.join(self.recipes)})"
        return f"{self.variant} {self.what} {where}" + (f": {self.example.reason}" if self.example.reason else "")


@dataclass(frozen=True)
class Overview:
    """What a person needs first: which way to take, and what to beware of. Shown as a page's part in a notebook.

    Attributes
    ----------
    answers : tuple of Answer
        By recipe, device, dtype and shape.
    left : int
        Groups beyond those, which are in the table of cases only.
    worries : tuple of Worry
    """

    answers: tuple[Answer, ...]
    left: int
    worries: tuple[Worry, ...]

    @property
    def usual(self) -> list[Answer]:
        """Of the answers to each recipe the one that is most likely to be wanted."""
        found: dict[str, Answer] = {}
        for one in self.answers:
            recipe = one.fastest.measurement.recipe
            if recipe not in found or unusual(one.fastest.measurement.to_dict()) < unusual(
                found[recipe].fastest.measurement.to_dict()
            ):
                found[recipe] = one
        return list(found.values())

    @property
    def by_recipe(self) -> list[tuple[str, list[Answer]]]:
        """The answers to each recipe."""
        return [(name, list(its)) for name, its in groupby(self.answers, lambda one: one.fastest.measurement.recipe)]

    @property
    def by_worry(self) -> list[tuple[str, list[Worry]]]:
        """Who gives each cause to worry, the gravest first."""
        return [(what, list(its)) for what, its in groupby(self.worries, lambda one: one.what)]

    def _repr_html_(self) -> str:
        from suite.report.html import fragment  # which takes this for a page

        return fragment(self)

    def _repr_markdown_(self) -> str:
        from suite.report.markdown import markdown

        return markdown(self)

    def __str__(self) -> str:
        lines = []
        for one in self.answers:
            m = one.fastest.measurement
            time = f"{format.seconds(m.seconds)} {format.spread(m)}".strip()
            lines.append(f"{format.group_title(m)}: {m.variant}, {time}")
            lines += [f"    {saving}" for saving in one.fastest.savings]
        return "\n".join([*lines, *map(str, self.worries)])


def unusual(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """How far a case is from what a reader is most likely to want: float32, near 32 images of 224×224, on the CPU."""
    return (
        row["device"] != "cpu",
        row["layout"] != "channels_last",
        row["dtype"] != "float32",
        row["dtype"] != "uint8",
        (row["height"], row["width"]) != (224, 224),
        abs((row["batch"] or 1) - 32),
    )


def overview(measured: Iterable[Measurement] | pd.DataFrame) -> Overview:
    """The answers first, and the worries.

    Parameters
    ----------
    measured : iterable of Measurement, or DataFrame
        As `suite.load` or `suite.run` gives it.
    """
    if isinstance(measured, pd.DataFrame):
        measured = measurements(measured)
    rows = list(measured)
    groups = _groups(rows)
    return Overview(tuple(answers(groups[:MOST])), max(0, len(groups) - MOST), tuple(worries(rows)))


def answers(groups: Iterable[Sequence[Measurement]]) -> list[Answer]:
    """An answer for every group in which something is right and was timed, in their order."""
    found = []
    for rows in groups:
        right = sorted((m for m in rows if m.status == "ok" and m.seconds is not None), key=lambda m: m.seconds or 0)
        kept = [m for m in right if not m.input_changed and m.result_shares != "input"]
        if not kept:
            continue
        fastest = kept[0]
        lean = next((m for m in kept if m.allocations == 0), None)
        over = next((m for m in right if m.input_changed), None)
        faster = saving(fastest, over) if over else None
        found.append(
            Answer(
                _way(fastest, rows),
                tuple(m.variant for m in kept[1:] if not saving(m, fastest).sure),
                _way(lean, rows) if lean and lean is not fastest else None,
                _way(over, rows) if over and faster and faster.sure and (faster.times or 0) > 1 else None,
            )
        )
    return found


def worries(rows: Iterable[Measurement]) -> list[Worry]:
    """What should make one careful: by variant, in how many of the cases that were measured, the gravest first."""
    by_variant: dict[str, list[Measurement]] = {}
    for m in rows:
        if m.status != "skipped":
            by_variant.setdefault(m.variant, []).append(m)
    found = []
    for what, does in _WORRIES:
        for variant, its in sorted(by_variant.items()):
            cases = [m for m in its if does(m)]
            if cases:
                recipes = tuple(dict.fromkeys(m.recipe for m in cases))
                example = next((m for m in cases if m.reason), cases[0])
                found.append(Worry(variant, what, recipes, example, len(cases), len(its)))
    return found


#: What a reader may not expect. A variant that is there to write over its input says so by its name; a function that is
#: given an array does not.
_WORRIES: tuple[tuple[str, Callable[[Measurement], bool]], ...] = (
    ("gives a wrong result", lambda m: m.status == "wrong"),
    ("changes the array that it is given", lambda m: bool(m.input_changed) and m.writes != "input"),
    ("gives a result that lies in the input's memory", lambda m: m.result_shares == "input" and m.writes != "input"),
    ("gives a result that is not contiguous, which the next step may copy", lambda m: m.result_contiguous is False),
    ("raises, dies or takes too long", lambda m: m.status in ("failed", "crashed", "timeout")),
)


def saving(base: Measurement, one: Measurement) -> Saving:
    """What `one` saves against `base`, from samples that were taken in turn."""
    allocated = None
    if base.allocated_bytes is not None and one.allocated_bytes is not None:
        allocated = base.allocated_bytes - one.allocated_bytes
    difference = _difference(one, base)
    if difference is None:
        return Saving(base, None, None, None, False, allocated)
    its = difference.ratio(_FALSE_ALARMS)
    return Saving(base, its.value, its.low, its.high, its.sure_low > 1 or its.sure_high < 1, allocated)


def _difference(one: Measurement, base: Measurement) -> ratio.Difference | None:
    if not one.samples or not base.samples:
        return None
    try:
        return ratio.paired(one.samples, base.samples)
    except ValueError:  # blocks of unequal length: not taken in turn
        return None


def _way(one: Measurement, rows: Sequence[Measurement]) -> Way:
    bases = [m for name in (PLAIN, KERAS) for m in rows if m.variant == name and m.status == "ok" and m is not one]
    return Way(one, tuple(saving(base, one) for base in bases))


def _groups(rows: Sequence[Measurement]) -> list[list[Measurement]]:
    """What can take each other's place, where anything was timed: recipes in their order, small batches first."""
    recipes = {name: k for k, name in enumerate(dict.fromkeys(m.recipe for m in rows))}
    groups: dict[tuple[Any, ...], list[Measurement]] = {}
    for m in rows:
        key = (recipes[m.recipe], *(-1 if one is None else one for one in (getattr(m, name) for name in _GROUP[1:])))
        groups.setdefault(key, []).append(m)
    return [groups[key] for key in sorted(groups) if any(m.seconds is not None for m in groups[key])]
