"""Closed vocabularies: the words with which recipes, variants, cases and measurements are described.

Each member is equal to its word, and is written as its word to files and pages.
"""

from __future__ import annotations

from enum import StrEnum


class Writes(StrEnum):
    """Where a variant puts its result.

    Attributes
    ----------
    NEW
        Into an array that the call allocates.
    OUT
        Into a buffer that is prepared once, and passed to every call.
    INPUT
        Over the input.
    """

    NEW = "new"
    OUT = "out"
    INPUT = "input"


class DeviceKind(StrEnum):
    """Kind of device on which a case is computed.

    Attributes
    ----------
    CPU
        The processors of the host.
    GPU
        A CUDA device.
    """

    CPU = "cpu"
    GPU = "gpu"


class Layout(StrEnum):
    """Order of the axes of an input.

    Attributes
    ----------
    CHANNELS_LAST
        Batch, height, width, channels.
    CHANNELS_FIRST
        Batch, channels, height, width.
    """

    CHANNELS_LAST = "channels_last"
    CHANNELS_FIRST = "channels_first"


class Status(StrEnum):
    """Outcome of a case.

    Attributes
    ----------
    OK
        Every checked result was right.
    WRONG
        A result differs from the reference by more than the tolerance, or is not where it has to be.
    SKIPPED
        The case does not apply to this machine.
    FAILED
        The call raised an exception.
    CRASHED
        The process of the call died.
    TIMEOUT
        The call took too long.
    UNCHECKED
        No reference was given to check the result.
    """

    OK = "ok"
    WRONG = "wrong"
    SKIPPED = "skipped"
    FAILED = "failed"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    UNCHECKED = "unchecked"


class StopReason(StrEnum):
    """Why the timing of a case stopped.

    Attributes
    ----------
    BLOCKS
        All requested blocks were done.
    CLEAR
        The answer was clear.
    BUDGET
        The budget of the run was spent.
    TIMEOUT
        The case took too long.
    """

    BLOCKS = "blocks"
    CLEAR = "clear"
    BUDGET = "budget"
    TIMEOUT = "timeout"


class ResultShares(StrEnum):
    """Which argument of a call shares memory with the result.

    Attributes
    ----------
    NOTHING
        None: the caller owns the result.
    INPUT
        The input.
    OUT
        The buffer that was passed as ``out``.
    """

    NOTHING = "nothing"
    INPUT = "input"
    OUT = "out"


class Mark(StrEnum):
    """What disturbed a sample.

    Attributes
    ----------
    NONE
        Nothing that the system reports.
    WAITED
        The thread waited for a CPU that another thread used.
    STOLEN
        The hypervisor gave the CPU to another machine.
    THROTTLED
        Heat or power slowed down the CPU, or the GPU (without NVML: at the end of the block).
    MOVED
        The thread moved to another CPU.
    """

    NONE = ""
    WAITED = "waited"
    STOLEN = "stolen"
    THROTTLED = "throttled"
    MOVED = "moved"


class MemorySpace(StrEnum):
    """Memory in which an allocation is made.

    Attributes
    ----------
    HOST
        The host's memory.
    DEVICE
        A device's memory, as requested from the device's pool.
    DRIVER
        A device's memory, as the pool requested it from the driver when it had none left.
    """

    HOST = "host"
    DEVICE = "device"
    DRIVER = "driver"


class Verdict(StrEnum):
    """Result of comparing a figure of head with that of base.

    Attributes
    ----------
    FASTER, SLOWER
        The time differs significantly.
    BETTER, WORSE
        The exact figure differs.
    CHANGED
        The exact figure differs, and neither value is better.
    SAME
        The exact figures are equal, or the times differ by no more than the tolerance.
    UNSURE
        The samples, or counts that vary, do not decide.
    """

    FASTER = "faster"
    SLOWER = "slower"
    BETTER = "better"
    WORSE = "worse"
    CHANGED = "changed"
    SAME = "same"
    UNSURE = "unsure"


class Conclusion(StrEnum):
    """Result of comparing all figures of two sides.

    Attributes
    ----------
    WORSE
        A figure is worse.
    UNSURE
        No figure is worse, but a verdict is `Verdict.UNSURE`, or nothing was compared.
    NO_WORSE
        No figure is worse.
    """

    WORSE = "worse"
    UNSURE = "unsure"
    NO_WORSE = "no worse"


#: Dtypes of an input: NumPy's names. Those of a result are not limited to them.
DTYPES = ("uint8", "float16", "float32", "float64")

#: Statuses of a case that was measured.
MEASURED = (Status.OK, Status.UNCHECKED)
