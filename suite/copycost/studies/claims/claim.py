"""What a claim is: a sentence of a document, how it is looked into, and what follows from what was found."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from copycost.stats import ratios
from copycost.stats.ratios import Ratio

#: What a claim can come to.
HOLDS, REFUTED, DEPENDS = "holds", "refuted", "depends"

#: What was measured: numbers, words and lists of them, as JSON has them. Under ``"seconds"`` a mapping of what was
#: timed to its samples; of a claim that is looked into in several processes, to a list of them for each.
Evidence = Mapping[str, Any]

#: How often a ratio of times may be called faster or slower where it is neither.
_FALSE_ALARMS = 0.001


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes
    ----------
    id : str
    document : str
        The name of its file.
    claim : str
        One sentence, in our words.
    runtime : {"numpy", "tensorflow"}
        What looking into it needs.
    measure : callable
        Looks into it, in a process of its own, and returns the evidence.
    judge : callable
        What follows from the evidence: holds, refuted, depends.
    because : callable
        The evidence in one line.
    reproduce : str
        Five lines of Python at most, which show it.
    blocks : int
        Fresh processes that it is timed in, alone; 0 where it is no matter of time.
    """

    id: str
    document: str
    claim: str
    runtime: str
    measure: Callable[[], Evidence]
    judge: Callable[[Evidence], str]
    because: Callable[[Evidence], str]
    reproduce: str
    blocks: int = 0


CLAIMS: dict[str, Claim] = {}


def claim(
    document: str,
    says: str,
    *,
    judge: Callable[[Evidence], str],
    because: Callable[[Evidence], str],
    reproduce: str,
    runtime: str = "tensorflow",
    blocks: int = 0,
) -> Callable[[Callable[[], Evidence]], Callable[[], Evidence]]:
    """Put a claim into the ledger; the function is how it is looked into, and its name the claim's."""

    def register(measure: Callable[[], Evidence]) -> Callable[[], Evidence]:
        name = measure.__name__.replace("_", "-")
        assert name not in CLAIMS, name
        lines = reproduce.strip("\n")
        CLAIMS[name] = Claim(name, document, says, runtime, measure, judge, because, lines, blocks)
        return measure

    return register


class NoEvidence(Exception):
    """There is nothing to judge by."""


def all_or_none(found: list[bool]) -> str:
    """A claim of everything: it holds in all of what was looked at, in none, or it depends.

    Raises
    ------
    NoEvidence
        Where nothing was looked at: every call raised.
    """
    if not found:
        raise NoEvidence("nothing could be looked at: every call raised")
    return HOLDS if all(found) else DEPENDS if any(found) else REFUTED


def faster(ratios: list[Ratio]) -> str:
    """That all are faster, by their times over the other's: surely all, surely none, or it depends."""
    if all(one.sure_high < 1 for one in ratios):
        return HOLDS
    return REFUTED if all(one.sure_low > 1 for one in ratios) else DEPENDS


def times(evidence: Evidence, what: str, base: str) -> Ratio:
    """Seconds of one thing over seconds of another, with the interval that verdicts are made with."""
    difference = ratios.paired(evidence["seconds"][base], evidence["seconds"][what])
    assert difference is not None  # a claim about time is measured in several processes
    return difference.ratio(_FALSE_ALARMS)


def interval(one: Ratio) -> str:
    """A ratio with its interval, in words."""
    return f"{one.value:.2f} × ({one.low:.2f} … {one.high:.2f})"


def each(found: Mapping[str, Any], says: Callable[[Any], str]) -> str:
    """Every name with what is to be said of it."""
    return ", ".join(f"{name} {says(value)}" for name, value in found.items())


def yes(it: bool) -> str:
    """Yes or no."""
    return "yes" if it else "no"
