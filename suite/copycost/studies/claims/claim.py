"""Define a claim: a statement of a document, a function that gathers evidence, and one that judges it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from copycost.stats import ratios
from copycost.stats.ratios import Ratio

#: Possible verdicts on a claim.
HOLDS, REFUTED, DEPENDS = "holds", "refuted", "depends"

#: Evidence for a claim, as JSON values. ``"seconds"`` maps the name of each timed call to its samples, or to one list
#: of samples per process if the claim is measured in several processes.
Evidence = Mapping[str, Any]

#: Allowed rate of false alarms: ratios of times that are called faster or slower although they are neither.
_FALSE_ALARMS = 0.001


@dataclass(frozen=True)
class Claim:
    """A claim.

    Attributes
    ----------
    id : str
    document : str
        Name of the document's file.
    claim : str
        The claim in one sentence, in our words.
    runtime : {"numpy", "tensorflow"}
        Runtime that the check needs.
    measure : callable
        Gathers the evidence in a fresh process and returns it.
    judge : callable
        Maps the evidence to a verdict: holds, refuted or depends.
    because : callable
        Maps the evidence to one line of text.
    reproduce : str
        At most five lines of Python that demonstrate the verdict.
    blocks : int
        Number of fresh processes in which the claim is timed, while no other claim is checked. 0 if the claim is not
        about time.
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
    """Register the decorated function as the check of a claim; the function's name becomes the claim's id."""

    def register(measure: Callable[[], Evidence]) -> Callable[[], Evidence]:
        name = measure.__name__.replace("_", "-")
        assert name not in CLAIMS, name
        lines = reproduce.strip("\n")
        CLAIMS[name] = Claim(name, document, says, runtime, measure, judge, because, lines, blocks)
        return measure

    return register


class NoEvidence(Exception):
    """Error raised if there is no evidence to judge a claim by."""


def all_or_none(observations: list[bool]) -> str:
    """Return the verdict on a general claim: holds if it is true in all instances, refuted if in none, else depends.

    Raises
    ------
    NoEvidence
        If there are no instances because every call raised.
    """
    if not observations:
        raise NoEvidence("nothing could be checked: every call raised")
    return HOLDS if all(observations) else DEPENDS if any(observations) else REFUTED


def faster(ratios: list[Ratio]) -> str:
    """Return the verdict on "all are faster" from ratios of times: holds, refuted if all are slower, else depends."""
    if all(ratio.sure_high < 1 for ratio in ratios):
        return HOLDS
    return REFUTED if all(ratio.sure_low > 1 for ratio in ratios) else DEPENDS


def times(evidence: Evidence, what: str, base: str) -> Ratio:
    """Return the ratio of the seconds of `what` to those of `base`, with the interval that the verdicts use."""
    difference = ratios.paired(evidence["seconds"][base], evidence["seconds"][what])
    assert difference is not None  # claims about time are measured in several processes
    return difference.ratio(_FALSE_ALARMS)


def interval(ratio: Ratio) -> str:
    """Format a ratio with its interval."""
    return f"{ratio.value:.2f} × ({ratio.low:.2f} … {ratio.high:.2f})"


def each(values: Mapping[str, Any], text: Callable[[Any], str]) -> str:
    """Format every name followed by the text of its value."""
    return ", ".join(f"{name} {text(value)}" for name, value in values.items())


def yes(condition: bool) -> str:
    """Return "yes" or "no"."""
    return "yes" if condition else "no"
