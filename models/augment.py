"""Augmentation: what an epoch may change in the sequences that go in. What is asked for stays true.

    crop         a stretch of half the length or more
    length       a chance length, its end a chance event (stochastic length)
    stretches    all of a long history, in stretches that begin and end elsewhere each epoch
    mask         an item is hidden: the step sees "no item"
    substitute   an item gives way to one that stood next to it somewhere (as in CoSeRec, Liu et al., 2021)
    reorder      the items of a stretch in an order of chance (with crop and mask: CL4SRec, Xie et al., 2022)

Items change without their times, kinds and values: those are facts of the event.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.batches import Batch
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


def count_stretches(length: Ints, length_max: int) -> Ints:
    """Return in how many stretches of `length_max` events at most `into_stretches` cuts each history."""
    return np.where(length > length_max, -(-length // length_max) + 1, 1)


def into_stretches(histories: Batch, length_max: int, chance: np.random.Generator) -> Batch:
    """Cut each history that is longer than `length_max` so that every event stands in one stretch.

    Those between the ends are of one length; where the first ends is left to chance, so that no event always
    stands at a stretch's start, where little is known of the user.
    """
    length = histories.stop - histories.start
    count = count_stretches(length, length_max)
    row = np.repeat(np.arange(len(length)), count)  # [R]
    number = np.arange(len(row)) - (np.cumsum(count) - count)[row]
    size = length / np.maximum(count - 1, 1)
    first = chance.uniform(1.0, np.maximum(size, 1.0))
    begins = np.where(number > 0, first[row] + (number - 1) * size[row], 0.0).astype(np.int64)
    start = histories.start[row] + begins
    last = number == count[row] - 1
    stop = np.where(last, histories.stop[row], np.roll(start, -1))
    return Batch(histories.users[row], start, stop)


def cut(batch: Batch, augment: Augment, length_max: int, chance: np.random.Generator) -> Batch:
    """Return the stretches of the rows that one epoch sees."""
    length = batch.stop - batch.start
    longest = np.minimum(length, length_max) if length_max else length
    if augment.length_min:
        least = np.minimum(augment.length_min, longest)
        kept = chance.integers(least, longest + 1)
    else:
        kept = longest
    cropped = chance.random(len(length)) < augment.crop
    kept = np.where(cropped, chance.integers((kept + 1) // 2, kept + 1), kept)
    moved = cropped | (augment.length_min > 0)
    # A stretch that is not left to chance is the latest: it is what serving knows.
    stop = np.where(moved, batch.start + chance.integers(kept, length + 1), batch.stop)
    return Batch(batch.users, stop - kept, stop)


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
