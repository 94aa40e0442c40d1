"""A large block of memory that grows without ever being there twice.

The system hands out a page of it, zeroed, when the page is first touched; so a block may be larger than what
is used of it. Growing moves the rows piece by piece, and gives each piece back as soon as it has been moved.
"""

from __future__ import annotations

import mmap
from typing import Final

import numpy as np
import numpy.typing as npt

_PIECE_BYTES: Final = 1 << 24  # a whole number of pages, large ones too
_PRIVATE: Final = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class Block:
    """`bytes` are uint8 [rows, width], zero at first."""

    def __init__(self, rows: int, width: int) -> None:
        self._map = mmap.mmap(-1, max(rows * width, 1), **_PRIVATE)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # a table of users misses a page at every event otherwise
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._flat = np.frombuffer(self._map, np.uint8, rows * width)
        self.bytes: npt.NDArray[np.uint8] = self._flat.reshape(rows, width)

    def grow(self, rows: int) -> Block:
        """Return a block with these rows first, and zeros behind them. This one must not be used again."""
        new = Block(rows, self.bytes.shape[1])
        size = len(self._flat)
        for start in range(0, size, _PIECE_BYTES):
            stop = min(start + _PIECE_BYTES, size)
            new._flat[start:stop] = self._flat[start:stop]
            if hasattr(mmap, "MADV_DONTNEED"):
                self._map.madvise(mmap.MADV_DONTNEED, start, stop - start)
        return new
