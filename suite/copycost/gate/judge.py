"""Judge two functions: measure both on the same inputs, side by side, and draw one conclusion."""

from __future__ import annotations

import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from copycost.analysis.compare import Comparison, Side, compare
from copycost.cases import images
from copycost.cases.case import Case
from copycost.catalog import discovery
from copycost.catalog.description import Description, describe_together
from copycost.catalog.import_context import ImportContext
from copycost.engine.plan import Plan
from copycost.gate import measure
from copycost.gate.subject import NAME
from copycost.machine import environment
from copycost.model.measurement import Measurement
from copycost.model.naming import RegistrationError
from copycost.model.source import Source
from copycost.model.vocabulary import MEASURED, DeviceKind, Layout, Writes
from copycost.registry import Variant
from copycost_meter.targets import Place, locate


@dataclass(frozen=True)
class Question:
    """Two functions, and the inputs on which they are judged.

    Attributes
    ----------
    base, head : str
        ``file.py::function`` or ``module:function``.
    shapes : tuple of (shape, dtype)
        Arguments that are arrays of random values.
    maker : str or None
        Function that makes the arguments: ``make(random)`` returns an array, or a tuple of arguments.
    library : str
        Library of the arrays: ``"numpy"``, ``"tensorflow"``, ``"torch"``, ``"jax"`` or ``"cupy"``.
    device : DeviceKind
    error : float
        Error of a result that is allowed beyond rounding, in units of the result.
    """

    base: str
    head: str
    shapes: tuple[tuple[tuple[int, ...], str], ...]
    maker: str | None = None
    library: str = "numpy"
    device: DeviceKind = DeviceKind.CPU
    error: float = 0.0


@dataclass(frozen=True)
class Judged:
    """What was measured of two functions.

    Attributes
    ----------
    base, head : Measurement
    comparison : Comparison
    stopped_by : str
        As in `copycost.gate.measure.Measured`.
    seconds : float
        Seconds of the whole measurement.
    """

    base: Measurement
    head: Measurement
    comparison: Comparison
    stopped_by: str
    seconds: float


def judge(
    question: Question,
    plan: Plan,
    tolerance: float,
    on_step: Callable[[str, float], None] = lambda step, fraction: None,
) -> Judged:
    """Measure two functions side by side.

    Each function is imported in processes of its own. The base is the reference of both.

    Parameters
    ----------
    question : Question
    plan : Plan
        Its budget, in seconds, covers the whole measurement.
    tolerance : float
        Relative change of time below which a difference is ignored.
    on_step : callable, optional
        As in `copycost.gate.measure.measure`.

    Raises
    ------
    RegistrationError
        If a function or the inputs are not usable.
    NothingToMeasure
        If the base cannot be the reference.
    """
    start = time.monotonic()
    runtime = discovery.runtime(question.library)
    if reason := discovery.not_installed(runtime):
        raise RegistrationError(reason)
    if question.device not in runtime.devices:
        raise RegistrationError(f"{question.library} is not measured on {question.device}")
    places = {side: locate(target) for side, target in (("base", question.base), ("head", question.head))}
    maker = locate(question.maker) if question.maker else None
    photographs = images.read()
    with tempfile.TemporaryDirectory(prefix="copycost-judge-") as folder:
        on_step("importing both functions", 0.0)
        subjects = {side: _Subject(question, place, maker, plan.threads) for side, place in places.items()}
        files = {side: Path(folder, f"{NAME}_{side}.py") for side in places}  # no module of a user has such a name
        described = _described(subjects, files, plan.confined)
        # The module of a function may define recipes and variants too.
        (recipe,) = (recipe for recipe in described["base"].recipes if recipe.name == NAME)
        variants = {side: _own_variant(description) for side, description in described.items()}
        writes = variants["base"].writes
        cases = []
        for side, subject in subjects.items():
            # What base does with its result is what is asked of both.
            files[side].write_text(subject.text(writes))
            variant = replace(variants[side], writes=writes)
            (height, width), *_ = described["base"].axes["sizes"]
            cases.append(
                Case(recipe, variant, question.device, _DTYPE, Layout.CHANNELS_LAST, None, height, width)
            )  # fmt: skip
        contexts = {Source(str(files[side])): subject.context for side, subject in subjects.items()}
        chosen = measure.Chosen(cases[:1], cases[1:], contexts, measure.common_imports(list(described.values())))
        spent = time.monotonic() - start
        plan = replace(plan, budget=max(0.0, plan.budget - spent))
        measured = measure.measure(chosen, plan, photographs, tolerance, on_step, stop_at_worse=False)
    (base,), (head,) = measured.base, measured.head
    if base.status not in MEASURED:
        raise measure.NothingToMeasure(f"{question.base} cannot be the reference: {base.status}: {base.reason}")
    captured = environment.capture(plan.threads, photographs.name, photographs.sha256) | {"session": NAME}
    timed = measured.stopped_by not in ("untimed", "interrupted")
    comparison = compare(Side(captured, [base]), Side(captured, [head]), tolerance=tolerance, timed=timed)
    return Judged(base, head, comparison, measured.stopped_by, time.monotonic() - start)


#: Dtype of the images of a case. Inputs are made without them; the session estimates the memory of a case by them.
_DTYPE = "float64"


@dataclass(frozen=True)
class _Subject:
    """One side: a function, and how it is imported and called."""

    question: Question
    place: Place
    maker: Place | None
    threads: int

    @property
    def context(self) -> ImportContext:
        """Where the function is imported: the working directory stays, and its own folder comes first."""
        names = (self.place.module.partition(".")[0],) if self.place.is_packaged else ()
        return ImportContext(os.getcwd(), (self.place.folder,), names, sys.executable)

    def text(self, writes: Writes | None) -> str:
        """Return a file that registers the function as a variant."""
        arguments = {
            "target": self.place,
            "library": self.question.library,
            "device": str(self.question.device),
            "threads": self.threads,
            "tolerance": self.question.error,
            "secret": random.SystemRandom().randrange(2**63),
            "shapes": self.question.shapes,
            "maker": self.maker,
            "writes": writes and str(writes),
        }
        imports = "from copycost.gate.subject import define\nfrom copycost_meter.targets import Place\n"
        return f"{imports}\ndefine(**{arguments!r})\n"  # every value is written as Python writes it


def _described(
    subjects: Mapping[str, _Subject], files: Mapping[str, Path], confined: str | None
) -> dict[str, Description]:
    """Write the file of each side, and return what it registers."""
    for side, subject in subjects.items():
        files[side].write_text(subject.text(None if side == "base" else Writes.NEW))
    sources = [(Source(str(files[side])), subject.context) for side, subject in subjects.items()]
    described = {}
    for (side, subject), answer in zip(subjects.items(), describe_together(sources, confined), strict=True):
        if isinstance(answer, RegistrationError):
            path, target = files[side], getattr(subject.question, side)
            reason = str(answer).removeprefix(f"{path}: ").replace(f"{path} ", "")
            raise RegistrationError(f"{target}: {reason}")
        described[side] = answer
    return described


def _own_variant(description: Description) -> Variant:
    (variant,) = (variant for variant in description.variants if variant.recipe == NAME)
    return variant
