"""Compute the theoretical occupancy of a kernel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

#: Threads of a warp, registers that a warp gets at once, and warps that registers are counted for together, on all
#: devices since Kepler (CUDA occupancy calculator).
_WARP, _REGISTER_UNIT, _WARP_UNIT = 32, 256, 4

#: Unit in which a block gets shared memory, in bytes: on devices of compute capability 8.0 and later, and earlier.
_SHARED_UNIT, _OLD_SHARED_UNIT = 128, 256


@dataclass(frozen=True)
class Limits:
    """What a multiprocessor holds at most.

    Attributes
    ----------
    threads, blocks, registers, shared_bytes : int
    reserved_bytes : int
        Shared memory that the system takes for each block. Devices that reserve some have compute capability 8.0 or
        later.
    """

    threads: int
    blocks: int
    registers: int
    shared_bytes: int
    reserved_bytes: int

    @classmethod
    def of(cls, attributes: Mapping[str, int]) -> Limits | None:
        """Return the limits in the attributes of a device, named as in the CUDA runtime, or None if one is unknown."""
        names = ("MaxThreadsPerMultiProcessor", "MaxBlocksPerMultiprocessor", "MaxRegistersPerMultiprocessor",
                 "MaxSharedMemoryPerMultiprocessor")  # fmt: skip
        if not attributes.keys() >= set(names):
            return None
        threads, blocks, registers, shared = (int(attributes[name]) for name in names)
        return cls(threads, blocks, registers, shared, int(attributes.get("ReservedSharedMemoryPerBlock", 0)))


def occupancy(block: tuple[int, int, int], registers: int, shared_bytes: int, limits: Limits) -> float:
    """Return the threads of a kernel that a multiprocessor holds at once, as a fraction of those that it can hold.

    Parameters
    ----------
    block : tuple of int
        Threads of a block along x, y and z.
    registers : int
        Registers of a thread.
    shared_bytes : int
        Shared memory of a block.
    limits : Limits
    """
    warps = math.ceil(math.prod(block) / _WARP)
    most_warps = limits.threads // _WARP
    fits = [limits.blocks, most_warps // warps]
    if registers:
        of_warp = _up(registers * _WARP, _REGISTER_UNIT)
        fits.append(limits.registers // of_warp // _WARP_UNIT * _WARP_UNIT // warps)
    unit = _SHARED_UNIT if limits.reserved_bytes else _OLD_SHARED_UNIT
    if needed := _up(shared_bytes + limits.reserved_bytes, unit):
        fits.append(limits.shared_bytes // needed)
    return min(fits) * warps / most_warps


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
