"""Rows of the user table as values of the `user_state` topic, and back, many at once (`stream.core.persist`).

A value names its format and its layout (kinds, rings, scalars): another one is refused, never misread. Items
are named by their ids, as indices are one process's own. The order in which a config names kinds and rings
does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from stream.config import Config
from stream.core import persist
from stream.core.dirty import GRAVE, LIVE, NOTHING
from stream.core.persist import FIRST_MISSING, FORMAT, FRAME, MISSING, Names, Order
from stream.core.rules import DEDUP_IDS, RECENT_ITEMS
from stream.core.table import UserTable
from stream.core.users import ROW
from stream.errors import StateError
from stream.items import ItemTable

Ints = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint8]

_REMEDY: Final = "go back to the config or version that wrote it, or start with a new group and state topic"


class SnapshotFormat:
    """Encodes and loads rows for all tables of one worker: one config, one item table."""

    def __init__(self, config: Config, items: ItemTable) -> None:
        description = _describe(config)
        digest = hashlib.blake2b(description, digest_size=8, person=b"ebbtide-layout").digest()
        #: The hash of what decides the shape of a row: kinds, rings, scalars.
        self.layout: Final = digest.hex()
        self._layout = np.uint64(int.from_bytes(digest, "little"))
        self._order = _order(config)
        self._heads_bytes = 8 * len(config.windows.rings)
        self._names = ItemNames(items)

    def forget_items(self) -> None:
        """The item table was compacted: its indices mean other items now."""
        self._names = ItemNames(self._names.items)

    def encode(self, table: UserTable, slots: Slots, words: Words, through: int) -> list[bytes | None]:
        """Return what a snapshot says of each slot: a row, a grave, or None where `words` has NOTHING."""
        users, raw, names = table.users, persist.view_raw(table.users), self._names.all()
        frames = np.zeros(len(slots), FRAME).view(np.recarray)
        frames.format, frames.word = FORMAT, words
        frames.layout, frames.through = self._layout, through
        start = np.zeros(len(slots) + 1, np.int64)
        persist.measure(users, raw, names, slots, frames, start[1:])
        np.cumsum(start, out=start)
        out = np.zeros(int(start[-1]), np.uint8)
        persist.write_rows(users, raw, self._order, names, slots, frames, _as_bytes(frames), start, out)
        data, edges = out.tobytes(), start.tolist()
        return [
            data[edges[i] : edges[i + 1]] if word != NOTHING else None
            for i, word in enumerate(words.tolist())
        ]

    def load(
        self, table: UserTable, ids: Sequence[bytes], values: Sequence[bytes | None], *, place: str
    ) -> None:
        """Put rows into the table, in order; the last of a user holds. Timers are not set yet.

        Raises StateError for a row of another format or layout, naming `place`.
        """
        data, start = _join([value or b"" for value in values])
        id_data, id_start = _join(ids)
        frames = _frames(data, start)
        self._check(frames, np.diff(start), place)
        table.reserve(len(ids), len(id_data), 0)
        users, names = table.users, self._names.all()
        missing = np.zeros(int(frames.recent.sum()), MISSING).view(np.recarray)
        kept = users.counts[0].copy()
        users.counts.keep_undo = users.counts.keep_dirty = 0
        unknown = persist.load_rows(
            table.rules, users, table.undo, persist.view_raw(users), self._order, names, frames, data, start,
            id_data, id_start, missing,
        )  # fmt: skip
        users.counts.keep_undo, users.counts.keep_dirty = kept.keep_undo, kept.keep_dirty
        self._name(users.recent, missing[:unknown], data)
        table.commit()

    def _check(self, frames: Any, sizes: Ints, place: str) -> None:
        said = frames[frames.word != NOTHING]
        if (said.format != FORMAT).any() or (said.word > GRAVE).any():
            raise StateError(
                "a row is in a format that this version cannot read", place=place, remedy=_REMEDY
            )
        if (said.layout != self._layout).any():
            raise StateError(
                "a row has another layout of kinds and rings than this config", place=place, remedy=_REMEDY
            )
        fixed = FRAME.itemsize + ROW.itemsize + self._heads_bytes
        wide = {name: frames[name].astype(np.int64) for name in ("cells", "spend", "seen", "state")}
        columns = 4 * wide["cells"] + 10 * wide["spend"] + 8 * wide["seen"] + 4 * wide["state"]
        expected = np.where(frames.word == LIVE, fixed + columns + frames.recent_bytes, FRAME.itemsize)
        if (sizes != np.where(frames.word == NOTHING, 0, expected)).any():
            raise StateError("a row is damaged: its size is not what it says", place=place, remedy=_REMEDY)

    def _name(self, recent: Slots, missing: Any, data: npt.NDArray[np.uint8]) -> None:
        """Intern the items that nobody here has heard of, and put them into their rows."""
        places = recent[missing.slot, missing.place]
        missing = missing[places == FIRST_MISSING - np.arange(len(missing))]
        content = data.tobytes() if len(missing) else b""
        edges = zip(missing.start.tolist(), missing.stop.tolist(), strict=True)
        names = [content[start:stop].decode() for start, stop in edges]
        recent[missing.slot, missing.place] = self._names.items.intern_all(names)


class ItemNames:
    """The ids of an item table as bytes, with a lookup for compiled code; grows with the table."""

    def __init__(self, items: ItemTable) -> None:
        self.items = items
        self._count = 0
        self._names = Names(
            np.zeros(1 << 12, np.uint8), np.zeros(1, np.int64), np.full(1 << 10, -1, np.int32)
        )

    def all(self) -> Names:
        """Return the names of all items that the table has by now."""
        if len(self.items) > self._count:
            self._add([name.encode() for name in self.items.names[self._count :]])
        return self._names

    def _add(self, names: list[bytes]) -> None:
        data, start = _join(names)
        used, count = int(self._names.start[-1]), self._count + len(names)
        room = self._names.data
        if used + len(data) > len(room):
            room = np.zeros(2 * (used + len(data)), np.uint8)
            room[:used] = self._names.data[:used]
        room[used : used + len(data)] = data
        lookup, first = self._names.lookup, self._count
        if 2 * count > len(lookup):
            lookup, first = np.full(1 << (2 * count).bit_length(), -1, np.int32), 0
        self._names = Names(room, np.concatenate([self._names.start, used + start[1:]]), lookup)
        persist.index_names(self._names, first, count)
        self._count = count


def _describe(config: Config) -> bytes:
    """Return everything that decides the shape of a row, as text."""
    rings = sorted((ring.bucket_ms, ring.buckets) for ring in config.windows.rings)
    scalars = [list(map(str, field)) for field in ROW.descr]
    shape = [sorted(config.events.kinds), rings, config.time.day_offset_ms, DEDUP_IDS, RECENT_ITEMS, scalars]
    return msgspec.json.encode(shape)


def _order(config: Config) -> Order:
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


def _join(pieces: Sequence[bytes]) -> tuple[npt.NDArray[np.uint8], Ints]:
    start = np.zeros(len(pieces) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, pieces), np.int64, len(pieces)), out=start[1:])
    return np.frombuffer(b"".join(pieces), np.uint8), start


def _as_bytes(frames: Any) -> npt.NDArray[np.uint8]:
    raw: npt.NDArray[np.uint8] = frames.view(np.ndarray).view(np.uint8).reshape(len(frames), FRAME.itemsize)
    return raw


def _frames(data: npt.NDArray[np.uint8], start: Ints) -> Any:
    """Return the frames of the values data[start[i]:start[i + 1]]; zeros (NOTHING) where none fits."""
    frames = np.zeros(len(start) - 1, FRAME).view(np.recarray)
    there = np.flatnonzero(np.diff(start) >= FRAME.itemsize)
    _as_bytes(frames)[there] = data[start[there][:, None] + np.arange(FRAME.itemsize)]
    return frames
