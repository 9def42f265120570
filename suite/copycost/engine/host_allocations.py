"""Trace the requests of calls to the C library, as a list of allocation events.

Every instrument returns a list of `AllocationEvent`, from which `copycost.model.allocation` derives all figures.
"""

from __future__ import annotations

import gc
import itertools
import linecache
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from copycost.model.allocation import THRESHOLD, AllocationEvent, InstrumentBusyError
from copycost.model.vocabulary import MemorySpace

#: Traced calls that are counted, after one that is not: it may free memory older than the trace, of unknown size.
WINDOWS = 3

#: Size of the arenas that CPython allocates for small objects with mmap (ARENA_BITS of Objects/obmalloc.c, 3.10 and
#: later). Their allocation is unrelated to the call that happens to run at that time.
_ARENA = 1 << 20

#: The marks of a window are `bytes` objects of this size and the next larger ones. Any size works that nothing else
#: requests.
_MARK = 7_340_033


#: A function that makes its input and returns a call on it.
Prepare = Callable[[], Callable[[], Any]]


@dataclass(frozen=True)
class CallTraces:
    """Requests of some calls to an allocator.

    Attributes
    ----------
    events : list of list of AllocationEvent
        One list per call.
    leaked_bytes : list of int
        Bytes that each call requested and that were alive after its result and all inputs were released,
        minus the bytes of earlier calls' requests that it freed.
    """

    events: list[list[AllocationEvent]]
    leaked_bytes: list[int]

    def steady(self) -> CallTraces:
        """Return the traces without the first call, which may free memory that is older than the trace."""
        return CallTraces(self.events[1:], self.leaked_bytes[1:])


def trace_host(cases: Sequence[Sequence[Prepare]]) -> list[CallTraces]:
    """Make the calls of some cases, and trace the requests of each call to the C library.

    One memray tracker spans all calls, since starting one and ending it takes half a second if TensorFlow is loaded. A
    request of an unusual size marks the begin and the end of each call's window. A result is released after the end.

    All inputs are made inside the tracker, since memray knows the size of a release only if it has seen the request.
    Those of a case are made before its first call and released after its last one: other threads of a library may
    release temporary memory of an input later. What is released in a window of another case is not counted there.

    Parameters
    ----------
    cases : sequence of sequence of callable
        For each case, functions that each make an input and return the call on it.

    Raises
    ------
    ImportError
        If memray is not installed.
    InstrumentBusyError
        If another tracker is active.
    """
    from memray import AllocatorType, FileReader

    release_allocators = (AllocatorType.FREE, AllocatorType.MUNMAP)
    handle, name = tempfile.mkstemp(prefix="copycost-", suffix=".memray")
    os.close(handle)
    gc_enabled = gc.isenabled()
    gc.disable()  # a collection is unrelated to the call that happens to run at that time
    try:
        _record(cases, name)
        windows = _Windows([len(prepares) for prepares in cases])
        with FileReader(name) as reader:
            for record in reader.get_allocation_records():
                if record.allocator in release_allocators:
                    windows.release(record.address)
                elif record.allocator != AllocatorType.MMAP or record.size != _ARENA:
                    windows.request(record.address, record.size, partial(_record_label, record))
    finally:
        os.unlink(name)
        if gc_enabled:
            gc.enable()
    return windows.traces()


def _record(cases: Sequence[Sequence[Prepare]], name: str) -> None:
    """Make the calls of all cases in order, with marks around each, and have a tracker write to a file."""
    from memray import FileDestination, Tracker

    marks = itertools.count(_MARK)
    with _tracking(Tracker, FileDestination(name, overwrite=True, compress_on_exit=False)):
        for prepares in cases:
            calls = [prepare() for prepare in prepares]
            for call in calls:
                bytes(next(marks))
                result = call()
                bytes(next(marks))
                del result
                bytes(next(marks))
            del call, calls


@dataclass
class _Memory:
    """Memory that is alive: its size, the line that requested it, its case, and the window that requested it.

    The window is None for memory of an input.
    """

    size: int
    line: str
    case: int
    window: int | None


class _Windows:
    """The windows of all calls, filled by a trace's records in order."""

    def __init__(self, calls: Sequence[int]) -> None:
        self._cases = [case for case, number in enumerate(calls) for _ in range(number)]  # by window
        self._events: list[list[AllocationEvent]] = [[] for _ in self._cases]
        self._leaked_bytes = [0] * len(self._cases)
        self._memory: dict[int, _Memory] = {}
        self._first_mark = _MARK + bytes.__basicsize__  # the request of a `bytes` object of _MARK bytes
        self._marks = set(range(self._first_mark, self._first_mark + 3 * len(self._cases)))
        self._mark_addresses: set[int] = set()
        # The last mark. After the first of a window its call runs, after the second its result is released, and after
        # the third it is over.
        self._window, self._step = -1, 2

    def request(self, address: int, size: int, line: Callable[[], str]) -> None:
        """Add a request to the window in which it was made."""
        if size in self._marks:
            self._window, self._step = divmod(size - self._first_mark, 3)
            self._mark_addresses.add(address)
            self._marks.discard(size)  # each mark is made once: later requests of the same size are not marks
            return
        self._mark_addresses.discard(address)
        window = self._window if self._step < 2 else None
        memory = _Memory(size, line() if size >= THRESHOLD else "", self._case(), window)
        self._memory[address] = memory
        self._add(size, memory.line, window)

    def release(self, address: int) -> None:
        """Add a release to the window in which it was made, unless the memory is of a mark or of another case."""
        if address in self._mark_addresses:
            self._mark_addresses.discard(address)
            return
        memory = self._memory.pop(address, None)
        window = self._window if self._step < 2 else None
        if memory is None or (window is not None and memory.case != self._case()):
            return
        charged_window = window if memory.window is not None and window is not None else memory.window
        self._add(-memory.size, memory.line, charged_window)

    def _case(self) -> int:
        """Return the case whose inputs or windows the trace has reached."""
        window = self._window + (self._step == 2)
        return self._cases[min(window, len(self._cases) - 1)]

    def _add(self, change: int, line: str, charged_window: int | None) -> None:
        if self._step == 0:
            self._events[self._window].append(AllocationEvent(change, MemorySpace.HOST, "memray", line))
        if charged_window is not None and abs(change) >= THRESHOLD:
            self._leaked_bytes[charged_window] += change

    def traces(self) -> list[CallTraces]:
        """Return the windows of each case."""
        traces = []
        for case in range(max(self._cases) + 1):
            windows = [window for window, owner in enumerate(self._cases) if owner == case]
            traces.append(
                CallTraces(
                    [self._events[window] for window in windows],
                    [max(0, self._leaked_bytes[window]) for window in windows],
                )
            )
        return traces


def _record_label(record: Any) -> str:
    """Return the line of Python that requested the memory."""
    return next((line_label(file, line) for _, file, line in record.stack_trace(max_stacks=1)), "")


def line_label(file: str, line: int) -> str:
    """Return a label for a line of Python: its text, file and number."""
    text = linecache.getline(file, line).strip()
    return f"{text or '…'}  ({os.path.basename(file)}:{line})"


@contextmanager
def _tracking(tracker: Any, destination: Any) -> Iterator[None]:
    """Run a tracker for the duration of the body, or raise `InstrumentBusyError`."""
    try:
        instance = tracker(destination=destination)
        instance.__enter__()
    except RuntimeError as error:
        raise InstrumentBusyError(f"memray: {error}") from None
    try:
        yield
    finally:
        instance.__exit__(None, None, None)
