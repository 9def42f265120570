"""Plant copies in histories of 100 commits, and let `copycost bisect` find them.

``python -m peers.bisected`` takes about five minutes and writes ``peers/results/bisected.json``.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.progress import track

from peers import tools
from peers.locked import FUNCTIONS, HEAD, PLANTED
from peers.trials import RESULTS

#: Histories, and commits in each after the good one.
_HISTORIES, _COMMITS = 20, 100


def history(folder: Path, name: str, change: str, first_bad: int) -> list[str]:
    """Make a repository in which a function has a change from one commit on; every commit changes something else."""
    tools.git(folder, "init", "-q", "-b", "main")
    hashes = []
    for i in range(_COMMITS + 1):
        body = FUNCTIONS[name].replace(*PLANTED[change], 1) if i >= first_bad else FUNCTIONS[name]
        (folder / "mine.py").write_text(f"{HEAD}\nNUMBER = {i}\n\n\ndef {name}(x):\n{body}")
        hashes.append(tools.commit(folder, f"commit {i}"))
    return hashes


def main() -> None:
    """Plant and find."""
    rows: list[dict[str, Any]] = []
    order = random.Random(0)
    for _ in track(range(_HISTORIES), description="histories"):
        name, change = order.choice(list(FUNCTIONS)), order.choice(list(PLANTED))
        first_bad = order.randrange(1, _COMMITS + 1)
        with tempfile.TemporaryDirectory() as folder:
            hashes = history(Path(folder), name, change, first_bad)
            process = subprocess.run(
                [sys.executable, "-m", "copycost", "bisect", "--input", "4x96x128x3:float32", "--json", "it.json",
                 hashes[0], "main", "--", f"mine.py::{name}"],
                cwd=folder, capture_output=True, text=True,
            )  # fmt: skip
            row = {"function": name, "change": change, "first_bad": first_bad, "found": None, "looks": None}
            if process.returncode == 0:
                document = json.loads(Path(folder, "it.json").read_text())
                row |= {"found": hashes.index(document["first_bad"]["step"]), "looks": len(document["looks"]) - 2}
            else:
                row["error"] = process.stderr.strip()
            rows.append(row)
    (RESULTS / "bisected.json").write_text(json.dumps(rows, indent=1) + "\n")
    right = sum(row["found"] == row["first_bad"] for row in rows)
    print(f"{right} of {len(rows)} found, in up to {max(row['looks'] or 0 for row in rows)} looks")


if __name__ == "__main__":
    main()
