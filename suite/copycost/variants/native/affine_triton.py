"""Define the kernel of `torch-triton`, which Triton compiles from Python, or runs on the CPU in its interpreter.

Constants are of the type ``tl.constexpr``: they become part of the compiled kernel, in the precision of the result.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def affine(
    x, y, size,
    f0: tl.constexpr, f1: tl.constexpr, f2: tl.constexpr, s0: tl.constexpr, s1: tl.constexpr, s2: tl.constexpr,
    apart: tl.constexpr, back: tl.constexpr, wide: tl.constexpr, block: tl.constexpr,
):  # fmt: skip
    """Multiply and add a constant for each channel of flat arrays.

    Parameters
    ----------
    x, y : tensor
        Input and result.
    size : int
        Number of elements.
    f0, f1, f2, s0, s1, s2 : float
        Factors and summands, by channel of the result.
    apart : int
        Elements from a value to that of the next channel.
    back : bool
        Whether the channels are reversed.
    wide : bool
        Whether indices need 64 bits.
    block : int
        Elements of a program.
    """
    program = tl.program_id(0).to(tl.int64) if wide else tl.program_id(0)
    i = program * block + tl.arange(0, block)
    inside = i < size
    channel = i // apart % 3
    source = i + apart * (2 - 2 * channel) if back else i
    value = tl.load(x + source, mask=inside).to(y.dtype.element_ty)
    # The value is an operand of each product, so that a constant is taken in its precision and not in float32.
    result = tl.where(channel == 0, value * f0 + s0, tl.where(channel == 1, value * f1 + s1, value * f2 + s2))
    tl.store(y + i, result, mask=inside)
