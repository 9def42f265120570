"""`copycost atlas`: a page that compares machines."""

from __future__ import annotations

import warnings
from pathlib import Path

import click

from copycost.cli.options import FilePath, check_writable, errors, printable
from copycost.results import contribution
from copycost.results.store import RunError


@click.command("atlas", short_help="Write a page that compares machines.")
@click.argument("folder", type=FilePath())
@click.option("--mine", type=FilePath(), metavar="FILE", help="Contribution of your machine, which is shown in bold.")
@click.option("--html", "html", default="reports/atlas", show_default=True, type=FilePath(), metavar="DIR",
              help="Folder to write the page to.")  # fmt: skip
@errors
def atlas_(folder: str, mine: str | None, html: str) -> None:
    """Write a static page from the contributions in FOLDER: images per second of machines on the same inputs.

    A contribution is made by copycost contribute. A file that is none is left out, with a warning.
    """
    check_writable(html, folder=True)
    if not Path(folder).is_dir():
        raise RunError(f"no folder {folder}")
    own = contribution.read(Path(mine)) if mine else None
    found = []
    for path in sorted(Path(folder).glob("*.json")):
        try:
            read = contribution.read(path)
        except RunError as error:
            warnings.warn(f"{error}; it is left out", stacklevel=1)
            continue
        if read != own:
            found.append(read)
    if own:
        found.append(own)
    if not found:
        raise RunError(f"{folder} has no contribution: copycost contribute RUN makes one")
    from copycost.report import write_atlas  # matplotlib takes a second to import

    print(f"Wrote {printable(write_atlas(Path(html), found, own))}: {len(found)} machines")
