"""Steps: results of every variant, and two measurements of the same code."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from copycost.model.vocabulary import DeviceKind, Status
from copycost.stats import ratios
from copycost.studies.certify.probes import measure, plain_variant
from copycost.studies.certify.step import Each, Finding, NothingToCheck, Subject, step

#: Probability that two measurements of the same code are called different.
_FALSE_ALARMS = 0.001

#: Number of blocks of the two measurements, and the time for them in seconds.
_BLOCKS, _SECONDS = 20, 15.0

#: File that defines the same call under two names.
_TWINS = """
from copycost import variant
from copycost.model.source import Source
from copycost.studies.certify import probes

for letter in "ab":

    @variant(recipe="tf", name=f"certify-{{letter}}", runtime={original.runtime!r}, writes="{original.writes}")
    def twin(example):
        return probes.prepare(probes.plain_variant({original.runtime!r}), example)
"""


@step(DeviceKind.CPU, DeviceKind.GPU, seconds=240, each=Each.RUNTIME)
def results(subject: Subject) -> Iterator[Finding]:
    """Check the result of every variant of the runtime, for every recipe, on floats, and on the CPU on integers too."""
    # On a GPU each case has a process of its own, with a context.
    dtypes = ("float32",) if subject.device == DeviceKind.GPU else ("uint8", "float32")
    found = measure(subject, recipes=("*",), dtypes=dtypes, size=(32, 48))
    faults = [
        f"{m.recipe} {m.variant} {m.dtype}: {m.status}, {m.reason}"
        for m in found
        if m.status != Status.OK
        and not m.known
        and not (m.status == Status.SKIPPED and "does not fit over" in str(m.reason))
    ]
    counts = Counter(m.status.value for m in found)
    yield Finding(
        "every result is right", not faults and counts["ok"] > 0, {"cases": dict(counts), "faults": faults[:20]}
    )


@step(DeviceKind.CPU, DeviceKind.GPU, seconds=60, each=Each.RUNTIME)
def same_code(subject: Subject) -> Iterator[Finding]:
    """Check that the same code under two names takes the same time."""
    assert subject.runtime is not None
    original = plain_variant(subject.runtime)
    with tempfile.TemporaryDirectory(prefix="copycost-") as folder:
        file = Path(folder, "certify_twins.py")
        file.write_text(_TWINS.format(original=original))
        found = measure(
            subject,
            variants=("certify-a", "certify-b"),
            batch=8,
            size=(64, 64),
            blocks=_BLOCKS,
            seconds=_SECONDS,
            files=(file,),
        )
    if len(found) != 2 or any(m.samples is None for m in found):
        raise NothingToCheck("; ".join(str(m.reason) for m in found) or "the two variants were not registered")
    sides = [m.samples or [] for m in found]
    if any(len(one) != len(other) for one, other in zip(*sides, strict=False)):
        raise NothingToCheck("memory for one of the two at a time, so that they were not interleaved")
    difference = ratios.paired(*sides)
    assert difference is not None  # a session has three blocks at least
    ratio = difference.ratio(_FALSE_ALARMS)
    yield Finding(
        "the same code takes the same time",
        ratio.sure_low <= 1 <= ratio.sure_high,
        {"variant": original.name, "ratio": ratio.value, "low": ratio.sure_low, "high": ratio.sure_high,
         "confidence": 1 - _FALSE_ALARMS, "blocks": ratio.blocks},
    )  # fmt: skip
