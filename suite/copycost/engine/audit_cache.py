"""Audit cache: findings of earlier runs about cases whose code and environment are unchanged.

Whether a result is right, and what a call allocates, depends on the code of the variant, on the libraries and on the
machine, not on the moment. Only times are measured anew in every run. Every run still compares results of timed calls
with the reference.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from copycost.cases.case import Case
from copycost.engine.records import AllocationTrace, Audit
from copycost_meter.events import AllocationEvent, AllocationSummary, Pool

#: Parts of an environment that do not change what an audit finds.
_VOLATILE = ("time", "load", "image", "governor", "kernel")

#: Findings that no run has used for so many days are deleted.
_DAYS = 90


@dataclass(frozen=True)
class Findings:
    """Findings of the audit and of the trace of a case.

    Attributes
    ----------
    audit : Audit
    trace : AllocationTrace
    one_thread : bool
        Whether a call does all its work in the calling thread.
    """

    audit: Audit
    trace: AllocationTrace
    one_thread: bool


@dataclass(frozen=True)
class AuditCache:
    """Findings in files, one for each case in each environment.

    Attributes
    ----------
    folder : Path
    environment : str
        Digest of the environment, and of copycost's own code.
    """

    folder: Path
    environment: str

    def load(self, case: Case) -> Findings | None:
        """Return the findings of an earlier run about a case, or None."""
        path = self._path(case)
        if path is None:
            return None
        try:
            findings = _from_document(json.loads(path.read_bytes()))
            os.utime(path)
        except (OSError, ValueError, KeyError, TypeError):  # missing or damaged: the case is audited
            return None
        return findings

    def save(self, case: Case, findings: Findings) -> None:
        """Keep findings for later runs, if the case is made of nothing but code that ships with copycost.

        A folder that cannot be written to is not an error: the next run audits again.
        """
        path = self._path(case)
        if path is None:
            return
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self.folder, prefix="writing-")
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    json.dump(asdict(findings), file)
                os.replace(name, path)
            except OSError:
                os.unlink(name)

    def _path(self, case: Case) -> Path | None:
        if not (case.variant.source.is_shipped and case.recipe.source.is_shipped):
            return None  # a user's file may import anything
        key = json.dumps([self.environment, *case.key])
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _from_document(document: Any) -> Findings:
    """Return the findings that `AuditCache.save` has written, or raise KeyError or TypeError."""
    trace = document["trace"]
    host, device, pool = trace["host"], trace["device"], trace["pool"]
    parts = {
        "host": host and AllocationSummary(**host),
        "device": device and AllocationSummary(**device),
        "pool": pool and Pool(**pool),
        "instruments": tuple(trace["instruments"]),
        "timeline": tuple(AllocationEvent(**event) for event in trace["timeline"]),
    }
    return Findings(Audit(**document["audit"]), AllocationTrace(**trace | parts), document["one_thread"])


def open_cache(environment: Mapping[str, Any]) -> AuditCache:
    """Return the cache of this user for an environment, without findings that were not used for 90 days.

    The folder is ``audits`` in ``COPYCOST_CACHE_DIR``, else in ``copycost`` in ``XDG_CACHE_HOME`` or ``~/.cache``.

    Parameters
    ----------
    environment : mapping
        As `copycost.machine.environment.capture` returns it.
    """
    cache_folder = os.environ.get("COPYCOST_CACHE_DIR")
    user_caches = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(cache_folder or os.path.join(user_caches, "copycost")) / "audits"
    expiry_time = time.time() - _DAYS * 86400
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            if entry.stat().st_mtime < expiry_time:
                os.unlink(entry)
    parts = {name: value for name, value in environment.items() if name not in _VOLATILE}
    digest = hashlib.sha256(json.dumps([parts, _digest_of_code()], sort_keys=True).encode())
    return AuditCache(folder, digest.hexdigest())


def _digest_of_code() -> str:
    """Return a digest of copycost's own modules: those of the variants, and those that audit them."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(f"{path.relative_to(root)}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
