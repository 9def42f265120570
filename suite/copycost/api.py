"""Measure from Python: one function in this process, or cases as the command `copycost run` does."""

from __future__ import annotations

import copy
import functools
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from copycost import registry
from copycost.cases import images
from copycost.cases.case import Case
from copycost.catalog import discovery
from copycost.engine import assemble
from copycost.engine.passes import allocations, device_timing, timing
from copycost.engine.passes.audit import audit
from copycost.engine.passes.timing import WrongResult
from copycost.engine.plan import Plan
from copycost.engine.prepared_call import PreparedCall
from copycost.engine.records import AllocationTrace, Audit, BlockRecord, Timing
from copycost.engine.references import Build, ExpectedResults, Noted, argument, is_code, refer
from copycost.engine.session import Session
from copycost.machine import devices
from copycost.model.measurement import Measurement
from copycost.model.runtime import Runtime
from copycost.recipes import result_dtype
from copycost.registry import Recipe
from copycost.stats.intervals import ROUNDS
from copycost_meter.arrays import library_of
from copycost_meter.errors import describe
from copycost_meter.events import InstrumentBusyError

if TYPE_CHECKING:
    import pandas as pd

#: Number of calls of an audit without a reference. A call that changes its input or reuses a buffer does so by then.
_UNCHECKED_CALLS = 4

#: Maximum number of blocks in which `measure` times a call, and default number of `run`.
_BLOCKS = 5

#: Seconds of timing after which `measure` starts no further block, except the second.
_SECONDS = 5.0


def measure(
    call: Callable[..., Any],
    x: Any,
    reference: Callable[..., Any] | None = None,
    out: Any = None,
    runtime: str = "numpy",
) -> Measurement:
    """Measure one function in this process.

    `x` and `out` are not modified, since the calls receive copies. The blocks have fresh buffers but not fresh
    processes. So the interval includes differences between buffers but not between processes, while `copycost run`
    includes both.

    Parameters
    ----------
    call : callable
        ``call(x)``, or ``call(x, out)`` if `out` is given. It must return its result, or None if it writes to `x` or
        `out`.
    x : array, or lists, tuples and dicts of arrays
        An image, a batch of images, or arrays of any shape, as NumPy arrays or arrays of the runtime. The calls also
        receive their values in two other orders.
    reference : callable, optional
        Function that takes `x` as float64 NumPy and returns the expected result: an array, or a tuple of arrays. Floats
        may differ from it as far as the formula's rounding explains. Integers and booleans must have the dtype of the
        result. Without a reference the status is ``"unchecked"``.
    out : array, optional
        Array with the shape and dtype of the buffer that the call receives.
    runtime : str, optional
        Runtime whose arrays the call receives: ``"numpy"``, ``"tensorflow"``, ``"cupy"``, ``"torch"``, ``"jax"``.

    Returns
    -------
    Measurement
        Its status is ``"failed"`` if the call raises.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid.
    """
    return _measure(call, x, reference, out, runtime, _BLOCKS)


def look(
    call: Callable[..., Any],
    x: Any,
    reference: Callable[..., Any] | None = None,
    out: Any = None,
    runtime: str = "numpy",
) -> Measurement:
    """Measure one function like `measure` but without timing, for tests, which must not depend on a machine's speed."""
    return _measure(call, x, reference, out, runtime, 0)


def run(
    cases: Iterable[Case],
    *,
    image: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    blocks: int = _BLOCKS,
    budget: float | None = None,
) -> pd.DataFrame:
    """Measure cases in separate processes, as `copycost run` does.

    Parameters
    ----------
    cases : iterable of Case
        Cases returned by `copycost.select`.
    image : path, optional
        An image or a folder of images, in place of the photograph that ships with copycost.
    threads : int, optional
        Number of threads for every runtime. The default is the number of CPUs.
    blocks : int, optional
        Number of blocks, each a fresh process, in which each case is timed. 0 disables timing.
    budget : float, optional
        Seconds of timing after which each remaining case gets only three blocks.

    Returns
    -------
    DataFrame
        One row per case and one column per field of `Measurement`. After Ctrl-C, the cases measured so far.

    Raises
    ------
    ValueError
        If a number is too small.
    copycost.cases.images.ImageError
        If an image cannot be read.
    """
    from copycost.results import table  # pandas takes a second to import

    for name, value, least in (("threads", threads, 1), ("blocks", blocks, 0), ("budget", budget, 0)):
        if value is not None and not (isinstance(value, int | float) and value >= least):
            raise ValueError(f"invalid {name} {value!r}: expected a number, {least} or more")
    cases = list(cases)
    if not all(isinstance(case, Case) for case in cases):
        raise TypeError("invalid cases: expected cases from copycost.select")
    plan = Plan(threads or devices.cpus(), blocks, float("inf") if budget is None else budget, None, devices.gpus()[1])
    measured = []
    with Session(plan, images.read(None if image is None else Path(image))) as session:
        try:
            for measurement in session.measure(cases):
                measured.append(measurement)
        except KeyboardInterrupt:
            warnings.warn(f"interrupted with {len(measured)} of {len(cases)} cases measured", stacklevel=2)
    return table.frame(measured)


@dataclass
class _Subject:
    """A call that is measured in this process, with its arrays.

    Attributes
    ----------
    call : callable
    runtime : Runtime
    device : str
    inputs : list of tuple of ndarray
        Values of each input: those of the caller, their twin, and the same values in reverse.
    twins : tuple of ndarray
        For each array of an input, the indices at which the first two inputs differ.
    out : tuple of ndarray or None
        Contents of the buffer before a call. None if the call takes no buffer.
    variable : bool
        Whether the caller's array is a TensorFlow variable, which a call can write to.
    row : dict
        Fields of the measurement that describe the call. ``writes`` becomes ``"input"`` once a call is seen to write
        its result there.
    build : callable
        Returns the argument of a call from the arrays of an input.
    codes : list of bool
        Whether each array is one of codes (see `is_code`), whose values keep their order.
    images : int
        Number of images in an input.
    truth : ExpectedResults or None
        None if there is no reference.
    """

    call: Callable[..., Any]
    runtime: Runtime
    device: str
    inputs: list[tuple[np.ndarray, ...]]
    twins: tuple[np.ndarray, ...]
    out: tuple[np.ndarray, ...] | None
    variable: bool
    row: dict[str, Any]
    build: Build
    codes: list[bool]
    images: int
    truth: ExpectedResults | None = None

    def prepare(self) -> PreparedCall:
        """Return the call with fresh arrays."""
        writes = self.row["writes"]
        return PreparedCall(
            self.runtime, lambda example: self.call, writes, self.device, self.inputs, self.truth, self.out,
            self.variable or writes == "input", self.twins, build=self.build,
            swapped=None if not any(self.codes) else lambda array: not is_code(array),
        )  # fmt: skip

    def end(
        self,
        status: str,
        reason: str | None,
        findings: Audit | None = None,
        trace: AllocationTrace | str | None = None,
        times: Timing | None = None,
    ) -> Measurement:
        """Return the measurement of the call."""
        return assemble.measurement(self.row, devices.cpus(), status, reason, findings, trace, times)


def _measure(
    call: Callable[..., Any], x: Any, reference: Callable[..., Any] | None, out: Any, runtime: str, blocks: int
) -> Measurement:
    discovery.load_shipped()
    for name, function in (("call", call), ("reference", reference)):
        if not callable(function) and (name == "call" or function is not None):
            raise TypeError(f"{name} is {type(function).__name__}, not a function")
    recipe = next((r for r in registry.recipes.values() if reference is not None and r.reference is reference), None)
    subject = _subject(call, x, reference, recipe, out, _runtime(runtime))
    try:
        subject.truth = _truth(reference, recipe, subject)
    except Exception as exception:
        return subject.end("failed", f"the reference {describe(exception)}")
    try:
        return _examine_and_time(subject, blocks)
    except WrongResult as exception:
        return subject.end("wrong", str(exception))
    except Exception as exception:  # a user's function may raise anything
        return subject.end("failed", describe(exception))


def _subject(
    call: Callable[..., Any],
    x: Any,
    reference: Callable[..., Any] | None,
    recipe: Recipe | None,
    out: Any,
    runtime: Runtime,
) -> _Subject:
    """Return a call with copies of its arrays, or raise TypeError or ValueError if they cannot be measured."""
    # Convert to arrays of the runtime first: by default JAX converts float64 to float32.
    found = _arrays(x)
    first = found[0]
    arrays = tuple(runtime.array(array, False) for array in _values(runtime, "x", found))
    values = tuple(np.array(runtime.to_numpy(array), order="C") for array in arrays)
    device = runtime.device_of(arrays[0])
    if device == "cpu" and runtime.device_of(first) == "gpu":
        raise ValueError(f"x is on a GPU, where {runtime.name} can only be measured by copycost run")
    buffer: tuple[np.ndarray, ...] | None = None
    if out is not None:
        if isinstance(out, tuple | list):
            raise ValueError(f"out is a {type(out).__name__} of {len(out)}: expected one array")
        (like,) = _values(runtime, "out", [out])
        buffer = (np.full(like.shape, np.nan if like.dtype.kind == "f" else 0, like.dtype),)
    is_container = first is not x
    codes = [is_container and is_code(array) for array in values]
    # The same values in other orders: a cached result is then wrong, and a reused buffer is detected.
    twins = [
        (array, np.empty(0, np.intp)) if code else images.twin(array) for array, code in zip(values, codes, strict=True)
    ]
    reverse = tuple(
        array if code else np.array(np.flip(array), order="C") for array, code in zip(values, codes, strict=True)
    )
    shape = values[0].shape
    number = (
        len(values) if isinstance(x, list) and all(array.ndim == 3 for array in values) else int(np.prod(shape[:-3]))
    )
    row = _row(call, values[0], reference, recipe, runtime.name, device)
    return _Subject(
        call, runtime, device,
        inputs=[values, tuple(twin for twin, _ in twins), reverse],
        twins=tuple(places for _, places in twins),
        out=buffer,
        variable=type(first).__name__.endswith("Variable"),
        row=row | {"writes": "new" if out is None else "out"},
        build=functools.partial(_filled, x) if is_container else argument,
        codes=codes,
        images=number,
    )  # fmt: skip


def _examine_and_time(subject: _Subject, blocks: int) -> Measurement:
    """Audit and trace a call, then time it in blocks if its results are right."""
    returned, seconds_first = timing.try_out(subject.prepare())
    if subject.out is None and not returned:
        subject.row["writes"] = "input"
    prepared = subject.prepare()
    findings = audit(prepared) if subject.truth else audit(prepared, _UNCHECKED_CALLS)
    if subject.out is None and findings.input_changed and findings.result_shares == "input":
        subject.row["writes"] = "input"
    if findings.status not in ("ok", "unchecked"):
        return subject.end(findings.status, findings.reason, findings)
    if not returned and subject.out is None and not findings.input_changed:
        return subject.end("wrong", "returned nothing, and its input is unchanged", findings)
    trace: AllocationTrace | str
    try:
        trace = allocations.trace(prepared)
        leaked_bytes = trace.leaked_bytes
    except InstrumentBusyError as busy:
        trace, leaked_bytes = str(busy), 0
    times = _time(subject, blocks, bool(findings.input_changed), leaked_bytes, seconds_first) if blocks else None
    return subject.end(findings.status, findings.reason, findings, trace, times)


def _runtime(name: str) -> Runtime:
    runtime = discovery.runtime(name)
    if lacking := discovery.not_installed(runtime):
        raise ValueError(lacking)
    return runtime


def _arrays(x: Any) -> list[Any]:
    """Return the arrays in lists, tuples and dicts, in order, or the value itself if it is none of these."""
    if not isinstance(x, list | tuple | dict):
        return [x]
    found: list[Any] = []
    _mapped(found.append, x)
    if not found:
        raise ValueError(f"x is a {type(x).__name__} of {len(x)} without arrays: expected an array, or arrays in it")
    return found


def _filled(x: Any, arrays: tuple[Any, ...]) -> Any:
    """Return lists, tuples and dicts as in `x`, with other arrays in the places of its own."""
    remaining = iter(arrays)
    return _mapped(lambda _: next(remaining), x)


def _mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return lists, tuples and dicts as in `value`, with the results of a function in the places of the arrays."""
    if library_of(value):
        return function(value)
    if isinstance(value, dict):
        mapped = copy.copy(value)
        mapped.update({key: _mapped(function, part) for key, part in value.items()})
        return mapped
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_mapped(function, part) for part in value))
    if isinstance(value, list | tuple):
        parts = (_mapped(function, part) for part in value)
        return list(parts) if isinstance(value, list) else tuple(parts)
    return value


def _values(runtime: Runtime, name: str, arrays: Sequence[Any]) -> tuple[np.ndarray, ...]:
    """Return copies of arrays as NumPy arrays."""
    try:
        values = tuple(np.array(runtime.to_numpy(array), order="C") for array in arrays)
    except TypeError as error:
        raise TypeError(f"{name} {str(error).replace('returned', 'is')}") from None
    for array in values:
        if array.dtype.kind not in "fiub" or not array.size:
            raise ValueError(
                f"{name} has dtype {array.dtype} and shape {array.shape}: expected a non-empty array of real numbers"
            )
    return values


def _row(
    call: Callable[..., Any],
    x: np.ndarray,
    reference: Callable[..., Any] | None,
    recipe: Recipe | None,
    runtime: str,
    device: str,
) -> dict[str, Any]:
    """Return the fields that describe the measured call; an array that is not an image counts as a single channel."""
    image = x.shape[-3:] if x.ndim >= 3 else (*(1,) * (2 - x.ndim), *x.shape, 1)
    first = image[-1] != 3 and image[0] == 3 and x.ndim >= 3
    height, width, channels = (image[1], image[2], image[0]) if first else image
    return {
        "recipe": recipe.name if recipe else getattr(reference, "__name__", ""),
        "variant": getattr(call, "__name__", type(call).__name__),
        "runtime": runtime,
        "device": device,
        "dtype": str(x.dtype),
        "layout": "channels_first" if first else "channels_last",
        "batch": int(np.prod(x.shape[:-3])) if x.ndim > 3 else None,
        "height": height,
        "width": width,
        "channels": channels,
        "known": None,
    }


def _truth(reference: Callable[..., Any] | None, recipe: Recipe | None, subject: _Subject) -> ExpectedResults | None:
    if reference is None:
        return None
    # A recipe's reference takes channels-last images, while the user's own takes x as it is.
    layout = subject.row["layout"] if recipe else "channels_last"
    first = subject.inputs[0][0]
    base = next((array.dtype for array in subject.inputs[0] if array.dtype.kind == "f"), first.dtype)
    dtype = result_dtype((recipe.dtype if recipe else None) or base)
    magnitude, tolerance = (recipe.magnitude, recipe.tolerance) if recipe else (None, 0.0)
    noted = Noted(reference)
    references = [
        refer(noted, values, layout, dtype, magnitude, tolerance, subject.build, any(subject.codes))
        for values in subject.inputs
    ]
    return ExpectedResults(references, dtype, noted.is_tuple)


def _time(subject: _Subject, blocks: int, changes: bool, leaked_bytes: int, seconds_first: float) -> Timing:
    """Time a call block by block, each with fresh arrays."""
    records: list[BlockRecord] = []
    calls: int | None = None
    result_bytes = 0
    start = perf_counter()
    while len(records) < blocks and (len(records) < 2 or perf_counter() - start < _SECONDS):
        prepared = subject.prepare()
        timing.make_inputs(prepared, changes, leaked_bytes)
        if calls is None:
            calls = timing.calibrate(prepared).calls
        else:
            timing.timed_calls(prepared, 1)  # may trace and compile
        samples = [timing.sample(prepared, calls) for _ in range(ROUNDS)]
        has_own_clock = prepared.device != "cpu" and prepared.runtime.gpu is not None
        on_device = [device_timing.sample(prepared, sample.seconds) for sample in samples if has_own_clock]
        conditions = (devices.condition(),) if prepared.device != "cpu" else ()
        result_bytes = timing.last_bytes(prepared)
        timing.check(prepared)
        records.append(BlockRecord(tuple(samples), tuple(on_device), conditions))
    return Timing(
        tuple(records),
        seconds_first,
        stopped_by="blocks" if len(records) == blocks else "budget",
        images=subject.images,
        bytes_moved=sum(array.nbytes for array in subject.inputs[0]) + result_bytes,
        device_clock=subject.runtime.gpu.instrument if subject.runtime.gpu and subject.device != "cpu" else "",
    )
