"""What a look at the bytes of records can tell before they are parsed: compiled, and cheap enough for all.

The JSON parser of the fast path neither counts levels nor looks into the strings of fields that it skips.
`suspects` finds every record where that could matter (and some where it does not), `deepest_level` counts
exactly, for those few.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Bytes = npt.NDArray[np.uint8]

#: Flags of `suspects`.
NOT_ASCII: Final = 1
MAYBE_DEEP: Final = 2


@njit(cache=True)
def suspects(data: Bytes, start: npt.NDArray[np.int64], levels_max: int) -> npt.NDArray[np.uint8]:
    """Return the flags of the records data[start[i]:start[i + 1]], u8[B]; 0 = nothing to fear.

    A record of no more opening brackets than levels are allowed cannot be too deep, wherever they stand.
    """
    flags = np.zeros(len(start) - 1, np.uint8)
    for record in range(len(flags)):
        piece = data[start[record] : start[record + 1]]
        brackets = np.int32(0)
        seen = np.uint8(0)
        # Setting bit 5 makes "[" (0x5b) and "{" (0x7b) the same byte. A plain reduction becomes SIMD.
        for i in range(len(piece)):
            brackets += np.int32((piece[i] | np.uint8(0x20)) == np.uint8(0x7B))
        for i in range(len(piece)):
            seen |= piece[i]
        if seen >= 0x80:
            flags[record] |= np.uint8(NOT_ASCII)
        if brackets > levels_max:
            flags[record] |= np.uint8(MAYBE_DEEP)
    return flags


@njit(cache=True)
def deepest_level(data: Bytes) -> int:
    """Return how many arrays and objects are open at once at most, brackets in strings left out.

    Exact for JSON; for other text it is some number, and the parser refuses that text anyway.
    """
    level = 0
    deepest = 0
    in_string = False
    escaped = False
    for byte in data:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:  # \
                escaped = True
            elif byte == 0x22:  # "
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte == 0x5B or byte == 0x7B:  # [ {
            level += 1
            deepest = max(deepest, level)
        elif byte == 0x5D or byte == 0x7D:  # ] }
            level -= 1
    return deepest
