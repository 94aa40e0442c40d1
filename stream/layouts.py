"""Layouts: what decides the shape of a row, and how rows of an older layout are read.

A layout is described by a line of JSON; rows carry its hash. With the first rows of a layout its description
is written to `user_state` as well, so that whoever comes later with another config still knows what they
hold. Where only the vocabulary of kinds differs, the cells of a row are carried over one by one: those of a
kind that is no more are dropped, those of a new one are 0, as no event of it can have been accepted. Any
other difference (rings, day offset, scalars of another version) changes what a cell or a field means, and
such rows are not read.
"""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np
from msgspec import Struct

from stream.config import Config
from stream.core.persist import DROPPED, Order
from stream.core.rules import DEDUP_IDS, RECENT_ITEMS
from stream.core.users import ROW


class Layout(Struct, frozen=True, array_like=True):
    """Everything that decides the shape of a row, in an order that does not depend on the config's."""

    kinds: list[str]
    rings: list[tuple[int, int]]  # milliseconds of a bucket, buckets
    day_offset_ms: int
    dedup_ids: int
    recent_items: int
    scalars: list[list[str]]  # name and type of each field of a ROW

    @property
    def shape(self) -> tuple[object, ...]:
        """What two layouts must have in common for rows to be carried over."""
        return self.rings, self.day_offset_ms, self.dedup_ids, self.recent_items, self.scalars


def lay_out(config: Config) -> Layout:
    """Return the layout of the rows that are written under a config."""
    return Layout(
        sorted(config.events.kinds),
        sorted((ring.bucket_ms, ring.buckets) for ring in config.windows.rings),
        config.time.day_offset_ms,
        DEDUP_IDS,
        RECENT_ITEMS,
        [list(map(str, field)) for field in ROW.descr],
    )


def describe(layout: Layout) -> bytes:
    """Return the description of a layout: equal ones, equal bytes."""
    return msgspec.json.encode(layout)


def read_description(description: bytes) -> Layout | None:
    """Return the layout that is described, None if this version does not understand the description."""
    try:
        return msgspec.json.decode(description, type=Layout)
    except msgspec.MsgspecError:
        return None


def hash_layout(description: bytes) -> bytes:
    """Return the 8 bytes that rows carry."""
    return hashlib.blake2b(description, digest_size=8, person=b"ebbtide-layout").digest()


def order_of(config: Config) -> Order:
    """Say where the rings and cells that a row is written from lie in the table of a config."""
    rings, kinds = config.windows.rings, list(config.events.kinds)
    by_size = sorted(range(len(rings)), key=lambda ring: rings[ring].bucket_ms)
    by_name = sorted(range(len(kinds)), key=kinds.__getitem__)
    first = np.cumsum([0, *(ring.buckets for ring in rings)])
    cells = [
        (first[ring] + bucket) * len(kinds) + kind
        for ring in by_size
        for bucket in range(rings[ring].buckets)
        for kind in by_name
    ]
    return Order(np.array(by_size, np.int64), np.array(cells, np.int64))


def carry_over(older: Layout, ours: Layout, order: Order) -> Order | None:
    """Say where the cells of an older layout's rows lie in our table; None if more than the kinds differ.

    order: that of our own rows. A cell of a kind that we do not have is DROPPED.
    """
    if older.shape != ours.shape:
        return None
    own = order.cells.reshape(-1, len(ours.kinds))  # [W, K]
    cells = np.full((len(own), len(older.kinds)), DROPPED, np.int64)
    for j, kind in enumerate(older.kinds):
        if kind in ours.kinds:
            cells[:, j] = own[:, ours.kinds.index(kind)]
    return Order(order.rings, cells.reshape(-1))
