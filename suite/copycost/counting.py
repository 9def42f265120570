"""Count the allocations of any call in this process, and find the arrays that it changes."""

from __future__ import annotations

import copy
import gc
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from copycost.catalog import discovery
from copycost.engine.count_allocations import Calls, count_each
from copycost.engine.host_allocations import trace_host
from copycost.engine.passes.allocations import make_trace, nbytes_of
from copycost.machine import onednn
from copycost.model.allocation import THRESHOLD, AllocationEvent, InstrumentBusyError, summarize
from copycost.model.call_count import CallCount
from copycost.model.runtime import ConsumedArrayError, Runtime
from copycost.model.vocabulary import DeviceKind, MemorySpace

#: Package of an array's type → runtime.
_OF_PACKAGE = {
    "numpy": "numpy", "tensorflow": "tensorflow", "torch": "torch", "jax": "jax", "jaxlib": "jax", "cupy": "cupy",
}  # fmt: skip

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
        Views of one array become separate arrays. The memory of PyTorch on a GPU is counted by `copycost run` only.

    Returns
    -------
    CallCount

    Raises
    ------
    TypeError
        If `call` is not callable.
    ValueError
        If the arrays are of several libraries besides NumPy, or of a dtype that NumPy does not know.
    copycost.model.allocation.InstrumentBusyError
        If another memray tracker or profiler is active.
    """
    if not callable(call):
        raise TypeError(f"call is {type(call).__name__}, not a function")

    def prepare() -> tuple[Callable[[], Any], Mapping[str, Any]]:
        copies: dict[int, Any] = {}
        own_args, own_kwargs = with_copies(args, copies), with_copies(kwargs, copies)
        return lambda: call(*own_args, **own_kwargs), found_arrays(parameters_of(call, own_args, own_kwargs))

    runtimes = {runtime_of(array) for array in found_arrays(parameters_of(call, args, kwargs)).values()}
    return count_prepared(name_of(call), prepare, runtimes)


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
    arrays = {key: array for key, array in arrays.items() if _is_comparable(array)}
    before = {key: _bytes(array) for key, array in arrays.items()}
    missing = None
    if importlib.util.find_spec("memray") is None:
        missing = "memray is not installed"
    elif onednn.enabled() and "tensorflow" in map(runtime_of, arrays.values()):
        missing = "memray does not see the memory of TensorFlow's allocator: use the fixture copycost"
    elif any(map(_is_on_gpu, arrays.values())):
        missing = "memray does not see the memory of a GPU"
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

    if missing is None:
        try:
            (traces,) = trace_host([[lambda: begin]])
            (events,), (kept_bytes,) = traces.events, traces.leaked_bytes
        except InstrumentBusyError as busy:
            if begun:  # the call itself has met an instrument that is busy
                raise
            missing = str(busy)
    if missing is not None:
        begin()
    summary = summarize(events) if missing is None else None
    largest_bytes = max(map(nbytes_of, arrays.values()), default=0)
    requests = _requests(events)
    return results[0], CallCount(
        name,
        largest_bytes,
        **_figures(lambda figure: getattr(summary, figure, None)),
        kept_bytes=kept_bytes,
        copies=_copies(requests, largest_bytes) if missing is None else None,
        changed=tuple(key for key, array in arrays.items() if _bytes(array) != before[key]),
        lines=requests,
        instruments=("memray",) if missing is None else (),
        missing=missing,
    )


def _figures(value: Callable[[str], int | None]) -> dict[str, Any]:
    """Return the figures that `CallCount` has in common with `AllocationSummary`, by name."""
    return {name: value(name) for name in ("allocations", "allocated_bytes", "peak_bytes", "retained_bytes")}


def _copies(requests: Sequence[tuple[int, str]], largest_bytes: int) -> int | None:
    """Return the number of requests of at least the size of the largest array, or None if there is no array."""
    return sum(nbytes >= largest_bytes for nbytes, _ in requests) if largest_bytes else None


def _requests(events: Iterable[AllocationEvent]) -> tuple[tuple[int, str], ...]:
    """Return the bytes and the origin of each counted request, largest first."""
    found = ((e.bytes, e.op) for e in events if e.bytes >= THRESHOLD and e.space != MemorySpace.DRIVER)
    return tuple(sorted(found, key=lambda request: -request[0]))


def count_prepared(name: str, prepare: Prepare, runtimes: set[str]) -> CallCount:
    """Count the allocations of prepared calls.

    Parameters
    ----------
    name : str
        Name of what is called.
    prepare : callable
        See `Prepare`. It is called before each call.
    runtimes : set of str
        Runtimes of the arrays.
    """
    runtime = _chosen(runtimes)
    call, arrays = prepare()
    device = DeviceKind.GPU if any(_is_on_gpu(array) for array in arrays.values()) else DeviceKind.CPU
    changed: dict[str, None] = {}
    for number in range(_WARM):
        if number:
            call, arrays = prepare()
        before = {name: _bytes(array) for name, array in arrays.items()}
        result = call()
        _finish(runtime, result)
        del result
        changed |= dict.fromkeys(name for name, array in arrays.items() if _bytes(array) != before[name])
        largest_bytes = max(map(nbytes_of, arrays.values()), default=0)
        del before
    del call, arrays

    def fenced(number: int) -> Callable[[], Any]:
        own_call, own_arrays = prepare()

        def run(kept: Any = own_arrays) -> Any:  # the arrays stay alive as long as the call does
            return _finish(runtime, own_call())

        return run

    (counts,) = count_each([Calls(fenced, _result_bytes)], runtime, on_host=device == DeviceKind.CPU)
    trace, _ = make_trace(counts, device, runtime)
    missing = trace.missing or trace.device_missing
    events = [*(counts.library[-1] if counts.library is not None else ()), *counts.runtime[-1]]
    requests = _requests(events)
    return CallCount(
        name,
        largest_bytes,
        **_figures(trace.figures().get),
        kept_bytes=counts.leaked_bytes if missing is None else None,
        copies=_copies(requests, largest_bytes) if missing is None else None,
        changed=tuple(changed),
        lines=requests,
        instruments=counts.instruments,
        varies=tuple(field for field in trace.ranges if not field.startswith(("host_", "device_"))),
        missing=missing,
    )


def runtime_of(array: Any) -> str:
    """Return the name of the runtime of a dense array, or an empty text for any other value."""
    if isinstance(array, np.ndarray):
        return "numpy"
    name = _OF_PACKAGE.get(type(array).__module__.partition(".")[0], "")
    # Specifications of arrays have no values; the shape of ragged ones, and sparse ones, have no strides.
    is_dense = (
        name not in ("", "numpy")
        and all(hasattr(array, attribute) for attribute in ("shape", "dtype", "__array__"))
        and all(isinstance(n, int) for n in array.shape)
        and str(getattr(array, "layout", "strided")).endswith("strided")
    )
    return name if is_dense else ""


def found_arrays(value: Any, name: str = "") -> dict[str, Any]:
    """Return the arrays in a value by their name: ``x``, ``x[0]``, ``batch['image']``."""
    found: dict[str, Any] = {}
    seen: set[int] = set()

    def look(value: Any, name: str) -> None:
        if runtime_of(value):
            found[name] = value
        elif id(value) not in seen:
            for key, part in _parts(value, name):
                seen.add(id(value))  # a container may hold itself
                look(part, key)

    look(value, name)
    return found


def _parts(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a container that `with_copies` can make anew, with their names."""
    if isinstance(value, dict):
        yield from ((f"{name}[{key!r}]" if name else str(key), part) for key, part in value.items())
    elif type(value) in (list, tuple) or _is_named_tuple(value):
        yield from ((f"{name}[{i}]", part) for i, part in enumerate(value))


def with_copies(value: Any, copies: dict[int, Any]) -> Any:
    """Return a value with a copy of each array in it: the same one for the same array.

    Parameters
    ----------
    value : object
        Arrays are found in dicts, lists and tuples.
    copies : dict
        Copies so far, by the identity of the array or of its container.
    """
    if id(value) in copies:
        return copies[id(value)]
    if name := runtime_of(value):
        runtime = discovery.runtime(name)
        own = runtime.copied(value) if runtime.copied is not None else runtime.array(runtime.to_numpy(value), True)
        copies[id(value)] = own
        return own
    if isinstance(value, dict):
        copies[id(value)] = own = copy.copy(value)
        own.update({key: with_copies(part, copies) for key, part in value.items()})
        return own
    if type(value) is list:
        copies[id(value)] = own = list(value)
        own[:] = [with_copies(part, copies) for part in value]
        return own
    if type(value) is tuple:
        return tuple(with_copies(part, copies) for part in value)
    if _is_named_tuple(value):
        return type(value)(*(with_copies(part, copies) for part in value))
    return value


def _is_named_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_fields")


def parameters_of(call: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments by the names of their parameters, where these are known."""
    try:
        return dict(inspect.signature(call).bind(*args, **kwargs).arguments)
    except (TypeError, ValueError):  # a builtin, or arguments that do not fit, which the call itself reports
        return {f"args[{i}]": value for i, value in enumerate(args)} | dict(kwargs)


def _chosen(names: set[str]) -> Runtime:
    """Return the runtime whose instruments see the memory of arrays of these runtimes."""
    others = sorted(names - {"numpy"})
    if len(others) > 1:
        raise ValueError(f"arrays of {' and '.join(others)}: expected arrays of one library, besides those of NumPy")
    # NumPy's arrays may be passed to TensorFlow, whose allocator the C library's instrument does not see.
    default = "tensorflow" if "tensorflow" in sys.modules else "numpy"
    return discovery.runtime(others[0] if others else default)


def _is_on_gpu(array: Any) -> bool:
    return discovery.runtime(runtime_of(array)).device_of(array) == DeviceKind.GPU


def _is_comparable(array: Any) -> bool:
    """Return whether the values of an array can be compared, on a device that is known."""
    try:
        _bytes(array)
        _is_on_gpu(array)
    except Exception:  # a test's arrays may be anything, and the test is not about this
        return False
    return True


def _bytes(array: Any) -> bytes | None:
    """Return the values of an array as bytes, or None if a call has consumed it."""
    runtime = discovery.runtime(runtime_of(array))
    try:
        return runtime.to_numpy(array).tobytes()
    except ConsumedArrayError:
        return None
    except TypeError:  # of PyTorch
        raise ValueError(f"an array of {array.dtype}: expected a dtype that NumPy knows") from None


def _result_bytes(result: Any) -> int:
    """Return the bytes of the arrays in a result."""
    return sum(map(nbytes_of, found_arrays({"": result}).values()))


def _finish(runtime: Runtime, result: Any) -> Any:
    """Wait until all work is done, and return the result."""
    if runtime.wait is not None:
        for array in found_arrays({"": result}).values():
            runtime.wait(array)
    runtime.fence()
    return result
