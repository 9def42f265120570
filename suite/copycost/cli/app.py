"""The `copycost` command group and its entry point."""

from __future__ import annotations

import io
import sys
import traceback
import warnings

import click

from copycost._version import __version__
from copycost.catalog import discovery
from copycost.cli.asv_plugin import asv_plugin
from copycost.cli.atlas import atlas_
from copycost.cli.bisect import bisect_
from copycost.cli.certify import certify
from copycost.cli.claims import claims
from copycost.cli.compare import compare
from copycost.cli.contribute import contribute
from copycost.cli.doctor import doctor_
from copycost.cli.explain import explain
from copycost.cli.fleet import fleet
from copycost.cli.gate import gate
from copycost.cli.init import init
from copycost.cli.judge import judge
from copycost.cli.list import list_
from copycost.cli.lock import lock_
from copycost.cli.machine import machine_
from copycost.cli.mcp import mcp_
from copycost.cli.merge import merge_
from copycost.cli.options import (
    INTERRUPTED,
    one_line_message,
)
from copycost.cli.pipelines import pipelines_
from copycost.cli.place import place_
from copycost.cli.profile import profile
from copycost.cli.report import report
from copycost.cli.run import run
from copycost.cli.show import show_
from copycost.cli.track import track_
from copycost.cli.with_lock import with_lock

_FAULT = 70  # EX_SOFTWARE of sysexits.h


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="copycost")
def cli() -> None:
    """Measure the time and memory of image preprocessing, and check that the result is right."""
    discovery.load_shipped()


def main() -> None:
    """Run the command line and exit with its status."""
    warnings.showwarning = lambda message, *_, **__: print(
        f"Warning: {one_line_message(str(message))}", file=sys.stderr
    )
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # print the table even if the encoding lacks µ or ±
    try:
        status = cli(prog_name="copycost", standalone_mode=False)
    except click.ClickException as error:
        print(
            f"Error: {one_line_message(error.format_message())}", file=sys.stderr
        )  # one line, without the usage that click prints before it
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):  # before or after measuring
        print("Interrupted.", file=sys.stderr)
        status = INTERRUPTED
    except Exception:  # a bug in copycost: exit status 1 would mean that a result is worse
        traceback.print_exc()
        status = _FAULT
    sys.exit(status if isinstance(status, int) else 0)


for _command in (
    asv_plugin, atlas_, bisect_, certify, claims, compare, contribute, doctor_, explain, fleet, gate, init, judge,
    list_, lock_, machine_, mcp_, merge_, pipelines_, place_, profile, report, run, show_, track_, with_lock,
):  # fmt: skip
    cli.add_command(_command)
