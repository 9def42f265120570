"""Check that a lock of functions holds under other settings, and that it finds changes that were planted.

``python -m peers.locked [PYTHON]`` counts functions under several settings, a thousand counts in all, and compares them
with a lock that was written under the first one; PYTHON is another interpreter with NumPy and memray. Then it plants
changes, each of which must be found. It takes about ten minutes and writes ``peers/results/locked.json``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import track

from copycost.gate import lock
from copycost.gate.counted import Counted, CountError, count
from copycost.gate.lock import Entry
from peers.trials import RESULTS

#: Number of counts under all settings together.
_COUNTS = 1000

#: Functions with what they receive. Each has a line that is changed: see `PLANTED`.
FUNCTIONS = {
    "scale": "    y = x / np.float32(127.5)\n    y -= 1\n    return y\n",
    "torch_mode": "    y = x / np.float32(255)\n    y -= MEAN\n    y /= STD\n    return y\n",
    "minmax": "    y = x - x.min()\n    y /= y.max()\n    return y\n",
    "gray": "    y = x @ WEIGHTS\n    return y\n",
    "mean": "    y = x.mean(axis=-1)\n    return y\n",
    "clip": "    y = np.clip(x, 10, 200)\n    return y\n",
    "flip": "    y = x[:, :, ::-1].copy()\n    return y\n",
    "first": "    y = np.ascontiguousarray(x.transpose(0, 3, 1, 2))\n    return y\n",
    "softmax": "    y = x - x.max(-1)[..., None]\n    np.exp(y, out=y)\n    y /= y.sum(-1)[..., None]\n    return y\n",
    "squares": "    y = np.square(x)\n    return y\n",
}

HEAD = (
    "import numpy as np\n\nMEAN = np.float32([123.68, 116.78, 103.94])\nSTD = np.float32([58.4, 57.1, 57.4])\n"
    "WEIGHTS = np.float32([0.299, 0.587, 0.114])\n"
)

#: Changes of a function: what is written in place of ``return y``, or before the first line.
PLANTED = {
    "a copy of the result": ("    return y\n", "    return y.copy()\n"),
    "a temporary": ("    return y\n", "    return y + 0\n"),
    "float64 within": ("    return y\n", "    return y.astype(np.float64).astype(y.dtype)\n"),
    "a copy of the argument": ("    y = ", "    x = x.copy()\n    y = "),
    "a changed argument": ("    y = ", "    x[0, 0, 0] = 7\n    y = "),
    "a list of rows": ("    return y\n", "    rows = [np.array(row) for row in x]\n    return y\n"),
}

_SHAPE = ("4x96x128x3:float32",)


def write(folder: Path, change: str | None = None) -> list[Counted]:
    """Write a file for each function, with a change, and return what is counted."""
    for name, body in FUNCTIONS.items():
        old, new = PLANTED[change] if change else ("", "")
        text = body.replace(old, new, 1) if change else body
        (folder / f"{name}.py").write_text(f"{HEAD}\n\ndef {name}(x):\n{text}")
    return [Counted(f"{name}.py::{name}", _SHAPE) for name in FUNCTIONS]


@contextmanager
def setting(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for the processes that are started."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Count, compare, plant and find."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("python", nargs="*", help="other interpreters, with NumPy and memray")
    options = parser.parse_args()
    pythons = [sys.executable, *options.python]
    settings = [
        ({"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads, "TF_ENABLE_ONEDNN_OPTS": onednn}, python)
        for threads, onednn, python in itertools.product("12", "01", pythons)
    ]
    results: dict[str, Any] = {"counts": 0, "differ": [], "settings": len(settings), "planted": {}}
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        folder = Path(name)
        functions = write(folder)
        entries = [lock.entry_of(function, count(function, folder)) for function in functions]

        def differs(entry: Entry, python: str) -> str | None:
            try:
                now = lock.entry_of(entry.function, count(entry.function, folder, python))
            except CountError as error:
                return f"{entry.function.target}: {error}"
            found = lock.differences(entry, now)
            return f"{entry.function.target}: {found}" if found else None

        rounds = -(-_COUNTS // (len(settings) * len(entries)))
        for _, (variables, python) in track(
            list(itertools.product(range(rounds), settings)), description="settings"
        ):  # fmt: skip
            with setting(variables):
                found = list(pool.map(differs, entries, itertools.repeat(python)))
            results["counts"] += len(found)
            results["differ"] += [f"{variables} {python}: {one}" for one in found if one]
        for change in track(PLANTED, description="planted"):
            write(folder, change)
            checked = lock.check(entries, folder, len(os.sched_getaffinity(0)))
            results["planted"][change] = {one.entry.function.target: one.is_more for one in checked}
    (RESULTS / "locked.json").write_text(json.dumps(results, indent=1) + "\n")
    planted = [is_more for by_function in results["planted"].values() for is_more in by_function.values()]
    print(f"{results['counts']} counts under {len(settings)} settings, {len(results['differ'])} differ")
    print(f"{sum(planted)} of {len(planted)} planted changes found")


if __name__ == "__main__":
    main()
