"""Cases being measured, and the groups that they form."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from copycost.cases.case import Case, as_row
from copycost.catalog import discovery
from copycost.engine import assemble
from copycost.engine.group_files import Files
from copycost.engine.records import AllocationTrace, Audit, BlockRecord, Timing
from copycost.machine.devices import combined
from copycost.model.measurement import Measurement
from copycost.model.vocabulary import DeviceKind
from copycost.stats.intervals import Spread


@dataclass
class CaseState:
    """Measurement of a case in progress."""

    case: Case
    seconds_left: float  # of its timeout
    timeout: float
    threads: int = 0
    shares: bool = False  # whether it may share a process with other cases for audits and traces
    shares_blocks: bool = False  # and for blocks
    audit: Audit | None = None
    trace: AllocationTrace | None = None
    one_thread: bool = False
    calls: int = 1  # in a sample
    records: list[BlockRecord] = field(default_factory=list)
    seconds_first: float = 0.0
    stopped_by: str | None = None
    measurement: Measurement | None = None  # once it is complete

    @property
    def blocks(self) -> list[list[float]]:
        """Seconds per call of each sample, by block."""
        return [record.seconds for record in self.records]

    @property
    def clocks_mhz(self) -> list[int | None]:
        """Clock of the GPU in each block, where it is known."""
        return [combined(record.conditions).clock_mhz for record in self.records]

    @property
    def leaked_bytes(self) -> int:
        """Bytes that each call leaks."""
        return self.trace.leaked_bytes if self.trace is not None else 0

    def _measurement(self, status: str, reason: str | None, timing: Timing | None = None) -> Measurement:
        return assemble.measurement(as_row(self.case), self.threads, status, reason, self.audit, self.trace, timing)

    def end(self, status: str, reason: str | None) -> None:
        """Complete the case without times."""
        self.measurement = self._measurement(status, reason)

    def so_far(self) -> Measurement:
        """Return the measurement, without times if the case is not complete."""
        return self.measurement or self._measurement("ok", None)

    def complete(self, group: Group | None, copies: Sequence[float] = (), spread: Spread | None = None) -> Measurement:
        """Complete the case and return its measurement.

        Parameters
        ----------
        group : Group or None
        copies : sequence of float, optional
            Copy speeds measured beside the case, in bytes per second.
        spread : Spread, optional
            See `Timing`.
        """
        if self.measurement is None:
            timing = None
            gpu = discovery.runtime(self.case.variant.runtime).gpu
            if self.records and group is not None:
                timing = Timing(
                    tuple(self.records),
                    self.seconds_first,
                    stopped_by=self.stopped_by or "blocks",
                    images=self.case.batch or 1,
                    bytes_moved=group.moved_bytes,
                    copy_speed=median(copies) if copies else None,
                    spread=spread,
                    device_clock=gpu.instrument if gpu is not None and self.case.device != DeviceKind.CPU else "",
                )
            self.measurement = self._measurement("ok", None, timing)
        return self.measurement


def pending(states: Iterable[CaseState]) -> list[CaseState]:
    """Return the states that have no measurement yet."""
    return [state for state in states if not state.measurement]


@dataclass
class Group:
    """Files that the processes of a group of cases share.

    Attributes
    ----------
    folder : Path
        Folder of the files.
    files : Files
        See `Files`.
    input_bytes, result_bytes : int
        Total size of all arrays of an input, and of a result.
    size : int
        Number of parallel processes that fit in memory.
    """

    folder: Path
    files: Files
    input_bytes: int
    result_bytes: int
    size: int

    @property
    def moved_bytes(self) -> int:
        """Bytes of input and result, counted once each."""
        return self.input_bytes + self.result_bytes

    def close(self) -> None:
        """Remove the files."""
        shutil.rmtree(self.folder, ignore_errors=True)
