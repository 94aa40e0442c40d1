"""FNV-1a, 64 bits: the one hash of the project, for user slots, event ids and unknown items.

Fowler, Noll, Vo; constants from draft-eastlake-fnv. It is short enough to be read, needs no seed, and gives
the same number on every machine, which the log's replay relies on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

FNV_OFFSET_BASIS: Final = np.uint64(14695981039346656037)
FNV_PRIME: Final = np.uint64(1099511628211)


@njit(cache=True)
def fnv1a(data: npt.NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    """Return the hash of data[start:stop]."""
    h = FNV_OFFSET_BASIS
    for i in range(start, stop):
        h = (h ^ np.uint64(data[i])) * FNV_PRIME
    return h


@njit(cache=True)
def fnv1a_all(data: npt.NDArray[np.uint8], start: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the hashes of the pieces data[start[i]:start[i + 1]]: 0 for an empty piece, else never 0."""
    n = len(start) - 1
    hashes = np.zeros(n, np.uint64)
    for i in range(n):
        if start[i + 1] > start[i]:
            h = fnv1a(data, start[i], start[i + 1])
            hashes[i] = h if h != np.uint64(0) else np.uint64(1)
    return hashes
