"""`copycost asv-plugin`: check that asv finds the plugin in an environment."""

from __future__ import annotations

import subprocess
import sys

import click

from copycost.cli.options import FilePath, errors


@click.command("asv-plugin", short_help="Check that asv finds the plugin asv_bench_copycost.")
@click.option(
    "--python",
    type=FilePath(),
    metavar="FILE",
    help="Interpreter of the environment, e.g. .asv/env/<name>/bin/python. The default is that of copycost itself.",
)
@errors
def asv_plugin(python: str | None) -> None:
    """Check that asv finds the plugin asv_bench_copycost in an environment, and that its instrument counts.

    asv says nothing if it cannot load a plugin: the benchmarks of its types are then missing.

    Exit status: 0 it works; 1 it does not, and the output says why; 2 usage error.
    """
    sys.exit(examine(python or sys.executable))


def examine(python: str) -> int:
    """Print what asv finds in the environment of an interpreter, and return the exit status."""
    try:
        done = subprocess.run(
            [python, "-m", "asv_bench_copycost"], capture_output=True, text=True, errors="replace", timeout=300
        )
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        raise click.UsageError(f"--python {python}: {error}") from None
    if done.returncode in (0, 1) and done.stdout:
        print(done.stdout, end="")
        return done.returncode
    if "No module named asv_bench_copycost" in done.stderr:
        print("FAULT  asv_bench_copycost is not installed there: pip install -e suite/copycost_meter")
        print("       -e suite/asv_bench_copycost in a clone of copycost, with pip of that environment")
        return 1
    last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1]
    raise click.UsageError(f"--python {python} does not run Python: {last}")
