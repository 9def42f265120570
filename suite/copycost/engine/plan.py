"""Settings of a session."""

from __future__ import annotations

import math
from dataclasses import dataclass

from copycost.engine.audit_cache import AuditCache


@dataclass(frozen=True)
class Plan:
    """Settings of a session.

    Attributes
    ----------
    threads : int
        Number of threads of every runtime.
    blocks : int
        Maximum number of blocks per case. 0 disables timing.
    budget : float
        Seconds for timing all cases. With infinity, every case gets all its blocks.
    timeout : float or None
        Seconds that one case may take in all its processes together (in a gate: in each block). None: 60, plus 5 for
        each 2²⁰ numbers in its input.
    no_gpu : str or None
        Why there is no CUDA device. None if there is one.
    share : {"shipped", "all", "none"}
        Which variants may share a process: those that ship with copycost, or also those of the user's files. They do
        only on the CPU, and only if their runtime is slow to start; for blocks, only if that changes no time.
    audits : AuditCache or None
        Findings of earlier runs, which are used instead of an audit and a trace. None audits every case.
    decide : float
        Seconds beyond the budget for cases whose comparison is undecided: the fastest of a group, the runner-up and the
        baselines.
    energy : bool
        Whether to measure the energy of calls on a GPU.
    wait : float or None
        Seconds to wait for the lock of this machine (`copycost.machine.host_lock`), which is held while cases that are
        compared are timed. None does not take it.
    confined : str or None
        Folder to whose files measured code is confined, without a network: see `copycost.machine.confine`. None does
        not confine it.
    """

    threads: int
    blocks: int
    budget: float
    timeout: float | None
    no_gpu: str | None
    share: str = "shipped"
    audits: AuditCache | None = None
    decide: float = 0.0
    energy: bool = False
    wait: float | None = math.inf
    confined: str | None = None
