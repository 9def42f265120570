"""Count the allocations of any call in this process, and find the arrays that it changes."""

from __future__ import annotations

import gc
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from copycost_meter.arrays import (
    bytes_in,
    digest_of,
    found_arrays,
    is_comparable,
    library,
    library_of,
    nbytes_of,
    parameters_of,
    place_of,
    with_copies,
)
from copycost_meter.call_count import CallCount
from copycost_meter.count_allocations import Calls, count_each
from copycost_meter.events import (
    DRIVER,
    THRESHOLD,
    AllocationEvent,
    AllocationSummary,
    InstrumentBusyError,
    summarize,
)
from copycost_meter.host_allocations import trace_host
from copycost_meter.libraries import onednn
from copycost_meter.library import Library

#: Calls before the counted ones: the first one may import, trace and compile.
_WARM = 2

#: Makes the arguments of a call, and returns the call on them and the arrays in them by name.
Prepare = Callable[[], tuple[Callable[[], Any], Mapping[str, Any]]]


def count(call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallCount:
    """Count the allocations of ``call(*args, **kwargs)`` in this process, and find the arrays that it changes.

    Each call is given copies of the arrays in its arguments, at any depth of lists, tuples and dicts. Nothing is timed
    and no result is judged. The function is called six to ten times, and what it raises is raised here.

    Parameters
    ----------
    call : callable
        Any function.
    *args, **kwargs
        Its arguments. Dense arrays of NumPy, TensorFlow, PyTorch, JAX and CuPy of any shape and dtype are recognised.
        Views of one array become separate arrays.

    Returns
    -------
    CallCount

    Raises
    ------
    TypeError
        If `call` is not callable.
    ValueError
        If the arrays are of several libraries besides NumPy, or of a dtype that NumPy does not know.
    copycost_meter.InstrumentBusyError
        If another memray tracker or profiler is active.
    """
    if not callable(call):
        raise TypeError(f"call is {type(call).__name__}, not a function")

    def prepare() -> tuple[Callable[[], Any], Mapping[str, Any]]:
        copies: dict[int, Any] = {}
        own_args, own_kwargs = with_copies(args, copies), with_copies(kwargs, copies)
        return lambda: call(*own_args, **own_kwargs), found_arrays(parameters_of(call, own_args, own_kwargs))

    libraries = {library_of(array) for array in found_arrays(parameters_of(call, args, kwargs)).values()}
    return count_prepared(name_of(call), prepare, libraries)


def name_of(call: Callable[..., Any]) -> str:
    """Return the name of a function, or of the type of another callable."""
    return str(getattr(call, "__name__", type(call).__name__))


def count_once(name: str, call: Callable[[], Any], arrays: Mapping[str, Any]) -> tuple[Any, CallCount]:
    """Make a call once, such as a test, and return its result and what it requested from the C library.

    What a first call imports, compiles or caches is counted too. Arrays of a dtype that NumPy lacks are ignored.

    Parameters
    ----------
    name : str
        Name of what is called.
    call : callable
        What it raises is raised here.
    arrays : mapping of str to array
        Arrays that the call is given, and may change.
    """
    one = OneCall(name, arrays)
    begun, collects = False, gc.isenabled()
    results: list[Any] = []
    events: list[AllocationEvent] = []
    kept_bytes = None

    def begin() -> None:
        nonlocal begun
        begun = True
        if collects:  # garbage is collected as without the trace
            gc.enable()
        results.append(call())

    if one.missing is None:
        try:
            (traces,) = trace_host([[lambda: begin]])
            (events,), (kept_bytes,) = traces.events, traces.leaked_bytes
        except InstrumentBusyError as busy:
            if begun:  # the call itself has met an instrument that is busy
                raise
            one.missing = str(busy)
    if one.missing is not None:
        begin()
    one.end()
    return results[0], one.counted(events, kept_bytes)


class OneCall:
    """A call that is made once, such as a test: the arrays that it is given, and what becomes of them.

    Parameters
    ----------
    name : str
        Name of what is called.
    arrays : mapping of str to array
        Arrays that the call is given, and may change. Those of a dtype that NumPy lacks are ignored.

    Attributes
    ----------
    missing : str or None
        Why the requests of the call cannot be counted.
    """

    def __init__(self, name: str, arrays: Mapping[str, Any]) -> None:
        self._name = name
        self._arrays = {key: array for key, array in arrays.items() if is_comparable(array)}
        self._before = {key: digest_of(array) for key, array in self._arrays.items()}
        self._changed: tuple[str, ...] = ()
        self._largest_bytes = 0
        self.missing: str | None = None
        if importlib.util.find_spec("memray") is None:
            self.missing = "memray is not installed"
        elif onednn.enabled() and "tensorflow" in map(library_of, self._arrays.values()):
            self.missing = "memray does not see the memory of TensorFlow's allocator: use copycost_meter.count"
        elif "gpu" in map(place_of, self._arrays.values()):
            self.missing = "memray does not see the memory of a GPU"

    def end(self) -> None:
        """Compare the arrays with what they were before the call, and forget them."""
        self._changed = tuple(key for key, array in self._arrays.items() if digest_of(array) != self._before[key])
        self._largest_bytes = max(map(nbytes_of, self._arrays.values()), default=0)
        self._arrays, self._before = {}, {}

    def counted(self, events: Sequence[AllocationEvent], kept_bytes: int | None) -> CallCount:
        """Return the count of the call.

        Parameters
        ----------
        events : sequence of AllocationEvent
            Its requests and releases, in order. They are ignored if the requests cannot be counted.
        kept_bytes : int or None
            See `CallCount`.
        """
        is_counted = self.missing is None
        requests = _requests(events if is_counted else ())
        return CallCount(
            self._name,
            self._largest_bytes,
            **_figures(summarize(events) if is_counted else None),
            kept_bytes=kept_bytes,
            copies=_copies(requests, self._largest_bytes) if is_counted else None,
            changed=self._changed,
            lines=requests,
            instruments=("memray",) if is_counted else (),
            missing=self.missing,
        )


def _figures(summary: AllocationSummary | None) -> dict[str, Any]:
    """Return the figures that `CallCount` has in common with `AllocationSummary`, by name."""
    return {
        name: getattr(summary, name, None)
        for name in ("allocations", "allocated_bytes", "peak_bytes", "retained_bytes")
    }


def _copies(requests: Sequence[tuple[int, str]], largest_bytes: int) -> int | None:
    """Return the number of requests of at least the size of the largest array, or None if there is no array."""
    return sum(nbytes >= largest_bytes for nbytes, _ in requests) if largest_bytes else None


def _requests(events: Iterable[AllocationEvent]) -> tuple[tuple[int, str], ...]:
    """Return the bytes and the origin of each counted request, largest first."""
    found = ((e.bytes, e.op) for e in events if e.bytes >= THRESHOLD and e.space != DRIVER)
    return tuple(sorted(found, key=lambda request: -request[0]))


def count_prepared(name: str, prepare: Prepare, libraries: set[str], *, compares: bool = True) -> CallCount:
    """Count the allocations of prepared calls.

    Parameters
    ----------
    name : str
        Name of what is called.
    prepare : callable
        See `Prepare`. It is called before each call.
    libraries : set of str
        Names of the libraries of the arrays.
    compares : bool, optional
        Whether changed arrays are looked for.
    """
    chosen = chosen_library(libraries)
    call, arrays = prepare()
    place = "gpu" if "gpu" in map(place_of, arrays.values()) else "cpu"
    changed: dict[str, None] = {}
    for number in range(_WARM):
        if number:
            call, arrays = prepare()
        changed.update(dict.fromkeys(changed_by(call, arrays if compares else {}, chosen)))
        largest_bytes = max(map(nbytes_of, arrays.values()), default=0)
    del call, arrays

    def fenced(number: int) -> Callable[[], Any]:
        own_call, own_arrays = prepare()

        def run(kept: Any = own_arrays) -> Any:  # the arrays stay alive as long as the call does
            return finish(chosen, own_call())

        return run

    (counts,) = count_each([Calls(fenced, bytes_in)], chosen.instruments(place))
    steady = counts.steady(place == "gpu")
    missing = counts.missing or counts.device_missing
    requests = _requests(counts.last())
    return CallCount(
        name,
        largest_bytes,
        **_figures(steady.total),
        kept_bytes=counts.leaked_bytes if missing is None else None,
        copies=_copies(requests, largest_bytes) if missing is None else None,
        changed=tuple(changed),
        lines=requests,
        instruments=counts.instruments,
        device_allocations=getattr(steady.device, "allocations", None),
        device_bytes=getattr(steady.device, "allocated_bytes", None),
        device_peak_bytes=getattr(steady.device, "peak_bytes", None),
        varies=tuple(field for field in steady.ranges if not field.startswith(("host_", "device_"))),
        missing=missing,
    )


def changed_by(call: Callable[[], Any], arrays: Mapping[str, Any], chosen: Library) -> tuple[str, ...]:
    """Make a call, and return the names of those of some arrays that it changed.

    Parameters
    ----------
    call : callable
    arrays : mapping of str to array
        Arrays by their name.
    chosen : Library
        Library for whose work the function waits.
    """
    before = {name: digest_of(array) for name, array in arrays.items()}
    finish(chosen, call())
    return tuple(name for name, array in arrays.items() if digest_of(array) != before[name])


def chosen_library(names: set[str]) -> Library:
    """Return the library whose instruments see the memory of arrays of these libraries."""
    others = sorted(names - {"numpy"})
    if len(others) > 1:
        raise ValueError(f"arrays of {' and '.join(others)}: expected arrays of one library, besides those of NumPy")
    # NumPy's arrays may be passed to TensorFlow, whose allocator the C library's instrument does not see.
    loaded = [name for name in ("tensorflow", "numpy") if sys.modules.get(name) is not None]
    return library(others[0] if others else (*loaded, "python")[0])


def finish(chosen: Library, result: Any) -> Any:
    """Wait until all work is done, and return the result."""
    if chosen.wait is not None:
        for array in found_arrays({"": result}).values():
            chosen.wait(array)
    chosen.fence()
    return result
