"""`copycost compare`: two runs, or two commits of asv's results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from copycost.analysis.compare import TOLERANCE, Comparison, Side, joined
from copycost.cli.options import FilePath, check_writable, errors, write_json, write_text
from copycost.report import comparison as shown
from copycost.report.console import print_line
from copycost.results import asv_files as history
from copycost.results import load, store

#: Exit statuses.
WORSE, UNSURE = 1, 3


class Percent(click.ParamType):
    """A change in percent, given as a number; a fraction afterwards."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: D102
        try:
            percent = float(str(value).removesuffix("%"))
        except ValueError:
            self.fail(f"'{value}' is not a number of percent")
        if not 0 < percent <= 100:
            self.fail(f"{value} percent: more than 0, and at most 100")
        return percent / 100


def verdict_options(function: Any) -> Any:
    """Add what `compare` and `gate` have in common."""
    for option in (
        click.option("--markdown", "markdown_file", type=FilePath(), metavar="FILE",
                     help="Also write it as Markdown, for a pull request; - for standard output."),
        click.option("--json", "json_file", type=FilePath(), metavar="FILE",
                     help="Also write it as JSON; - for standard output."),
        click.option("--strict", is_flag=True, help="Exit with 3 where something could not be told."),
        click.option("--tolerance", type=Percent(), metavar="PERCENT", default=str(100 * TOLERANCE), show_default=True,
                     help="A change of time that does not count."),
    ):  # fmt: skip
        function = option(function)
    return function


@click.command()
@click.argument("base", type=FilePath(), metavar="BASE")
@click.argument("head", type=FilePath(), metavar="HEAD")
@verdict_options
@errors
def compare(base: str, head: str, **options: Any) -> None:
    """Compare two runs, case by case: what became worse, what is the same, what cannot be told.

    BASE and HEAD are folders of `copycost run --out` or files of --json; or asv's results of a commit, as
    .asv/results@COMMIT. Runs of different times differ by more than their own intervals: `copycost gate` measures two
    commits side by side.

    Exit status: 0 no worse; 1 something is worse; 3 something could not be told, with --strict; 2 usage.
    """
    check_outputs(options)
    sides = [_sides(name) for name in (base, head)]
    shared = [label for label in sides[0] if label in sides[1]]
    if not shared:
        one, other = (" and ".join(filter(None, its)) or "a run" for its in sides)
        raise store.RunError(f"base is {one}, head is {other}: no machine and environment has both")
    pairs = [(label if len(shared) > 1 else "", sides[0][label], sides[1][label]) for label in shared]
    comparison = joined(pairs, tolerance=options["tolerance"])
    if not comparison.rows:
        raise store.RunError("base and head have no case in common")
    print_verdict_and_exit(
        comparison, options, [m for side in sides for one in side.values() for m in one.measurements], [], {}
    )


def check_outputs(options: dict[str, Any]) -> None:
    """Raise RunError for a file that could not be written to, before anything is done."""
    for name in ("json_file", "markdown_file"):
        check_writable(options[name])
    if options["json_file"] == options["markdown_file"] == "-":
        raise store.RunError("--json and --markdown cannot both go to standard output")


def print_verdict_and_exit(
    comparison: Comparison, options: dict[str, Any], measured: Any, head_lines: list[str], more: dict[str, Any]
) -> None:
    """Show and write a comparison, and end with its exit status."""
    to_stderr = "-" in (options["json_file"], options["markdown_file"])
    console = Console(stderr=to_stderr, highlight=False)
    for line in head_lines:
        print_line(console, Text(line))
    shown.terminal(console, comparison)
    if note := shown.disturbed(measured):
        print_line(console, Text(note, "dim"))
    status = WORSE if comparison.verdict == "worse" else 0
    if comparison.verdict == "unsure" and options["strict"]:
        status = UNSURE
    if options["json_file"]:
        write_json(options["json_file"], shown.document(comparison, exit_status=status, **more))
    if options["markdown_file"]:
        write_text(options["markdown_file"], shown.markdown(comparison, " · ".join(head_lines) or "copycost compare"))
    sys.exit(status)


def _sides(name: str) -> dict[str, Side]:
    """A run, by no name; or asv's results of a commit, by machine and environment."""
    path, _, commit = name.rpartition("@")
    if Path(name).exists() or not path or not history.holds(Path(path)):
        loaded = load.load_all(Path(name))
        if len(loaded) > 1:
            raise store.RunError(f"{name} holds several results of asv's: name a commit, as {name}@main")
        return {_label(environment): Side(environment, measurements) for _, environment, measurements in loaded}
    full = _resolved(commit)
    if len(full) < 4:
        raise store.RunError(f"'{commit}' names no commit, of which four letters are the least")
    found = [one for one in load.load_all(Path(path)) if one[1]["commit"].startswith(full)]
    if not found:
        raise store.RunError(f"{path} has no result of commit {commit}")
    if len({environment["commit"] for _, environment, _ in found}) > 1:
        raise store.RunError(f"{path} has results of several commits that begin with {commit}")
    return {_label(environment): Side(environment, measurements) for _, environment, measurements in found}


def _label(environment: Mapping[str, Any]) -> str:
    """Machine and environment of a result of asv's; a run has neither name."""
    return ", ".join(environment[name] for name in ("machine", "environment") if name in environment)


def _resolved(commit: str) -> str:
    """The hash of a commit by any name that git knows here, else the word itself."""
    try:
        done = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], capture_output=True)
    except (OSError, ValueError):  # no git, or no name that it could be asked for
        return commit
    return done.stdout.decode().strip() or commit
