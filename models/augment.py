"""Augmentation: what an epoch may change in the sequences that go in. What is asked for stays true.

    crop         a stretch of half the length or more
    length       a chance length, its end a chance event (stochastic length)
    mask         an item is hidden: the step sees "no item"
    substitute   an item gives way to one that stood next to it somewhere (as in CoSeRec, Liu et al., 2021)
    reorder      the items of a stretch in an order of chance (with crop and mask: CL4SRec, Xie et al., 2022)

Items change without their times, kinds and values: those are facts of the event.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.batches import Batch, whole
from models.dataset import Sequences
from models.recipe import Augment

Ints = npt.NDArray[np.int64]
Items = npt.NDArray[np.int32]


def vary_items(data: Sequences, items: Items, augment: Augment, chance: np.random.Generator) -> Items:
    """Return the items [N] as one epoch sees them."""
    if augment.reorder:
        items = reorder(data, items, augment.reorder, chance)
    if augment.substitute:
        items = substitute(data, items, augment.substitute, chance)
    if augment.mask:
        items = np.where(chance.random(len(items)) < augment.mask, np.int32(-1), items)
    return items


def cut(
    data: Sequences, users: Ints, augment: Augment, length_max: int, chance: np.random.Generator
) -> Batch:
    """Return the stretches of the sequences `users` that one epoch sees."""
    batch = whole(data, users)
    length = batch.stop - batch.start
    longest = np.minimum(length, length_max) if length_max else length
    if augment.length_min:
        least = np.minimum(augment.length_min, longest)
        kept = chance.integers(least, longest + 1)
    else:
        kept = longest
    cropped = chance.random(len(users)) < augment.crop
    kept = np.where(cropped, chance.integers((kept + 1) // 2, kept + 1), kept)
    moved = cropped | (augment.length_min > 0)
    # A stretch that is not left to chance is the latest: it is what serving knows.
    stop = np.where(moved, batch.start + chance.integers(kept, length + 1), batch.stop)
    return Batch(users, stop - kept, stop)


def reorder(data: Sequences, items: Items, share: float, chance: np.random.Generator) -> Items:
    """Shuffle a stretch of at most half the events in a share of the sequences."""
    length = data.start[1:] - data.start[:-1]
    stretch = np.where(chance.random(data.users) < share, length // 2, 0)
    first = data.start[:-1] + chance.integers(0, length - stretch + 1)
    block = np.arange(len(items))
    for start, size in zip(first[stretch > 1].tolist(), stretch[stretch > 1].tolist(), strict=True):
        block[start : start + size] = start
    return items[np.lexsort((chance.random(len(items)), block))]


def substitute(data: Sequences, items: Items, share: float, chance: np.random.Generator) -> Items:
    """Replace a share of the items by a neighbour of theirs: the item beside one of their occurrences."""
    N = len(items)
    order = np.argsort(data.item, kind="stable")  # events by item
    begins = np.searchsorted(data.item[order], np.arange(len(data.item_ids) + 1))
    chosen = np.flatnonzero((chance.random(N) < share) & (items >= 0))
    item = items[chosen]
    occurrence = order[chance.integers(begins[item], begins[item + 1])]
    beside = occurrence + np.where(chance.random(len(chosen)) < 0.5, -1, 1)
    owner = np.repeat(np.arange(data.users), data.start[1:] - data.start[:-1])
    there = (beside >= 0) & (beside < N)
    beside = np.where(there, beside, occurrence)
    good = (owner[beside] == owner[occurrence]) & (data.item[beside] >= 0)
    varied = items.copy()
    varied[chosen[good]] = data.item[beside[good]]
    return varied
