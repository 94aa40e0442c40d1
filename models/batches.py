"""Batches: which stretch of which sequence goes through the model together, padded to one length.

B sequences, T steps, F features, N events of the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dataset import Sequences

Ints = npt.NDArray[np.int64]

#: Batches that are cut from one sorted run of sequences: of like length, so that little is padding, and yet
#: never the same ones together.
_SORTED_TOGETHER: Final = 16


class Batch(NamedTuple):
    """Row b is the events start[b] .. stop[b] − 1 of sequence users[b]."""

    users: Ints  # [B]
    start: Ints  # [B]
    stop: Ints  # [B]

    def take(self, rows: Ints) -> Batch:
        return Batch(self.users[rows], self.start[rows], self.stop[rows])

    def at(self, event: Ints, row: Ints) -> tuple[Tensor, Tensor]:
        """Return row and step, i64 [P] each, of events that stand in the rows `row`."""
        return torch.from_numpy(row), torch.from_numpy(event - self.start[row])


def whole(data: Sequences, users: Ints, length_max: int = 0) -> Batch:
    """Return the sequences as they are, or the last `length_max` events of each."""
    start, stop = data.start[users], data.start[users + 1]
    return Batch(users, np.maximum(start, stop - length_max) if length_max else start, stop)


def cut_batches(length: Ints, size: int, chance: np.random.Generator) -> list[Ints]:
    """Return rows of so many events in batches of `size` at most, of like length, in an order of chance."""
    rows = chance.permutation(len(length))
    batches: list[Ints] = []
    for first in range(0, len(rows), size * _SORTED_TOGETHER):
        run = rows[first : first + size * _SORTED_TOGETHER]
        alike = run[np.argsort(length[run], kind="stable")]
        batches += np.array_split(alike, -(-len(alike) // size))
    return [batches[i] for i in chance.permutation(len(batches)).tolist()]


def count_batches(rows: int, size: int) -> int:
    """Return how many batches `cut_batches` makes."""
    run = size * _SORTED_TOGETHER
    return rows // run * _SORTED_TOGETHER + -(-(rows % run) // size)


def pad_batch(data: Sequences, batch: Batch, columns: Ints) -> tuple[Tensor, Tensor]:
    """Return items i64 [B, T] (−1, the last row of the table, for none) and features [B, T, F]."""
    steps = np.arange((batch.stop - batch.start).max(initial=1))
    event = batch.start[:, None] + steps  # [B, T]
    there = event < batch.stop[:, None]
    event = np.where(there, event, 0)
    item = np.where(there, data.item[event], -1).astype(np.int64)
    features = np.where(there[..., None], data.features[event[..., None], columns], np.float32(0.0))
    return torch.from_numpy(item), torch.from_numpy(features)


def pad(data: Sequences, users: Ints, features: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Return items [B, T] and features [B, T, F] of whole sequences."""
    return pad_batch(data, whole(data, users), data.column(features))
