"""The verdicts of the claims, one series each: one that turns with a version of a library is a step."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from copycost.studies.claims.run import load

#: Seconds that looking into all of them may take.
_SESSION = 3600

_VERDICTS = {"holds": 1.0, "depends": 0.5, "refuted": 0.0}


class Claims:
    """Benchmarks of the claims, for a file in ``benchmarks/`` to derive from.

    What cannot be looked into in an environment is n/a, with the reason on standard error.
    """

    version = "1"
    timeout = 60.0
    param_names = ("claim",)
    params: ClassVar[list[list[str]]] = [list(load())]

    def setup_cache(self) -> dict[str, Any]:
        """Look into all of them, with the copycost that is installed here, which is that of the commit."""
        done = subprocess.run(
            [sys.executable, "-m", "copycost", "claims", "--json", "claims.json"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode == 2:
            return {}
        try:
            found = json.loads(Path("claims.json").read_text())["claims"]
        except (OSError, ValueError, KeyError):
            raise RuntimeError(f"`copycost claims` ended with {done.returncode}:\n{done.stderr}") from None
        return {one["id"]: [one["verdict"], one["because"]] for one in found}

    setup_cache.timeout = _SESSION  # type: ignore[attr-defined]

    def track_verdict(self, found: dict[str, Any], claim: str) -> float:
        """1 where a claim holds, 0.5 where it depends, 0 where it is refuted."""
        verdict, because = found.get(claim, (None, "this commit knows no such claim"))
        if verdict is None:
            print(f"n/a: {because}", file=sys.stderr)
        return _VERDICTS.get(verdict, math.nan)

    track_verdict.unit = "1 holds, 0.5 depends, 0 refuted"  # type: ignore[attr-defined]
