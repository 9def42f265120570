"""The answer first: which way to take for each kind of batch, what it saves, and what to beware of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pandas as pd

from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.results.table import measurements, origins
from copycost.stats.rivals import Rivals, rivals

#: What a way is compared with: NumPy as it is written first, and Keras' function of an array.
PLAIN, KERAS = "numpy-new", "keras-numpy"

#: What cases have in common that can take each other's place.
_GROUP = ("recipe", "device", "dtype", "layout", "height", "width", "channels", "batch")

#: Groups that are answered at most: more are not read.
MOST = 96

#: How often an interval may miss the truth, and how often a table in which nothing is faster than a baseline may claim
#: a saving against it anywhere.
_MISSES = 0.05

#: What the intervals of an overview are; said wherever they are shown.
INTERVALS = (
    "Intervals hold the truth in 95 of 100 answers, although the variant was chosen for being the fastest. A saving is "
    "claimed where that is sure of all answers at once."
)


@dataclass(frozen=True)
class Speedup:
    """What one way takes of what another does.

    Attributes
    ----------
    base : Measurement
    times : float or None
        How many times as fast; None where the samples do not tell.
    low, high : float or None
        The 95 % interval of `times`, which allows for the way having been chosen for its time.
    sure : bool
        Whether it is surely faster, or surely slower: the interval that holds for all answers of a table at once, which
        is wider, does not contain 1. Else no difference is claimed.
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
            return f"{self.unsure} from"
        return f"{numbers.three(self.times)} × ({numbers.three(self.low)} to {numbers.three(self.high)}) as fast as"

    @property
    def unsure(self) -> str:
        """Why no saving is claimed: the interval contains 1, or only the wider one for all answers of a table does."""
        if self.low is not None and self.high is not None and not self.low <= 1 <= self.high:
            return "too noisy to tell"
        return "too close or too noisy to tell"

    @property
    def beside(self) -> str:
        """What stands beside the other's name: its time, and what it does to its input."""
        changes = ", which changes its input" if self.base.input_changed and self.base.writes != "input" else ""
        return f"({numbers.seconds(self.base.seconds)}{changes})"

    @property
    def memory(self) -> str:
        """How many bytes a call allocates less."""
        if self.allocated_bytes is None:
            return "allocations not compared"
        if not self.allocated_bytes:
            return "allocates as much" if self.base.allocated_bytes else "both allocate nothing"
        return f"allocates {numbers.size(abs(self.allocated_bytes))} {'less' if self.allocated_bytes > 0 else 'more'}"

    def __str__(self) -> str:
        return f"{self.speed} {self.base.variant} {self.beside}, {self.memory}"


@dataclass(frozen=True)
class Way:
    """One way that is recommended, and what it saves.

    Attributes
    ----------
    measurement : Measurement
    savings : tuple of Speedup
        Against each baseline that was measured beside it.
    low, high : float or None
        The 95 % interval of its seconds per call, which allows for the way having been chosen for its time. The
        interval of the measurement itself does not. None from one block.
    """

    measurement: Measurement
    savings: tuple[Speedup, ...]
    low: float | None = None
    high: float | None = None

    @property
    def time(self) -> str:
        """The time per call with its interval, as ``1.20 ms (1.10 ms to 1.35 ms)``."""
        shown = numbers.seconds(self.measurement.seconds)
        if self.low is None or self.high is None:
            return shown
        return f"{shown} ({numbers.seconds(self.low)} to {numbers.seconds(self.high)})"


@dataclass(frozen=True)
class Answer:
    """For one recipe, dtype and shape on one device, of what was measured together.

    Attributes
    ----------
    where : str
        The machine, and what else tells it from the others of the table: commit, engine, run. Empty if there is one.
    fastest : Way
        Of those that are right and leave their input as it was: the one of the least time that none is surely faster
        than.
    ties : tuple of str
        Variants that are not surely slower.
    lean : Way or None
        The fastest of those that allocate nothing besides; None where there is none, or where it is the fastest.
    over : Way or None
        The fastest that computes over its input, where that is surely faster than the fastest.
    """

    where: str
    fastest: Way
    ties: tuple[str, ...]
    lean: Way | None
    over: Way | None

    @property
    def title(self) -> str:
        """What the answer is for."""
        title = self.fastest.measurement.group_title()
        return f"{self.where}: {title}" if self.where else title


@dataclass(frozen=True)
class Caution:
    """Something that a way does that a reader may not expect, and in how many of its measured cases it does.

    Attributes
    ----------
    variant, what : str
    short : str
        The same in a few words.
    recipes : tuple of str
        In which it does.
    example : Measurement
        The first such case, or the first of which there is a reason.
    cases, of : int
    """

    variant: str
    what: str
    short: str
    recipes: tuple[str, ...]
    example: Measurement
    cases: int
    of: int

    @property
    def at_fault(self) -> bool:
        """Whether it is wrong, or raises, without being known for it."""
        return self.example.unexpected

    def __str__(self) -> str:
        where = f"in {self.cases} of {self.of} cases ({', '.join(self.recipes)})"
        reason = f": {self.example.reason}" if self.example.reason else ""
        known = f" (known: {self.example.known})" if self.example.known else ""
        return f"{self.variant} {self.what} {where}{reason}{known}"


@dataclass(frozen=True)
class Overview:
    """What a person needs first: which way to take, and what to beware of. Shown as a page's part in a notebook.

    Attributes
    ----------
    answers : tuple of Answer
        By recipe, device, dtype and shape.
    left : int
        Groups beyond those, which are in the table of cases only.
    cautions : tuple of Caution
    """

    answers: tuple[Answer, ...]
    left: int
    cautions: tuple[Caution, ...]

    @property
    def intervals(self) -> str:
        """What the intervals of the answers are."""
        return INTERVALS

    @property
    def usual(self) -> list[Answer]:
        """Of the answers to each recipe, on each machine, the one that is most likely to be wanted."""
        found: dict[tuple[str, str], Answer] = {}
        for one in self.answers:
            key = (one.where, one.fastest.measurement.recipe)
            if key not in found or unusual(one.fastest.measurement.to_dict()) < unusual(
                found[key].fastest.measurement.to_dict()
            ):
                found[key] = one
        return list(found.values())

    @property
    def by_recipe(self) -> list[tuple[str, list[Answer]]]:
        """The answers to each recipe, on each machine."""
        named = groupby(self.answers, lambda one: (one.where, one.fastest.measurement.recipe))
        return [(f"{where}: {recipe}" if where else recipe, list(its)) for (where, recipe), its in named]

    @property
    def by_caution(self) -> list[tuple[str, list[Caution]]]:
        """The cautions by what they warn of, the gravest first."""
        return [(what, list(its)) for what, its in groupby(self.cautions, lambda one: one.what)]

    def __str__(self) -> str:
        lines = []
        for one in self.answers:
            lines.append(f"{one.title}: {one.fastest.measurement.variant}, {one.fastest.time}")
            lines += [f"    {saving}" for saving in one.fastest.savings]
        if lines:
            lines.append(INTERVALS)
        return "\n".join([*lines, *map(str, self.cautions)])


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
    """The answers first, and the cautions.

    Only what was measured together is compared: a table of several machines, commits, engines or sessions has an answer
    for each, which names it.

    Parameters
    ----------
    measured : iterable of Measurement, or DataFrame
        As `copycost.load` or `copycost.run` gives it. Measurements without a table must be of one run.

    Raises
    ------
    ValueError
        If a case is there twice, and nothing says which run each is of.
    """
    if isinstance(measured, pd.DataFrame):
        rows, table = measurements(measured), measured
    else:
        rows = list(measured)
        table = pd.DataFrame({"threads": [m.threads for m in rows]})
    places, names = origins(table)
    groups = _groups(rows, places, names)
    return Overview(tuple(_answers(groups[:MOST])), max(0, len(groups) - MOST), tuple(cautions(rows)))


def cautions(rows: Iterable[Measurement]) -> list[Caution]:
    """What should make one careful: by variant, in how many of the cases that were measured, the gravest first."""
    by_variant: dict[str, list[Measurement]] = {}
    for m in rows:
        if m.status != "skipped":
            by_variant.setdefault(m.variant, []).append(m)
    found = []
    for what, short, does in _WORRIES:
        for variant, its in sorted(by_variant.items()):
            # What is known to be wrong is no news, and stands apart from what is not.
            by_known: dict[str | None, list[Measurement]] = {}
            for m in its:
                if does(m):
                    by_known.setdefault(m.known, []).append(m)
            for cases in by_known.values():
                recipes = tuple(dict.fromkeys(m.recipe for m in cases))
                example = next((m for m in cases if m.reason), cases[0])
                found.append(Caution(variant, what, short, recipes, example, len(cases), len(its)))
    return found


#: What a reader may not expect. A variant that is there to write over its input says so by its name; a function that is
#: given an array does not.
_WORRIES: tuple[tuple[str, str, Callable[[Measurement], bool]], ...] = (
    ("gives a wrong result", "wrong", lambda m: m.status == "wrong"),
    (
        "changes the array that it is given",
        "changes its input",
        lambda m: bool(m.input_changed) and m.writes != "input",
    ),
    (
        "gives a result that lies in the input's memory",
        "shares its input's memory",
        lambda m: m.result_shares == "input" and m.writes != "input",
    ),
    (
        "gives a result that is not contiguous, which the next step may copy",
        "not contiguous",
        lambda m: m.result_contiguous is False,
    ),
    ("raises, dies or takes too long", "fails", lambda m: m.status in ("failed", "crashed", "timeout")),
)


@dataclass(frozen=True)
class _Group:
    """What can take each other's place: measured together, of one recipe, dtype and shape on one device."""

    where: str
    rows: Sequence[Measurement]

    @property
    def bases(self) -> list[Measurement]:
        """The baselines that are right, in their order."""
        return [m for name in (PLAIN, KERAS) for m in self.rows if m.variant == name and m.status == "ok"]


def _answers(groups: Sequence[_Group]) -> list[Answer]:
    """Return an answer for every group in which something is right and was timed, in their order."""
    # All answers have equal parts of what may be claimed wrongly.
    return [found for group in groups if (found := _answer(group, _MISSES / len(groups))) is not None]


def _answer(group: _Group, false_claims: float) -> Answer | None:
    right = sorted((m for m in group.rows if m.status == "ok" and m.seconds is not None), key=lambda m: m.seconds or 0)
    kept = [m for m in right if not m.input_changed and m.result_shares != "input"]
    if not kept:
        return None
    field = _Field.of(right, false_claims)
    # A burst moves a median of times, and not that of ratios to what was measured beside it: pairs decide.
    fastest = next((m for m in kept if not any(field.is_faster(other, m) for other in kept if other is not m)), kept[0])
    lean = next((m for m in kept if m.allocations == 0), None)
    over = next((m for m in right if m.input_changed), None)

    def way(one: Measurement) -> Way:
        savings = tuple(field.saving(one, base) for base in group.bases if base is not one)
        return Way(one, savings, *field.time(one))

    return Answer(
        group.where,
        way(fastest),
        tuple(m.variant for m in kept if m is not fastest and not field.saving(fastest, m).sure),
        way(lean) if lean and lean is not fastest else None,
        way(over) if over and field.is_faster(over, fastest) else None,
    )


@dataclass(frozen=True)
class _Field:
    """The variants of a group that one is chosen among."""

    rivals: Rivals
    places: Mapping[int, int]
    false_claims: float

    @classmethod
    def of(cls, right: Sequence[Measurement], false_claims: float) -> _Field:
        """Return those that are right and were timed."""
        sampled = [m for m in right if m.samples and len(m.samples) > 1]
        places = {id(m): k for k, m in enumerate(sampled)}
        return cls(rivals([m.samples or [] for m in sampled], len(right) - 1), places, false_claims)

    def saving(self, one: Measurement, base: Measurement, *, both: bool = False) -> Speedup:
        """Return what the chosen one saves against another, which may be chosen for its time as well."""
        allocated = None
        if base.allocated_bytes is not None and one.allocated_bytes is not None:
            allocated = base.allocated_bytes - one.allocated_bytes
        ratio = None
        if id(one) in self.places and id(base) in self.places:
            ratio = self.rivals.ratio(self.places[id(one)], self.places[id(base)], both=both)
        if ratio is None:
            return Speedup(base, None, None, None, False, allocated)
        low, high = ratio.interval(self.false_claims)
        return Speedup(base, ratio.value, *ratio.interval(_MISSES), low > 1 or high < 1, allocated)

    def is_faster(self, one: Measurement, other: Measurement) -> bool:
        """Return whether one is surely faster than another, both chosen for their time."""
        saving = self.saving(one, other, both=True)
        return saving.sure and (saving.times or 0) > 1

    def time(self, one: Measurement) -> tuple[float | None, float | None]:
        """Return the interval of the seconds per call of the chosen one."""
        time = self.rivals.time(self.places[id(one)]) if id(one) in self.places else None
        if time is None or one.seconds is None:
            return None, None
        low, high = time.interval(_MISSES)
        # From skewed blocks it may not hold the median.
        return min(low, one.seconds), max(high, one.seconds)


def _groups(rows: Sequence[Measurement], places: Sequence[int], names: Sequence[str]) -> list[_Group]:
    """Return the groups in which anything was timed: places, then recipes in their order, small batches first.

    Parameters
    ----------
    rows : sequence of Measurement
    places : sequence of int
        Of each row, where and when it was measured.
    names : sequence of str
        Of each place.
    """
    recipes = {name: k for k, name in enumerate(dict.fromkeys(m.recipe for m in rows))}
    groups: dict[tuple[Any, ...], dict[str, Measurement]] = {}
    for m, place in zip(rows, places, strict=True):
        at = tuple(-1 if one is None else one for one in (getattr(m, name) for name in _GROUP[1:]))
        its = groups.setdefault((place, recipes[m.recipe], *at), {})
        if m.variant in its:
            raise ValueError(
                f"{m.variant} is there twice for {m.group_title()}, and nothing says which run each is of: "
                "give a table of copycost.load, or one run at a time"
            )
        its[m.variant] = m
    return [
        _Group(names[key[0]], list(groups[key].values()))
        for key in sorted(groups)
        if any(m.seconds is not None for m in groups[key].values())
    ]
