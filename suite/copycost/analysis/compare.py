"""Comparison of two sides by case and figure: worse, better, the same or unsure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from copycost.model.measurement import Measurement
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
    "result_shares": lambda value: value != "input",
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
    verdict : str
        For times: ``faster``, ``slower``, ``same`` or ``unsure``. For exact figures: ``better``, ``worse``, ``same``,
        ``changed`` (neither better nor worse) or ``unsure`` (counts that vary and overlap).
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
    verdict: str
    ratio: Ratio | None = None
    reason: str | None = None

    @property
    def is_worse(self) -> bool:
        """Return whether the row is a regression."""
        return self.verdict in ("slower", "worse")


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
        return any(row.base in _MEASURED and row.head in _MEASURED for row in self.rows if row.metric == "status")

    @property
    def verdict(self) -> str:
        """``worse`` if any row is worse; else ``unsure`` if any row is, or nothing was measured; else ``no worse``."""
        if any(row.is_worse for row in self.rows):
            return "worse"
        unsure = any(row.verdict == "unsure" for row in self.rows) or self.refused or not self.measured
        return "unsure" if unsure else "no worse"


#: Statuses of a measured case.
_MEASURED = ("ok", "unchecked")


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
    both: list[tuple[int, Measurement, Measurement]] = []
    for (label, base, head), refused in zip(pairs, refusals, strict=True):
        before, after = ({key(m): m for m in side.measurements} for side in (base, head))
        only_base += [m for case, m in before.items() if case not in after]
        only_head += [m for case, m in after.items() if case not in before]
        for case, one in before.items():
            if case in after:
                other = after[case]
                measured = one.status in _MEASURED and other.status in _MEASURED
                if measured and timed and refused is None:
                    lacking = next((m for m in (one, other) if not m.samples), None)
                    why = lacking.missing.get("seconds", "not timed") if lacking else None
                    if lacking is None:
                        both.append((len(rows), one, other))
                    rows.append(Row(other, label, "seconds", one.seconds, other.seconds, "unsure", reason=why))
                rows += exact(one, other, label)
    session = [(base.environment.get("session"), head.environment.get("session")) for _, base, head in pairs]
    paired = all(one is not None and one == other for one, other in session)
    samples = [(one.samples or [], other.samples or []) for _, one, other in both]
    differences = [ratios.paired(*sides) for sides in samples] if paired else ratios.unpaired(samples)
    # Interleaved sides are tested repeatedly while they are measured: these looks share half of the false alarms.
    each = FALSE_ALARMS / (2 if paired else 1) / max(1, len(both))
    for (at, _, _), difference in zip(both, differences, strict=True):
        if difference is None:
            rows[at] = replace(rows[at], reason="too few blocks")
        else:
            found = difference.ratio(each)
            rows[at] = replace(rows[at], ratio=found, verdict=found.verdict(tolerance))
    refused = next((reason for reason in refusals if reason), None) if timed else None
    return Comparison(rows, only_base, only_head, refused, paired, FALSE_ALARMS, tolerance)


def exact(base: Measurement, head: Measurement, label: str = "") -> list[Row]:
    """Compare the exact figures of two measurements: correctness, memory of the result, and allocations."""

    def row(metric: str, verdict: str, reason: str | None = None) -> Row:
        return Row(head, label, metric, getattr(base, metric), getattr(head, metric), verdict, reason=reason)

    was, now = (m.status in _MEASURED for m in (base, head))
    if not (was and now):
        if base.status == head.status:
            # Skipped cases and known failures are the same on both sides. Any other failure may hide a change.
            same = head.status == "skipped" or (base.known and head.known)
            return [row("status", "same" if same else "unsure", head.reason)]
        if head.status == "skipped" or base.status == "skipped":
            skipped = head if head.status == "skipped" else base
            return [row("status", "unsure", f"skipped: {skipped.reason}")]
        if was:
            return [row("status", "changed" if head.known else "worse", head.reason)]
        return [row("status", "better" if now else "changed", base.reason if now else head.reason)]
    rows = [row("status", "same")]
    for name, good in _TRUTHS.items():
        one, other = getattr(base, name), getattr(head, name)
        if one is None or other is None:
            continue
        verdict = "changed" if good(one) == good(other) else "better" if good(other) else "worse"
        rows.append(row(name, "same" if one == other else verdict))
    for name in ("result_dtype", "max_abs_error"):
        one, other = getattr(base, name), getattr(head, name)
        if one is not None and other is not None:
            rows.append(row(name, "same" if one == other else "changed"))
    for name in COUNTS:
        if getattr(base, name) is not None and getattr(head, name) is not None:
            rows.append(row(name, _counted(_range(base, name), _range(head, name))))
    return rows


def _counted(base: Sequence[int], head: Sequence[int]) -> str:
    if list(base) == list(head):
        return "same"
    if head[0] > base[1]:
        return "worse"
    return "better" if head[1] < base[0] else "unsure"


def _range(m: Measurement, name: str) -> Sequence[int]:
    count = getattr(m, name)
    return m.ranges.get(name, [count, count])


def _refusal(base: Mapping[str, Any], head: Mapping[str, Any]) -> str | None:
    """Return why the times of two environments are not comparable, or None if they are."""
    for name in _MACHINE:
        if base.get(name) != head.get(name):
            one, other = (_word(side.get(name)) for side in (base, head))
            return f"{_NAMES.get(name, name)}: {one} in base, {other} in head"
    return None


_NAMES = {
    "cpus": "number of CPUs",
    "gpus": "GPU",
    "image_sha256": "pixels",
    "cpu": "CPU",
    "variables": "environment variables",
}


def _word(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name}={one}" for name, one in value.items()) or "none"
    if isinstance(value, list):
        return ", ".join(str(one.get("name", one)) if isinstance(one, Mapping) else str(one) for one in value) or "none"
    text = "unknown" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"
