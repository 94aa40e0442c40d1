"""The items that a user took last, as a row of the user table keeps them, at any moment of a sequence.

P moments, I items.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models.dataset import Sequences
from models.ensemble import Model
from models.repeats import Repeats
from stream.co_occurrence import Near, Raises
from stream.core.rules import RECENT_ITEMS

Ints = npt.NDArray[np.int64]


def recent_items(
    data: Sequences, event: Ints, length: int = RECENT_ITEMS, known: int | None = None
) -> npt.NDArray[np.int32]:
    """Return the last items of the sequences up to the events [P], theirs included: [P, n], oldest first.

    length: n. Events without an item are passed over, and with `known` those of items from there on; −1 where
    there are fewer, at the front.
    """
    there = (data.item >= 0) & (data.item < (len(data.item_ids) if known is None else known))
    items = data.item[there]
    count = np.append(0, np.cumsum(there))
    begins = count[data.start[np.searchsorted(data.start, event, "right") - 1]]
    place = count[event + 1][:, None] - length + np.arange(length)
    own = place >= begins[:, None]
    return np.where(own, items[np.where(own, place, 0)] if len(items) else -1, -1).astype(np.int32)


def raises_at(model: Model, data: Sequences, event: Ints) -> Tensor | None:
    """Return by how much each item's score is raised after the events, [P, I]; None if it never is."""
    if model.near is not None:
        return near_raises(model.near, recent_items(data, event))
    if model.repeats is not None:
        return repeat_raises(model.repeats, repeated_items(model.repeats, data, event))
    return None


def repeated_items(repeats: Repeats, data: Sequences, event: Ints) -> npt.NDArray[np.int32]:
    """Return the items of the rings after the events [P], as `recent_items` does."""
    return recent_items(data, event, repeats.length, len(repeats.log_weight))


def near_raises(near: Near, recent: npt.NDArray[np.int32]) -> Tensor:
    """Return what items `recent` [P, n], the oldest first, −1 for none, raise of their neighbours, [P, I]."""
    return _dense(near.raises(recent), len(recent), len(near.start) - 1)


def repeat_raises(repeats: Repeats, recent: npt.NDArray[np.int32]) -> Tensor:
    """Return what items `recent` [P, n] raise of themselves, [P, I]."""
    ring = (recent + 1).astype(np.float32)
    return _dense(repeats.served().raises_of(ring), len(recent), len(repeats.log_weight))


def _dense(raises: Raises, rows: int, items: int) -> Tensor:
    dense = np.zeros((rows, items), np.float32)
    raises.add_to(dense)
    return torch.from_numpy(dense)
