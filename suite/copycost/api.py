"""Measure from Python: one function in this process, or cases as the command `copycost run` does."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
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
from copycost.engine.records import BlockRecord
from copycost.engine.references import ExpectedResults, refer
from copycost.engine.session import Session
from copycost.machine import devices
from copycost.model.allocation import InstrumentBusyError
from copycost.model.errors import describe
from copycost.model.measurement import Measurement
from copycost.model.runtime import Runtime
from copycost.recipes import result_dtype
from copycost.registry import Recipe
from copycost.stats.intervals import ROUNDS

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
    x : array, or pair of arrays
        An image, a batch of images, or an array of any shape, as a NumPy array or an array of the runtime. The calls
        also receive its values in two other orders.
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


def _measure(
    call: Callable[..., Any], x: Any, reference: Callable[..., Any] | None, out: Any, runtime: str, blocks: int
) -> Measurement:
    discovery.load_shipped()
    for name, function in (("call", call), ("reference", reference)):
        if not callable(function) and (name == "call" or function is not None):
            raise TypeError(f"{name} is {type(function).__name__}, not a function")
    its = _runtime(runtime)
    # Convert to arrays of the runtime first: by default JAX converts float64 to float32.
    arrays = tuple(its.array(one, False) for one in _values(its, "x", x))
    given = tuple(np.array(its.to_numpy(one), order="C") for one in arrays)
    device = _device(its, arrays[0])
    recipe = next((r for r in registry.recipes.values() if reference is not None and r.reference is reference), None)
    nothing: tuple[np.ndarray, ...] | None = None
    if out is not None:
        like, *more = _values(its, "out", out)
        if more:
            raise ValueError("out is a pair: expected one array")
        nothing = (np.full(like.shape, np.nan if like.dtype.kind == "f" else 0, like.dtype),)
    # The same values in other orders: a cached result is then wrong, and a reused buffer is detected.
    twins = [images.twin(one) for one in given]
    inputs = [given, tuple(copy for copy, _ in twins), tuple(np.ascontiguousarray(np.flip(one)) for one in given)]
    places = tuple(where for _, where in twins)
    row = _row(call, given[0], reference, recipe, runtime, device) | {"writes": "new" if out is None else "out"}

    def ended(status: str, reason: str | None, *parts: dict[str, Any]) -> Measurement:
        return assemble.measurement(row, devices.cpus(), status, reason, *parts)

    try:
        truth = _truth(reference, recipe, inputs, row["layout"])
    except Exception as exception:
        return ended("failed", f"the reference {describe(exception)}")
    try:
        variable = type(x[0] if isinstance(x, tuple | list) else x).__name__.endswith("Variable")  # TensorFlow's

        def prepare_again() -> PreparedCall:
            writes = row["writes"]
            return PreparedCall(
                its, lambda example: call, writes, device, inputs, truth, nothing, variable or writes == "input", places
            )

        returned, first_seconds = timing.try_out(prepare_again())
        if out is None and not returned:
            row["writes"] = "input"

        first = prepare_again()
        audited = audit(first) if truth else audit(first, _UNCHECKED_CALLS)
        if out is None and audited.input_changed and audited.result_shares == "input":
            row["writes"] = "input"
        if audited.status not in ("ok", "unchecked"):
            return ended(audited.status, audited.reason, assemble.of_audit(audited))
        if not returned and out is None and not audited.input_changed:
            return ended("wrong", "returned nothing, and its input is unchanged", assemble.of_audit(audited))
        traced, leaked = _allocations(first)
        unjudged = {} if truth else {"missing": dict.fromkeys(("max_abs_error", "max_ulp"), audited.reason)}
        found = [assemble.of_audit(audited), traced, unjudged]
        if not blocks:
            return ended(audited.status, audited.reason, *found, assemble.untimed())
        timed = _time(prepare_again, blocks, bool(audited.input_changed), leaked, given, first_seconds)
        return ended(audited.status, audited.reason, *found, timed)
    except WrongResult as exception:
        return ended("wrong", str(exception))
    except Exception as exception:  # a user's function may raise anything
        return ended("failed", describe(exception))


def _runtime(name: str) -> Runtime:
    found = discovery.runtime(name)
    if lacking := discovery.not_installed(found):
        raise ValueError(lacking)
    return found


def _values(runtime: Runtime, name: str, given: Any) -> tuple[np.ndarray, ...]:
    """Return copies of an array or a pair of arrays as a tuple of NumPy arrays."""
    several = tuple(given) if isinstance(given, tuple | list) else (given,)
    if len(several) > 2 or not several:
        raise ValueError(f"{name} is a {type(given).__name__} of {len(several)}: expected an array, or a pair of them")
    try:
        values = tuple(np.array(runtime.to_numpy(one), order="C") for one in several)
    except TypeError as error:
        raise TypeError(f"{name} {str(error).replace('returned', 'is')}") from None
    for one in values:
        if one.dtype.kind not in "fiu" or not one.size:
            raise ValueError(
                f"{name} has dtype {one.dtype} and shape {one.shape}: expected a non-empty array of real numbers"
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


def _truth(
    reference: Callable[..., Any] | None, recipe: Recipe | None, inputs: list[tuple[np.ndarray, ...]], layout: str
) -> ExpectedResults | None:
    if reference is None:
        return None
    # A recipe's reference takes channels-last images, while the user's own takes x as it is.
    given = layout if recipe else "channels_last"
    dtype = result_dtype((recipe.dtype if recipe else None) or inputs[0][0].dtype)
    magnitude = recipe.magnitude if recipe else None
    return ExpectedResults([refer(reference, one, given, dtype, magnitude) for one in inputs], dtype)


def _device(runtime: Runtime, array: Any) -> str:
    """Return the kind of device of the runtime's arrays, or raise ValueError if it cannot be measured."""
    where = str(getattr(array, "device", "")).upper()
    device = "gpu" if "GPU" in where or "CUDA" in where else "cpu"
    if device not in runtime.devices:
        raise ValueError(
            f"x is on {device}, but {runtime.name} can only be measured on {' and '.join(runtime.devices)}"
        )
    return device


def _allocations(prepared: PreparedCall) -> tuple[dict[str, Any], int]:
    """Return the allocations of a call and the bytes that it leaks, or why they were not traced."""
    try:
        traced = allocations.trace(prepared)
    except InstrumentBusyError as busy:
        return {"missing": dict.fromkeys(assemble.ALLOCATIONS, str(busy))}, 0
    return assemble.of_allocations(traced), traced.leaked_bytes


def _time(
    prepare_again: Callable[[], PreparedCall],
    blocks: int,
    changes: bool,
    leaked: int,
    given: tuple[np.ndarray, ...],
    first: float,
) -> dict[str, Any]:
    records: list[BlockRecord] = []
    n, result_bytes = None, 0
    start = perf_counter()
    while len(records) < blocks and (len(records) < 2 or perf_counter() - start < _SECONDS):
        fresh = prepare_again()
        ready = timing.calibrate(fresh, changes, leaked, n)
        n = ready.calls
        taken = [timing.sample(fresh, n) for _ in range(ROUNDS)]
        own = fresh.device != "cpu" and fresh.runtime.gpu is not None
        device = [device_timing.sample(fresh, sample.seconds) for sample in taken if own]
        condition = devices.condition() if fresh.device != "cpu" else None
        result_bytes = timing.last_bytes(fresh)
        timing.check(fresh)
        records.append(BlockRecord(tuple(taken), tuple(device), condition))
    return assemble.of_time(
        records,
        first=first,
        stopped_by="blocks" if len(records) == blocks else "budget",
        images=int(np.prod(given[0].shape[:-3])) if given[0].ndim > 3 else 1,
        bytes_moved=sum(one.nbytes for one in given) + result_bytes,
        copy_speed=None,
    )
