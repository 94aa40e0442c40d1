"""The items that a user took last, as a row of the user table keeps them, at any moment of a sequence.

P moments, I items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dataset import Sequences
from stream.co_occurrence import Near
from stream.core.rules import RECENT_ITEMS

Ints = npt.NDArray[np.int64]


def recent_items(data: Sequences, event: Ints) -> npt.NDArray[np.int32]:
    """Return the last items of the sequences up to the events [P], theirs included: [P, 20], oldest first.

    Events without an item are passed over; −1 where there are fewer, at the front.
    """
    there = data.item >= 0
    items = data.item[there]
    count = np.append(0, np.cumsum(there))
    begins = count[data.start[np.searchsorted(data.start, event, "right") - 1]]
    place = count[event + 1][:, None] - RECENT_ITEMS + np.arange(RECENT_ITEMS)
    own = place >= begins[:, None]
    return np.where(own, items[np.where(own, place, 0)] if len(items) else -1, -1).astype(np.int32)


def raises_at(near: Near, data: Sequences, event: Ints) -> Tensor:
    """Return by how much each item's score is raised after the events, [P, I]."""
    return raises_of(near, recent_items(data, event))


def raises_of(near: Near, recent: npt.NDArray[np.int32]) -> Tensor:
    """Return the same after the items `recent` [P, n], the oldest first, −1 for none."""
    dense = np.zeros((len(recent), len(near.start) - 1), np.float32)
    near.raises(recent).add_to(dense)
    return torch.from_numpy(dense)
