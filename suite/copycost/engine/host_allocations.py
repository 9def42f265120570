"""Trace the requests of calls to the C library, as a list of allocation events.

Every instrument returns a list of `AllocationEvent`, from which `copycost.model.allocation` derives all figures.
"""

from __future__ import annotations

import gc
import linecache
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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


def trace_host(prepares: Sequence[Callable[[], Callable[[], Any]]]) -> tuple[list[list[AllocationEvent]], list[int]]:
    """Make calls and return the requests of each to the C library, and the bytes that each leaked.

    One memray tracker spans all calls, since starting one takes 0.3 s if TensorFlow is loaded. A request of an unusual
    size marks the begin and the end of each window. A result is released after the end. All inputs are made inside the
    tracker, since memray knows the size of a release only if it has seen the request. They are made before the first
    call and released after the last one: other threads of a library may release temporary memory of an input later.

    Parameters
    ----------
    prepares : sequence of callable
        At least two functions, each of which makes its input and returns the call. The first call is not counted.

    Returns
    -------
    events : list of list of AllocationEvent
        One list per call, without the first.
    leaked_bytes : list of int
        Bytes that each call requested and that were alive after its result and all inputs were released, minus the
        bytes of earlier calls' requests that it freed.

    Raises
    ------
    ImportError
        If memray is not installed.
    InstrumentBusyError
        If another tracker is active.
    """
    from memray import AllocatorType, FileDestination, FileReader, Tracker

    freeing = (AllocatorType.FREE, AllocatorType.MUNMAP)
    handle, name = tempfile.mkstemp(prefix="copycost-", suffix=".memray")
    os.close(handle)
    collects = gc.isenabled()
    gc.disable()  # a collection is unrelated to the call that happens to run at that time
    try:
        with _started(Tracker, FileDestination(name, overwrite=True, compress_on_exit=False)):
            calls = [prepare() for prepare in prepares]
            for i, call in enumerate(calls):
                bytes(_MARK + 3 * i)
                result = call()
                bytes(_MARK + 3 * i + 1)
                del result
                bytes(_MARK + 3 * i + 2)
            del call, calls
        with FileReader(name) as reader:
            records = [
                (r.allocator, r.address, r.size, "" if r.allocator in freeing or r.size < THRESHOLD else _where(r))
                for r in reader.get_allocation_records()
            ]
    finally:
        os.unlink(name)
        if collects:
            gc.enable()

    first = _MARK + bytes.__basicsize__  # the request of a `bytes` object of _MARK bytes
    marks = set(range(first, first + 3 * len(prepares)))
    window, step = -1, 2
    windows: list[list[AllocationEvent]] = [[] for _ in prepares]
    left = [0] * len(prepares)
    live: dict[int, int] = {}
    # Address of memory → the call that has requested it; None for memory of an input.
    owners: dict[int, int | None] = {}
    ops: dict[int, str] = {}
    marked: set[int] = set()
    for allocator, address, size, where in records:
        if size in marks:
            window, step = divmod(size - first, 3)
            marked.add(address)
            marks.discard(size)  # each mark is made once: later requests of the same size are not marks
            continue
        if address in marked:  # the release of a mark
            marked.discard(address)
            if allocator in freeing:
                continue
        during = window if step < 2 else None
        if allocator in freeing:
            known = live.pop(address, 0)
            if not known:
                continue
            change = -known
            where = ops.pop(address, "")
            owner = owners.pop(address)
            charged = None if owner is None else owner if during is None else during
        else:
            if allocator == AllocatorType.MMAP and size == _ARENA:
                continue
            live[address] = change = size
            ops[address] = where
            owners[address] = charged = during
        if step == 0:
            windows[window].append(AllocationEvent(change, MemorySpace.HOST, "memray", where))
        if charged is not None and abs(change) >= THRESHOLD:
            left[charged] += change
    return windows[1:], [max(0, one) for one in left[1:]]


def _where(record: Any) -> str:
    """Return the line of Python that requested the memory."""
    return next((named(file, line) for _, file, line in record.stack_trace(max_stacks=1)), "")


def named(file: str, line: int) -> str:
    """Return a label for a line of Python: its text, file and number."""
    said = linecache.getline(file, line).strip()
    return f"{said or '…'}  ({os.path.basename(file)}:{line})"


@contextmanager
def _started(tracker: Any, destination: Any) -> Iterator[None]:
    """Run a tracker for the duration of the body, or raise `InstrumentBusyError`."""
    try:
        running = tracker(destination=destination)
        running.__enter__()
    except RuntimeError as error:
        raise InstrumentBusyError(f"memray: {error}") from None
    try:
        yield
    finally:
        running.__exit__(None, None, None)
