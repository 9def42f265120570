"""Let `copycost judge` judge ways of cheating, honest rewrites, and commits of other projects.

``python -m peers.judged cheats``, ``… rewrites`` and ``… commits FOLDER`` each take some minutes, and write a part of
``peers/results/judged.json``. FOLDER has a git clone of each project, with its history, in a folder with its name.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.progress import track

from copycost.machine.environment import processor
from copycost.model import numbers
from peers.rewrites import REWRITES
from peers.trials import RESULTS

#: Ways of cheating, which the tests define as variants.
_CHEATS = Path(__file__).parents[1] / "tests" / "cheats.py"

#: Before and after commits of other projects.
_COMMITS = Path(__file__).with_name("commits.json")

_RESULT = RESULTS / "judged.json"

#: A file that calls a cheat as a function. It is prepared on its first input.
_CHEAT = """\
import sys

import numpy as np

sys.path.insert(0, {folder!r})
import cheats

_prepared = []


def f(x):
    if not _prepared:
        _prepared.append((cheats.{name}(x), np.empty_like(x)))
    call, out = _prepared[0]
    if {takes_out}:
        call(x, out)
        return out
    return call(x)
"""


def judge(folder: Path, base: str, head: str, *options: str) -> dict[str, Any]:
    """Judge two functions and return the verdict, or the error as its sentence."""
    process = subprocess.run(
        [sys.executable, "-m", "copycost", "judge", base, head, *options, "--json", "-"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    if process.returncode == 2:
        return {"verdict": "error", "sentence": process.stderr.strip().splitlines()[-1]}
    document = json.loads(process.stdout)
    return {name: document[name] for name in ("verdict", "sentence", "seconds")}


def cheats() -> Iterator[dict[str, Any]]:
    """Judge each way of cheating against the honest function."""
    for options, name in re.findall(r"^@cheat\((.*)\)\ndef (\w+)", _CHEATS.read_text(), re.MULTILINE):
        with tempfile.TemporaryDirectory() as folder:
            text = _CHEAT.format(folder=str(_CHEATS.parent), name=name, takes_out="out" in options)
            Path(folder, "cheat.py").write_text(text)
            shape = ("--input", "2x128x96x3:float32", "--budget", "20")
            yield {"name": name.replace("_", " ")} | judge(Path(folder), f"{_CHEATS}::right", "cheat.py::f", *shape)


def rewrites() -> Iterator[dict[str, Any]]:
    """Judge each honest rewrite against its original, without timing."""
    for name, inputs, original, others in REWRITES:
        with tempfile.TemporaryDirectory() as folder:
            arguments = "x, z" if " z" in original or "z[" in original else "x"
            texts = {"inputs": (inputs, "make", "random"), "original": (original, "f", arguments)}
            texts |= {f"rewrite_{i}": (text, "f", arguments) for i, text in enumerate(others)}
            for file, (text, function, parameters) in texts.items():
                body = text.replace("\n", "\n    ")
                Path(folder, f"{file}.py").write_text(
                    f"import numpy as np\n\n\ndef {function}({parameters}):\n    {body}\n"
                )
            for i, text in enumerate(others):
                found = judge(
                    Path(folder), "original.py::f", f"rewrite_{i}.py::f", "--inputs", "inputs.py::make", "--exact"
                )
                yield {"name": name, "rewrite": text} | found


def commits(clones: Path) -> Iterator[dict[str, Any]]:
    """Judge functions of other projects before and after a commit."""
    for pair in json.loads(_COMMITS.read_text()):
        with tempfile.TemporaryDirectory() as name:
            folder, file = Path(name), Path(pair["file"]).name
            for side in ("base", "head"):
                text = subprocess.run(
                    ["git", "-C", str(clones / pair["project"]), "show", f"{pair[side]}:{pair['file']}"],
                    check=True, capture_output=True, text=True,
                ).stdout  # fmt: skip
                for old, new in pair["substitutions"]:
                    text = text.replace(old, new)
                (folder / side).mkdir()
                (folder / side / file).write_text(text)
            (folder / "inputs.py").write_text(f"import numpy as np\n\n\n{pair['inputs']}")
            targets = (f"{side}/{file}::{pair['function']}" for side in ("base", "head"))
            found = judge(folder, *targets, "--inputs", "inputs.py::make", "--budget", "20")
            yield {key: pair[key] for key in ("project", "head", "function", "about")} | found


#: Page with the verdicts.
_PAGE = Path(__file__).parents[1] / "docs" / "results" / "judged.md"


def page(results: dict[str, Any]) -> str:
    """Return the page with all verdicts."""
    parts = ["# Functions that were judged", ""]
    parts += [
        "`python -m peers.judged` lets [`copycost judge`](../how-to/judge.md) judge three kinds of pairs. `wrong` is",
        "what a cheat must be, and what an honest rewrite must never be.",
        "",
    ]
    if "cheats" in results:
        parts += ["## Ways of cheating", "", _numbers(results["cheats"]), ""]
        parts += ["| way | verdict | reason |", "| --- | --- | --- |"]
        parts += [f"| {row['name']} | {row['verdict']} | {_short(row)} |" for row in results["cheats"]["rows"]] + [""]
    if "rewrites" in results:
        rows = results["rewrites"]["rows"]
        parts += ["## Honest rewrites", "", f"{_numbers(results['rewrites'])} They were judged without timing.", ""]
        refused = [row for row in rows if row["verdict"] in ("wrong", "error")]
        parts += [f"* {row['name']}: `{' '.join(row['rewrite'].split())}`: {row['sentence']}" for row in refused]
        parts += [""] * bool(refused)
        names = dict.fromkeys(row["name"] for row in rows)
        parts += [f"Functions: {', '.join(names)}.", ""]
    if "commits" in results:
        parts += ["## Commits of other projects", "", _numbers(results["commits"]), ""]
        parts += ["| project | function | change | verdict |", "| --- | --- | --- | --- |"]
        parts += [
            f"| {row['project']} {row['head'][:8]} | `{row['function']}` | {row['about']} "
            f"| {row['verdict']}: {_short(row)} |"
            for row in results["commits"]["rows"]
        ]
    return "\n".join(parts).rstrip() + "\n"


def _numbers(results: dict[str, Any]) -> str:
    rows = results["rows"]
    counts = Counter(row["verdict"] for row in rows)
    words = ", ".join(f"{number} {word}" for word, number in counts.most_common())
    return f"{len(rows)} pairs in {results['seconds'] / 60:.0f} minutes on {results['machine']}: {words}."


def _short(row: dict[str, Any]) -> str:
    return numbers.markdown(row["sentence"].replace(", no cheat found", ""))


def main() -> None:
    """Judge one kind, and store the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("cheats", "rewrites", "commits"))
    parser.add_argument("folder", type=Path, nargs="?", help="clones of the projects, for commits")
    options = parser.parse_args()
    if options.kind == "commits" and options.folder is None:
        parser.error("commits needs the folder with the clones")
    kinds = {"cheats": cheats, "rewrites": rewrites, "commits": lambda: commits(options.folder)}
    start, found = time.monotonic(), []
    for row in track(kinds[options.kind](), description=options.kind):
        found.append(row)
        if row["verdict"] in ("error", "wrong"):
            print(row["name"] if "name" in row else row["function"], row["verdict"], row["sentence"])
    results = json.loads(_RESULT.read_text()) if _RESULT.exists() else {}
    machine = f"{processor()}, {len(os.sched_getaffinity(0))} CPUs"
    results[options.kind] = {"seconds": round(time.monotonic() - start, 1), "machine": machine, "rows": found}
    _RESULT.write_text(json.dumps(results, indent=1) + "\n")
    _PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
