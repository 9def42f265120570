"""`copycost merge`: merge results that were measured apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import click

from copycost.cli.options import FilePath, check_writable, errors, printable
from copycost.fleet import journal
from copycost.results import asv_files, merge_asv, merge_runs
from copycost.results.merge_asv import Merged
from copycost.results.store import LOCK, RunError, replace, run_folders, writing


@click.command("merge", short_help="Merge results that were measured apart.")
@click.argument("folders", nargs=-1, required=True, type=FilePath(), metavar="FOLDER...")
@click.option("--into", "into", required=True, type=FilePath(), metavar="FOLDER",
              help="Folder to merge into. What it holds already is merged too.")  # fmt: skip
@click.option("--newest", is_flag=True, help="Where results contradict each other, take the newest.")
@errors
def merge_(folders: tuple[str, ...], into: str, newest: bool) -> None:
    """Merge asv result folders, or run folders, that were measured on several machines or in several jobs.

    The order of the folders does not matter, and merging again changes nothing. A benchmark of one commit, environment
    and machine that was run several times has its newest results. Runs stay apart, in a folder for each: a sample of
    one session is never mixed with one of another. If results contradict each other, nothing is written.

    Exit status: 0 merged; 1 results contradict each other, which --newest resolves; 2 usage error.
    """
    check_writable(into, folder=True)
    target = Path(into)
    paths = [Path(folder) for folder in folders]
    for path in paths:
        _kind(path)
    if target.is_dir() and any(path.name not in (LOCK, journal.NAME) for path in target.iterdir()):
        paths.append(target)
    kinds = {_kind(path): path for path in paths}
    if len(kinds) > 1:
        first, second = kinds.items()
        raise RunError(f"{first[1]} holds {first[0]} and {second[1]} {second[0]}: expected folders of one kind")
    is_asv = "asv's results" in kinds
    if not is_asv:
        merge_runs.check_target(target)
    with writing(target):
        _merge(paths, target, into, merge_asv.merge if is_asv else merge_runs.merge, newest)


def _merge(
    paths: Sequence[Path], target: Path, into: str, merge: Callable[[Sequence[Path], bool], Merged], newest: bool
) -> None:
    """Merge folders, and print what came of it; exit with 1 if they contradict each other."""
    merged = merge(paths, newest)
    if merged.conflicts:
        for conflict in merged.conflicts:
            print(f"conflict: {printable(conflict)}")
        print(f"Nothing was written: --newest takes the newest. {len(merged.conflicts)} in all.")
        raise SystemExit(1)
    changed = 0
    for name, text in merged.texts.items():
        path = target / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, text)
            changed += 1
    print(f"{printable(into)}: {len(merged.texts)} files, {changed} of them new or changed")


def _kind(path: Path) -> str:
    """Return what a folder holds, or raise RunError."""
    if not path.is_dir():
        raise RunError(f"no folder {path}")
    if run_folders(path):
        return "runs"
    if asv_files.holds(path) and not (path / asv_files.MACHINE).is_file():
        return "asv's results"
    raise RunError(f"{path} holds neither asv's results nor a run")
