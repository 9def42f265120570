"""`copycost mcp`: let a coding assistant ask `copycost judge`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import click

from copycost.cli.options import errors
from copycost.machine.confine import possible
from copycost_meter.errors import one_line

#: Seconds beyond the budget after which a judgement is given up.
_GRACE = 120

#: Maximum seconds of a judgement.
_LONGEST = 600

#: Seconds that a judgement has to end its processes, after which it is killed.
_END = 10

_INSTRUCTIONS = (
    "Ask `judge` before claiming that a rewrite of a Python function is faster or takes less memory. It runs both "
    "functions on inputs that they cannot predict. Report its sentence as it is, and do not claim more than it says: "
    "'unsure' is no speedup."
)


@click.command("mcp", short_help="Let a coding assistant ask `copycost judge`.")
@errors
def mcp_() -> None:
    """Serve one tool, judge, to a coding assistant, by the Model Context Protocol over standard input and output.

    It needs the package mcp: pip install "copycost[mcp]". Both functions run confined: without a network, and without
    write access to files, as far as the system can take these away. Only if it can, the tool says that it is read-only.

    Exit status: 0 the assistant has ended the connection; 2 usage error.
    """
    if find_spec("mcp") is None:
        raise click.UsageError('mcp is not installed: pip install "copycost[mcp]"')
    from mcp.server.fastmcp import FastMCP
    from mcp.types import ToolAnnotations

    is_confined = {"network", "files"} <= set(possible(tempfile.gettempdir()))
    server = FastMCP("copycost", instructions=_INSTRUCTIONS)
    server.tool(annotations=ToolAnnotations(readOnlyHint=is_confined))(judge)
    server.run()


async def judge(
    base: str,
    head: str,
    inputs: list[str] | None = None,
    maker: str | None = None,
    library: str = "numpy",
    seconds: float = 30,
) -> dict[str, Any]:
    """Judge whether the Python function `head` is better than `base`: equal results, time, memory, no cheat.

    Parameters
    ----------
    base, head : str
        The function before and after a change: "file.py::function" or "package.module:function".
    inputs : list of str, optional
        Shape and dtype of each argument, such as "8x224x224x3:float32".
    maker : str, optional
        A function of a numpy.random.Generator that returns the arguments, in place of `inputs`.
    library : str, optional
        Library of the arrays: numpy, tensorflow, torch, jax or cupy.
    seconds : float, optional
        Budget. An unsure verdict says how much would decide it.

    Returns
    -------
    dict
        ``verdict`` (better, same, worse, wrong or unsure), ``sentence``, ``ratio`` of the times with its 95 % interval,
        and ``needs_seconds``.
    """
    options = [option for shape in inputs or () for option in ("--input", shape)]
    options += ["--inputs", maker] if maker else []
    command = [sys.executable, "-m", "copycost", "judge", "--confined", "--json", "-", "--library", library]
    command += ["--wait", str(_GRACE / 2)]  # for others who time: then it says who
    if not 0 < seconds <= _LONGEST:
        raise ValueError(f"{seconds} seconds is out of range: expected more than 0 and at most {_LONGEST}")
    budget = float(seconds)
    answer, said = await _answer([*command, "--budget", str(budget), *options, "--", base, head], budget + _GRACE)
    if not answer:
        lines = said.decode(errors="replace").strip().splitlines()
        raise ValueError(one_line(lines[-1].removeprefix("Error: ")) if lines else "copycost judge has failed")
    document = json.loads(answer)
    return {name: document[name] for name in ("verdict", "sentence", "ratio", "needs_seconds")}


async def _answer(command: Sequence[str], seconds: float) -> tuple[bytes, bytes]:
    """Run a command, and return its output and its errors; the server answers other requests meanwhile.

    The command ends when the assistant cancels its request, or disconnects.
    """
    import anyio  # which mcp needs

    nothing, pipe = asyncio.subprocess.DEVNULL, asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=nothing, stdout=pipe, stderr=pipe)
    try:
        with anyio.fail_after(seconds):
            return await process.communicate()
    except TimeoutError:
        raise ValueError(f"no verdict after {seconds:.0f} s") from None
    finally:
        with anyio.CancelScope(shield=True), contextlib.suppress(ProcessLookupError):
            if process.returncode is None:
                process.terminate()  # it then ends its own processes
                with anyio.move_on_after(_END):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
