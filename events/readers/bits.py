"""Bits of a word, by the machine's own instructions."""

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def count_trailing_zeros(typing_context: Any, word: Any) -> Any:
    """Return the type and the code of the instruction, as Numba wants it."""
    if not isinstance(word, types.Integer):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        wide = context.cast(builder, arguments[0], signature.args[0], types.int64)
        return builder.cttz(wide, ir.Constant(ir.IntType(1), 0))

    return types.int64(word), generate


@njit(cache=True, nogil=True)
def lowest_bit(word: int | np.int64) -> int:
    """Return the position of the lowest bit of a 64-bit integer that is 1; 64 where there is none."""
    return count_trailing_zeros(word)  # type: ignore[call-arg]
