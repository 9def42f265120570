"""`copycost with-lock`: run any command while nothing else is timed on this machine."""

from __future__ import annotations

import math
import os
import shutil
import signal
import sys

import click

from copycost.cli.options import Seconds, errors
from copycost.machine import host_lock


@click.command(
    "with-lock", short_help="Run a command while nothing else is timed here.",
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)  # fmt: skip
@click.option(
    "--wait",
    type=Seconds(),
    metavar="SECONDS",
    help="How long to wait until nothing else is timed on this machine.  [default: as long as it takes]",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@errors
def with_lock(wait: float | None, command: tuple[str, ...]) -> None:
    """Run COMMAND with the lock of this machine, which copycost holds while it times.

    copycost's own commands wait for it, and so do others that are run by with-lock: two benchmarks do not disturb each
    other. What COMMAND starts, including copycost itself, has the lock too. It is free when COMMAND ends, and what it
    has left in the background.

    Exit status: that of COMMAND; 2 usage error.
    """
    program = shutil.which(command[0])
    if program is None:
        raise click.UsageError(f"no program {command[0]}")
    host_lock.take_for_good(math.inf if wait is None else wait)
    sys.stdout.flush()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # which Python ignores, and so would COMMAND
    try:
        os.execv(program, command)
    except OSError as error:
        raise click.UsageError(f"{command[0]} cannot be run: {error.strerror}") from None
