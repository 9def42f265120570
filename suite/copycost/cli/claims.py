"""`copycost claims`: test common claims by measuring them."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.text import Text

from copycost.cases import images
from copycost.cases.selection import chosen_names
from copycost.cli.options import INTERRUPTED, FilePath, check_writable, errors, install_interrupt_handlers, write_json
from copycost.machine import devices, environment
from copycost.report.console import print_line
from copycost.results import documents
from copycost.results.store import RunError
from copycost.studies.claims.claim import DEPENDS, HOLDS, REFUTED
from copycost.studies.claims.run import Judged, check_claims, load

SCHEMA = 1

_STYLES = {"holds": "green", "refuted": "red", "depends": "yellow", None: "dim"}


@click.command("claims", short_help="Test common claims by measuring them.")
@click.argument("ids", nargs=-1, metavar="[ID…]")
@click.option("--list", "only_list", is_flag=True, help="List the claims without checking them.")
@click.option(
    "--json",
    "json_file",
    type=FilePath(),
    metavar="FILE",
    help="Also write the results as JSON; - writes to standard output.",
)
@errors
def claims(ids: tuple[str, ...], only_list: bool, json_file: str | None) -> None:
    """Test common claims about preprocess_input, NumPy's out= and TensorFlow by measuring them.

    ID selects claims by name or glob. The verdict of a claim is holds, refuted or depends. A claim that cannot be
    checked on this machine gets no verdict, and the reason is shown.

    Exit status: 0 finished, whatever the verdicts; 1 the check of a claim failed; 2 usage error.
    """
    all_claims = load()
    chosen = [all_claims[name] for name in chosen_names("claim", ids, list(all_claims))]
    check_writable(json_file)
    console = Console(stderr=json_file == "-", highlight=False)
    if only_list:
        for claim in chosen:
            print_line(console, Text.assemble((claim.id, "bold"), f"  {claim.claim}"))
        return
    install_interrupt_handlers()
    results: list[Judged] = []
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        console=Console(stderr=True), transient=True,
    ) as progress:  # fmt: skip
        bar = progress.add_task("starting", total=len(chosen))
        narrow = max(10, progress.console.width - 44)
        try:
            for result in check_claims(chosen, lambda claim: progress.update(bar, description=claim.id[:narrow])):
                results.append(result)
                progress.advance(bar)
                show(console, result)
        except KeyboardInterrupt:
            interrupted = True
        else:
            interrupted = False
    if json_file:
        picture = images.read()
        taken_in = environment.capture(devices.cpus(), picture.name, picture.sha256)
        write_json(json_file, document(taken_in, results))
    counts = Counter(result.verdict or "without a verdict" for result in results)
    noun = "claim" if len(results) == 1 else "claims"
    console.print(Text(f"{len(results)} {noun}: " + ", ".join(f"{n} {what}" for what, n in counts.most_common())))
    if interrupted:
        sys.exit(INTERRUPTED)
    sys.exit(1 if any(result.failed for result in results) else 0)


def document(taken_in: dict[str, Any], results: list[Judged]) -> dict[str, Any]:
    """Return the JSON document ``{"schema": 1, "environment": {…}, "claims": [{…}]}``."""
    return {"schema": SCHEMA, "environment": taken_in, "claims": [result.to_dict() for result in results]}


def claims_of(path: Path) -> dict[str, Any] | None:
    """Return the document in a file written by ``copycost claims --json``, or None for any other file.

    Raises
    ------
    RunError
        If the file holds claims with a missing field or a field of the wrong type.
    """
    try:
        contents = documents.read(path)
    except (OSError, ValueError):
        return None
    if not isinstance(contents, dict) or "claims" not in contents:
        return None
    if type(contents.get("schema")) is not int or contents["schema"] != SCHEMA:
        raise RunError(f"{path} has schema {documents.short(contents.get('schema'))}; this version reads {SCHEMA}")
    if not _is_document(contents):
        raise RunError(f"{path} holds incomplete claims: write it again with copycost claims --json")
    return contents


_TEXT = {"type": "string"}

#: The fields of a claims document that the folklore page needs.
_is_document = documents.checker(
    {
        "type": "object",
        "required": ["environment", "claims"],
        "properties": {
            "environment": {
                "type": "object",
                "required": ["libraries", "python", "cpu", "cpus", "time"],
                "properties": {
                    "libraries": {"type": "object", "additionalProperties": _TEXT},
                    "python": _TEXT,
                    "cpu": {"type": ["string", "null"]},
                    "cpus": {"type": "integer", "minimum": 1},
                    "time": _TEXT,
                },
            },
            "claims": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "document", "claim", "verdict", "because", "evidence", "reproduce"],
                    "properties": {
                        **dict.fromkeys(("id", "document", "claim", "because", "reproduce"), _TEXT),
                        "verdict": {"enum": [HOLDS, REFUTED, DEPENDS, None]},
                        "evidence": {"type": "object"},
                    },
                },
            },
        },
    }
)


def show(console: Console, result: Judged) -> None:
    """Print a claim, its verdict, the evidence, and code that reproduces it."""
    console.print(
        Text.assemble((result.verdict or "no verdict", f"bold {_STYLES[result.verdict]}"), "  ", result.claim.claim)
    )
    console.print(Padding(Text(result.because), (0, 0, 0, 2)))
    console.print(Padding(Text(f"{result.claim.id}, {result.claim.document}", "dim"), (0, 0, 0, 2)))
    code = Syntax(result.claim.reproduce, "python", theme="ansi_dark", background_color="default", word_wrap=True)
    console.print(Padding(code, (0, 0, 1, 4)))
