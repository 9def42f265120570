"""What one call allocates: a list of events, from whichever instrument, and what is derived from it.

Every instrument gives a list of `AllocationEvent`; `copycost.model.allocation` derives all figures from it.
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

#: Calls looked at, after one that is not: what it frees may be older than the trace, and then has no size.
WINDOWS = 3


#: CPython takes memory for its small objects with mmap, an arena of this size at a time (ARENA_BITS of
#: Objects/obmalloc.c, 3.10 and later). When it does has nothing to do with the call that happens to run.
_ARENA = 1 << 20


#: The marks of a window are `bytes` objects of this size and the next ones. Any size that nothing else asks for would
#: do.
_MARK = 7_340_033


def trace_host(prepares: Sequence[Callable[[], Callable[[], Any]]]) -> tuple[list[list[AllocationEvent]], list[int]]:
    """Make calls and return the requests of each to the C library, and how many bytes each left behind.

    One memray tracker spans them all, since starting one where TensorFlow is loaded takes 0.3 s. A request of an odd
    size marks each window's begin and end; a result is released after the end. All inputs are made inside the tracker,
    since memray knows the size of a release only if it has seen the request. They are made before the first call and
    released after the last: a library's other threads may release what making an input took some time later.

    Parameters
    ----------
    prepares : sequence of callable
        Each makes its input and returns the call; at least two. The first call is not counted.

    Returns
    -------
    events : list of list of AllocationEvent
        One list a call, without the first.
    leaked_bytes : list of int
        Bytes that each call requested and that were alive after its result and all inputs were released, less what it
        freed of earlier calls' requests.

    Raises
    ------
    ImportError
        Where memray is not installed.
    InstrumentBusyError
        If another tracker is at work.
    """
    from memray import AllocatorType, FileDestination, FileReader, Tracker

    freeing = (AllocatorType.FREE, AllocatorType.MUNMAP)
    handle, name = tempfile.mkstemp(prefix="copycost-", suffix=".memray")
    os.close(handle)
    collects = gc.isenabled()
    gc.disable()  # when it runs has nothing to do with the call that happens to run
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

    first = _MARK + bytes.__basicsize__  # what a `bytes` object of _MARK bytes asks for
    marks = set(range(first, first + 3 * len(prepares)))
    window, step = -1, 2
    windows: list[list[AllocationEvent]] = [[] for _ in prepares]
    left = [0] * len(prepares)
    live: dict[int, int] = {}
    # The call that has requested the memory at an address; None for what belongs to an input.
    owners: dict[int, int | None] = {}
    ops: dict[int, str] = {}
    marked: set[int] = set()
    for allocator, address, size, where in records:
        if size in marks:
            window, step = divmod(size - first, 3)
            marked.add(address)
            marks.discard(size)  # a mark is made once; what comes later of its size is not one
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
            windows[window].append(AllocationEvent(change, "host", "memray", where))
        if charged is not None and abs(change) >= THRESHOLD:
            left[charged] += change
    return windows[1:], [max(0, one) for one in left[1:]]


def _where(record: Any) -> str:
    """The line of Python that asked for memory."""
    return next((named(file, line) for _, file, line in record.stack_trace(max_stacks=1)), "")


def named(file: str, line: int) -> str:
    """A line of Python: what it says, and where it stands."""
    said = linecache.getline(file, line).strip()
    return f"{said or '…'}  ({os.path.basename(file)}:{line})"


@contextmanager
def _started(tracker: Any, destination: Any) -> Iterator[None]:
    """A tracker at work, or `InstrumentBusyError`."""
    try:
        running = tracker(destination=destination)
        running.__enter__()
    except RuntimeError as error:
        raise InstrumentBusyError(f"memray: {error}") from None
    try:
        yield
    finally:
        running.__exit__(None, None, None)
