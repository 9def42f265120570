"""Track the verdict of each claim as a series, in which a change caused by a library version is a step."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from copycost.studies.claims.run import load

#: Time limit for checking all claims, in seconds.
_SESSION = 3600

_VERDICTS = {"holds": 1.0, "depends": 0.5, "refuted": 0.0}


class Claims:
    """Base class for asv benchmarks of the claims.

    A claim that cannot be checked in an environment is n/a, with the reason on standard error.
    """

    version = "1"
    timeout = 60.0
    param_names = ("claim",)
    params: ClassVar[list[list[str]]] = [list(load())]

    def setup_cache(self) -> dict[str, Any]:
        """Check all claims with the installed copycost, which is the commit's version."""
        process = subprocess.run(
            [sys.executable, "-m", "copycost", "claims", "--json", "claims.json"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        if process.returncode == 2:
            return {}
        try:
            claims = json.loads(Path("claims.json").read_text())["claims"]
        except (OSError, ValueError, KeyError):
            raise RuntimeError(f"`copycost claims` ended with {process.returncode}:\n{process.stderr}") from None
        return {claim["id"]: [claim["verdict"], claim["because"]] for claim in claims}

    setup_cache.timeout = _SESSION  # type: ignore[attr-defined]

    def track_verdict(self, verdicts: dict[str, Any], claim: str) -> float:
        """Return 1 if a claim holds, 0.5 if it depends, 0 if it is refuted."""
        verdict, because = verdicts.get(claim, (None, "this commit does not have this claim"))
        if verdict is None:
            print(f"n/a: {because}", file=sys.stderr)
        return _VERDICTS.get(verdict, math.nan)

    track_verdict.unit = "1 holds, 0.5 depends, 0 refuted"  # type: ignore[attr-defined]
