"""Overview of measurements: recommended variants for each kind of batch, their savings, and warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import pandas as pd

from copycost.cases.profiles import BASELINES
from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.model.vocabulary import DeviceKind, Layout, ResultShares, Status, Writes
from copycost.results.table import measurements, origins
from copycost.stats.rivals import SAME, Rivals, is_same, rivals

#: The two baselines, in the order of preference.
PLAIN, KERAS = BASELINES

#: Fields that interchangeable cases have in common.
_GROUP = ("recipe", "device", "dtype", "layout", "height", "width", "channels", "batch")
_group = attrgetter(*_GROUP)

#: Maximum number of groups with an answer: nobody reads more.
MOST = 96

#: Probability that an interval misses the true value, and that a table in which nothing is faster than a baseline
#: claims a saving against it anywhere.
_MISSES = 0.05

#: Description of the intervals of an overview, shown wherever they are.
INTERVALS = (
    "Intervals contain the true value in 95 of 100 answers: they allow for the choice of the fastest variant. A saving "
    "is claimed only if it is significant for all answers together."
)


@dataclass(frozen=True)
class Speedup:
    """Speedup and memory savings of one variant over a baseline.

    Attributes
    ----------
    base : Measurement
    times : float or None
        How many times as fast; None if there are too few samples.
    low, high : float or None
        The 95 % interval of `times`, which allows for the variant having been chosen for its time.
    sure : bool
        Whether the variant is significantly faster or slower: the wider interval that holds for all answers of a table
        at once does not contain 1. Otherwise no difference is claimed.
    same : bool
        Whether the two are as fast as each other: that wider interval lies within `SAME` of 1.
    allocated_bytes : int or None
        How many bytes fewer it allocates; negative if it allocates more.
    """

    base: Measurement
    times: float | None
    low: float | None
    high: float | None
    sure: bool
    allocated_bytes: int | None
    same: bool = False

    @property
    def speed(self) -> str:
        """Speedup with its interval, to be followed by the name of the baseline."""
        if self.times is None or self.low is None or self.high is None:
            return "not compared with"
        if self.same:
            return f"as fast, within {numbers.percent(SAME)}, as"
        interval = f"{numbers.three(self.low)} to {numbers.three(self.high)}"
        if not self.sure:
            return f"undecided: {interval} × as fast as"
        return f"{numbers.three(self.times)} × ({interval}) as fast as"

    @property
    def beside(self) -> str:
        """Text to follow the name of the baseline: its time, and whether it changes its input."""
        changes = ", which changes its input" if self.base.input_changed and self.base.writes != Writes.INPUT else ""
        return f"({numbers.seconds(self.base.seconds)}{changes})"

    @property
    def memory(self) -> str:
        """Number of bytes that a call allocates less or more than the baseline, as text."""
        if self.allocated_bytes is None:
            return "allocations not compared"
        if not self.allocated_bytes:
            return "allocates as much" if self.base.allocated_bytes else "both allocate nothing"
        return f"allocates {numbers.size(abs(self.allocated_bytes))} {'less' if self.allocated_bytes > 0 else 'more'}"

    def __str__(self) -> str:
        return f"{self.speed} {self.base.variant} {self.beside}, {self.memory}"


@dataclass(frozen=True)
class Way:
    """A recommended variant and its savings.

    Attributes
    ----------
    measurement : Measurement
    savings : tuple of Speedup
        Savings against each baseline of its group.
    low, high : float or None
        The 95 % interval of its seconds per call, which allows for the variant having been chosen for its time. The
        interval of the measurement itself does not. None with a single block.
    """

    measurement: Measurement
    savings: tuple[Speedup, ...]
    low: float | None = None
    high: float | None = None

    @property
    def time(self) -> str:
        """Time per call with its interval, e.g. ``1.20 ms (1.10 ms to 1.35 ms)``."""
        seconds = numbers.seconds(self.measurement.seconds)
        if self.low is None or self.high is None:
            return seconds
        return f"{seconds} ({numbers.seconds(self.low)} to {numbers.seconds(self.high)})"


@dataclass(frozen=True)
class Answer:
    """The recommended variants for one group: a recipe, dtype and shape on one device, measured together.

    Attributes
    ----------
    where : str
        The machine, and what distinguishes it from others in the table: commit, engine, run. Empty if there is only
        one.
    fastest : Way
        The variant of least time, among those that are right, leave their input unchanged and do not share its memory,
        such that no other of them is significantly faster.
    ties : tuple of str
        Variants that are not significantly slower.
    lean : Way or None
        The fastest variant that is right, leaves its input unchanged, does not share its memory and allocates nothing.
        None if there is none, or if it is `fastest`.
    over : Way or None
        The fastest variant that writes over its input, if it is significantly faster than `fastest`.
    """

    where: str
    fastest: Way
    ties: tuple[str, ...]
    lean: Way | None
    over: Way | None

    @property
    def title(self) -> str:
        """Title of the answer: where it was measured, and its group."""
        title = self.fastest.measurement.group_title()
        return f"{self.where}: {title}" if self.where else title


@dataclass(frozen=True)
class Caution:
    """A warning about unexpected behaviour of a variant, with the number of affected cases.

    Attributes
    ----------
    variant, what : str
        The variant and its behaviour.
    short : str
        The behaviour in a few words.
    recipes : tuple of str
        Affected recipes.
    example : Measurement
        The first affected case with a reason, or else the first affected case.
    cases, of : int
        Number of affected cases, and of all measured cases of the variant.
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
        """Return whether the variant is wrong or fails, and this is not a known issue."""
        return self.example.unexpected

    def __str__(self) -> str:
        where = f"in {self.cases} of {self.of} cases ({', '.join(self.recipes)})"
        reason = f": {self.example.reason}" if self.example.reason else ""
        evidence = f" (known: {self.example.known})" if self.example.known else ""
        return f"{self.variant} {self.what} {where}{reason}{evidence}"


@dataclass(frozen=True)
class Overview:
    """Recommendations and warnings for a table of measurements, rendered as HTML in a notebook.

    Attributes
    ----------
    answers : tuple of Answer
        Recommendations by recipe, device, dtype and shape.
    left : int
        Number of further groups, which are in the table of cases only.
    cautions : tuple of Caution
        Warnings.
    """

    answers: tuple[Answer, ...]
    left: int
    cautions: tuple[Caution, ...]

    @property
    def intervals(self) -> str:
        """Description of the intervals of the answers."""
        return INTERVALS

    @property
    def usual(self) -> list[Answer]:
        """The most relevant answer for each recipe on each machine."""
        by_recipe: dict[tuple[str, str], list[Answer]] = {}
        for answer in self.answers:
            by_recipe.setdefault((answer.where, answer.fastest.measurement.recipe), []).append(answer)
        return [
            min(answers, key=lambda answer: unusual(answer.fastest.measurement.to_dict()))
            for answers in by_recipe.values()
        ]

    @property
    def by_recipe(self) -> list[tuple[str, list[Answer]]]:
        """The answers for each recipe on each machine."""
        groups = groupby(self.answers, lambda answer: (answer.where, answer.fastest.measurement.recipe))
        return [(f"{where}: {recipe}" if where else recipe, list(answers)) for (where, recipe), answers in groups]

    @property
    def by_caution(self) -> list[tuple[str, list[Caution]]]:
        """The warnings by behaviour, most severe first."""
        return [(what, list(group)) for what, group in groupby(self.cautions, lambda caution: caution.what)]

    def __str__(self) -> str:
        lines = []
        for answer in self.answers:
            lines.append(f"{answer.title}: {answer.fastest.measurement.variant}, {answer.fastest.time}")
            lines += [f"    {saving}" for saving in answer.fastest.savings]
        if lines:
            lines.append(INTERVALS)
        return "\n".join([*lines, *map(str, self.cautions)])


def unusual(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a sort key: the distance of a case from the most common one, 32 images of 224×224 float32 on the CPU."""
    return (
        row["device"] != DeviceKind.CPU,
        row["layout"] != Layout.CHANNELS_LAST,
        row["dtype"] != "float32",
        row["dtype"] != "uint8",
        (row["height"], row["width"]) != (224, 224),
        abs((row["batch"] or 1) - 32),
    )


def overview(measured: Iterable[Measurement] | pd.DataFrame) -> Overview:
    """Return the recommendations and warnings for measurements.

    Only variants measured together are compared. A table of several machines, commits, engines or sessions has a
    separate answer for each, which names it.

    Parameters
    ----------
    measured : iterable of Measurement, or DataFrame
        The table returned by `copycost.load` or `copycost.run`, or measurements of one run.

    Raises
    ------
    ValueError
        If two measurements belong to the same case, and nothing distinguishes their runs.
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
    """Return warnings by variant, with the number of affected cases, most severe first."""
    by_variant: dict[str, list[Measurement]] = {}
    for m in rows:
        if m.status != Status.SKIPPED:
            by_variant.setdefault(m.variant, []).append(m)
    warnings = []
    for what, short, behaves_so in _BEHAVIOURS:
        for variant, measured in sorted(by_variant.items()):
            # Report known issues separately, because they are not news.
            by_evidence: dict[str | None, list[Measurement]] = {}
            for m in measured:
                if behaves_so(m):
                    by_evidence.setdefault(m.known, []).append(m)
            for cases in by_evidence.values():
                recipes = tuple(dict.fromkeys(m.recipe for m in cases))
                example = next((m for m in cases if m.reason), cases[0])
                warnings.append(Caution(variant, what, short, recipes, example, len(cases), len(measured)))
    return warnings


#: Behaviour that users may not expect: text, short text, and test. A variant that is meant to write over its input says
#: so in its name; a function that takes an array does not.
_BEHAVIOURS: tuple[tuple[str, str, Callable[[Measurement], bool]], ...] = (
    ("returns a wrong result", "wrong", lambda m: m.status == Status.WRONG),
    (
        "changes its input array",
        "changes its input",
        lambda m: bool(m.input_changed) and m.writes != Writes.INPUT,
    ),
    (
        "returns a result that shares the input's memory",
        "shares its input's memory",
        lambda m: m.result_shares == ResultShares.INPUT and m.writes != Writes.INPUT,
    ),
    (
        "returns a result that is not contiguous, which the next step may copy",
        "not contiguous",
        lambda m: m.result_contiguous is False,
    ),
    ("raises, crashes or times out", "fails", lambda m: m.status in (Status.FAILED, Status.CRASHED, Status.TIMEOUT)),
)


@dataclass(frozen=True)
class _Group:
    """Interchangeable variants: measured together, for one recipe, dtype and shape on one device."""

    where: str
    rows: Sequence[Measurement]

    @property
    def bases(self) -> list[Measurement]:
        """The baselines that are right, in the order of preference."""
        return [m for name in BASELINES for m in self.rows if m.variant == name and m.status == Status.OK]


def _answers(groups: Sequence[_Group]) -> list[Answer]:
    """Return an answer for every group with a variant that is right and was timed, in the order of the groups."""
    # The answers share the probability of a wrong claim equally.
    answers = (_answer(group, _MISSES / len(groups)) for group in groups)
    return [answer for answer in answers if answer is not None]


def _answer(group: _Group, false_claims: float) -> Answer | None:
    timed = [m for m in group.rows if m.status == Status.OK and m.seconds is not None]
    timed.sort(key=lambda m: m.seconds or 0)
    candidates = [m for m in timed if not m.input_changed and m.result_shares != ResultShares.INPUT]
    if not candidates:
        return None
    field = _Field.of(timed, false_claims)
    # Compare pairs: a burst of noise shifts a median of times, but not the median of ratios to interleaved samples.
    fastest = next((m for m in candidates if not field.is_beaten(m, candidates)), candidates[0])
    lean = next((m for m in candidates if m.allocations == 0), None)
    over = next((m for m in timed if m.input_changed), None)

    def way(m: Measurement) -> Way:
        savings = tuple(field.saving(m, base) for base in group.bases if base is not m)
        return Way(m, savings, *field.time(m))

    return Answer(
        group.where,
        way(fastest),
        tuple(m.variant for m in candidates if m is not fastest and not field.saving(fastest, m).sure),
        way(lean) if lean and lean is not fastest else None,
        way(over) if over and field.is_faster(over, fastest) else None,
    )


@dataclass(frozen=True)
class _Field:
    """The variants of a group among which the fastest is chosen."""

    rivals: Rivals
    places: Mapping[int, int]
    false_claims: float

    @classmethod
    def of(cls, timed: Sequence[Measurement], false_claims: float) -> _Field:
        """Return the field of those of the timed variants that were timed in several blocks."""
        members = [m for m in timed if m.samples and len(m.samples) > 1]
        places = {id(m): k for k, m in enumerate(members)}
        return cls(rivals([m.samples or [] for m in members], len(timed) - 1), places, false_claims)

    def saving(self, choice: Measurement, base: Measurement, *, base_is_choice: bool = False) -> Speedup:
        """Return the savings of the chosen variant against another, which may have been chosen for its time too."""
        fewer_bytes = None
        if base.allocated_bytes is not None and choice.allocated_bytes is not None:
            fewer_bytes = base.allocated_bytes - choice.allocated_bytes
        ratio = None
        if id(choice) in self.places and id(base) in self.places:
            places = self.places[id(choice)], self.places[id(base)]
            ratio = self.rivals.ratio(*places, other_is_choice=base_is_choice)
        if ratio is None:
            return Speedup(base, None, None, None, False, fewer_bytes)
        low, high = ratio.interval(self.false_claims)
        sure = low > 1 or high < 1
        return Speedup(base, ratio.value, *ratio.interval(_MISSES), sure, fewer_bytes, is_same(low, high))

    def is_faster(self, choice: Measurement, base: Measurement) -> bool:
        """Return whether one variant is significantly faster than another, both chosen for their time."""
        saving = self.saving(choice, base, base_is_choice=True)
        return saving.sure and (saving.times or 0) > 1

    def is_beaten(self, m: Measurement, candidates: Sequence[Measurement]) -> bool:
        """Return whether any other candidate is significantly faster."""
        return any(self.is_faster(rival, m) for rival in candidates if rival is not m)

    def time(self, choice: Measurement) -> tuple[float | None, float | None]:
        """Return the interval of the seconds per call of the chosen variant."""
        time = self.rivals.time(self.places[id(choice)]) if id(choice) in self.places else None
        if time is None or choice.seconds is None:
            return None, None
        low, high = time.interval(_MISSES)
        # With skewed blocks, the interval may not contain the median.
        return min(low, choice.seconds), max(high, choice.seconds)


def _groups(rows: Sequence[Measurement], places: Sequence[int], names: Sequence[str]) -> list[_Group]:
    """Return the groups with a timed variant, by place, then by recipe in the order of the rows, small batches first.

    Parameters
    ----------
    rows : sequence of Measurement
    places : sequence of int
        Index of the place and time at which each row was measured.
    names : sequence of str
        Name of each place.
    """
    recipes = {name: k for k, name in enumerate(dict.fromkeys(m.recipe for m in rows))}
    groups: dict[tuple[Any, ...], dict[str, Measurement]] = {}
    for m, place in zip(rows, places, strict=True):
        recipe, *values, batch = _group(m)
        key = (place, recipes[recipe], *values, -1 if batch is None else batch)
        group = groups.setdefault(key, {})
        if m.variant in group:
            raise ValueError(
                f"{m.variant} appears twice for {m.group_title()}, and nothing distinguishes the runs: "
                "pass a table of copycost.load, or one run at a time"
            )
        group[m.variant] = m
    return [
        _Group(names[key[0]], list(groups[key].values()))
        for key in sorted(groups)
        if any(m.seconds is not None for m in groups[key].values())
    ]
