"""`copycost judge`: judge whether one function is better than another."""

from __future__ import annotations

import math
import os
import sys
import tempfile
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from copycost.analysis.compare import TOLERANCE
from copycost.cli.compare import Percent
from copycost.cli.options import (
    INTERRUPTED,
    ArrayShape,
    FilePath,
    Seconds,
    check_writable,
    errors,
    install_interrupt_handlers,
    lock_options,
    one_line_message,
    write_json,
)
from copycost.cli.progress import shown_steps
from copycost.engine.plan import Plan
from copycost.gate import verdict
from copycost.gate.judge import Question
from copycost.gate.judge import judge as measure
from copycost.gate.verdict import Word
from copycost.machine import devices
from copycost.machine.confine import possible
from copycost.model.vocabulary import DeviceKind
from copycost.report.console import print_line
from copycost_meter.arguments import EXAMPLE, parse_shape

#: Maximum number of blocks. The time is up, or the verdict clear, long before.
_BLOCKS = 10_000

_COLOURS = {Word.BETTER: "green", Word.SAME: "green", Word.UNSURE: "yellow"}


class _Difference(click.ParamType):
    """A click type for an allowed error, in units of the result."""

    name = "number"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(str(value))
        except ValueError:
            self.fail(f"'{value}' is not a number: expected e.g. 1")
        if not 0 <= number < math.inf:
            self.fail(f"{value} is out of range: expected a finite number from 0")
        return number


@click.command("judge", short_help="Judge whether one function is better than another.")
@click.argument("base", metavar="BASE")
@click.argument("head", metavar="HEAD")
@click.option(
    "--input",
    "shapes",
    type=ArrayShape(),
    multiple=True,
    help=f"Shape and dtype of an argument, e.g. {EXAMPLE}, the default. Can be repeated: one for each argument.",
)
@click.option(
    "--inputs",
    "maker",
    metavar="TARGET",
    help="Function of a numpy.random.Generator that returns the arguments, instead of --input.",
)
@click.option(
    "--library",
    type=click.Choice(["numpy", "tensorflow", "torch", "jax", "cupy"]),
    default="numpy",
    show_default=True,
    help="Library of these arrays.",
)
@click.option(
    "--device",
    type=click.Choice([str(kind) for kind in DeviceKind]),
    help="Device of these arrays. The default is cpu.",
)
@click.option("--error", type=_Difference(), default=0.0, show_default=True,
              help="Error of a result that is allowed beyond rounding, e.g. 1 for an image of bytes.")  # fmt: skip
@click.option("--tolerance", type=Percent(), metavar="PERCENT", default=str(100 * TOLERANCE), show_default=True,
              help="Ignore changes in time up to this percentage.")  # fmt: skip
@click.option("--exact", is_flag=True, help="Do not time: judge results and memory only, which take no quiet machine.")
@click.option("--budget", type=Seconds(), default=30, show_default=True, help="Seconds for the whole measurement.")
@click.option("--threads", type=click.IntRange(1, 1024), help="Number of threads. The default is the number of CPUs.")
@lock_options
@click.option(
    "--confined",
    is_flag=True,
    help="Take the network and write access to files away from both functions, as far as the system can.",
)
@click.option("--json", "json_file", type=FilePath(), metavar="FILE",
              help="Also write the verdict as JSON; - writes to standard output.")  # fmt: skip
@errors
def judge(base: str, head: str, **options: Any) -> None:
    """Judge whether the function HEAD is better than BASE: whether it gives the same results, in less time and memory.

    BASE and HEAD are file.py::function or package.module:function. Both are called in processes of their own, on inputs
    that nobody can predict. BASE defines the right results.

    \b
    better  HEAD takes less time, or as much time and less memory
    same    it takes as much time, and as much memory or more of one figure and less of another
    worse   it takes more time, or as much and more memory, or it changes its arguments
    wrong   it gives other results, remembers them, computes them too late, or raises
    unsure  the time is too close or too noisy to tell; the message says what would decide it

    Exit status: 0 better or same; 1 worse or wrong; 2 usage error, or BASE cannot be the reference; 3 unsure.
    """  # noqa: D301
    if options["shapes"] and options["maker"]:
        raise click.UsageError("--input and --inputs cannot both be given: expected shapes, or a function")
    check_writable(options["json_file"])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    device = DeviceKind(options["device"] or ("gpu" if options["library"] == "cupy" else "cpu"))
    shapes = options["shapes"] or ((parse_shape(EXAMPLE),) if not options["maker"] else ())
    question = Question(base, head, tuple(shapes), options["maker"], options["library"], device, options["error"])
    blocks = 0 if options["exact"] else _BLOCKS
    folder = tempfile.gettempdir() if options["confined"] else None
    if folder and (missing := {"network", "files"} - set(possible(folder))):
        print(f"Warning: this system cannot take away: {', '.join(sorted(missing))}", file=sys.stderr)
    plan = Plan(
        options["threads"] or devices.cpus(), blocks, options["budget"], None, devices.gpus()[1], wait=options["wait"],
        confined=folder,
    )  # fmt: skip
    install_interrupt_handlers()
    with shown_steps("starting") as on_step:
        judged = measure(question, plan, options["tolerance"], on_step)
    judgement = verdict.conclude(judged)
    exit_status = INTERRUPTED if judged.stopped_by == "interrupted" else judgement.exit_status
    if options["json_file"]:
        write_json(options["json_file"], verdict.document(judged, judgement, exit_status))
    console = Console(stderr=options["json_file"] == "-", highlight=False)
    colour = _COLOURS.get(judgement.word, "red")
    print_line(console, Text(one_line_message(f"{judgement.word}: {judgement.sentence}"), f"bold {colour}"))
    sys.exit(exit_status)
