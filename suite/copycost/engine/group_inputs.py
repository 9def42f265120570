"""Inputs and references of a group of cases, in files that its processes share."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from time import monotonic, sleep

import numpy as np

from copycost.cases import images
from copycost.cases.case import INPUTS, Case
from copycost.cases.feasibility import device_bytes, misfit, too_large, worker_bytes
from copycost.engine.group_files import Files
from copycost.engine.references import MORE_SWAPS, ReferenceJob, load_references, made_dtype, made_files
from copycost.engine.worker import CaseFailure
from copycost.engine.worker_pool import WorkerPool
from copycost.machine import devices
from copycost.machine.memory import free_memory

#: Random seed for the crops.
SEED = 0

#: Random seeds with which a recipe makes the inputs from them. Twins differ by their images only.
_MAKING = (0, 0, 1)

#: Fraction of the free memory that the processes of a group may use.
_MEMORY_SHARE = 0.8


def write(pool: WorkerPool, photographs: images.Photographs, case: Case, folder: Path, limit: float) -> Files:
    """Write the inputs of a group, and have workers compute their references, each in parallel to the others.

    Parameters
    ----------
    pool : WorkerPool
    photographs : Photographs
    case : Case
        Any case of the group. Its recipe's reference is used.
    folder : Path
    limit : float
        Timeout for the references, in seconds.

    Raises
    ------
    CaseFailure
        If the references cannot be computed.
    """
    is_made = case.recipe.makes_inputs
    parts = range(case.recipe.inputs)
    inputs = tuple(tuple(str(folder / f"input-{k}-{part}.npy") for part in parts) for k in range(INPUTS))
    references = tuple(str(folder / f"reference-{k}") for k in range(INPUTS))
    shape = (case.batch, case.height, case.width)
    twins = []
    for part in parts:
        batches = [
            images.batch(photographs, shape, case.dtype, case.layout, SEED + k + INPUTS * part)
            for k in range(INPUTS - 1)
        ]
        copy, places = images.twin(batches[0])
        for _ in range(MORE_SWAPS if is_made else 0):
            images.swap(copy)
        differ = is_made and not np.array_equal(copy, batches[0])
        batches.insert(1, copy)
        twins.append(_saved(folder / f"twin-{part}.npy", places))
        for k, batch in enumerate(batches):
            np.save(inputs[k][part], batch)

    def refer(k: int) -> None:
        source = case.recipe.source
        # A reference in float64 uses NumPy. One that is itself an implementation may use the library of its variants.
        worker = pool.worker(case.variant.runtime if case.recipe.as_given else "numpy", source)
        try:
            job = ReferenceJob(
                source, case.recipe.name, case.layout, inputs[k : k + 1], references[k : k + 1],
                str(case.computed_dtype), pool.places.get(source), (_MAKING[k],) if is_made else (),
            )  # fmt: skip
            worker.open(job, limit)
        except CaseFailure as failure:
            if failure.status == "timeout":
                failure.reason = f"took more than {limit:.3g} s"
            raise
        finally:
            pool.close_worker(worker)

    pool.each(refer, range(INPUTS), INPUTS)
    if is_made:
        return _made(folder, [name for (name,) in inputs], references, case, differ)
    return Files(inputs, tuple(twins), references, dtype=str(case.computed_dtype))


def _saved(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def _made(folder: Path, bases: Sequence[str], references: tuple[str, ...], case: Case, differ: bool) -> Files:
    """Return the files with inputs that the recipe has made, and remove those of the images except the first.

    Parameters
    ----------
    folder : Path
    bases : sequence of str
        Files of the images, for each input.
    references : tuple of str
    case : Case
    differ : bool
        Whether the images of the first two inputs differ.

    Raises
    ------
    CaseFailure
        If two of the inputs cannot be inputs of the same call, or if the first two do not differ.
    """
    made = [made_files(base) for base in bases]
    arrays = [[np.load(path, mmap_mode="r") for path in paths] for paths, _ in made]
    kinds = {
        (is_tuple, tuple((array.dtype.str, array.ndim) for array in own))
        for (_, is_tuple), own in zip(made, arrays, strict=True)
    }
    if len(kinds) > 1:
        raise CaseFailure("failed", "made inputs with different numbers of arrays, axes, or dtypes")
    twins: tuple[str, ...] | None = None
    if all(one.shape == other.shape for one, other in zip(arrays[0], arrays[1], strict=True)):
        places = [np.flatnonzero(a.reshape(-1) != b.reshape(-1)) for a, b in zip(arrays[0], arrays[1], strict=True)]
        if differ and not sum(map(len, places)):
            raise CaseFailure("failed", "made equal inputs from different images")
        twins = tuple(_saved(folder / f"twin-{part}.npy", own) for part, own in enumerate(places))
    for base in bases[1:]:
        os.unlink(base)
    dtype = made_dtype(case.recipe, arrays[0], case.computed_dtype)
    if case.recipe.as_given:
        floats = (one.low.dtype for one in load_references(references[0]) if one.low is not None)
        dtype = next(floats, dtype)
    return Files(tuple(paths for paths, _ in made), twins, references, True, made[0][1], str(dtype), bases[0])


#: Seconds in which the driver releases the memory of a process that has ended. The value is a choice.
_RELEASE_SECONDS = 2.0


class Results:
    """Arrays of a result, as the references of a group show them."""

    def __init__(self, files: Files, case: Case) -> None:
        arrays = [reference.values for reference in load_references(files.references[0])]
        inputs = [np.load(name, mmap_mode="r") for name in files.inputs[0]]
        self._input = (inputs[0].shape, inputs[0].dtype)
        self.input_bytes = sum(array.nbytes for array in inputs)
        floats = np.dtype(files.dtype)
        self.shapes = [(array.shape, floats if array.dtype.kind == "f" else array.dtype) for array in arrays]
        self.elements = sum(array.size for array in arrays)
        self.nbytes = sum(array.size * dtype.itemsize for array, (_, dtype) in zip(arrays, self.shapes, strict=True))
        self._free_on_device = devices.condition().free_bytes if case.device == "gpu" else None

    def skip_reason(self, case: Case) -> str | None:
        """Return why a case cannot be measured, now that the size of its result is known, or None."""
        reason = misfit(case, self._input, self.shapes) or too_large(self._worker_bytes(case), free_memory())
        if not reason and self._free_on_device is not None:
            needed = device_bytes(case, self.elements, self.input_bytes)
            if needed > self._free_on_device:
                self._free_on_device = _released(needed)
            reason = too_large(needed, self._free_on_device, "of the device's memory")
        return reason

    def _worker_bytes(self, case: Case) -> int:
        return worker_bytes(case, self.elements, self.input_bytes)

    def at_once(self, case: Case) -> int:
        """Return how many processes of the group fit in free memory, including the device's; at least one."""
        count = free_memory() // self._worker_bytes(case)
        if self._free_on_device is not None:
            count = min(count, self._free_on_device // device_bytes(case, self.elements, self.input_bytes))
        return max(1, int(_MEMORY_SHARE * count))


def _released(needed: int) -> int:
    """Return the device's free memory in bytes, once it is enough or after `_RELEASE_SECONDS`; enough if unknown."""
    end = monotonic() + _RELEASE_SECONDS
    while True:
        free = devices.condition().free_bytes
        if free is None:
            return needed
        if free >= needed or monotonic() > end:
            return free
        sleep(_RELEASE_SECONDS / 20)
