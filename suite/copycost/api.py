"""From Python: one function measured in this process, and cases measured as the command does."""

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
from copycost.engine.block import Block, BlockRecord, ExpectedResults, WrongResult, refer
from copycost.engine.session import Plan, Session
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

#: Calls of an audit where there is no reference: what changes its input, or gives a buffer again, does so by then.
_UNCHECKED_CALLS = 4

#: Blocks that a call is timed in.
_BLOCKS = 5

#: Seconds of timing after which no further block is begun.
_SECONDS = 5.0


def measure(
    call: Callable[..., Any],
    x: Any,
    reference: Callable[..., Any] | None = None,
    out: Any = None,
    runtime: str = "numpy",
) -> Measurement:
    """Measure one function, in this process.

    Neither `x` nor `out` is touched: the calls are given copies. The blocks have fresh buffers and not fresh processes,
    so that the interval holds what differs between buffers, and not what differs between processes; `copycost run`
    has both.

    Parameters
    ----------
    call : callable
        ``call(x)``, or ``call(x, out)`` where `out` is given. It returns its result, or None where it writes over `x`
        or to `out`.
    x : array, or pair of arrays
        An image, a batch of them, or an array of any shape: a NumPy array, or one of the runtime. The calls also get
        its values in two other orders.
    reference : callable, optional
        Given `x` in float64 NumPy, returns what the result must be: an array, or a tuple of arrays. Floats may be off
        by what the formula's rounding explains; integers and booleans are of the result's dtype. Without it the status
        is ``"unchecked"``.
    out : array, optional
        Of the shape and dtype of the buffer that the call is given.
    runtime : str, optional
        Whose arrays the call is given: ``"numpy"``, ``"tensorflow"``, ``"cupy"``, ``"torch"``, ``"jax"``.

    Returns
    -------
    Measurement
        With status ``"failed"`` if the call raises.

    Raises
    ------
    TypeError, ValueError
        If an argument is not what it should be.
    """
    return _measure(call, x, reference, out, runtime, _BLOCKS)


def look(
    call: Callable[..., Any],
    x: Any,
    reference: Callable[..., Any] | None = None,
    out: Any = None,
    runtime: str = "numpy",
) -> Measurement:
    """`measure` without timing: for tests, which should not depend on a machine's speed."""
    return _measure(call, x, reference, out, runtime, 0)


def run(
    cases: Iterable[Case],
    *,
    image: str | os.PathLike[str] | None = None,
    threads: int | None = None,
    blocks: int = _BLOCKS,
    budget: float | None = None,
) -> pd.DataFrame:
    """Measure cases as `copycost run` does, in processes of their own.

    Parameters
    ----------
    cases : iterable of Case
        As `copycost.select` gives them.
    image : path, optional
        An image or a folder of them, in place of the photograph that ships.
    threads : int, optional
        For every runtime; the default is all CPUs.
    blocks : int, optional
        Fresh processes that each case is timed in; 0 to time nothing.
    budget : float, optional
        Seconds of timing after which cases get three blocks only.

    Returns
    -------
    DataFrame
        A row a case, a column a field of `Measurement`. After Ctrl-C, what had been measured by then.

    Raises
    ------
    ValueError
        For a number that is too small.
    copycost.cases.images.ImageError
        For an image that cannot be read.
    """
    from copycost.results import table  # pandas takes a second to import

    for name, value, least in (("threads", threads, 1), ("blocks", blocks, 0), ("budget", budget, 0)):
        if value is not None and not (isinstance(value, int | float) and value >= least):
            raise ValueError(f"{name} is {value!r}: it is a number, {least} or more")
    cases = list(cases)
    if not all(isinstance(case, Case) for case in cases):
        raise TypeError("cases are what copycost.select gives")
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
    # As the runtime holds them: JAX makes float64 into float32 unless it is told not to.
    arrays = tuple(its.array(one, False) for one in _values(its, "x", x))
    given = tuple(np.array(its.to_numpy(one), order="C") for one in arrays)
    device = _device(its, arrays[0])
    recipe = next((r for r in registry.recipes.values() if reference is not None and r.reference is reference), None)
    nothing: tuple[np.ndarray, ...] | None = None
    if out is not None:
        like, *more = _values(its, "out", out)
        if more:
            raise ValueError("out is a pair: it is one array")
        nothing = (np.full(like.shape, np.nan if like.dtype.kind == "f" else 0, like.dtype),)
    # In another order, so that an answer that is remembered is a wrong one, and a buffer that is given again is seen.
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

        def block() -> Block:
            writes = row["writes"]
            return Block(
                its, lambda example: call, writes, device, inputs, truth, nothing, variable or writes == "input", places
            )

        returned, first_seconds = block().try_out()
        if out is None and not returned:
            row["writes"] = "input"

        first = block()
        audit = first.audit() if truth else first.audit(_UNCHECKED_CALLS)
        if out is None and audit.input_changed and audit.result_shares == "input":
            row["writes"] = "input"
        if audit.status not in ("ok", "unchecked"):
            return ended(audit.status, audit.reason, assemble.of_audit(audit))
        if not returned and out is None and not audit.input_changed:
            return ended("wrong", "returned nothing, and its input is unchanged", assemble.of_audit(audit))
        traced, leaked = _allocations(first)
        unjudged = {} if truth else {"missing": dict.fromkeys(("max_abs_error", "max_ulp"), audit.reason)}
        found = [assemble.of_audit(audit), traced, unjudged]
        if not blocks:
            return ended(audit.status, audit.reason, *found, assemble.untimed())
        timed = _time(block, blocks, bool(audit.input_changed), leaked, given, first_seconds)
        return ended(audit.status, audit.reason, *found, timed)
    except WrongResult as exception:
        return ended("wrong", str(exception))
    except Exception as exception:  # a function may raise anything
        return ended("failed", describe(exception))


def _runtime(name: str) -> Runtime:
    found = discovery.runtime(name)
    if lacking := discovery.not_installed(found):
        raise ValueError(lacking)
    return found


def _values(runtime: Runtime, name: str, given: Any) -> tuple[np.ndarray, ...]:
    """Copies of what was given, as NumPy arrays: one, or two of a pair."""
    several = tuple(given) if isinstance(given, tuple | list) else (given,)
    if len(several) > 2 or not several:
        raise ValueError(f"{name} is a {type(given).__name__} of {len(several)}: it is an array, or a pair of them")
    try:
        values = tuple(np.array(runtime.to_numpy(one), order="C") for one in several)
    except TypeError as error:
        raise TypeError(f"{name} {str(error).replace('returned', 'is')}") from None
    for one in values:
        if one.dtype.kind not in "fiu" or not one.size:
            raise ValueError(f"{name} has dtype {one.dtype} and shape {one.shape}: it is an array of real numbers")
    return values


def _row(
    call: Callable[..., Any],
    x: np.ndarray,
    reference: Callable[..., Any] | None,
    recipe: Recipe | None,
    runtime: str,
    device: str,
) -> dict[str, Any]:
    """The fields that say what was measured; an array that is no image is one of a single channel."""
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
    # A recipe's is given channels-last images; the user's own takes x as it is.
    given = layout if recipe else "channels_last"
    dtype = result_dtype((recipe.dtype if recipe else None) or inputs[0][0].dtype)
    magnitude = recipe.magnitude if recipe else None
    return ExpectedResults([refer(reference, one, given, dtype, magnitude) for one in inputs], dtype)


def _device(runtime: Runtime, array: Any) -> str:
    """Where the arrays of the runtime are; or ValueError for a place that is not watched."""
    where = str(getattr(array, "device", "")).upper()
    device = "gpu" if "GPU" in where or "CUDA" in where else "cpu"
    if device not in runtime.devices:
        raise ValueError(f"x is on {device}, and {runtime.name} is measured on {' and '.join(runtime.devices)} only")
    return device


def _allocations(block: Block) -> tuple[dict[str, Any], int]:
    """What a call allocates, and leaves behind; or why that was not seen."""
    try:
        traced = block.allocations()
    except InstrumentBusyError as busy:
        return {"missing": dict.fromkeys(assemble.ALLOCATIONS, str(busy))}, 0
    return assemble.of_allocations(traced), traced.leaked_bytes


def _time(
    block: Callable[[], Block], blocks: int, changes: bool, leaked: int, given: tuple[np.ndarray, ...], first: float
) -> dict[str, Any]:
    records: list[BlockRecord] = []
    n, result_bytes = None, 0
    start = perf_counter()
    while len(records) < blocks and (len(records) < 2 or perf_counter() - start < _SECONDS):
        fresh = block()
        ready = fresh.first(changes, leaked, n)
        n = ready.calls
        taken = [fresh.sample(n) for _ in range(ROUNDS)]
        own = fresh.device != "cpu" and fresh.runtime.gpu is not None
        device = [fresh.device_sample(sample.seconds) for sample in taken if own]
        condition = devices.condition() if fresh.device != "cpu" else None
        result_bytes = fresh.last_bytes()
        fresh.check()
        records.append(BlockRecord(tuple(taken), tuple(device), condition))
    return assemble.of_time(
        records,
        first=first,
        stopped_by="blocks" if len(records) == blocks else "budget",
        images=int(np.prod(given[0].shape[:-3])) if given[0].ndim > 3 else 1,
        bytes_moved=sum(one.nbytes for one in given) + result_bytes,
        copy_speed=None,
    )
