"""What training asks for: after each moment of a user, the items of the moments that follow.

Events of one user, kind and instant are a group: the lines of a basket share the second of the till, and
their order says nothing. A click stream has groups of one. A list is wanted after the last event of a group;
right are the items of the next group, and, with less weight, of the ones behind it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.dataset import Sequences

Ints = npt.NDArray[np.int64]


class Groups(NamedTuple):
    """G groups of all sequences in order; group g is the events start[g] .. start[g + 1] − 1."""

    start: Ints  # [G + 1]
    of_event: Ints  # [N]
    first: Ints  # [U + 1] the sequence's first group


class Targets(NamedTuple):
    """P positions of a batch, and T items that are right for them."""

    row: Ints  # [P] sequence within the batch
    step: Ints  # [P] event within the sequence
    position: Ints  # [T] index into the P positions
    item: Ints  # [T]
    weight: npt.NDArray[np.float32]  # [T] sums to 1 over a position


def group_events(data: Sequences) -> Groups:
    begins = np.ones(len(data.item), np.bool_)
    begins[1:] = (np.diff(data.time_ms) != 0) | (np.diff(data.kind.astype(np.int64)) != 0)
    begins[data.start[:-1]] = True
    start = np.append(np.flatnonzero(begins), len(begins))
    of_event = np.cumsum(begins) - 1
    first = np.append(of_event[data.start[:-1]], len(start) - 1)
    return Groups(start, of_event, first)


def shuffle_groups(data: Sequences, groups: Groups, random: np.random.Generator) -> npt.NDArray[np.int32]:
    """Return the items [N] with those of each group in an order of chance."""
    return data.item[np.lexsort((random.random(len(data.item)), groups.of_event))]


def make_targets(
    data: Sequences, groups: Groups, users: Ints, wanted: npt.NDArray[np.bool_], horizon: int, decay: float
) -> Targets:
    """Return the targets of the sequences `users`: items of the next `horizon` groups.

    wanted: [N] events whose items are targets. A group that is one further off weighs `decay` times as much.
    """
    rows, steps, positions, items, weights = [], [], [], [], []
    count = 0
    for row, user in enumerate(users.tolist()):
        group = np.arange(groups.first[user], groups.first[user + 1] - 1)
        low = groups.start[group + 1]
        high = groups.start[np.minimum(group + 1 + horizon, groups.first[user + 1])]
        lengths = high - low
        position = np.repeat(np.arange(len(group)), lengths)
        event = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths) + low[position]
        position, event = position[wanted[event]], event[wanted[event]]
        away = groups.of_event[event] - group[position] - 1
        used, position = np.unique(position, return_inverse=True)
        weight = decay**away
        weight = weight / np.bincount(position, weight, len(used))[position] if len(used) else weight
        rows.append(np.full(len(used), row))
        steps.append(low[used] - 1 - data.start[user])
        positions.append(position + count)
        items.append(data.item[event])
        weights.append(weight)
        count += len(used)
    return Targets(
        np.concatenate(rows),
        np.concatenate(steps),
        np.concatenate(positions),
        np.concatenate(items).astype(np.int64),
        np.concatenate(weights).astype(np.float32),
    )
