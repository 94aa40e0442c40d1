"""What is taken together: a user's last items raise the scores of the items that others took near them.

    e_j     = Σ_n decay^n · c(item n events ago, j)        over the last 20 items
    raise_j = strength · ln(1 + I · e_j / Σ_i e_i)         0 for an item that is near none of them

c are weights of pairs, counted in the sequences that the model learnt from (models/co_occurrence.py). Such
neighbours are the simplest recommender that is hard to beat (Ludewig and Jannach, 2018), and err otherwise
than an encoder. I · e / Σ e is how many times its equal share an item earns; its logarithm stands beside the
encoder's scores, which are logarithms too.

Most items are near none of the last ones, so a row of raises is sparse. B rows, I items, N pairs.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from stream.core.events import NO_ITEM

Floats = npt.NDArray[np.float32]
Items = npt.NDArray[np.int32]
Offsets = npt.NDArray[np.int64]

#: The files of a bundle that has neighbours.
NEAR_START: Final = "near_start.npy"
NEAR_ITEM: Final = "near_item.npy"
NEAR_WEIGHT: Final = "near_weight.npy"
NEAR_TYPES: Final = {NEAR_START: np.int64, NEAR_ITEM: np.int32, NEAR_WEIGHT: np.float32}


class Raises(NamedTuple):
    """Row b has the items and values from start[b] to start[b + 1], each item once, in no order."""

    start: Offsets  # [B + 1]
    item: Items
    value: Floats  # above 0

    def add_to(self, scores: Floats) -> None:
        """Add them to scores [B, at least I]."""
        row = np.repeat(np.arange(len(self.start) - 1), np.diff(self.start))
        scores[row, self.item] += self.value


class Near(NamedTuple):
    """The neighbours of every item: those of item i from start[i] to start[i + 1]."""

    start: Offsets  # [I + 1]
    item: Items  # [N], each at most once per item
    weight: Floats  # [N], above 0
    decay: float
    strength: float

    def raises(self, recent: Items) -> Raises:
        """Return what the items of each row raise: recent [B, n], the oldest first, −1 for none.

        An item that has no neighbours here, as one that came after the count, still makes older ones older.
        """
        lengths = np.append(np.diff(self.start), 0)
        known = np.where((recent >= 0) & (recent < len(lengths) - 1), recent, -1)
        most = int(lengths[known].sum())
        item, value = np.empty(most, np.int32), np.empty(most, np.float32)
        start = np.zeros(len(recent) + 1, np.int64)
        raise_neighbours(*self, recent, start, item, value)
        return Raises(start, item[: start[-1]], value[: start[-1]])


def check_near(near: Near, items: int) -> str:
    """Return what is wrong with the neighbours of so many items, "" if nothing is."""
    start, item, weight, decay, strength = near
    if start.shape != (items + 1,) or start[0] != 0 or (np.diff(start) < 0).any() or start[-1] != len(item):
        return f"{NEAR_START} must rise from 0 to the number of pairs, in {items + 1} steps"
    owner = np.repeat(np.arange(items), np.diff(start))
    if len(item) and not (item.min() >= 0 and item.max() < items):
        return f"{NEAR_ITEM} must name items below {items}"
    if len(np.unique(owner * items + item)) < len(item):
        return f"{NEAR_ITEM} must name no item twice as a neighbour of another"
    if weight.shape != item.shape or not (np.isfinite(weight) & (weight > 0)).all():
        return f"{NEAR_WEIGHT} must hold a number above 0 for each pair"
    if not (0 < decay <= 1 and 0 < strength < np.inf):
        return "co_occurrence must have a decay above 0, up to 1, and a strength above 0"
    return ""


@njit(cache=True, nogil=True)
def raise_neighbours(
    start: Offsets, item: Items, weight: Floats, decay: float, strength: float,
    recent: Items, out_start: Offsets, out_item: Items, out_value: Floats,
) -> None:  # fmt: skip
    """Write the raises of the rows; `out_item` and `out_value` have room for all neighbours of all items."""
    items = len(start) - 1
    earned = np.zeros(items, np.float64)
    n = 0
    for b in range(len(recent)):
        first, total, fade = n, 0.0, 1.0
        for j in range(recent.shape[1] - 1, -1, -1):
            of = recent[b, j]
            if of == NO_ITEM:
                continue
            if of < items:
                for pair in range(start[of], start[of + 1]):
                    earns = fade * weight[pair]
                    if earned[item[pair]] == 0.0:
                        out_item[n] = item[pair]
                        n += 1
                    earned[item[pair]] += earns
                    total += earns
            fade *= decay
        for at in range(first, n):
            out_value[at] = strength * np.log1p(items * earned[out_item[at]] / total)
            earned[out_item[at]] = 0.0
        out_start[b + 1] = n
