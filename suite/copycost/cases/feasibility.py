"""Why a case cannot be measured on this machine, and the memory that it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from copycost.cases.case import CHANNELS, INPUTS, Case
from copycost.catalog import discovery
from copycost.recipes import RESIZED

#: Of each element of a reference: its value, and how far a result may be off.
_REFERENCE_BYTES = 8 + 8


#: A child holds three pristine inputs and the one of the call, the result, its buffer and what poisons it (twice),
#: three results that were right, a snapshot, and the intermediates of a plain way of computing: in arrays of the
#: larger of input and result. Measured with TensorFlow: 13.
_ARRAYS_PER_CHILD = 16


#: What a process with TensorFlow in it takes before it has any array, in bytes.
_CHILD_BYTES = 400 * 2**20


#: What it takes of a device before that: a CUDA context, and what is written to flush the cache.
_CONTEXT_BYTES = 800 * 2**20


def skip_reason(case: Case, no_gpu: str | None, free_bytes: int) -> str | None:
    """Why a case does not apply on this machine, or None.

    Parameters
    ----------
    case : Case
    no_gpu : str or None
        Why there is no CUDA device.
    free_bytes : int
        Memory that can be had.
    """
    variant = case.variant
    # First, so that all cases of a device that is not there have one reason.
    if case.device == "gpu" and no_gpu:
        return no_gpu
    if case.dtype not in variant.accepts:
        return f"it is for {', '.join(variant.accepts)} only"
    if case.layout not in variant.layouts:
        return f"it is for {', '.join(variant.layouts)} only"
    if variant.writes == "input" and case.result_dtype != case.dtype:
        return f"a {case.result_dtype} result does not fit over a {case.dtype} input"
    if lacking := discovery.not_installed(discovery.runtime(variant.runtime)):
        return lacking
    # As if the result were as large as an input; the session looks again when it knows.
    elements = case.elements // case.recipe.inputs
    return too_large(shared_bytes(case, elements) + child_bytes(case, elements), free_bytes)


def misfit(case: Case, results: Sequence[tuple[tuple[int, ...], np.dtype]]) -> str | None:
    """Why results of these shapes and dtypes cannot be written over the input of the case, or None."""
    if case.variant.writes != "input" or list(results) == [(case.shape, np.dtype(case.dtype))]:
        return None
    said = " and ".join(f"a {'×'.join(map(str, shape))} {dtype} result" for shape, dtype in results)
    return f"{said} does not fit over a {'×'.join(map(str, case.shape))} {case.dtype} input"


def too_large(needed_bytes: int, free_bytes: int, what: str = "of memory") -> str | None:
    """Why there is not enough memory, or None."""
    if needed_bytes <= free_bytes:
        return None
    return f"needs about {_gib(needed_bytes)}, and {_gib(free_bytes)} {what} is free"


def assumed_elements(case: Case) -> int:
    """Return the elements that a result may have, before a reference tells.

    A recipe that resizes returns more than it is given where images are small.
    """
    return max(case.elements, (case.batch or 1) * CHANNELS * RESIZED**2)


def shared_bytes(case: Case, result_elements: int) -> int:
    """What the inputs of a case, their references and bounds take, shared by its whole group."""
    return INPUTS * (case.nbytes + _REFERENCE_BYTES * result_elements)


def child_bytes(case: Case, result_elements: int) -> int:
    """What one process takes that measures the case, roughly and rather too much."""
    return _CHILD_BYTES + _array_bytes(case, result_elements)


def device_bytes(case: Case, result_elements: int) -> int:
    """What that process takes of a device's memory."""
    return _CONTEXT_BYTES + _array_bytes(case, result_elements)


def _array_bytes(case: Case, result_elements: int) -> int:
    return _ARRAYS_PER_CHILD * max(case.nbytes, result_elements * case.result_dtype.itemsize)


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
