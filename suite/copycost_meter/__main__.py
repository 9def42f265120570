"""``python -m copycost_meter file.py::function``: count a function's allocations, in any interpreter.

The interpreter needs the function's own libraries, and memray. This package has no other dependency, so that it counts
for versions of Python and of libraries that no newer tool supports.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import sys
from typing import Any

from copycost_meter.targets import TargetError, load, locate

_USAGE = 2


def main() -> None:
    """Count one function, print the count, and exit with status 2 if it cannot be called."""
    parser = argparse.ArgumentParser(prog="python -m copycost_meter", description=__doc__.splitlines()[0])
    parser.add_argument("target", help="file.py::function or package.module:function")
    parser.add_argument("--input", action="append", default=[], help="shape and dtype of an argument")
    parser.add_argument("--inputs", help="function of a numpy.random.Generator that returns the arguments")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    options = parser.parse_args()
    sys.path[:] = [entry for entry in sys.path if entry not in ("", os.getcwd())]  # `python -m` adds it at the front
    answers = os.dup(1)
    try:
        # What the function prints is no part of the answer.
        with open(os.devnull, "wb") as nothing, contextlib.redirect_stdout(sys.stderr):
            os.dup2(nothing.fileno() if options.json else 2, 1)
            found = _counted(options)
    except TargetError as error:
        sys.exit(_failed(str(error)))
    with os.fdopen(answers, "w", encoding="utf-8") as file:
        file.write((json.dumps(dataclasses.asdict(found)) if options.json else str(found)) + "\n")


def _failed(message: str) -> int:
    print(f"Error: {message}", file=sys.stderr)
    return _USAGE


def _counted(options: argparse.Namespace) -> Any:
    from copycost_meter.arguments import EXAMPLE, checked_arguments, made_by, parse_shape, random_arguments
    from copycost_meter.counting import count
    from copycost_meter.errors import describe

    try:
        function = load(locate(options.target))
        maker = load(locate(options.inputs)) if options.inputs else None
    except TargetError:
        raise
    except (Exception, SystemExit) as error:  # a module may raise anything
        raise TargetError(f"{options.target} does not import: {describe(error)}") from None
    shapes = [parse_shape(text) for text in options.input or [EXAMPLE]]
    arguments = checked_arguments(made_by(maker) if maker else random_arguments(shapes))
    try:
        return count(function, *arguments)
    except (Exception, SystemExit) as error:
        raise TargetError(f"{options.target} {describe(error)}") from None


if __name__ == "__main__":
    main()
