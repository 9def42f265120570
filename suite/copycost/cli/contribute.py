"""`copycost contribute`: make a file for the atlas of machines."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from copycost.cli.options import FilePath, check_writable, errors, printable, write_text
from copycost.results import contribution, load
from copycost.results.contribution import Price


class _Price(click.ParamType):
    """A click type for the price of an hour: an amount and a currency."""

    name = "price"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Price:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,6})?) ?([A-Z]{3})", str(value))
        if match is None or not float(match[1]):
            self.fail(f"'{value}' is no price of an hour: expected e.g. 1.20EUR")
        return Price(float(match[1]), match[2])


@click.command("contribute", short_help="Make a file for the atlas of machines.")
@click.argument("run", type=FilePath())
@click.option("--name", metavar="TEXT", help="Name of the machine.  [default: its CPU and GPU]")
@click.option("--price", type=_Price(), metavar="AMOUNT", help="Price of an hour of the machine, e.g. 1.20EUR.")
@click.option("--out", default="contribution.json", show_default=True, type=FilePath(), metavar="FILE",
              help="File to write; - writes to standard output.")  # fmt: skip
@errors
def contribute(run: str, name: str | None, price: Price | None, out: str) -> None:
    """Make one file of RUN for the atlas of machines: the hardware, versions of libraries, and figures of each case.

    It holds no name of a host, user or file, no variable, and no date but the month. Only right results of variants
    that ship with copycost are in it. Read it before you give it away: it is JSON.
    """
    check_writable(out)
    environment, measurements = load.load(Path(run))
    made = contribution.make("", environment, measurements, price)
    usual = ", ".join((made.machine.cpu, *dict.fromkeys(made.machine.gpus)))
    named = replace(made, name=(name or usual)[:80])
    write_text(out, contribution.text(named))
    if out != "-":
        print(f"Wrote {printable(out)}: {len(named.cases):,} cases of {named.name}")
