"""The verdict on two judged functions: one word, one sentence, and what would decide an undecided comparison."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from copycost.analysis.compare import COUNTS, Comparison, Row
from copycost.gate.judge import Judged
from copycost.gate.measure import LOOKS
from copycost.model import numbers
from copycost.model.vocabulary import MEASURED, Verdict
from copycost.stats.ratios import Ratio

#: Seconds beyond which no longer measurement is proposed.
_LONGEST = 3600.0


class Word(StrEnum):
    """Verdict on head.

    Attributes
    ----------
    BETTER
        It takes less time, or as much and less memory.
    SAME
        It takes as much time, and as much memory or more of one figure and less of another.
    WORSE
        It takes more time, or as much and more memory, or it treats its arguments worse.
    WRONG
        It gives other results, or results that are not computed when they are asked for, or none.
    UNSURE
        Its time is too close or too noisy to tell.
    """

    BETTER = "better"
    SAME = "same"
    WORSE = "worse"
    WRONG = "wrong"
    UNSURE = "unsure"


#: Exit status of each verdict.
EXIT = {Word.BETTER: 0, Word.SAME: 0, Word.WORSE: 1, Word.WRONG: 1, Word.UNSURE: 3}


@dataclass(frozen=True)
class Judgement:
    """A verdict.

    Attributes
    ----------
    word : Word
    sentence : str
        The verdict with its figures, for people.
    ratio : Ratio or None
        Time of head as a multiple of base's. None if it was not timed.
    needs_seconds : float or None
        Estimated seconds after which an unsure verdict is clear. None if it is clear, or if it takes more than an hour.
    """

    word: Word
    sentence: str
    ratio: Ratio | None = None
    needs_seconds: float | None = None

    @property
    def exit_status(self) -> int:
        """Exit status of the command."""
        return EXIT[self.word]


def conclude(judged: Judged) -> Judgement:
    """Draw the verdict on two functions.

    Time decides first. Where it is the same, or was not asked for, memory does.

    Parameters
    ----------
    judged : Judged
        Its base was measured.
    """
    head = judged.head
    if head.status not in MEASURED:
        return Judgement(Word.WRONG, head.reason or head.status)
    rows = {row.metric: row for row in judged.comparison.rows}
    timed = rows.get("seconds")
    ratio = timed.ratio if timed else None
    arguments = {name: rows[name] for name in _ARGUMENTS if name in rows}
    is_rude = any(row.is_worse for row in arguments.values())
    parts = [_ARGUMENTS[name][row.verdict] for name, row in arguments.items() if row.verdict in _ARGUMENTS[name]]
    parts.insert(len(parts) if is_rude else 0, _time(timed, ratio, judged.comparison))
    parts += [_equality(rows), _memory(rows), "no cheat found"]
    word, seconds = _word(rows, timed, is_rude), None
    if judged.stopped_by == "interrupted" and not is_rude:
        return Judgement(Word.UNSURE, ", ".join(["interrupted", *parts]))
    if word is Word.UNSURE:
        seconds = _needed(ratio, judged)
        enough = f"a budget of about {numbers.seconds(seconds)} would decide it"
        parts.append(enough if seconds else "a budget of an hour would not decide it")
    return Judgement(word, ", ".join(parts), ratio, seconds)


#: What head does to its arguments, by the figure and the verdict on it.
_ARGUMENTS = {
    "input_changed": {
        Verdict.WORSE: "changes its arguments",
        Verdict.BETTER: "no longer changes its arguments",
    },
    "result_shares": {
        Verdict.WORSE: "returns memory of its arguments",
        Verdict.BETTER: "no longer returns memory of its arguments",
    },
}


def _word(rows: Mapping[str, Row], timed: Row | None, is_rude: bool) -> Word:
    if is_rude or (timed is not None and timed.verdict == Verdict.SLOWER):
        return Word.WORSE
    if timed is not None and timed.verdict == Verdict.UNSURE:
        return Word.UNSURE
    if timed is not None and timed.verdict == Verdict.FASTER:
        return Word.BETTER
    figures = (*COUNTS, *_ARGUMENTS)
    changes = {rows[name].verdict for name in figures if name in rows} & {Verdict.BETTER, Verdict.WORSE}
    if changes == {Verdict.WORSE}:
        return Word.WORSE
    return Word.BETTER if changes == {Verdict.BETTER} else Word.SAME


def _time(timed: Row | None, ratio: Ratio | None, comparison: Comparison) -> str:
    """Return the ratio of times in words: ``1.8 × faster (1.6 to 2.0)``."""
    if timed is None or ratio is None:
        return "not timed" if timed is None else "timed in fewer than two blocks"
    if timed.verdict == Verdict.FASTER:
        return f"{_two(1 / ratio.value)} × faster ({_two(1 / ratio.high)} to {_two(1 / ratio.low)})"
    interval = f"time × {_two(ratio.value)} ({_two(ratio.low)} to {_two(ratio.high)})"
    if timed.verdict == Verdict.SLOWER:
        return f"{_two(ratio.value)} × slower ({_two(ratio.low)} to {_two(ratio.high)})"
    if timed.verdict == Verdict.SAME:
        return f"as fast within {100 * comparison.tolerance:.3g} %: {interval}"
    return timed.reason or interval


def _two(value: float) -> str:
    """Return a ratio with two decimals up to 10, else with three digits."""
    return f"{value:.2f}" if value < 9.995 else numbers.three(value)


def _equality(rows: Mapping[str, Row]) -> str:
    """Return how equal the results are."""
    error = rows.get("max_abs_error")
    return "equal" if error is not None and error.head == 0 else "equal up to rounding"


def _memory(rows: Mapping[str, Row]) -> str:
    """Return what both request: ``requests 4.6 MiB → 0 B``."""
    requested = rows.get("allocated_bytes")
    if requested is None:
        return "requests not counted"
    if all(rows[name].verdict == Verdict.SAME for name in COUNTS if name in rows):
        return f"requests as much ({numbers.size(requested.head)})"
    texts = [f"requests {numbers.size(requested.base)} → {numbers.size(requested.head)}"]
    if requested.base == requested.head:
        texts = []
        number = rows.get("allocations")
        if number is not None and number.base != number.head:
            texts.append(f"{number.base:,} → {number.head:,} requests")
    peak = rows.get("peak_bytes")
    if peak is not None and peak.base != peak.head and peak.head != requested.head:
        texts.append(f"peak {numbers.size(peak.base)} → {numbers.size(peak.head)}")
    return ", ".join(texts) or f"requests as much ({numbers.size(requested.head)})"


def _needed(ratio: Ratio | None, judged: Judged) -> float | None:
    """Return the seconds after which the interval excludes 1, or lies within the tolerance, if the ratio stays.

    The half-width of an interval falls with the square root of the number of blocks. No answer is clear before the
    first look at it, whatever the interval.
    """
    blocks = len(judged.head.samples or ())
    least = judged.seconds * LOOKS[0] / max(1, blocks)
    if ratio is None:
        return min(least, _LONGEST)
    half = (math.log(ratio.sure_high) - math.log(ratio.sure_low)) / 2
    distance, margin = abs(math.log(ratio.value)), math.log1p(judged.comparison.tolerance)
    enough = max(distance, margin - distance)
    seconds = max(least, judged.seconds * (half / enough) ** 2) if enough > 0 else math.inf
    return seconds if seconds <= _LONGEST else None


def document(judged: Judged, judgement: Judgement, exit_status: int) -> dict[str, Any]:
    """Return a verdict, and the exit status of the command that shows it, as one JSON object."""
    return {
        "schema": 1,
        "verdict": judgement.word,
        "sentence": judgement.sentence,
        "exit_status": exit_status,
        "ratio": vars(judgement.ratio) if judgement.ratio else None,
        "needs_seconds": judgement.needs_seconds,
        "stopped_by": judged.stopped_by,
        "seconds": round(judged.seconds, 2),
        "tolerance": judged.comparison.tolerance,
        "base": judged.base.to_dict(),
        "head": judged.head.to_dict(),
    }
