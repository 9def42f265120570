"""A prepared call, its arrays, and the values that they must hold."""

from __future__ import annotations

import ctypes
import itertools
import math
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from copycost import registry
from copycost.catalog import discovery, import_context
from copycost.engine import clock
from copycost.engine.compare_arrays import overlap, same
from copycost.engine.group_files import Files
from copycost.engine.references import Build, ExpectedResults, argument, as_it_is, load_expected, renewing
from copycost.model.runtime import Runtime
from copycost.model.source import Source
from copycost.model.vocabulary import DeviceKind
from copycost.stats.intervals import ROUNDS
from copycost_meter.library import ConsumedArrayError

#: Name, array and address range of each argument of a call.
Places = list[tuple[str, Any, tuple[int, int] | None]]

#: Upper limit of the random allocation that each block makes first, in multiples of 16 bytes. The heap addresses of a
#: block's arrays depend on earlier allocations. Without a random one they would be the same in all blocks of one
#: commit, and differ from those of the other commit.
_DISPLACEMENTS = 4096

#: That allocation, kept so that it is not freed during the block.
_displacement: bytearray | None = None


@dataclass(frozen=True)
class CaseJob:
    """Parameters of a worker that prepares the call of a case.

    Attributes
    ----------
    source : Source
    recipe, variant, runtime, writes, device : str
    threads : int
    files : Files
    place : ImportContext or None
        Import context of the source. None if this process has imported the source already.
    cpu : int or None
        CPU that the worker is pinned to. None leaves it unpinned.
    """

    source: Source
    recipe: str
    variant: str
    runtime: str
    writes: str
    device: DeviceKind
    threads: int
    files: Files
    place: import_context.ImportContext | None = None
    cpu: int | None = None

    def start(self) -> PreparedCall:
        """Choose the device and prepare the call."""
        if self.cpu is not None:
            # Pin before any array exists, so that its memory is local to the CPU.
            os.sched_setaffinity(0, {self.cpu})
        global _displacement
        _displacement = bytearray(16 * random.SystemRandom().randrange(_DISPLACEMENTS))
        if self.place is not None:
            import_context.load_at(self.place, self.source)
        runtime = discovery.runtime(self.runtime)
        runtime.start(self.device, self.threads)
        prepare = registry.variants[self.recipe, self.variant].prepare
        assert prepare is not None  # it was registered in this process
        files = self.files
        truth = load_expected(files.references, np.dtype(files.dtype))
        prepared = PreparedCall(
            runtime,
            prepare,
            self.writes,
            self.device,
            [tuple(np.load(name, mmap_mode="r") for name in names) for names in files.inputs],
            truth,
            truth.blank_out() if self.writes == "out" else None,
            twins=None if files.twins is None else tuple(map(np.load, files.twins)),
            name=f"{self.recipe} {self.variant}",
            build=as_it_is if files.is_tuple else argument,
            # Of other made arrays, such as boxes, another order of the elements may be no valid input.
            swapped=(lambda array: array.ndim >= 3) if files.is_made else None,
            renew=_renewing(self.recipe, files),
        )
        if self.place is not None:
            import_context.check_origin(self.place)  # after preparing, which may import more modules
        return prepared


def _renewing(name: str, files: Files) -> Callable[[], tuple[np.ndarray, ...]] | None:
    """Return a function that makes an input anew, or None if this process does not know how the recipe makes it."""
    recipe = registry.recipes.get(name)
    if not files.images or recipe is None or recipe.make is None:
        return None
    return renewing(recipe.make, np.load(files.images))


class PreparedCall:
    """One prepared call and its arrays.

    Parameters
    ----------
    runtime : Runtime
    prepare : callable
        ``prepare(x)`` returns the call.
    writes, device : str
    pixels : list of tuple of ndarray
        Values of each input: one array or several.
    truth : ExpectedResults or None
        None if there is no reference.
    blank_out : tuple of ndarray or None
        Contents of each `out` before a call. None if the call takes no `out`.
    mutable : bool, optional
        Whether the first array of an input is writable. By default it is if `writes` is ``"input"``.
    twins : tuple of ndarray, optional
        For each array of an input, the indices at which the first two inputs differ. One is then turned into the other
        in place where possible. By default they may differ everywhere.
    name : str, optional
        Name of the range in which profilers see timed calls.
    build : callable, optional
        Returns the argument of a call from the arrays of an input. By default one array is the argument itself.
    swapped : callable, optional
        Returns whether elements of an array of the input may be swapped, to make new values of it. By default all may.
    renew : callable, optional
        ``renew()`` makes the arrays of an input with values that no call has seen.
    """

    def __init__(
        self,
        runtime: Runtime,
        prepare: Callable[[Any], Callable[..., Any]],
        writes: str,
        device: str,
        pixels: list[tuple[np.ndarray, ...]],
        truth: ExpectedResults | None,
        blank_out: tuple[np.ndarray, ...] | None,
        mutable: bool | None = None,
        twins: tuple[np.ndarray, ...] | None = None,
        name: str = "",
        build: Build = argument,
        swapped: Callable[[np.ndarray], bool] | None = None,
        renew: Callable[[], tuple[np.ndarray, ...]] | None = None,
    ) -> None:
        self.runtime, self.writes, self.device, self.name = runtime, writes, device, name
        self.build, self.renew = build, renew
        self.swapped = [swapped is None or swapped(array) for array in pixels[0]]
        self.mutable = writes == "input" if mutable is None else mutable
        self.pixels, self.truth, self.blank_out, self.twins = pixels, truth, blank_out, twins
        self.x: tuple[Any, ...] = ()
        self.k = 0  # index of the input that `x` holds
        self.blank_arrays: tuple[Any, ...] = ()
        self.out = tuple(runtime.array(array, True) for array in blank_out) if blank_out is not None else None
        example = self.fresh_input(0)
        self.takes_numpy = isinstance(example[0], np.ndarray)
        self.pristine_inputs: dict[int, tuple[Any, ...]] = {}
        call = prepare(build(example))
        self.definition = call, prepare
        if not callable(call):
            raise TypeError(f"prepare returned {type(call).__name__}, not a function")
        wait = runtime.wait
        self.call: Callable[..., Any] = call if wait is None else lambda *args: wait(call(*args))
        self.inputs: list[tuple[Any, ...]] = []  # those of the timed calls, used cyclically
        self.input_indices: list[int] = []  # index of the input that each of them holds
        self.turns = itertools.count(random.SystemRandom().randrange(len(pixels)))
        self.last_result: Any = None  # the last timed call's result
        self.last_k = 0  # index of its input
        self.changes_input = False
        self.calls_left = math.inf  # finite if each call leaks memory
        self.samples = 2 * ROUNDS
        self.flush: Callable[[], None] | None = None

    def changed(self, x: tuple[Any, ...], k: int) -> bool:
        """Return whether an input differs from its original values."""
        try:
            return not all(map(same, map(self.runtime.to_numpy, x), self.pixels[k]))
        except ConsumedArrayError:
            return True

    def _arrays(self, k: int, mutable: bool) -> tuple[Any, ...]:
        """Return input `k` in new arrays, of which only the first can be writable."""
        return self._made_of(self.pixels[k], mutable)

    def _made_of(self, values: Sequence[np.ndarray], mutable: bool) -> tuple[Any, ...]:
        return tuple(self.runtime.array(array, mutable and i == 0) for i, array in enumerate(values))

    def input_of(self, values: Sequence[np.ndarray]) -> tuple[Any, ...]:
        """Return an input of these values in new arrays."""
        return self._made_of(values, self.mutable)

    def fresh_input(self, k: int) -> tuple[Any, ...]:
        """Return input `k` in new arrays."""
        return self._arrays(k, self.mutable)

    def restored(self, x: tuple[Any, ...], k: int, new_k: int) -> tuple[Any, ...]:
        """Return input `new_k`, reusing the arrays `x` of input `k` if possible, which a call may have changed."""
        if (
            {k, new_k} == {0, 1}
            and self.twins is not None
            and not self.changes_input
            and self._lies_in_host_memory(x, k)
        ):
            return self.changed_to(x, self.pixels[new_k], self.twins)
        if any(tuple(old.shape) != new.shape for old, new in zip(x, self.pixels[new_k], strict=True)):
            return self.fresh_input(new_k)
        return tuple(map(self.runtime.restore, x, self._pristine_input(new_k)))

    def _pristine_input(self, k: int) -> tuple[Any, ...]:
        """Return input `k` as arrays of the runtime that are never written to."""
        # A runtime that takes NumPy arrays can use the values themselves: memory new to a process is slow to write to.
        if self.takes_numpy:
            return self.pixels[k]
        if k not in self.pristine_inputs:
            self.pristine_inputs[k] = self._arrays(k, False)
        return self.pristine_inputs[k]

    def _lies_in_host_memory(self, x: tuple[Any, ...], k: int) -> bool:
        """Return whether the values of an input are unchanged, contiguous and writable by the host."""
        if self.device != "cpu" or self.mutable:
            return False
        try:
            extents = list(map(self.runtime.extent, x))
        except ConsumedArrayError:
            return False
        sizes = [array.nbytes for array in self.pixels[k]]
        return all(extent and extent[1] - extent[0] == size for extent, size in zip(extents, sizes, strict=True))

    def changed_to(self, x: tuple[Any, ...], values: Sequence[np.ndarray], places: Sequence[np.ndarray]) -> Any:
        """Return the arrays `x` with other values in some places: modified in place if possible, else new arrays."""
        if self.changes_input or not self._lies_in_host_memory(x, 0):
            return self.input_of(values)
        for array, new_values, indices in zip(x, values, places, strict=True):
            start, stop = self.runtime.extent(array) or (0, 0)
            memory = np.ctypeslib.as_array((ctypes.c_ubyte * (stop - start)).from_address(start))
            memory.view(new_values.dtype)[indices] = new_values.reshape(-1)[indices]
        return x

    def turn_inputs(self) -> None:
        """Swap the twins among the timed inputs: a variant that remembers results by array then returns a wrong one."""
        for i, k in enumerate(self.input_indices):
            if k in (0, 1) and len(self.pixels) > 1 and not self.changes_input:
                self.inputs[i] = self.restored(self.inputs[i], k, 1 - k)
                self.input_indices[i] = 1 - k

    def clear_out(self) -> None:
        """Reset the output buffers, to erase the results of earlier calls."""
        if self.out is None or self.blank_out is None:
            return
        if not self.takes_numpy and not self.blank_arrays:
            self.blank_arrays = tuple(self.runtime.array(array, False) for array in self.blank_out)
        self.out = tuple(map(self.runtime.restore, self.out, self.blank_out if self.takes_numpy else self.blank_arrays))

    def arguments(self, x: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
        """Return the arguments of a call on `x`, or on the current input."""
        input_argument = self.build(self.x if x is None else x)
        return (input_argument,) if self.out is None else (input_argument, self.out_argument())

    def out_argument(self) -> Any:
        """Return the buffer that a call receives, or a tuple of them if the reference returns one."""
        assert self.out is not None
        return self.out if self.truth is not None and self.truth.is_tuple else argument(self.out)

    def next_arguments(self) -> tuple[Any, ...]:
        """Return the arguments of the next timed call."""
        return self.timed_arguments(next(self.turns) % len(self.input_indices))

    def timed_arguments(self, i: int) -> tuple[Any, ...]:
        """Return the arguments of a timed call: one of the inputs with its original values."""
        if self.changes_input:
            self.k = i
            self.inputs[0] = self.restored(self.inputs[0], i, i)
            self.x = self.inputs[0]
        else:
            self.k = self.input_indices[i]
            self.x = self.inputs[i]
        return self.arguments()

    def target(self) -> Any:
        """Return the array that a call must write to."""
        return self.x[0] if self.out is None else self.out_argument()

    def completed_result(self, value: Any) -> Any:
        """Return the result of a call: its return value or, if that is None, the array that it must write to."""
        return self.target() if value is None and self.writes != "new" else value

    def parts(self, result: Any) -> tuple[Any, ...]:
        """Return the arrays of a result, which can be several if the reference has several or if there is none."""
        is_sequence = isinstance(result, tuple | list)
        if self.truth is None:
            return tuple(result) if is_sequence and all(hasattr(part, "dtype") for part in result) else (result,)
        n, several = len(self.truth.references[0]), self.truth.is_tuple or len(self.truth.references[0]) > 1
        if several and not (is_sequence and len(result) == n):
            kind = f"{type(result).__name__} of {len(result)}" if is_sequence else type(result).__name__
            raise TypeError(
                f"returned {kind}, not {n} arrays" if n > 1 else f"returned {kind}, not a list of one array"
            )
        return tuple(result) if several else (result,)

    def values(self, result: Any) -> list[np.ndarray]:
        """Return the current values of a result's arrays; each may share the result's memory."""
        return [self.runtime.to_numpy(part) for part in self.parts(result)]

    def places(self) -> Places:
        """Return the address ranges of a call's arrays before the call, which may consume one of them."""
        arguments = [("input", array) for array in self.x] + [("out", array) for array in self.out or ()]
        return [(name, array, self.runtime.extent(array)) for name, array in arguments]

    def shares(self, result: Any, places: Places) -> str:
        """Return which array's memory a result shares: ``"input"``, ``"out"`` or ``"nothing"``."""
        for part in self.parts(result):
            part_extent = self.runtime.extent(part)
            for name, array, earlier_extent in places:
                try:
                    extent = self.runtime.extent(array)
                except ConsumedArrayError:
                    extent = earlier_extent
                if part is array or overlap(part_extent, extent):
                    return name
        return "nothing"

    def most_per_sample(self) -> int:
        """Return the maximum number of calls in a sample."""
        # Calls that are timed one by one each include a fence, so a sample need not be long: 100 calls are enough.
        limit = 100 if self.changes_input else clock.MOST_CALLS
        return max(1, int(min(limit, self.calls_left / self.samples)))

    def fenced_call(self, i: int) -> Callable[[], Any]:
        """Return a function that calls on a fresh input, which is created now and not during the call."""
        x, wait = self.fresh_input(i % len(self.pixels)), self.runtime.wait
        args = self.arguments(x if wait is None else tuple(map(wait, x)))
        call, fence = self.call, self.runtime.fence
        if self.device != "cpu" and self.writes == "out":
            # A CUDA graph contains the addresses of its arrays: it is captured again for new ones. In the steady state,
            # a call has seen its arrays before.
            call(*args)
            fence()

        def run() -> Any:
            result = call(*args)
            fence()
            return result

        return run
