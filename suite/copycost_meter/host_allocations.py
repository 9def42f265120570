"""Trace the requests of calls to the C library, as a list of allocation events.

Every instrument returns a list of `AllocationEvent`, from which `copycost_meter.events` derives all figures.
"""

from __future__ import annotations

import gc
import itertools
import linecache
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from copycost_meter.events import HOST, THRESHOLD, AllocationEvent, InstrumentBusyError

#: Traced calls that are counted, after one that is not: it may free memory older than the trace, of unknown size.
WINDOWS = 3

#: Size of the arenas that CPython allocates for small objects with mmap (ARENA_BITS of Objects/obmalloc.c). Their
#: allocation is unrelated to the call that happens to run at that time.
_ARENA = 1 << (20 if sys.version_info >= (3, 10) else 18)

#: The marks of a window are `bytes` objects of this size and the next larger ones. Any size works that nothing else
#: requests.
_MARK = 7_340_033


#: Number of frames that are looked at for the line of a request.
_STACK = 40

#: Folders of this package and of Python's own modules.
_METER, _PYTHON = (os.path.dirname(os.path.abspath(file)) + os.sep for file in (__file__, os.__file__))

#: Kept here, since a test may replace it while a tracker is on.
_size_of = os.path.getsize

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
    handle, name = tempfile.mkstemp(prefix="copycost-", suffix=".memray")
    os.close(handle)
    gc_enabled = gc.isenabled()
    gc.disable()  # a collection is unrelated to the call that happens to run at that time
    try:
        _record(cases, name)
        return _read(name, [len(prepares) for prepares in cases])
    finally:
        os.unlink(name)
        if gc_enabled:
            gc.enable()


class Recording:
    """A tracker that stays on while some calls are made, once each, and traces the requests of each call.

    To start a tracker and to end it takes 20 ms, and ten times that with TensorFlow loaded.

    Raises
    ------
    ImportError
        If memray is not installed.
    InstrumentBusyError
        If another tracker is active.
    """

    def __init__(self) -> None:
        from memray import FileDestination, Tracker

        handle, self._name = tempfile.mkstemp(prefix="copycost-", suffix=".memray")
        os.close(handle)
        self._marks = itertools.count(_MARK)
        self._calls = 0
        destination = FileDestination(self._name, overwrite=True, compress_on_exit=False)
        self._tracking = _tracking(Tracker, destination)
        try:
            self._tracking.__enter__()
        except InstrumentBusyError:
            os.unlink(self._name)
            raise

    def call(self, function: Callable[[], Any]) -> Any:
        """Make a call, and return its result or raise what it raises."""
        self._calls += 1
        bytes(next(self._marks))
        try:
            return function()
        finally:
            bytes(next(self._marks))
            bytes(next(self._marks))

    @property
    def nbytes(self) -> int:
        """Size of what was recorded so far, in bytes."""
        return _size_of(self._name)

    def end(self) -> list[tuple[list[AllocationEvent], int]]:
        """End the tracker, and return the events of each call, without their lines, and the bytes that it has kept."""
        self._tracking.__exit__(None, None, None)
        try:
            traces = _read(self._name, [1] * self._calls, has_lines=False)
        finally:
            os.unlink(self._name)
        return [(trace.events[0], trace.leaked_bytes[0]) for trace in traces]


def _read(name: str, calls: Sequence[int], has_lines: bool = True) -> list[CallTraces]:
    """Read a tracker's file.

    Parameters
    ----------
    name : str
    calls : sequence of int
        Number of calls of each case.
    has_lines : bool, optional
        Whether events have the line that made the request. Without it, requests of less than `THRESHOLD` are left out
        too. Both take most of the time.
    """
    from memray import AllocatorType, FileReader

    release_allocators = (AllocatorType.FREE, AllocatorType.MUNMAP)
    windows = _Windows(calls, has_lines)
    least, known = 0 if has_lines else THRESHOLD, windows.alive
    with FileReader(name) as reader:
        for record in reader.get_allocation_records():
            size = record.size  # 0 of a release by `free`
            if size < least and (size or record.address not in known):
                continue
            if record.allocator in release_allocators:
                windows.release(record.address)
            elif record.allocator != AllocatorType.MMAP or size != _ARENA:
                windows.request(record.address, size, partial(_record_label, record))
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

    def __init__(self, calls: Sequence[int], has_lines: bool) -> None:
        self._has_lines = has_lines
        self._cases = [case for case, number in enumerate(calls) for _ in range(number)]  # by window
        self._events: list[list[AllocationEvent]] = [[] for _ in self._cases]
        self._leaked_bytes = [0] * len(self._cases)
        self.alive: dict[int, _Memory | None] = {}  # by address; None for that of a mark
        self._first_mark = _MARK + bytes.__basicsize__  # the request of a `bytes` object of _MARK bytes
        self._next_mark, self._end = self._first_mark, self._first_mark + 3 * len(self._cases)
        # The last mark. After the first of a window its call runs, after the second its result is released, and after
        # the third it is over.
        self._window, self._step = -1, 2

    def request(self, address: int, size: int, line: Callable[[], str]) -> None:
        """Add a request to the window in which it was made."""
        if size == self._next_mark < self._end:  # marks come in order: other requests of such a size are no marks
            self._window, self._step = divmod(size - self._first_mark, 3)
            self.alive[address] = None
            self._next_mark += 1
            return
        window = self._window if self._step < 2 else None
        in_call = self._step == 0 and size >= THRESHOLD
        memory = _Memory(size, line() if in_call and self._has_lines else "", self._case(), window)
        self.alive[address] = memory
        self._add(size, memory.line, window)

    def release(self, address: int) -> None:
        """Add a release to the window in which it was made, unless the memory is of a mark or of another case."""
        memory = self.alive.pop(address, None)
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
            self._events[self._window].append(AllocationEvent(change, HOST, "memray", line))
        if charged_window is not None and abs(change) >= THRESHOLD:
            self._leaked_bytes[charged_window] += change

    def traces(self) -> list[CallTraces]:
        """Return the windows of each case."""
        traces = [CallTraces([], []) for _ in range(max(self._cases, default=-1) + 1)]
        for case, events, leaked_bytes in zip(self._cases, self._events, self._leaked_bytes):
            traces[case].events.append(events)
            traces[case].leaked_bytes.append(max(0, leaked_bytes))
        return traces


def _record_label(record: Any) -> str:
    """Return the line of Python that requested the memory: the innermost one outside of libraries, if there is one.

    The file of a library in which the request was made follows: ``y = x.std()  (mine.py:3, in _methods.py:152)``.
    """
    frames = [(file, line) for _, file, line in record.stack_trace(max_stacks=_STACK)]
    # What has called the meter is no part of the call.
    frames = list(itertools.takewhile(lambda frame: not frame[0].startswith(_METER), frames)) or frames[:1]
    if not frames:
        return ""
    own = next((frame for frame in frames if not _is_of_library(frame[0])), frames[0])
    if own == frames[0]:
        return line_label(*own)
    return f"{line_label(*own)[:-1]}, in {os.path.basename(frames[0][0])}:{frames[0][1]})"


def _is_of_library(file: str) -> bool:
    """Return whether a file is one of an installed package or of Python itself."""
    return "site-packages" in file or "dist-packages" in file or file.startswith((_PYTHON, "<frozen"))


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
