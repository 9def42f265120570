"""Claims looked into, each in processes of its own, and judged."""

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
from copycost.studies.claims import catalogue
from copycost.studies.claims.claim import CLAIMS, Claim, Evidence, NoEvidence

#: Seconds that looking into one claim may take, in each of its processes.
_TIMEOUT = 120.0

#: Where a fork_server finds the claims.
_SOURCE = "copycost.studies.claims.run"


def load() -> dict[str, Claim]:
    """Every claim, by its name, in the order of the documents."""
    for module in pkgutil.iter_modules(catalogue.__path__):
        importlib.import_module(f"{catalogue.__name__}.{module.name}")
    return dict(sorted(CLAIMS.items(), key=lambda item: item[1].document))


@dataclass(frozen=True)
class Judged:
    """What came of a claim.

    Attributes
    ----------
    claim : Claim
    verdict : {"holds", "refuted", "depends"} or None
    because : str
        The evidence in one line; why there is no verdict, where there is none.
    evidence : dict
    failed : bool
        Whether looking into it failed, where it could have been done.
    """

    claim: Claim
    verdict: str | None
    because: str
    evidence: Evidence
    failed: bool = False

    def to_dict(self) -> dict[str, Any]:
        """The object of the JSON document."""
        one = self.claim
        return {
            "id": one.id,
            "document": one.document,
            "claim": one.claim,
            "verdict": self.verdict,
            "because": self.because,
            "evidence": self.evidence,
            "reproduce": one.reproduce,
        }


def judged(claim: Claim, evidence: Evidence) -> Judged:
    """The verdict that follows from the evidence."""
    return Judged(claim, claim.judge(evidence), claim.because(evidence), evidence)


def check_claims(claims: Sequence[Claim], on_claim: Callable[[Claim], None] = lambda claim: None) -> Iterator[Judged]:
    """Look into claims: those that are no matter of time two at once, then the others one after another.

    Parameters
    ----------
    claims : sequence of Claim
    on_claim : callable, optional
        Told which is taken up, from any thread.

    Yields
    ------
    Judged
    """
    lacking = {name: discovery.not_installed(discovery.runtime(name)) for name in {one.runtime for one in claims}}
    with ExitStack() as stack:
        fork_servers = {}
        for name, reason in lacking.items():
            if not reason:
                fork_servers[name] = ForkServer(name, _SOURCE, import_context.child_environment())
                stack.callback(fork_servers[name].close)

        def one(claim: Claim) -> Judged:
            on_claim(claim)
            reason = lacking[claim.runtime]
            if reason:
                return Judged(claim, None, reason, {})
            try:
                return judged(
                    claim, _joined([_ask(fork_servers[claim.runtime], claim) for _ in range(claim.blocks or 1)])
                )
            except CaseFailure as end:
                # A library that is not as it was expected to be refutes nothing.
                said = end.reason if end.status == "skipped" else f"{end.status}: {end.reason}"
                return Judged(claim, None, said, {}, failed=end.status != "skipped")
            except NoEvidence as nothing:
                return Judged(claim, None, str(nothing), {}, failed=True)

        pool = stack.enter_context(ThreadPoolExecutor(2))
        yield from pool.map(one, [claim for claim in claims if not claim.blocks])
        yield from map(one, [claim for claim in claims if claim.blocks])


def _ask(fork_server: ForkServer, claim: Claim) -> dict[str, Any]:
    child = fork_server.child()
    try:
        child.ask("open", Job(claim.id, claim.runtime), timeout=_TIMEOUT)
        return child.ask("look", timeout=_TIMEOUT)[0]
    finally:
        child.close()


def _joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The evidence of several processes: the first one's, and the times of all."""
    if len(parts) == 1:
        return parts[0]
    return parts[0] | {"seconds": {name: [part["seconds"][name] for part in parts] for name in parts[0]["seconds"]}}


@dataclass(frozen=True)
class Job:
    """A claim to look into, in the process that this is started in."""

    id: str
    runtime: str

    def start(self) -> Job:
        """Choose the CPU."""
        discovery.runtime(self.runtime).start("cpu", devices.cpus())
        return self

    def look(self) -> dict[str, Any]:
        """The evidence, as JSON has it: without NumPy's types, and with numbers that are finite."""
        return json.loads(json.dumps(load()[self.id].measure(), default=np.generic.item, allow_nan=False))
