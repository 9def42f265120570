"""`copycost compare`: compare two runs, or two commits in asv's results."""

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
from copycost.cli.options import FilePath, check_writable, errors, json_text, write_texts
from copycost.cli.runs import load_runs
from copycost.report import comparison as shown
from copycost.report.console import print_line
from copycost.results import asv_files as history
from copycost.results import load, store

#: Exit statuses.
WORSE, UNSURE = 1, 3


class Percent(click.ParamType):
    """A click type for a change in percent, converted to a fraction."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: D102
        try:
            percent = float(str(value).removesuffix("%"))
        except ValueError:
            self.fail(f"'{value}' is not a percentage: expected a number, e.g. 3")
        if not 0 < percent <= 100:
            self.fail(f"{value} percent is out of range: expected more than 0 and at most 100")
        return percent / 100


def verdict_options(function: Any) -> Any:
    """Add the options that `compare` and `gate` share."""
    for option in (
        click.option("--markdown", "markdown_file", type=FilePath(), metavar="FILE",
                     help="Also write the comparison as Markdown, for a pull request; - writes to standard output."),
        click.option("--json", "json_file", type=FilePath(), metavar="FILE",
                     help="Also write the comparison as JSON; - writes to standard output."),
        click.option("--strict", is_flag=True, help="Exit with status 3 if a case is unsure."),
        click.option("--tolerance", type=Percent(), metavar="PERCENT", default=str(100 * TOLERANCE), show_default=True,
                     help="Ignore changes in time up to this percentage."),
    ):  # fmt: skip
        function = option(function)
    return function


@click.command(short_help="Compare two runs case by case.")
@click.argument("base", type=FilePath(), metavar="BASE")
@click.argument("head", type=FilePath(), metavar="HEAD")
@verdict_options
@errors
def compare(base: str, head: str, **options: Any) -> None:
    """Compare two runs case by case, and report which cases are worse, the same or unsure.

    BASE and HEAD are folders written by `copycost run --out`, files written by --json, or asv's results of a commit,
    given as .asv/results@COMMIT. Runs taken at different times differ by more than their own intervals. To compare two
    commits, prefer `copycost gate`, which measures them side by side.

    Exit status: 0 no case is worse; 1 a case is worse; 2 usage error; 3 a case is unsure, with --strict.
    """
    check_outputs(options)
    sides = [_sides(name) for name in (base, head)]
    shared = [label for label in sides[0] if label in sides[1]]
    if not shared:
        base_name, head_name = (" and ".join(filter(None, labels)) or "a run" for labels in sides)
        raise store.RunError(
            f"base is {base_name}, head is {head_name}: no machine and environment has results of both"
        )
    pairs = [(label if len(shared) > 1 else "", sides[0][label], sides[1][label]) for label in shared]
    comparison = joined(pairs, tolerance=options["tolerance"])
    if not comparison.rows:
        raise store.RunError("base and head have no case in common")
    print_verdict_and_exit(
        comparison, options, [m for labelled in sides for side in labelled.values() for m in side.measurements], [], {}
    )


def check_outputs(options: dict[str, Any]) -> None:
    """Raise RunError if an output file cannot be written, before any work starts."""
    for name in ("json_file", "markdown_file"):
        check_writable(options[name])
    if options["json_file"] == options["markdown_file"] == "-":
        raise store.RunError("--json and --markdown cannot both go to standard output")


def print_verdict_and_exit(
    comparison: Comparison, options: dict[str, Any], measured: Any, head_lines: list[str], fields: dict[str, Any]
) -> None:
    """Print and write a comparison, and exit with its status."""
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
    texts = {}
    if options["json_file"]:
        texts[options["json_file"]] = json_text(shown.document(comparison, exit_status=status, **fields))
    if options["markdown_file"]:
        texts[options["markdown_file"]] = shown.markdown(comparison, " · ".join(head_lines) or "copycost compare")
    write_texts(texts)
    sys.exit(status)


def _sides(name: str) -> dict[str, Side]:
    """Return the sides that an argument names: a run under an empty label, or asv's results of a commit.

    asv's results are labelled with their machine and environment.
    """
    path, _, commit = name.rpartition("@")
    if Path(name).exists() or not path or not history.holds(Path(path)):
        loaded = load_runs(name)
        if len(loaded) > 1:
            raise store.RunError(f"{name} holds several results of asv: name a commit, e.g. {name}@main")
        return {_label(environment): Side(environment, measurements) for _, environment, measurements in loaded}
    full = _resolved(commit)
    if len(full) < 4:
        raise store.RunError(f"'{commit}' is not a commit: expected a git revision or at least 4 digits of a hash")
    results = [result for result in load.load_all(Path(path)) if result[1]["commit"].startswith(full)]
    if not results:
        raise store.RunError(f"{path} has no result of commit {commit}")
    if len({environment["commit"] for _, environment, _ in results}) > 1:
        raise store.RunError(f"{path} has results of several commits that begin with {commit}: give more digits")
    return {_label(environment): Side(environment, measurements) for _, environment, measurements in results}


def _label(environment: Mapping[str, Any]) -> str:
    """Return the machine and environment of a result of asv, or an empty string for a run, which names neither."""
    return ", ".join(environment[name] for name in ("machine", "environment") if name in environment)


def _resolved(commit: str) -> str:
    """Return the hash of a git revision, or the argument itself if git does not know it."""
    try:
        git = subprocess.run(["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"], capture_output=True)
    except (OSError, ValueError):  # git is not installed, or the name is not a valid argument
        return commit
    return git.stdout.decode().strip() or commit
