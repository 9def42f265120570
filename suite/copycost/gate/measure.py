"""Measure base and head side by side: exact metrics first, then time until the answer is clear or time runs out."""

from __future__ import annotations

import itertools
import random
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic
from typing import Any

from copycost.analysis.compare import COUNTS, FALSE_ALARMS, Comparison, Row, cycles, exact
from copycost.cases import images, selection
from copycost.cases.case import Case, as_row
from copycost.cases.profiles import Axes
from copycost.catalog import description, import_context
from copycost.catalog.description import Description
from copycost.engine import assemble
from copycost.engine.case_state import CaseState, Group
from copycost.engine.plan import Plan
from copycost.engine.session import Session
from copycost.gate.commits import Commit
from copycost.machine.host_lock import LockError
from copycost.model import naming
from copycost.model.measurement import Measurement
from copycost.model.source import Source
from copycost.model.vocabulary import Verdict
from copycost.stats import ratios

#: Pairs of adjacent samples in a block, one sample per side.
PAIRS = 12

#: Numbers of blocks after which the gate checks whether the answer is clear. Each check can raise a false alarm. Half
#: of the allowed false alarm rate is split evenly among these checks; the final comparison gets the other half
#: (Haybittle and Peto). With fewer blocks, stopping at a narrow interval would reduce its coverage below the stated
#: level.
LOOKS = (7, 9, 12, 16, 21, 28, 37, 49, 65, 86, 114)

#: Seed of the order of cases only.
_SEED = 0


class NothingToMeasure(ValueError):
    """Error raised if there is no case to measure; the message is one line."""


@dataclass(frozen=True)
class Chosen:
    """Cases of both sides, the import contexts of their source files, and the packages that all of these import."""

    base: list[Case]
    head: list[Case]
    places: Mapping[Source, import_context.ImportContext]
    preload: Sequence[str] = ()


@dataclass(frozen=True)
class Measured:
    """Measurements of both sides, and why measuring stopped.

    `stopped_by` is ``exact``, ``clear``, ``budget``, ``untimed`` or ``interrupted``.
    """

    base: list[Measurement]
    head: list[Measurement]
    stopped_by: str


def choose(
    base: Commit,
    head: Commit,
    files: Mapping[str, bool],
    profile: str,
    given: Mapping[str, Sequence[Any]],
    *,
    recipes: Sequence[str] = (),
    variants: Sequence[str] = (),
    devices: Sequence[str] = (),
) -> Chosen:
    """Select the cases that files define in either commit.

    Parameters
    ----------
    base, head : Commit
    files : mapping of str to bool
        File name, relative to a commit's folder → whether base lacked the file and uses head's copy. If empty, both are
        commits of copycost itself, and the variants that they ship are measured.
    profile : str
    given : mapping of str to sequence
        Values of axes in place of those that a file's benchmark class sets, or else the profile: see
        `copycost.cases.selection.axes_of`. An empty sequence leaves the axis to them.
    recipes, variants, devices : sequence of str
        Glob patterns.

    Raises
    ------
    RegistrationError, CaseError
    NothingToMeasure
    """
    if files:
        cases, places, preload = _defined(base, head, files, profile, given)
    else:
        axes = selection.axes_of(profile, **given)
        cases, places = _shipped(base, head, replace(axes, recipes=("*",)) if recipes else axes)
        preload = []
    # A name that exists in only one of the commits is valid.
    matching = selection.matching(cases, recipes=recipes, variants=variants, devices=devices)
    before, after = (
        [case for case in matching if places[case.variant.source] == commit.place] for commit in (base, head)
    )  # fmt: skip
    return Chosen(before, after, places, preload)


#: Import context of each source.
_Places = dict[Source, import_context.ImportContext]


def _defined(
    base: Commit, head: Commit, files: Mapping[str, bool], profile: str, given: Mapping[str, Sequence[Any]]
) -> tuple[list[Case], _Places, list[str]]:
    """Return the cases that files define in either commit, where these are, and the packages that all files import."""
    sources = {
        commit.name: {name: Source(str(Path(commit.place.folder, name))) for name in files} for commit in (base, head)
    }

    described: dict[str, dict[Source, Description]] = {"base": {}, "head": {}}
    for name in files:
        both = [(sources[commit.name][name], commit.place) for commit in (base, head)]
        for commit, (source, place), answer in zip(
            (base, head), both, description.describe_together(both), strict=True
        ):
            if not isinstance(answer, naming.RegistrationError):
                described[commit.name][source] = answer
            elif commit is head or not files[name]:  # base may lack modules that head's copy of the file imports
                short = str(answer).replace(f"{place.folder}/", "")
                raise naming.RegistrationError(f"{commit.name}: {short}")
    cases = [case for descriptions in described.values() for case in _cases(descriptions, profile, given)]
    if not cases:
        raise NothingToMeasure(f"no variant is defined in {', '.join(files)}")
    places = {source: commit.place for commit in (base, head) for source in sources[commit.name].values()}
    return cases, places, common_imports([one for own in described.values() for one in own.values()])


def common_imports(descriptions: Sequence[Description]) -> list[str]:
    """Return the packages that all of some files import."""
    return sorted(set.intersection(*(set(one.imports) for one in descriptions))) if descriptions else []


def _cases(
    descriptions: Mapping[Source, Description], profile: str, given: Mapping[str, Sequence[Any]]
) -> Iterator[Case]:
    """Yield the cases of one commit's files: each file's on the axes that its benchmark class sets."""
    stated = {name: values for name, values in given.items() if values}
    for source, definitions in descriptions.items():
        axes = selection.axes_of(profile, **{**definitions.axes, **stated})
        yield from (case for case in selection.defined_by(descriptions, axes) if case.variant.source == source)


def _shipped(base: Commit, head: Commit, axes: Axes) -> tuple[list[Case], _Places]:
    """Return the cases that two commits of copycost ship."""
    cases: list[Case] = []
    places: _Places = {}
    for commit in (base, head):
        try:
            shipped = description.describe(_SHIPPED, commit.place)
        except naming.RegistrationError as error:
            raise naming.RegistrationError(f"{commit.name}: {error}") from None
        # Both sides have modules of the same names, so append the side to each source.
        recipes = {r.name: replace(r, source=replace(r.source, side=commit.name)) for r in shipped.recipes}
        variants = [replace(v, source=replace(v.source, side=commit.name)) for v in shipped.variants]
        cases += selection.expand(axes, variants, recipes)
        sources = {r.source for r in recipes.values()} | {v.source for v in variants}
        places |= dict.fromkeys(sources, commit.place)
    return cases, places


#: The module that imports every shipped variant.
_SHIPPED = Source("copycost.variants")


@dataclass
class _Pair:
    """One case on both sides."""

    group: Group
    base: CaseState
    head: CaseState

    @property
    def ended(self) -> bool:
        """Whether the pair needs no more blocks."""
        return any(state.stopped_by or state.measurement for state in (self.base, self.head))

    def decided(self, tolerance: float, false_alarms: float) -> bool:
        """Return whether the answer is clear."""
        difference = ratios.paired(self.base.blocks, self.head.blocks)
        if difference is None:
            return False
        verdict = difference.ratio(false_alarms).verdict(tolerance)
        base_cycles, head_cycles = (cycles(state.blocks, state.clocks_mhz) for state in (self.base, self.head))
        if base_cycles is not None and head_cycles is not None and verdict in (Verdict.SLOWER, Verdict.FASTER):
            in_cycles = ratios.paired(base_cycles, head_cycles)
            return in_cycles is not None and in_cycles.ratio(false_alarms).verdict(tolerance) == verdict
        return verdict != Verdict.UNSURE


def measure(
    chosen: Chosen,
    plan: Plan,
    photographs: images.Photographs,
    tolerance: float,
    on_step: Callable[[str, float], None] = lambda step, fraction: None,
    stop_at_worse: bool = True,
) -> Measured:
    """Measure both sides of every case that base and head share.

    Exact metrics are measured first. If `plan` has no blocks, or if any of them is worse and `stop_at_worse` is set,
    nothing is timed. Otherwise, every undecided case gets one block after another on both sides.

    Parameters
    ----------
    chosen : Chosen
    plan : Plan
        Its budget, in seconds, covers the whole measurement.
    photographs : Photographs
    tolerance : float
        Relative change of time below which a difference is ignored.
    on_step : callable, optional
        ``on_step(step, fraction)``: the current step in a few words, and the fraction of the work that is done.
    stop_at_worse : bool, optional
        Whether a worse exact metric decides, so that time does not matter.
    """
    deadline = monotonic() + plan.budget
    before = {case.key: case for case in chosen.base}
    shared: dict[tuple[Any, ...], list[Case]] = {}
    for case in chosen.head:
        if case.key in before:
            shared.setdefault(case.group, []).append(case)
    states: list[tuple[Group | None, CaseState, CaseState]] = []
    with Session(plan, photographs, places=chosen.places, preload=chosen.preload) as session:
        try:
            on_step("importing", 0.0)
            session.start([*chosen.base, *chosen.head])
            for number, heads in enumerate(shared.values()):
                on_step(f"examining {heads[0].label()}", number / len(shared))
                # Head comes first, so that head's reference decides which results are right.
                group, examined = session.examine([*heads, *(before[case.key] for case in heads)])
                sides = zip(examined[len(heads) :], examined[: len(heads)], strict=True)
                states += [(group, base_state, head_state) for base_state, head_state in sides]
            for group, base_state, head_state in states:
                if group and any(row.is_worse and row.metric in COUNTS for row in _exact(base_state, head_state)):
                    # Trace again: counts that differ between processes do not characterize a commit.
                    session.trace_again(base_state, group)
                    session.trace_again(head_state, group)
            worse = any(row.is_worse for _, base_state, head_state in states for row in _exact(base_state, head_state))
            pairs = [
                _Pair(group, base_state, head_state)
                for group, base_state, head_state in states
                if group and not (base_state.measurement or head_state.measurement)
            ]
            if not (plan.blocks and pairs):
                stopped = "untimed"
            elif worse and stop_at_worse:
                stopped = "exact"
            else:
                try:
                    with session.locked(chosen.head) as waited:
                        stopped = _time(session, pairs, deadline + waited, tolerance, on_step)
                except (KeyboardInterrupt, LockError) as error:  # while it waits: report the exact figures
                    print(f"Error: {error}" if isinstance(error, LockError) else "", file=sys.stderr)
                    for pair in pairs:
                        pair.base.stopped_by = pair.head.stopped_by = "budget"
                    stopped = "interrupted"
            base = [state.complete(group) for group, state, _ in states]
            head = [state.complete(group) for group, _, state in states]
        finally:
            for group in {id(group): group for group, *_ in states if group}.values():
                group.close()
    return Measured(base, head, stopped)


def _exact(base: CaseState, head: CaseState) -> list[Row]:
    return exact(base.so_far(), head.so_far())


def _time(
    session: Session,
    pairs: Sequence[_Pair],
    deadline: float,
    tolerance: float,
    on_step: Callable[[str, float], None],
) -> str:
    """Time the undecided pairs block after block, and return why timing stopped."""
    order = random.Random(_SEED)
    session_start = monotonic()
    longest: dict[int, float] = {}
    for block in itertools.count(1):
        undecided_pairs = [pair for pair in pairs if not pair.ended]
        if not undecided_pairs:
            return "budget" if any(pair.base.stopped_by == "budget" for pair in pairs) else "clear"
        order.shuffle(undecided_pairs)
        for pair in undecided_pairs:
            start = monotonic()
            if start + longest.get(id(pair), 0.0) > deadline:
                pair.base.stopped_by = pair.head.stopped_by = "budget"
                continue
            for state in (pair.base, pair.head):
                # The timeout applies per block, because the number of blocks is open.
                state.seconds_left = state.timeout
            undecided = f"{len(undecided_pairs)} of {len(pairs)} cases not yet clear"
            on_step(f"block {block}, {undecided}", (start - session_start) / (deadline - session_start))
            try:
                # Only the other side has used the caches since the last sample, and as much for both sides. Calls that
                # are made until they are hot would halve the number of blocks that fit into the budget.
                session.runner.run([pair.base, pair.head], pair.group, PAIRS, hot=False)
            except KeyboardInterrupt:  # report the results so far
                for unfinished in pairs:
                    if not unfinished.ended:
                        unfinished.base.stopped_by = unfinished.head.stopped_by = "budget"
                return "interrupted"
            longest[id(pair)] = max(longest.get(id(pair), 0.0), monotonic() - start)
        if block in LOOKS:
            for pair in undecided_pairs:
                if pair.decided(tolerance, FALSE_ALARMS / 2 / len(LOOKS) / len(pairs)):
                    pair.base.stopped_by = pair.head.stopped_by = "clear"
    raise AssertionError  # unreachable: itertools.count does not end


def why_nothing(measured: Measured) -> str:
    """Return, in one line, why no case was measured on both sides."""
    if not measured.head:
        return "base and head have no case in common"
    for side, measurements in (("head", measured.head), ("base", measured.base)):
        for m in measurements:
            if m.status not in ("ok", "unchecked"):
                return f"no case was measured on both sides: {m.variant} of {side}: {m.status}: {m.reason}"
    return "no case was measured"


def with_unmatched(comparison: Comparison, chosen: Chosen) -> Comparison:
    """Return a comparison with the cases that exist on only one side added."""
    keys = [{case.key for case in side} for side in (chosen.base, chosen.head)]
    alone = [
        [_unmeasured(case) for case in side if case.key not in other_keys]
        for side, other_keys in zip((chosen.base, chosen.head), reversed(keys), strict=True)
    ]
    return replace(comparison, only_base=alone[0], only_head=alone[1])


def _unmeasured(case: Case) -> Measurement:
    return assemble.measurement(as_row(case), 0, "skipped", "the other commit does not have it")
