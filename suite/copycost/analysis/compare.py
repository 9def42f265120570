"""Comparison of two sides by case and figure: worse, better, the same or unsure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from copycost.model import numbers
from copycost.model.measurement import Measurement
from copycost.model.vocabulary import MEASURED, Conclusion, ResultShares, Status, Verdict
from copycost.results.store import key
from copycost.stats import ratios
from copycost.stats.ratios import Ratio

#: Probability that a comparison of two equal sides reports any of its cases as slower or faster.
FALSE_ALARMS = 0.01

#: Change of time that is ignored, as a fraction.
TOLERANCE = 0.03

#: Counted figures, for which fewer is better.
COUNTS = ("allocations", "allocated_bytes", "peak_bytes", "retained_bytes")

#: Categorical figures, and whether a value is good. Sharing the buffer that is meant for the result is good.
_TRUTHS: Mapping[str, Callable[[Any], bool]] = {
    "input_changed": lambda value: value is False,
    "result_shares": lambda value: value != ResultShares.INPUT,
    "result_contiguous": lambda value: value is True,
}

#: Fields of the environment that must be equal for times to be compared.
_MACHINE = ("engine", "machine", "cpu", "cpus", "gpus", "threads", "variables", "image_sha256")


@dataclass(frozen=True)
class Side:
    """The measurements of one side and their environment."""

    environment: Mapping[str, Any]
    measurements: Sequence[Measurement]


@dataclass(frozen=True)
class Row:
    """One figure of one case on both sides.

    Attributes
    ----------
    case : Measurement
        The measurement of head, whose fields name the case.
    label : str
        The environment if there are several, else empty.
    metric : str
        A field of `Measurement`: ``seconds``, ``status``, ``allocations`` …
    base, head
        Values of the two sides, or None.
    verdict : Verdict
    ratio : Ratio or None
        Ratio of the times.
    reason : str or None
        Reason for the verdict if the figures do not show it.
    """

    case: Measurement
    label: str
    metric: str
    base: Any
    head: Any
    verdict: Verdict
    ratio: Ratio | None = None
    reason: str | None = None

    @property
    def is_worse(self) -> bool:
        """Return whether the row is a regression."""
        return self.verdict in (Verdict.SLOWER, Verdict.WORSE)


@dataclass(frozen=True)
class Comparison:
    """All rows, and the cases that were not compared.

    Attributes
    ----------
    rows : sequence of Row
    only_base, only_head : sequence of Measurement
        Cases that the other side lacks.
    refused : str or None
        Why some or all times were not compared.
    paired : bool
        Whether the sides were measured interleaved, in one session.
    false_alarms, tolerance : float
        Fractions.
    """

    rows: Sequence[Row]
    only_base: Sequence[Measurement]
    only_head: Sequence[Measurement]
    refused: str | None
    paired: bool
    false_alarms: float
    tolerance: float

    @property
    def measured(self) -> bool:
        """Return whether any case was measured on both sides."""
        return any(row.base in MEASURED and row.head in MEASURED for row in self.rows if row.metric == "status")

    @property
    def verdict(self) -> Conclusion:
        """Worse if any row is worse; else unsure if any row is, or nothing was measured; else no worse."""
        if any(row.is_worse for row in self.rows):
            return Conclusion.WORSE
        unsure = any(row.verdict == Verdict.UNSURE for row in self.rows) or self.refused or not self.measured
        return Conclusion.UNSURE if unsure else Conclusion.NO_WORSE


def compare(base: Side, head: Side, *, tolerance: float = TOLERANCE, timed: bool = True) -> Comparison:
    """Compare every case that both sides have.

    Sides measured interleaved, whose environments name the same ``session``, are compared pair by pair. Other sides are
    compared as runs of different times.

    Parameters
    ----------
    base, head : Side
    tolerance : float
        Change of time, as a fraction, that is ignored.
    timed : bool
        Whether times are expected: a case without times is then unsure.
    """
    return joined([("", base, head)], tolerance=tolerance, timed=timed)


def joined(pairs: Sequence[tuple[str, Side, Side]], *, tolerance: float = TOLERANCE, timed: bool = True) -> Comparison:
    """Compare several pairs of sides as one comparison; each pair is a label, base and head."""
    rows: list[Row] = []
    only_base: list[Measurement] = []
    only_head: list[Measurement] = []
    refusals = [_refusal(base.environment, head.environment) for _, base, head in pairs]
    timed_rows: list[tuple[int, Measurement, Measurement]] = []
    for (label, base, head), refusal in zip(pairs, refusals, strict=True):
        base_cases, head_cases = ({key(m): m for m in side.measurements} for side in (base, head))
        only_base += [m for case, m in base_cases.items() if case not in head_cases]
        only_head += [m for case, m in head_cases.items() if case not in base_cases]
        for before, after in ((m, head_cases[case]) for case, m in base_cases.items() if case in head_cases):
            if timed and refusal is None and before.status in MEASURED and after.status in MEASURED:
                row = _untested(before, after, label)
                if row.reason is None:
                    timed_rows.append((len(rows), before, after))
                rows.append(row)
            rows += exact(before, after, label)
    sessions = [(base.environment.get("session"), head.environment.get("session")) for _, base, head in pairs]
    paired = all(base is not None and base == head for base, head in sessions)
    samples = [(before.samples or [], after.samples or []) for _, before, after in timed_rows]
    differences = [ratios.paired(*sides) for sides in samples] if paired else ratios.unpaired(samples)
    # Interleaved sides are tested repeatedly while they are measured: these looks share half of the false alarms.
    false_alarms = FALSE_ALARMS / (2 if paired else 1) / max(1, len(timed_rows))
    for (index, _, _), difference in zip(timed_rows, differences, strict=True):
        rows[index] = _tested(rows[index], difference, false_alarms, tolerance)
    _confirm(rows, timed_rows, paired, false_alarms, tolerance)
    refused = next((refusal for refusal in refusals if refusal), None) if timed else None
    return Comparison(rows, only_base, only_head, refused, paired, FALSE_ALARMS, tolerance)


def _untested(base: Measurement, head: Measurement, label: str) -> Row:
    """Return the row of a case's times, with a reason if a side has none."""
    untimed = next((m for m in (base, head) if not m.samples), None)
    reason = untimed.missing.get("seconds", "not timed") if untimed else None
    return Row(head, label, "seconds", base.seconds, head.seconds, Verdict.UNSURE, reason=reason)


def _tested(row: Row, difference: ratios.Difference | None, false_alarms: float, tolerance: float) -> Row:
    """Return the row of a case's times with its ratio and verdict."""
    if difference is None:
        return replace(row, reason="too few blocks")
    ratio = difference.ratio(false_alarms)
    return replace(row, ratio=ratio, verdict=ratio.verdict(tolerance))


def _confirm(
    rows: list[Row],
    timed_rows: Sequence[tuple[int, Measurement, Measurement]],
    paired: bool,
    false_alarms: float,
    tolerance: float,
) -> None:
    """Take back differences of times that the clock of a GPU may explain: those that are none in cycles.

    A GPU changes its clock by its temperature and power.
    """
    sides = []
    for _, base, head in timed_rows:
        base_cycles, head_cycles = (cycles(m.samples, m.clocks_mhz) for m in (base, head))
        known = base_cycles is not None and head_cycles is not None
        # The times of other cases show how far runs of different times are apart.
        sides.append(((base_cycles if known else base.samples) or [], (head_cycles if known else head.samples) or []))
    differences = [ratios.paired(*both) for both in sides] if paired else ratios.unpaired(sides)
    for (index, base, head), difference in zip(timed_rows, differences, strict=True):
        row = rows[index]
        if row.verdict not in (Verdict.SLOWER, Verdict.FASTER) or row.ratio is None or difference is None:
            continue
        ratio = difference.ratio(false_alarms)
        if ratio.verdict(tolerance) != row.verdict:  # not so where a clock is unknown, or both are the same
            base_clock, head_clock = (median(clock for clock in m.clocks_mhz or () if clock) for m in (base, head))
            reason = (
                f"{row.verdict} in seconds ({numbers.three(row.ratio.value)} ×), but not surely in cycles of the GPU "
                f"({numbers.three(ratio.value)} ×), whose clock was {base_clock:,.0f} MHz in base and "
                f"{head_clock:,.0f} MHz in head"
            )
            rows[index] = replace(row, verdict=Verdict.UNSURE, reason=reason)


def cycles(
    samples: Sequence[Sequence[float]] | None, clocks_mhz: Sequence[int | None] | None
) -> list[list[float]] | None:
    """Return the cycles of a GPU in each sample, by block, or None if its clock is unknown for any block."""
    if samples is None or clocks_mhz is None or len(clocks_mhz) != len(samples):
        return None
    found = [
        [seconds * clock * 1e6 for seconds in block] for block, clock in zip(samples, clocks_mhz, strict=True) if clock
    ]
    return found if len(found) == len(samples) else None


def exact(base: Measurement, head: Measurement, label: str = "") -> list[Row]:
    """Compare the exact figures of two measurements: correctness, memory of the result, and allocations."""

    def row(metric: str, verdict: Verdict, reason: str | None = None) -> Row:
        return Row(head, label, metric, getattr(base, metric), getattr(head, metric), verdict, reason=reason)

    if base.status not in MEASURED or head.status not in MEASURED:
        return [row("status", *_of_status(base, head))]
    rows = [row("status", Verdict.SAME)]
    for name, is_good in _TRUTHS.items():
        before, after = getattr(base, name), getattr(head, name)
        if before is not None and after is not None:
            change = Verdict.BETTER if is_good(after) else Verdict.WORSE
            if is_good(before) == is_good(after):
                change = Verdict.CHANGED
            rows.append(row(name, Verdict.SAME if before == after else change))
    for name in ("result_dtype", "max_abs_error"):
        before, after = getattr(base, name), getattr(head, name)
        if before is not None and after is not None:
            rows.append(row(name, Verdict.SAME if before == after else Verdict.CHANGED))
    for name in COUNTS:
        if getattr(base, name) is not None and getattr(head, name) is not None:
            rows.append(row(name, _of_counts(_range(base, name), _range(head, name))))
    return rows


def _of_status(base: Measurement, head: Measurement) -> tuple[Verdict, str | None]:
    """Return the verdict on the status of a case that was not measured on both sides, and its reason."""
    if base.status == head.status:
        # Skipped cases and known failures are the same on both sides. Any other failure may hide a change.
        same = head.status == Status.SKIPPED or (base.known and head.known)
        return Verdict.SAME if same else Verdict.UNSURE, head.reason
    if Status.SKIPPED in (base.status, head.status):
        skipped = head if head.status == Status.SKIPPED else base
        return Verdict.UNSURE, f"skipped: {skipped.reason}"
    if base.status in MEASURED:
        return Verdict.CHANGED if head.known else Verdict.WORSE, head.reason
    if head.status in MEASURED:
        return Verdict.BETTER, base.reason
    return Verdict.CHANGED, head.reason


def _of_counts(base: Sequence[int], head: Sequence[int]) -> Verdict:
    """Return the verdict on a count, from its smallest and largest value on each side."""
    if list(base) == list(head):
        return Verdict.SAME
    if head[0] > base[1]:
        return Verdict.WORSE
    return Verdict.BETTER if head[1] < base[0] else Verdict.UNSURE


def _range(m: Measurement, name: str) -> Sequence[int]:
    count = getattr(m, name)
    return m.ranges.get(name, [count, count])


def _refusal(base: Mapping[str, Any], head: Mapping[str, Any]) -> str | None:
    """Return why the times of two environments are not comparable, or None if they are."""
    for name in _MACHINE:
        if _comparable(base.get(name)) != _comparable(head.get(name)):
            return f"{_NAMES.get(name, name)}: {_text(base.get(name))} in base, {_text(head.get(name))} in head"
    return None


def _comparable(value: Any) -> Any:
    """Return a field of the environment without the device that was chosen: `gpus` describes it."""
    return {k: v for k, v in value.items() if k != "CUDA_VISIBLE_DEVICES"} if isinstance(value, dict) else value


_NAMES = {
    "cpus": "number of CPUs",
    "gpus": "GPU",
    "image_sha256": "pixels",
    "cpu": "CPU",
    "variables": "environment variables",
}


def _text(value: Any) -> str:
    """Return a value of an environment as short text."""
    if isinstance(value, Mapping):
        return " ".join(f"{name}={item}" for name, item in value.items()) or "none"
    if isinstance(value, list):
        items = (item.get("name", item) if isinstance(item, Mapping) else item for item in value)
        return ", ".join(map(str, items)) or "none"
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"
