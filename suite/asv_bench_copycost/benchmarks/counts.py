"""Define the types of benchmarks that count a call.

asv ignores a plugin that cannot be imported, and says nothing. So this module imports only what every process of asv
has imported already. What a type needs beside copycost_meter is looked for when a benchmark runs, and what is not there
makes the result n/a, with the reason on standard error (``asv run --show-stderr``).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from asv_runner.benchmarks._base import Benchmark, _get_first_attr

from asv_bench_copycost.named import derive_named

if TYPE_CHECKING:
    from copycost_meter.call_count import CallCount

#: A result that asv shows as n/a.
_MISSING = float("nan")


class _Counted(Benchmark):
    """A benchmark whose result is a figure of a call.

    Attributes
    ----------
    prefix : str
        Beginning of the names of the benchmarks.
    unit_of_type : str
    """

    prefix = ""
    unit_of_type = ""
    version: str

    def __init_subclass__(cls) -> None:
        name = cls.prefix
        cls.name_regex = re.compile(f"^({name.capitalize()}[A-Z_].+)|({name}_.+)$")

    def __init__(self, name: str, func: Callable[..., Any], attr_sources: list[Any]) -> None:
        Benchmark.__init__(self, name, func, attr_sources)
        from copycost_meter._version import METHOD_VERSION

        self.type = self.prefix
        self.unit = self.unit_of_type
        # A better way of counting must not look like a change of the code.
        self.version = f"{self.version}-copycost{METHOD_VERSION}"
        self.number = _get_first_attr(attr_sources, "number", 0)

    def run(self, *param: Any) -> float:
        """Return the figure of one call, after the set-up."""
        figure, missing = self.figure(param)
        if figure is None:
            print(f"{self.name} is n/a: {missing}", file=sys.stderr)
            return _MISSING
        return figure

    def figure(self, param: tuple[Any, ...]) -> tuple[float | None, str | None]:
        """Return the figure, or None and the reason."""
        raise NotImplementedError

    def prepare(self, param: tuple[Any, ...]) -> tuple[Callable[[], Any], dict[str, Any]]:
        """Return a call and the arrays that the set-up has made for it, by their names.

        ``number = 1`` says that every call needs a set-up of its own. What the set-up assigns is then kept for the
        call, because several set-ups come before the first call. As in asv, a tear-down comes before each further one.
        """
        namespace = self._namespace()
        if self.number == 1:
            self.do_teardown()
            self.do_setup()
            state = dict(namespace)

            def call() -> Any:
                namespace.update(state)
                return self.func(*param)

            return call, self._arrays(namespace, param)
        return lambda: self.func(*param), self._arrays(namespace, param)

    def _namespace(self) -> dict[str, Any]:
        """Return the attributes of the benchmark's object, or the variables of its module."""
        owner = getattr(self.func, "__self__", None)
        return self.func.__globals__ if owner is None else vars(owner)

    def _arrays(self, namespace: dict[str, Any], param: tuple[Any, ...]) -> dict[str, Any]:
        from copycost_meter.arrays import found_arrays, is_comparable

        if namespace is getattr(self.func, "__globals__", None) and getattr(self.func, "__self__", None) is None:
            names = set(self.func.__code__.co_names)
            namespace = {name: value for name, value in namespace.items() if name in names}
        of_params = {f"parameter {i + 1}": value for i, value in enumerate(param)}
        found = found_arrays({**namespace, **of_params})
        return {name: array for name, array in found.items() if is_comparable(array)}


class _Count(_Counted):
    """A figure of `copycost_meter.CallCount`.

    Attributes
    ----------
    field : str
    why_none : str
        Why the figure is None although the call was counted.
    """

    field = ""
    why_none = "the set-up made no array"

    def figure(self, param: tuple[Any, ...]) -> tuple[float | None, str | None]:
        from copycost_meter.arrays import library_of
        from copycost_meter.counting import count_prepared

        _, arrays = self.prepare(param)
        libraries = {library_of(array) for array in arrays.values()}
        if len(libraries - {"numpy"}) > 1:
            return None, f"the set-up made arrays of {' and '.join(sorted(libraries))}"
        count: CallCount = count_prepared(self.name, lambda: self.prepare(param), libraries, compares=False)
        return getattr(count, self.field), count.missing or self.why_none


class Allocations(_Count):
    """Number of requests of 4,096 bytes and more."""

    prefix, field, unit_of_type = "alloc", "allocations", "allocations"


class AllocatedBytes(_Count):
    """Bytes of the requests."""

    prefix, field, unit_of_type = "allocbytes", "allocated_bytes", "bytes"


class PeakBytes(_Count):
    """The most bytes alive at once, beyond those alive before the call. What the set-up made is not counted."""

    prefix, field, unit_of_type = "peakbytes", "peak_bytes", "bytes"


class KeptBytes(_Count):
    """Bytes alive after the result is released: a cache or a leak."""

    prefix, field, unit_of_type = "keptbytes", "kept_bytes", "bytes"


class Copies(_Count):
    """Number of requests as large as the largest array that the set-up made, or larger."""

    prefix, field, unit_of_type = "copies", "copies", "copies"


class DeviceAllocations(_Count):
    """Number of requests in the memory of a device."""

    prefix, field, unit_of_type = "gpualloc", "device_allocations", "allocations"
    why_none = "no array that the set-up made is on a CUDA device"


class DeviceBytes(_Count):
    """Bytes of the requests in the memory of a device."""

    prefix, field, unit_of_type = "gpubytes", "device_bytes", "bytes"
    why_none = "no array that the set-up made is on a CUDA device"


class DevicePeakBytes(_Count):
    """The most bytes alive at once in the memory of a device, beyond those alive before the call."""

    prefix, field, unit_of_type = "gpupeak", "device_peak_bytes", "bytes"
    why_none = "no array that the set-up made is on a CUDA device"


class Changed(_Counted):
    """Number of arrays that the set-up made and a call changes, except those that ``changed_writes`` names."""

    prefix, unit_of_type = "changed", "arrays"

    def __init__(self, name: str, func: Callable[..., Any], attr_sources: list[Any]) -> None:
        _Counted.__init__(self, name, func, attr_sources)
        self._writes = _get_first_attr(attr_sources, "changed_writes", ("out",))

    def figure(self, param: tuple[Any, ...]) -> tuple[float | None, str | None]:
        """Return the number of changed arrays. Their names are printed on standard error."""
        from copycost_meter.arrays import library_of
        from copycost_meter.counting import changed_by, chosen_library

        call, arrays = self.prepare(param)
        arrays = {name: array for name, array in arrays.items() if re.split(r"[\[.]", name)[0] not in self._writes}
        if not arrays:
            return None, "the set-up made no array"
        changed = changed_by(call, arrays, chosen_library({library_of(array) for array in arrays.values()}))
        if changed:
            print(f"{self.name} changes {', '.join(changed)}", file=sys.stderr)
        return len(changed), None


class DeviceSeconds(_Counted):
    """The device's time for a call."""

    prefix, unit_of_type = "gputime", "seconds"

    def figure(self, param: tuple[Any, ...]) -> tuple[float | None, str | None]:
        """Return the seconds, by the clock of the library of the arrays."""
        from copycost_meter.device import device_seconds

        call, arrays = self.prepare(param)
        call()  # the first call may compile
        return device_seconds(call, arrays)


class TransferredBytes(_Counted):
    """Bytes that a call copies between host and device."""

    prefix, unit_of_type = "transfers", "bytes"

    def figure(self, param: tuple[Any, ...]) -> tuple[float | None, str | None]:
        """Return the bytes, as a profiler of the device sees them."""
        from copycost_meter.device import transferred_bytes

        call, arrays = self.prepare(param)
        call()
        return transferred_bytes(call, arrays)


export_as_benchmark = [
    Allocations, AllocatedBytes, PeakBytes, KeptBytes, Copies, Changed, DeviceAllocations, DeviceBytes, DevicePeakBytes,
    DeviceSeconds, TransferredBytes,
]  # fmt: skip

derive_named(sys.argv, [benchmark.prefix for benchmark in export_as_benchmark])
