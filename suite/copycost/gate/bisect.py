"""Bisect: find the commit, or the version of a dependency, from which on a function requests more memory."""

from __future__ import annotations

import glob
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from copycost.engine.plan import Plan
from copycost.gate import commits
from copycost.gate.commits import RepositoryError
from copycost.gate.counted import FIGURES, Counted, CountError, count
from copycost.gate.judge import Question, judge
from copycost.gate.verdict import Judgement, Word, conclude
from copycost_meter.call_count import CallCount

#: A release of a package: ``numpy==1.26.4``.
_RELEASE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")


@dataclass(frozen=True)
class Step:
    """A commit, or a version of a dependency.

    Attributes
    ----------
    name : str
        Hash of the commit, or requirement: ``numpy==1.26.4``.
    title : str
        Short hash and subject, or the requirement.
    """

    name: str
    title: str


@dataclass(frozen=True)
class Look:
    """A step that was looked at.

    Attributes
    ----------
    step : Step
    is_bad : bool or None
        None if the function could not be counted.
    found : CallCount or None
    reason : str
        Why it could not be counted, or what differs from the good step.
    """

    step: Step
    is_bad: bool | None
    found: CallCount | None
    reason: str


@dataclass(frozen=True)
class Bisected:
    """Result of a bisection.

    Attributes
    ----------
    good, bad : Look
        The ends.
    looks : tuple of Look
        The steps between them that were looked at, in order.
    first_bad : Look
        The first bad step.
    last_good : Look
        The last good step before it.
    skipped : tuple of Step
        Steps between both that could not be counted, any of which may be the first bad one.
    """

    good: Look
    bad: Look
    looks: tuple[Look, ...]
    first_bad: Look
    last_good: Look
    skipped: tuple[Step, ...]


class NothingToBisect(ValueError):
    """Raised if no step can be found. The message is one line."""


def bisect(
    steps: Sequence[Step], counted: Callable[[Step], CallCount], on_look: Callable[[Look], None] = lambda look: None
) -> Bisected:
    """Find the first of some steps at which a function requests more than at the first one.

    A step is bad if a figure in which the last step is worse than the first one is higher than at the first step.

    Parameters
    ----------
    steps : sequence of Step
        In order. The first one is good, the last one bad.
    counted : callable
        Counts the function at a step. It raises `CountError` if it cannot be counted there.
    on_look : callable, optional
        Called with each step that was looked at.

    Raises
    ------
    NothingToBisect
        If the function cannot be counted at an end, or if the last step is no worse.
    """
    ends = []
    for step in (steps[0], steps[-1]):
        try:
            ends.append(counted(step))
        except CountError as error:
            raise NothingToBisect(f"{step.title}: {error}") from None
    before, after = ends
    varying = {*before.varies, *after.varies}
    figures = [name for name in FIGURES if name not in varying and _more(getattr(before, name), getattr(after, name))]
    changes = set(after.changed) - set(before.changed)
    if not figures and not changes:
        raise NothingToBisect(
            f"{steps[-1].title} is no worse than {steps[0].title}: {_text(after)}, as {_text(before)}"
        )

    def look(step: Step) -> Look:
        try:
            found = counted(step)
        except CountError as error:
            return Look(step, None, None, str(error))
        is_bad = bool(changes & set(found.changed)) or any(
            _more(getattr(before, name), getattr(found, name)) for name in figures
        )
        return Look(step, is_bad, found, _text(found))

    good, bad = Look(steps[0], False, before, _text(before)), Look(steps[-1], True, after, _text(after))
    return _search(steps, good, bad, look, on_look)


def bisect_time(
    steps: Sequence[Step], judged: Callable[[Step], Judgement], on_look: Callable[[Look], None] = lambda look: None
) -> Bisected:
    """Find the first of some steps at which a function is slower than at the first one; as `bisect`.

    Parameters
    ----------
    steps : sequence of Step
    judged : callable
        Judges the function at a step against that of the first one. It raises ValueError if it cannot.
    on_look : callable, optional
    """

    def look(step: Step) -> Look:
        try:
            judgement = judged(step)
        except ValueError as error:
            return Look(step, None, None, str(error))
        is_known = judgement.ratio is not None and judgement.word != Word.UNSURE
        is_slower = judgement.ratio is not None and judgement.ratio.sure_low > 1
        return Look(step, is_slower if is_known else None, None, judgement.sentence)

    bad = look(steps[-1])
    if not bad.is_bad:
        raise NothingToBisect(f"{steps[-1].title} is not surely slower than {steps[0].title}: {bad.reason}")
    return _search(steps, Look(steps[0], False, None, "what the others are compared with"), bad, look, on_look)


def _search(
    steps: Sequence[Step], good: Look, bad: Look, look: Callable[[Step], Look], on_look: Callable[[Look], None]
) -> Bisected:
    """Look at the step in the middle of the good and the bad ones that are next to each other, and so on."""
    for end in (good, bad):
        on_look(end)
    known = {0: good, len(steps) - 1: bad}
    looks = []
    low, high = 0, len(steps) - 1
    while (middle := _middle(low, high, known)) is not None:
        known[middle] = look(steps[middle])
        looks.append(known[middle])
        on_look(known[middle])
        if known[middle].is_bad is not None:
            low, high = (low, middle) if known[middle].is_bad else (middle, high)
    return Bisected(good, bad, tuple(looks), known[high], known[low], tuple(steps[low + 1 : high]))


def _middle(low: int, high: int, known: dict[int, Look]) -> int | None:
    """Return the step nearest to the middle of two that was not looked at, or None."""
    unknown = [i for i in range(low + 1, high) if i not in known]
    return min(unknown, key=lambda i: abs(2 * i - low - high), default=None)


def _more(before: int | None, after: int | None) -> bool:
    return before is not None and after is not None and after > before


def _text(found: CallCount) -> str:
    """Return the figures of a count in one line."""
    texts = dict(found.figures())
    changed = f", changes {', '.join(found.changed)}" if found.changed else ""
    number = texts["allocations"]
    return f"{number} {'request' if number == '1' else 'requests'}, {texts['allocated']}{changed}"


def is_release(text: str) -> bool:
    """Return whether a text names a release of a package, and not a commit."""
    return _RELEASE.fullmatch(text) is not None


# Commits


def commit_steps(repository: Path, good: str, bad: str) -> list[Step]:
    """Return the commits from one to another, each with the ones on the first parents between them.

    Raises
    ------
    RepositoryError
        If there are no such commits, or if the bad one does not descend from the good one.
    """
    first, last = (commits.resolve(repository, ref) for ref in (good, bad))
    log = commits.git(
        repository, "log", "--reverse", "--first-parent", "--ancestry-path", "--no-show-signature",
        "--format=%H%x00%h %s", f"{first}..{last}",
    )  # fmt: skip
    steps = [Step(*line.split("\0", 1)) for line in log.split("\n") if line]
    if not steps:
        raise RepositoryError(f"{bad} does not descend from {good}")
    return [Step(first, commits.title(repository, first)), *steps]


@contextmanager
def _tree(repository: Path) -> Iterator[Callable[[Step], Path]]:
    """Yield what checks out a commit in one work tree, which is removed at the end, and returns its folder."""
    folder = commits.new_folder(repository) / "tree"

    def checked_out(step: Step) -> Path:
        quiet = ("-c", "core.hooksPath=/dev/null")  # hooks are meant for the user's own checkouts
        if folder.exists():
            commits.git(folder, *quiet, "checkout", "--quiet", "--detach", "--force", step.name)
            commits.git(folder, "clean", "-ffdxq")  # what the code of the step before has left, such as bytecode
        else:
            commits.git(repository, *quiet, "worktree", "add", "--detach", "--force", str(folder), step.name)
        return folder

    try:
        yield checked_out
    finally:
        commits.remove_folder(repository, folder.parent)


def _within(folder: Path, repository: Path, here: Path) -> Path:
    """Return the folder of a work tree that corresponds to a folder of the repository, or else its root."""
    place = folder / here.relative_to(repository)
    return place if place.is_dir() else folder


def _check_origin(target: str, path: Sequence[str]) -> None:
    """Raise CountError if the module of a function is not in a commit: it would be imported from another place."""
    module, colon, _ = target.partition(":")
    if module.endswith(".py") or not colon:
        return
    name = module.partition(".")[0]
    found = (Path(entry, name).is_dir() or [*Path(entry).glob(f"{glob.escape(name)}.*")] for entry in path)
    if not any(found):
        raise CountError(f"{name} is not in this commit")


@contextmanager
def counting_commits(repository: Path, function: Counted, here: Path) -> Iterator[Callable[[Step], CallCount]]:
    """Yield what counts a function at a commit, in a work tree that is removed at the end.

    Parameters
    ----------
    repository : Path
        Its root.
    function : Counted
    here : Path
        Folder within the repository to which the function's file is relative.
    """
    with _tree(repository) as checked_out:

        def counted(step: Step) -> CallCount:
            folder = checked_out(step)
            try:
                path = commits.import_path(folder)
            except RepositoryError as error:
                raise CountError(str(error)) from None
            within = _within(folder, repository, here)
            _check_origin(function.target, [*path, str(within)])
            return count(function, within, path=path)

        yield counted


@contextmanager
def judging_commits(
    repository: Path, good: Step, question: Question, plan: Plan, tolerance: float, here: Path
) -> Iterator[Callable[[Step], Judgement]]:
    """Yield what judges a function of a file at a commit against the one at a good commit.

    Parameters
    ----------
    repository : Path
        Its root.
    good : Step
    question : Question
        Its `head` is the function, and its `base` is ignored. Files are relative to `here`.
    plan : Plan
        Its budget is that of each commit.
    tolerance : float
    here : Path
    """
    with _tree(repository) as checked_out, _tree(repository) as other_checked_out:
        base = _within(checked_out(good), repository, here) / question.head

        def judged(step: Step) -> Judgement:
            head = _within(other_checked_out(step), repository, here) / question.head
            return conclude(judge(replace(question, base=str(base), head=str(head)), plan, tolerance))

        yield judged


# Versions of a dependency


def release_steps(good: str, bad: str) -> list[Step]:
    """Return the releases of a package from one to another, as its index lists them.

    Raises
    ------
    NothingToBisect
        If both are not releases of one package, or if the index does not list them.
    """
    matches = [_RELEASE.fullmatch(text) for text in (good, bad)]
    names = {match[1].lower() for match in matches if match}
    if None in matches or len(names) != 1:
        raise NothingToBisect(f"{good} and {bad} are not two releases of one package")
    name = names.pop()
    process = subprocess.run(
        [sys.executable, "-m", "pip", "index", "versions", name, "--disable-pip-version-check"],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    line = next((line for line in process.stdout.splitlines() if line.startswith("Available versions:")), None)
    if line is None:
        lines = process.stderr.strip().splitlines()
        raise NothingToBisect(f"the versions of {name} cannot be listed: {lines[-1] if lines else 'pip failed'}")
    versions = [version.strip() for version in line.partition(":")[2].split(",")][::-1]  # oldest first
    ends = [match[2] for match in matches if match]
    for version in ends:
        if version not in versions:
            raise NothingToBisect(
                f"{name}=={version} is not listed for this Python: expected one of {', '.join(versions[-12:])}"
            )
    first, last = map(versions.index, ends)
    if first >= last:
        raise NothingToBisect(f"{good} is not older than {bad}")
    return [Step(f"{name}=={version}", f"{name}=={version}") for version in versions[first : last + 1]]


def counting_releases(function: Counted, here: Path, more: Sequence[str]) -> Callable[[Step], CallCount]:
    """Return what counts a function with a release, in an environment that is kept for the next time.

    Parameters
    ----------
    function : Counted
    here : Path
        Working directory.
    more : sequence of str
        Further requirements of the function.
    """

    def counted(step: Step) -> CallCount:
        try:
            python = commits.environment([step.name, *more, "memray"], f"cannot install {step.name}")
        except RepositoryError as error:
            raise CountError(str(error)) from None
        return count(function, here, python)

    return counted
