"""Decide whether a case can be measured on this machine, and estimate the memory that it needs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from copycost.cases.case import CHANNELS, INPUTS, Case
from copycost.catalog import discovery
from copycost.model.vocabulary import DeviceKind, Layout, Writes
from copycost.recipes import RESIZED

#: Bytes for each element of a reference: its value, the bound on the error of a result, and the two limits of a right
#: result.
_REFERENCE_BYTES = 8 + 8 + 2 * 8

#: Arrays, of the larger of input and result, that a worker holds at once: three pristine inputs and the call's
#: input, the result, its buffer and the values that poison it (twice), three correct results, a snapshot, and the
#: intermediates of a plain implementation. Measured with TensorFlow: 13.
_ARRAYS_PER_WORKER = 16

#: Memory of a process that has imported TensorFlow but holds no array yet, in bytes.
_WORKER_BYTES = 400 * 2**20

#: Device memory of such a process, in bytes: a CUDA context, and the buffer that is read to flush the cache.
_CONTEXT_BYTES = 800 * 2**20


def skip_reason(case: Case, no_gpu: str | None, free_bytes: int) -> str | None:
    """Return why a case does not apply on this machine, or None.

    Parameters
    ----------
    case : Case
    no_gpu : str or None
        Reason why no CUDA device is available; None if one is.
    free_bytes : int
        Free memory.
    """
    variant = case.variant
    # Checked first, so that all cases of a missing device have the same reason.
    if case.device == DeviceKind.GPU and no_gpu:
        return no_gpu
    if case.dtype not in variant.accepts:
        return f"it is for {', '.join(variant.accepts)} only"
    if case.layout not in variant.layouts:
        return f"it is for {', '.join(variant.layouts)} only"
    if case.recipe.makes_inputs and case.layout != Layout.CHANNELS_LAST:
        return f"its recipe makes its inputs, from {Layout.CHANNELS_LAST} images only"
    if variant.writes == Writes.INPUT and case.result_dtype != case.dtype and not case.recipe.makes_inputs:
        return f"a {case.result_dtype} result does not fit over a {case.dtype} input"
    if reason := discovery.not_installed(discovery.runtime(variant.runtime)):
        return reason
    # Assume a result as large as an input. The session checks again when the size is known.
    elements = case.elements // case.recipe.inputs
    return too_large(shared_bytes(case, elements) + worker_bytes(case, elements), free_bytes)


def misfit(
    case: Case, given: tuple[tuple[int, ...], np.dtype], results: Sequence[tuple[tuple[int, ...], np.dtype]]
) -> str | None:
    """Return why results of these shapes and dtypes cannot be written over the first array of an input, or None."""
    if case.variant.writes != Writes.INPUT or list(results) == [given]:
        return None
    shape, dtype = given
    kinds = " and ".join(f"a {'×'.join(map(str, shape))} {dtype} result" for shape, dtype in results)
    return f"{kinds} does not fit over a {'×'.join(map(str, shape))} {dtype} input"


def too_large(needed_bytes: int, free_bytes: int, memory: str = "of memory") -> str | None:
    """Return why there is not enough memory, or None."""
    if needed_bytes <= free_bytes:
        return None
    return f"needs about {_gib(needed_bytes)}, and {_gib(free_bytes)} {memory} is free"


def assumed_elements(case: Case) -> int:
    """Return the largest number of elements that a result may have, before the reference is computed.

    The result of a recipe that resizes is larger than its input if images are small.
    """
    return max(case.elements, (case.batch or 1) * CHANNELS * RESIZED**2)


def shared_bytes(case: Case, result_elements: int) -> int:
    """Return the bytes of a case's inputs, references and error bounds, which its whole group shares."""
    return INPUTS * (case.nbytes + _REFERENCE_BYTES * result_elements)


def worker_bytes(case: Case, result_elements: int, input_bytes: int = 0) -> int:
    """Return a generous estimate of the bytes of one process that measures the case.

    Parameters
    ----------
    case : Case
    result_elements : int
    input_bytes : int, optional
        Bytes of an input, if the recipe has made it.
    """
    return _WORKER_BYTES + _array_bytes(case, result_elements, input_bytes)


def device_bytes(case: Case, result_elements: int, input_bytes: int = 0) -> int:
    """Return a generous estimate of the device memory of one process that measures the case: see `worker_bytes`."""
    return _CONTEXT_BYTES + _array_bytes(case, result_elements, input_bytes)


def _array_bytes(case: Case, result_elements: int, input_bytes: int) -> int:
    return _ARRAYS_PER_WORKER * max(case.nbytes, input_bytes, result_elements * case.result_dtype.itemsize)


def _gib(count: int) -> str:
    return f"{count / 2**30:.3g} GiB"
