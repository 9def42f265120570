"""`copycost explain`: what each line of a function or of a script costs in memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import click
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from copycost.catalog import discovery
from copycost.cli.options import ArrayShape, errors
from copycost.machine import devices
from copycost.model import numbers
from copycost.model.vocabulary import DeviceKind
from copycost.report.console import print_line
from copycost.studies.explain import explain as study
from copycost.studies.explain import target as targets
from copycost.studies.explain.explain import Arguments, Explanation
from copycost.studies.explain.proof import Proof
from copycost_meter.arguments import EXAMPLE, parse_shape

#: Maximum number of lines of other files that are shown.
_MOST_ELSEWHERE = 5

#: Number of inputs with other values on which a rewrite is proven.
_INPUTS = 3


@click.command("explain", short_help="Explain what each line of a function costs in memory.")
@click.argument("target", metavar="TARGET")
@click.option(
    "--input",
    "inputs",
    type=ArrayShape(),
    multiple=True,
    help=f"Shape and dtype of an argument, e.g. {EXAMPLE}, the default. Can be repeated: one for each argument.",
)
@click.option(
    "--library",
    type=click.Choice(["numpy", "tensorflow", "torch", "jax"]),
    default="numpy",
    show_default=True,
    help="Library of these arrays.",
)
@errors
def explain(target: str, inputs: tuple[tuple[tuple[int, ...], str], ...], library: str) -> None:
    """List the copies, casts and temporary arrays of a function, the arguments that it changes, and cheaper lines.

    TARGET is package.module:function, file.py:function or script.py. A script is run twice, a function some
    hundred times; what their Python code prints is not shown. A rewrite of a line is shown only if its results are the
    same on several inputs, and if it requests less memory or takes less time.

    Exit status: 0 explained; 2 usage error, or the target raises.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        chosen = targets.resolve(target)
        if chosen.function is None and inputs:
            raise click.UsageError("--input is for a function: a script makes its own arrays")
        arguments = list(_arguments(inputs, library)) if chosen.function else [((), {})]
        # What the target prints would be shown once for each of its calls.
        nothing = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  # a logger may write to it until the end
        with contextlib.redirect_stdout(nothing):
            found = study.explain(chosen, arguments)
    except targets.TargetError as error:
        raise click.UsageError(str(error)) from None
    _show(found, Console(highlight=False))


def _arguments(inputs: tuple[tuple[tuple[int, ...], str], ...], library: str) -> Iterator[Arguments]:
    runtime = discovery.runtime(library)
    if reason := discovery.not_installed(runtime):
        raise click.UsageError(reason)
    chosen = inputs or (parse_shape(EXAMPLE),)
    if library != "numpy":
        runtime.start(DeviceKind.CPU, devices.cpus())
    for seed in range(_INPUTS):
        arrays = [study.made_input(shape, dtype, seed + 9 * i) for i, (shape, dtype) in enumerate(chosen)]
        yield tuple(array if library == "numpy" else runtime.array(array, False) for array in arrays), {}


def _show(found: Explanation, console: Console) -> None:
    arguments = ", ".join(f"{name}: {text}" for name, text in found.arguments.items())
    print_line(console, Text.assemble((found.name, "bold"), f"  {arguments}" if arguments else ""))
    print_line(console, Text(_total(found)))
    by_line: dict[int, list[tuple[str, str]]] = {}
    for line in found.lines:
        by_line.setdefault(line.number, []).append(("", _requested(line.nbytes, line.requests)))
    texts = {line.number: line.text for line in found.lines}
    for finding in found.findings:
        times = f" ({finding.times:,} times)" if finding.times > 1 else ""
        by_line.setdefault(finding.line, []).append((str(finding.kind), finding.text + times))
    for number in sorted(by_line):
        console.print()
        source = texts.get(number) or found_line(found, number)
        print_line(console, Text.assemble((f"{number:>5}  " if number else "       ", "dim"), (source, "bold")))
        for kind, text in by_line[number]:
            style = "yellow" if kind in ("change", "float64") else ""
            _indented(console, Text(f"{kind}: {text}" if kind else text, style))
    for label, requests, size in found.elsewhere[:_MOST_ELSEWHERE]:
        console.print()
        print_line(console, Text.assemble(("       ", "dim"), (label or "lines that are not known", "bold")))
        _indented(console, Text(_requested(size, requests)))
    if found.proposals:
        console.print()
        print_line(console, Text("Rewrites with the same results, each alone:", "bold"))
    for proposal in found.proposals:
        console.print()
        for mark, source in (("−", proposal.before), ("+", proposal.after)):
            for k, part in enumerate(source.splitlines()):
                number_text = f"{proposal.line:>5}" if k == 0 and mark == "−" else "     "
                print_line(console, Text(f"{number_text} {mark} {part}", "red" if mark == "−" else "green"))
        _indented(console, Text(_gain(proposal.proof)))
    if found.together is not None:
        console.print()
        print_line(console, Text(f"All together: {_gain(found.together)}", "bold"))
    if found.rejected:
        console.print()
        n = found.rejected
        what = "1 other rewrite was" if n == 1 else f"{n} other rewrites were"
        print_line(console, Text(f"{what} tried and found to differ, or to be no better.", "dim"))


def _requested(nbytes: int, requests: int) -> str:
    return numbers.size(nbytes) if requests == 1 else f"{numbers.size(nbytes)} in {requests:,} requests"


def _indented(console: Console, text: Text) -> None:
    """Print a text below the source of a line, wrapped only at a terminal."""
    if console.is_terminal:
        console.print(Padding(text, (0, 0, 0, 7)))
    else:
        print_line(console, Text("       ") + text)


def found_line(found: Explanation, number: int) -> str:
    """Return the source of a line of the explained file."""
    import linecache

    return linecache.getline(found.path, number).strip() if number else found.name


def _total(found: Explanation) -> str:
    count = found.count
    changed = f"; changes {', '.join(count.changed)}" if count.changed else ""
    if count.allocations is None:
        return f"allocations are not counted: {count.missing}{changed}"
    requests = "1 request" if count.allocations == 1 else f"{count.allocations:,} requests"
    return f"{requests}, {numbers.size(count.allocated_bytes)}, peak {numbers.size(count.peak_bytes)}{changed}"


def _gain(proof: Proof) -> str:
    """Return what a rewrite saves."""
    parts = []
    if proof.bytes_before is not None and proof.bytes_after is not None:
        parts.append(f"requests {numbers.size(proof.bytes_before)} → {numbers.size(proof.bytes_after)}")
    if proof.peak_before is not None and proof.peak_after is not None and proof.peak_before != proof.peak_after:
        parts.append(f"peak {numbers.size(proof.peak_before)} → {numbers.size(proof.peak_after)}")
    if proof.ratio is not None and proof.low is not None and proof.high is not None:
        parts.append(f"time × {numbers.three(proof.ratio)} ({numbers.three(proof.low)} to {numbers.three(proof.high)})")
    parts.append("the same bits" if proof.is_equal else "equal up to rounding")
    return "; ".join(parts)
