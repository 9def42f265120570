"""Summary of a run at a terminal, in at most a dozen lines: recommended variants, their speedups, and warnings."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from copycost.analysis.overview import PLAIN, Answer, Caution, Overview, unusual
from copycost.model import numbers
from copycost.model.measurement import Measurement

#: Maximum numbers of lines: of the summary, and within it of faults and of other warnings.
LINES, _FAULTS, _BEWARE = 12, 4, 3

#: Minimum terminal width that shows the answers as a table; on a narrower terminal, each is a sentence.
_TABLE = 76

#: Maximum number of reasons for skipped cases that are shown.
_REASONS = 4


def show(console: Console, overview: Overview) -> None:
    """Print the most relevant answers and the warnings in at most a dozen lines.

    Parameters
    ----------
    console : Console
        No line is wider than the console.
    overview : Overview
    """
    cautions = [*_faults(overview.cautions, console.width), *_others(overview.cautions, console.width)]
    answers = _answers(overview, LINES - len(cautions), console.width)
    for text in (*answers, *cautions):
        console.print(text, soft_wrap=True)


def show_skipped(console: Console, measurements: Sequence[Measurement], most: int | None = _REASONS) -> None:
    """Print each reason for skipped cases with the number of these cases, most frequent first.

    Parameters
    ----------
    console : Console
    measurements : sequence of Measurement
    most : int or None
        Maximum number of reasons. None shows all.
    """
    reasons: dict[str | None, list[Measurement]] = {}
    for m in measurements:
        if m.status == "skipped":
            reasons.setdefault(m.reason, []).append(m)
    ordered = sorted(reasons.items(), key=lambda entry: -len(entry[1]))
    shown = ordered if most is None else ordered[:most]
    lines = []
    for reason, cases in shown:
        kind = "GPU " if {m.device for m in cases} == {"gpu"} else ""
        lines.append(f"{_count(len(cases), f'{kind}case')} skipped: {' '.join(str(reason).split())}")
    rest = sum(len(cases) for _, cases in ordered[len(shown) :])
    if rest:
        lines.append(f"{_count(rest, 'case')} skipped for other reasons")
    for text in lines:
        for part in textwrap.wrap(text, console.width, subsequent_indent="  ", break_on_hyphens=False):
            console.print(Text(part, "dim"), soft_wrap=True)


def _answers(overview: Overview, room: int, width: int) -> list[Text]:
    """Return as many lines of answers as there is room for, choosing the most relevant and keeping their order."""
    if not overview.answers:
        return [_line("No correct variant was timed.", width)]
    order = _by_interest(overview.answers)
    for number in range(len(order), 0, -1):
        kept = sorted(order[:number])
        lines = _table(overview, kept, width) if width >= _TABLE else _sentences(overview, kept, width)
        left = len(overview.answers) - number + overview.left
        if left:
            lines.append(_line(f"and {left} more {'kind' if left == 1 else 'kinds'} of batch", width, "dim"))
        if len(lines) <= room or number == 1:
            return lines
    raise AssertionError  # there is at least one answer


def _by_interest(answers: Sequence[Answer]) -> list[int]:
    """Return the indices of the answers by relevance: the most relevant of each recipe, then the next of each."""
    ranks: list[tuple[int, int]] = []
    recipes: dict[str, list[int]] = {}
    for k, answer in enumerate(answers):
        recipes.setdefault(answer.fastest.measurement.recipe, []).append(k)
    for places in recipes.values():
        places.sort(key=lambda k: unusual(answers[k].fastest.measurement.to_dict()))
        ranks += [(rank, k) for rank, k in enumerate(places)]
    return [k for _, k in sorted(ranks)]


def _table(overview: Overview, kept: Sequence[int], width: int) -> list[Text]:
    """Return a heading and a line for each answer."""
    rows = [("recipe, input", "fastest correct", "time", f"over {PLAIN}, 95 %")]
    for k in kept:
        answer = overview.answers[k]
        m = answer.fastest.measurement
        rows.append((_title(answer), _named(answer), numbers.seconds(m.seconds), _saved(answer)))
    widths = [max(len(row[k]) for row in rows) for k in range(3)]
    # If a line is too long, truncate the variant, never the figures.
    longest = max(len(row[3]) for row in rows)
    widths[1] = max(12, min(widths[1], width - widths[0] - widths[2] - longest - 6))
    lines = []
    for number, (title, variant, time, saved) in enumerate(rows):
        name = variant if len(variant) <= widths[1] else variant[: widths[1] - 1] + "…"
        line = f"{title:<{widths[0]}}  {name:<{widths[1]}}  {time:>{widths[2]}}  {saved}"
        lines.append(_line(line, width, "" if number else "bold"))
    return lines


def _sentences(overview: Overview, kept: Sequence[int], width: int) -> list[Text]:
    """Return each answer as a sentence of as many lines as it needs."""
    lines = [_line("Fastest correct variant, 95 % interval:", width, "bold")]
    for k in kept:
        answer = overview.answers[k]
        m = answer.fastest.measurement
        plain = (
            answer.fastest.savings
            and answer.fastest.savings[0].sure
            and answer.fastest.savings[0].base.variant == PLAIN
        )
        versus = f" {PLAIN}" if plain else ""
        sentence = f"{_title(answer)}: {_named(answer)}, {numbers.seconds(m.seconds)}, {_saved(answer)}{versus}"
        lines += [Text(part) for part in textwrap.wrap(sentence, width, subsequent_indent="  ", break_on_hyphens=False)]
    return lines


def _title(answer: Answer) -> str:
    """Return a short title of an answer, without the parts that nearly all titles share."""
    title = answer.title.removesuffix(", cpu").replace(", ", " ", 1)
    return title.replace("×3 ", " ", 1)


def _named(answer: Answer) -> str:
    """Return the fastest variant and the number of its ties, which are not significantly slower."""
    variant = answer.fastest.measurement.variant
    return f"{variant} (+{_count(len(answer.ties), 'tie')})" if answer.ties else variant


def _saved(answer: Answer) -> str:
    """Return the speedup over the baseline with its interval, or the reason why there is none."""
    if not answer.fastest.savings:
        return "the same" if answer.fastest.measurement.variant == PLAIN else f"no {PLAIN}"
    saving = answer.fastest.savings[0]
    if saving.times is None or saving.low is None or saving.high is None:
        return "not compared"
    interval = f"({numbers.three(saving.low)} to {numbers.three(saving.high)})"
    if saving.same:
        return f"the same {interval}"
    if not saving.sure:
        return f"undecided {interval}"
    figures = f"{numbers.three(saving.times)} × {interval}"
    return figures if saving.base.variant == PLAIN else f"{figures} {saving.base.variant}"


def _faults(cautions: Sequence[Caution], width: int) -> list[Text]:
    """Return a line for each variant that is wrong or fails, and is not a known issue."""
    faults = [caution for caution in cautions if caution.at_fault]
    if not faults:
        return []
    number = sum(caution.cases for caution in faults)
    lines = [_line(f"{_count(number, 'case')} {'is' if number == 1 else 'are'} at fault:", width, "red")]
    shown = faults if len(faults) < _FAULTS else faults[: _FAULTS - 2]
    lines += [_line(f"  {' '.join(str(caution).split())}", width, "red") for caution in shown]
    if len(shown) < len(faults):
        lines.append(_line(f"  and {_count(len(faults) - len(shown), 'variant')} more", width, "red"))
    return lines


def _others(cautions: Sequence[Caution], width: int) -> list[Text]:
    """Return a line for each other variant with a warning: what it does, and in how many cases."""
    variants: dict[str, list[Caution]] = {}
    for caution in cautions:
        if not caution.at_fault:
            variants.setdefault(caution.variant, []).append(caution)
    shown = list(variants.items())
    if len(shown) > _BEWARE:
        shown = shown[: _BEWARE - 1]
    lines = [
        _line(f"Warning for {name}: {', '.join(map(_described, group))}", width, "yellow") for name, group in shown
    ]
    if len(shown) < len(variants):
        lines.append(_line(f"Warnings for {_count(len(variants) - len(shown), 'more variant')}", width, "yellow"))
    return lines


def _described(caution: Caution) -> str:
    number = f"{caution.cases} of {_count(caution.of, 'case')}"
    return f"{caution.short} ({number}{', known' if caution.example.known else ''})"


def _count(number: int, noun: str) -> str:
    return f"{numbers.count(number)} {noun}{'' if number == 1 else 's'}"


def _line(text: str, width: int, style: str = "") -> Text:
    """Return a line truncated to the width; the report and `copycost show` have the full text."""
    return Text(text if len(text) <= width else text[: width - 1].rstrip() + "…", style)
