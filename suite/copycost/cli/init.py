"""`copycost init`: add an asv benchmark of a project's function."""

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
from copycost.model.vocabulary import Writes
from copycost.tracking import project


@click.command(short_help="Set up asv for a function of this project.")
@click.argument("function", metavar="PACKAGE.MODULE:FUNCTION")
@click.option("--recipe", metavar="NAME", help="Recipe that the function computes, one of those that ship.")
@click.option(
    "--formula", metavar="EXPRESSION", help="NumPy expression that the function computes, e.g. 'x / 127.5 - 1'."
)
@click.option(
    "--runtime",
    default="numpy",
    show_default=True,
    metavar="NAME",
    help="Library whose arrays are passed to the function.",
)
@click.option(
    "--writes",
    type=Word("writes", list(Writes)),
    default="new",
    show_default=True,
    metavar="WHERE",
    help="Where the result goes: new (a new array), out (the second argument) or input (over the first argument).",
)
@click.option(
    "--dtype",
    "dtypes",
    multiple=True,
    type=Word("dtype", registry.DTYPES),
    metavar="NAME",
    help="Input dtype that the function accepts. Can be repeated.  [default: the profile's dtypes]",
)
@errors
def init(
    function: str, recipe: str | None, formula: str | None, runtime: str, writes: str, dtypes: tuple[str, ...]
) -> None:
    """Set up asv to measure a function of the project in this folder at every commit.

    Writes asv.conf.json and a file in benchmarks/ into the git repository. Existing files are not changed.
    """  # fmt: skip
    if (recipe is None) == (formula is None):
        raise click.UsageError("expected either --recipe or --formula to define what the function computes")
    if recipe is not None:
        naming.check_name("recipe", recipe, registry.recipes)
    naming.check_name("runtime", runtime, discovery.runtimes())
    watched = project.Watched(function, recipe, formula, runtime, writes, dtypes)
    names = [str(path.relative_to(Path.cwd())) for path in project.write(Path.cwd(), watched)]
    print(f"Wrote {', '.join(names)}.")
    requirements = " ".join(f"'{requirement}'" for requirement in project.requirements())
    if "asv.conf.json" not in names:
        print(f"asv.conf.json already exists: make its install_command install {requirements} too.")
    elif "file:" in requirements:
        print(f"asv.conf.json installs {requirements}, paths on this machine: change them for use on other machines.")
    print("Commit the files and add .asv/ and reports/ to .gitignore. Then run: copycost track ALL, or a commit range")
