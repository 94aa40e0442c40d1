"""Rows of the user table as values of the `user_state` topic, and back, many at once (`stream.core.persist`).

A value names its format and its layout (kinds, rings, scalars). Rows of an older layout are carried over if
only kinds differ and the layout's description is known (`layouts.py`); any other is left out and reported,
never misread. Items are named by their ids, as indices are one process's own. The order in which a config
names kinds and rings does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stream.config import Config
from stream.core import persist
from stream.core.dirty import GRAVE, LIVE, NOTHING
from stream.core.persist import FIRST_MISSING, FORMAT, FRAME, MISSING, Names, Order
from stream.core.table import UserTable
from stream.core.users import ROW
from stream.errors import StateError
from stream.items import ItemTable
from stream.layouts import carry_over, describe, hash_layout, lay_out, order_of, read_description

Ints = npt.NDArray[np.int64]
Slots = npt.NDArray[np.int32]
Words = npt.NDArray[np.uint8]

_REMEDY: Final = "go back to the config or version that wrote it, or start with a new group and state topic"


class SnapshotFormat:
    """Encodes and loads rows for all tables of one worker: one config, one item table."""

    def __init__(self, config: Config, items: ItemTable) -> None:
        self._ours = lay_out(config)
        #: What is written to `user_state` beside the rows (`Layout`).
        self.description: Final = describe(self._ours)
        digest = hash_layout(self.description)
        #: The hash of what decides the shape of a row: kinds, rings, scalars.
        self.layout: Final = digest.hex()
        self._layout = np.uint64(int.from_bytes(digest, "little"))
        self._order = order_of(config)
        #: How the rows of each layout are read, by its hash.
        self._orders = {int(self._layout): self._order}
        self._heads_bytes = 8 * len(config.windows.rings)
        self._names = ItemNames(items)

    def learn(self, description: bytes) -> None:
        """Hear of a layout that rows may have."""
        older = read_description(description)
        order = None if older is None else carry_over(older, self._ours, self._order)
        if order is not None:
            digest = hash_layout(description)
            self._orders.setdefault(int.from_bytes(digest, "little"), order)

    def reads(self, layout: str) -> bool:
        """Whether rows of the layout with this hash (in hex) can be loaded, from what was heard by now."""
        return int.from_bytes(bytes.fromhex(layout), "little") in self._orders

    def forget_items(self) -> None:
        """The item table was compacted: its indices mean other items now."""
        self._names = ItemNames(self._names.items)

    def encode(self, table: UserTable, slots: Slots, words: Words, through: int | Ints) -> list[bytes | None]:
        """Return what a snapshot says of each slot: a row, a grave, or None where `words` has NOTHING.

        through: which record or entry they hold, of all of them or i8[B] of each.
        """
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

    def graves(self, count: int, through: int) -> list[bytes]:
        """Return as many graves: nobody, up to this record or entry."""
        frame = np.zeros(1, FRAME).view(np.recarray)
        frame.format, frame.word, frame.layout, frame.through = FORMAT, GRAVE, self._layout, through
        return [frame.tobytes()] * count

    def load(
        self, table: UserTable, ids: Sequence[bytes], values: Sequence[bytes | None], *, place: str
    ) -> list[int]:
        """Put rows into the table, in order; the last of a user holds. Timers are not set yet.

        Returns which rows were left out, because their layout is none that is known and can be carried over.
        Raises StateError for a row of another format or a damaged one, naming `place`.
        """
        data, start = _join([value or b"" for value in values])
        frames = _frames(data, start)
        self._check_format(frames, place)
        said = frames.word != NOTHING
        layouts = frames.layout.copy()
        layouts[~said] = self._layout
        if (layouts == self._layout).all():
            self._load(table, ids, data, start, frames, self._order, place)
            return []
        left_out: list[int] = []
        # What says nothing goes with what comes before it, so that a run is as long as it can be.
        before = np.maximum.accumulate(np.where(said, np.arange(len(layouts)), -1))
        layouts = np.where(before < 0, self._layout, layouts[before])
        edges = [0, *(np.flatnonzero(np.diff(layouts)) + 1).tolist(), len(layouts)]
        for first, stop in pairwise(edges):
            order = self._orders.get(int(layouts[first]))
            if order is None:
                left_out += (first + np.flatnonzero(said[first:stop])).tolist()
                nothing = (first + np.flatnonzero(~said[first:stop])).tolist()
                self.load(table, [ids[i] for i in nothing], [values[i] for i in nothing], place=place)
            else:
                run = start[first : stop + 1]
                self._load(table, ids[first:stop], data, run, frames[first:stop], order, place)
        return left_out

    def _load(
        self,
        table: UserTable,
        ids: Sequence[bytes],
        data: npt.NDArray[np.uint8],
        start: Ints,
        frames: Any,
        order: Order,
        place: str,
    ) -> None:
        """Put rows of one layout into the table."""
        self._check_sizes(frames, np.diff(start), place)
        id_data, id_start = _join(ids)
        table.reserve(len(ids), len(id_data), 0)
        users, names = table.users, self._names.all()
        missing = np.zeros(int(frames.recent.sum()), MISSING).view(np.recarray)
        kept = users.counts[0].copy()
        users.counts.keep_undo = users.counts.keep_dirty = 0
        unknown = persist.load_rows(
            table.rules, users, table.undo, persist.view_raw(users), order, names, frames, data, start,
            id_data, id_start, missing,
        )  # fmt: skip
        users.counts.keep_undo, users.counts.keep_dirty = kept.keep_undo, kept.keep_dirty
        self._name(users.recent, missing[:unknown], data)
        table.commit()

    def _check_format(self, frames: Any, place: str) -> None:
        said = frames[frames.word != NOTHING]
        if (said.format != FORMAT).any() or (said.word > GRAVE).any():
            raise StateError(
                "a row is in a format that this version cannot read", place=place, remedy=_REMEDY
            )

    def _check_sizes(self, frames: Any, sizes: Ints, place: str) -> None:
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
