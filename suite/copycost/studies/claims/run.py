"""Check each claim in fresh processes and judge it."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np

from copycost.catalog import discovery, import_context
from copycost.engine.worker import CaseFailure, ForkServer
from copycost.machine import devices
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind
from copycost.studies.claims import catalogue
from copycost.studies.claims.claim import CLAIMS, Claim, Evidence, NoEvidence

#: Time limit for checking a claim, in seconds per process.
_TIMEOUT = 120.0

#: Module from which a fork server imports the claims.
_SOURCE = Source("copycost.studies.claims.run")


def load() -> dict[str, Claim]:
    """Return every claim by its name, in the order of the documents."""
    for module in pkgutil.iter_modules(catalogue.__path__):
        importlib.import_module(f"{catalogue.__name__}.{module.name}")
    return dict(sorted(CLAIMS.items(), key=lambda item: item[1].document))


@dataclass(frozen=True)
class Judged:
    """Verdict on a claim.

    Attributes
    ----------
    claim : Claim
    verdict : {"holds", "refuted", "depends"} or None
    because : str
        The evidence in one line, or why there is no verdict.
    evidence : dict
    failed : bool
        Whether the check failed although its runtime is available.
    """

    claim: Claim
    verdict: str | None
    because: str
    evidence: Evidence
    failed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the object of the JSON document."""
        claim = self.claim
        return {
            "id": claim.id,
            "document": claim.document,
            "claim": claim.claim,
            "verdict": self.verdict,
            "because": self.because,
            "evidence": self.evidence,
            "reproduce": claim.reproduce,
        }


def judged(claim: Claim, evidence: Evidence) -> Judged:
    """Return the verdict that follows from the evidence."""
    return Judged(claim, claim.judge(evidence), claim.because(evidence), evidence)


def check_claims(claims: Sequence[Claim], on_claim: Callable[[Claim], None] = lambda claim: None) -> Iterator[Judged]:
    """Check claims: first those that are not about time, two at once, then the others one after another.

    Parameters
    ----------
    claims : sequence of Claim
    on_claim : callable, optional
        Called with each claim before its check starts, from any thread.

    Yields
    ------
    Judged
    """
    lacking = {name: discovery.not_installed(discovery.runtime(name)) for name in {claim.runtime for claim in claims}}
    with ExitStack() as stack:
        fork_servers = {}
        for name, reason in lacking.items():
            if not reason:
                fork_servers[name] = ForkServer(name, _SOURCE, import_context.child_environment())
                stack.callback(fork_servers[name].close)

        def check(claim: Claim) -> Judged:
            on_claim(claim)
            reason = lacking[claim.runtime]
            if reason:
                return Judged(claim, None, reason, {})
            try:
                return judged(
                    claim, _joined([_ask(fork_servers[claim.runtime], claim) for _ in range(claim.blocks or 1)])
                )
            except CaseFailure as end:
                # A library that does not behave as expected does not refute a claim.
                why = end.reason if end.status == "skipped" else f"{end.status}: {end.reason}"
                return Judged(claim, None, why, {}, failed=end.status != "skipped")
            except NoEvidence as nothing:
                return Judged(claim, None, str(nothing), {}, failed=True)

        pool = stack.enter_context(ThreadPoolExecutor(2))
        yield from pool.map(check, [claim for claim in claims if not claim.blocks])
        yield from map(check, [claim for claim in claims if claim.blocks])


def _ask(fork_server: ForkServer, claim: Claim) -> dict[str, Any]:
    worker = fork_server.fork()
    try:
        worker.open(Job(claim.id, claim.runtime), _TIMEOUT)
        return worker.ask(_TIMEOUT, Job.look)[0]
    finally:
        worker.close()


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Merge the evidence of several processes: the evidence of the first, with the times of all."""
    if len(parts) == 1:
        return parts[0]
    return parts[0] | {"seconds": {name: [part["seconds"][name] for part in parts] for name in parts[0]["seconds"]}}


@dataclass(frozen=True)
class Job:
    """Job that checks a claim in the worker process that starts it."""

    id: str
    runtime: str

    def start(self) -> Job:
        """Start the runtime on the CPU."""
        discovery.runtime(self.runtime).start(DeviceKind.CPU, devices.cpus())
        return self

    def look(self) -> dict[str, Any]:
        """Return the evidence as JSON values, without NumPy types and with finite numbers only."""
        return json.loads(json.dumps(load()[self.id].measure(), default=np.generic.item, allow_nan=False))
