"""Keeps the item table bounded: items that only events named are dropped when nobody remembers them any more.

Events may name any number of items. What users remember is bounded by their recent items, and what may be
listed by the catalogue; everything else can go once there is much of it. Dropping renumbers the items behind
the bundle's, so it happens between batches only, when no decoded event waits, and tells everyone who holds
indices. Outputs name items by id: nothing that anyone sees depends on when it happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np

from stream.engine import Partition
from stream.log import log
from stream.workshop import Workshop

#: Items behind the bundle's that are kept without looking whether anyone needs them.
SPARE_ITEMS: Final = 1_000_000


class Compaction:
    """Drops items of the workshop's table when it has doubled since the last time."""

    def __init__(self, workshop: Workshop, spare: int = SPARE_ITEMS) -> None:
        self._workshop, self._spare = workshop, spare
        self._limit = spare

    @property
    def due(self) -> bool:
        items = self._workshop.items
        return len(items) - items.known > self._limit

    def run(self, partitions: Sequence[Partition]) -> None:
        """Drop what neither the partitions' users nor the catalogue name. All partitions must be given."""
        items, model = self._workshop.items, self._workshop.model
        used = np.zeros(len(items), np.bool_)
        for partition in partitions:
            for remembered in partition.table.remembered_items():
                used[remembered] = True
        if model is not None:
            used[model.candidates.listed] = True
        before = len(items)
        moved = items.compact(used)
        for partition in partitions:
            partition.table.renumber_items(moved)
        if model is not None:
            model.renumber_items(moved)
        self._workshop.tested.renumber_items(moved)
        self._workshop.format.forget_items()
        left = len(items) - items.known
        self._limit = max(self._spare, 2 * left)
        log.info("dropped %d items that nobody remembers, %d are left", before - len(items), left)
