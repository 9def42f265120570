"""`copycost init`: put a function of a project under asv."""

from __future__ import annotations

from pathlib import Path

import click

from copycost import registry
from copycost.catalog import discovery
from copycost.cli.options import (
    Word,
    errors,
)
from copycost.model import naming
from copycost.tracking import project


@click.command()
@click.argument("function", metavar="PACKAGE.MODULE:FUNCTION")
@click.option("--recipe", metavar="NAME", help="What it computes: a recipe that ships.")
@click.option("--formula", metavar="EXPRESSION", help="Or your own: NumPy of x, as 'x / 127.5 - 1'.")
@click.option("--runtime", default="numpy", show_default=True, metavar="NAME", help="Whose arrays it is given.")
@click.option(
    "--writes",
    type=Word("writes", registry.WRITES),
    default="new",
    show_default=True,
    metavar="WHERE",
    help="Where its result goes: new; out, given as its second argument; input, over its first.",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=Word("dtype", registry.DTYPES),
    metavar="NAME",
    help="Input dtypes that it is for.  [default: those of the profile]",
)
@errors
def init(
    function: str, recipe: str | None, formula: str | None, runtime: str, writes: str, dtypes: tuple[str, ...]
) -> None:
    """Have asv measure a function of the project here, at every commit.

    Writes asv.conf.json and a file in benchmarks/ into the git repository. Nothing that is there is changed.
    """  # fmt: skip
    if (recipe is None) == (formula is None):
        raise click.UsageError("either --recipe or --formula: what must the function compute?")
    if recipe is not None:
        naming.check_name("recipe", recipe, registry.recipes)
    naming.check_name("runtime", runtime, discovery.runtimes())
    watched = project.Watched(function, recipe, formula, runtime, writes, dtypes)
    written = [str(path.relative_to(Path.cwd())) for path in project.write(Path.cwd(), watched)]
    print(f"Wrote {', '.join(written)}.")
    needed = project.requirement()
    if "asv.conf.json" not in written:
        print(f"asv.conf.json was there already: its install_command has to install '{needed}' too.")
    elif "file:" in needed:
        print(f"It installs '{needed}', a place on this machine: others need another in asv.conf.json.")
    print("Commit them, and have git ignore .asv/ and reports/. Then: copycost track ALL, or a range of commits.")
