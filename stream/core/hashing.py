"""FNV-1a, 64 bits: the one hash of the project, for user slots, event ids and unknown items.

Fowler, Noll, Vo; constants from draft-eastlake-fnv. It is short enough to be read, needs no seed, and gives
the same number on every machine, which the log's replay relies on.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from stream.core.compiled import kernel, leaf, unwarned

FNV_OFFSET_BASIS: Final = np.uint64(14695981039346656037)
FNV_PRIME: Final = np.uint64(1099511628211)


@unwarned
@leaf
def fnv1a(data: npt.NDArray[np.uint8], start: int, stop: int) -> np.uint64:
    """Return the hash of data[start:stop]."""
    h = FNV_OFFSET_BASIS
    for i in range(start, stop):
        h = (h ^ np.uint64(data[i])) * FNV_PRIME
    return h


def fnv1a_all(data: npt.NDArray[np.uint8], start: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """Return the hashes of the pieces data[start[i]:start[i + 1]]: 0 for an empty piece, else never 0."""
    hashes = np.zeros(len(start) - 1, np.uint64)
    hash_pieces(data, start, hashes)
    return hashes


@kernel
def hash_pieces(
    data: npt.NDArray[np.uint8], start: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]
) -> None:
    for i in range(len(hashes)):
        if start[i + 1] > start[i]:
            h = fnv1a(data, start[i], start[i + 1])
            hashes[i] = h if h != np.uint64(0) else np.uint64(1)
