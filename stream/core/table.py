"""The user table: owns the columns of one partition, their growth, and the way back.

Between `begin` and `commit` the table remembers every row as it was at its first touch in each fold call;
`rollback` puts them back, in the reverse order, to the state of any savepoint since. Columns grow by doubling
and only in `reserve`: memory that no user has touched yet is not resident.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import numpy as np

from stream.core.compiled import copy, kernel
from stream.core.dirty import rewind_dirty
from stream.core.fold import new_clock
from stream.core.memory import Block
from stream.core.rules import DEDUP_IDS, RECENT_ITEMS, Rules
from stream.core.timers import schedule
from stream.core.users import (
    COUNTS,
    MARK,
    NO_DEADLINE,
    NO_SLOT,
    ROW,
    Bytes,
    Undo,
    Users,
    add_to_index,
    build_index,
    compact_ids,
    release_gone,
    remove_from_index,
)

SLOTS_AT_FIRST: Final = 1024
ID_BYTES_AT_FIRST: Final = 1 << 15
HEAP_ENTRY_BYTES: Final = 12
#: The widest number in a row has 8 bytes.
COLUMN_ALIGNMENT: Final = 8
#: Rows looked through at a time for what they remember.
_PIECE_ROWS: Final = 1 << 16


class _Column(NamedTuple):
    """A column's place in a user's block of memory."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int


def _lay_out(rules: Rules, state_size: int) -> tuple[dict[str, _Column], int, int]:
    """Place the columns one behind the other; return them, the bytes of a row, and of its marks."""
    shapes: dict[str, tuple[Any, tuple[int, ...]]] = {
        "rows": (ROW, ()),
        "heads": (np.int64, (len(rules.ring_buckets),)),
        "cells": (np.uint16, (rules.cells, len(rules.roles))),
        "spend": (np.float64, (int(rules.ring_buckets[rules.day_ring]),)),
        "seen": (np.uint64, (DEDUP_IDS,)),
        "recent": (np.int32, (RECENT_ITEMS,)),
        "state": (np.float32, (state_size,)),
        "marks": (MARK, ()),
    }
    layout: dict[str, _Column] = {}
    at = 0
    for name, (dtype, shape) in shapes.items():
        layout[name] = _Column(np.dtype(dtype), shape, at)
        size = np.dtype(dtype).itemsize * int(np.prod(shape))
        at += -(-size // COLUMN_ALIGNMENT) * COLUMN_ALIGNMENT
    row_bytes = layout["marks"].start
    return layout, row_bytes, at - row_bytes


class Savepoint(NamedTuple):
    """A place to come back to: how much was undone until then, and the clock as it was."""

    undo: int
    gone: int
    clock: Any


class UserTable:
    """Users of one partition: columns for compiled code, growth, savepoints.

    state_size is the encoder's state in floats, 0 without a model. `undo` keeps the way back, `snapshots` the
    list of rows that no snapshot holds: a replay of a file without a model needs neither.
    """

    def __init__(
        self, rules: Rules, state_size: int = 0, *, undo: bool = False, snapshots: bool = False
    ) -> None:
        self.rules = rules
        self._layout, self._row_bytes, self._mark_bytes = _lay_out(rules, state_size)
        self._block: Block | None = None
        slots = SLOTS_AT_FIRST
        self.users = Users(
            **self._columns(slots),
            ids=np.zeros(ID_BYTES_AT_FIRST, np.uint8),
            lookup=np.full(2 * slots, NO_SLOT, np.int32),
            heap_time=np.zeros(slots, np.int64),
            heap_slot=np.zeros(slots, np.int32),
            free=np.zeros(slots, np.int32),
            gone=np.zeros(slots, np.int32),
            held=np.zeros(slots, np.int32),
            dirty=np.zeros(slots, np.int32),
            counts=np.zeros(1, COUNTS).view(np.recarray),
        )
        self.users.counts.keep_undo = undo
        self.users.counts.keep_dirty = snapshots
        self.undo = self._undo(0)
        self.clock = new_clock()

    def __len__(self) -> int:
        return int(self.users.counts[0].live)

    @property
    def nbytes(self) -> int:
        """Bytes of the columns as far as users have filled them."""
        counts = self.users.counts[0]
        return int(
            self.users.memory.shape[1] * counts.slots
            + counts.ids
            + self.users.lookup.nbytes
            + HEAP_ENTRY_BYTES * counts.heap
        )

    def savepoint(self) -> Savepoint:
        counts = self.users.counts[0]
        return Savepoint(int(counts.undo), int(counts.gone), self.clock.copy())

    def rollback(self, savepoint: Savepoint) -> None:
        """Put everything back that was touched since `savepoint`."""
        self._reserve_heap(int(self.users.counts[0].undo) - savepoint.undo)
        put_back(self.users, self.undo, savepoint.undo)
        self.users.counts[0].gone = savepoint.gone
        bury_undone(self.users, self.undo, savepoint.undo)
        self.users.counts[0].undo = savepoint.undo
        self.clock[:] = savepoint.clock
        rewind_dirty(self.users, self.clock)

    def commit(self) -> None:
        """Forget the way back, and let go of the slots of users who are gone."""
        self.users.counts[0].undo = 0
        release_gone(self.users)

    def reserve(self, events: int, id_bytes: int, timers_max: int, *, timers: int = 0) -> None:
        """Make room for a fold call: every event may make a user, every event and timer may touch one.

        timers: deadlines that the caller is about to set by itself.
        """
        counts = self.users.counts[0]
        slots = len(self.users.rows)
        if counts.slots + events > slots:
            self._grow(max(2 * slots, int(counts.slots) + events))
        if counts.ids + id_bytes > len(self.users.ids):
            self._grow_ids(id_bytes)
        touched = 2 * events + min(timers_max, int(counts.live) + events)
        if counts.keep_undo and counts.undo + touched > len(self.undo.slot):
            self._grow_undo(max(2 * len(self.undo.slot), int(counts.undo) + touched))
        self._reserve_heap(events + timers + 1)

    @property
    def first_deadline(self) -> int | None:
        """Return a time no later than the first deadline, None without users."""
        return int(self.users.heap_time[0]) if self.users.counts[0].heap else None

    def row_id(self, slot: int) -> bytes:
        row = self.users.rows[slot]
        return self.users.ids[row.id_start : row.id_start + row.id_length].tobytes()

    def slots(self) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Return the slots of all live users, in no particular order."""
        return np.flatnonzero(self.users.rows.live[: self.users.counts[0].slots])

    def remembered_items(self) -> Iterator[np.ndarray[Any, np.dtype[np.int32]]]:
        """Yield the items that rows name, those that a rollback would put back included."""
        for recent, there in self._recent():
            yield recent[there]

    def renumber_items(self, moved: np.ndarray[Any, np.dtype[np.int32]]) -> None:
        """Write moved[item] in the place of every item of `remembered_items`."""
        for recent, there in self._recent():
            recent[there] = moved[recent[there]]

    def _recent(self) -> Iterator[tuple[Any, Any]]:
        """Yield recent items and which places hold one: of live users, and of copies of them; in pieces."""
        counts = self.users.counts[0]
        columns: list[tuple[Any, Any, int]] = [(self.users.rows, self.users.recent, int(counts.slots))]
        if counts.undo:  # before the first copy there is no memory to look into
            copies = self._views(self.undo.memory, {"recent": self._layout["recent"]})["recent"]
            columns.append((self.undo.rows, copies, int(counts.undo)))
        for rows, recent, size in columns:
            for start in range(0, size, _PIECE_ROWS):
                piece = slice(start, min(start + _PIECE_ROWS, size))
                held = np.minimum(rows.recent_count[piece], RECENT_ITEMS) * rows.live[piece]
                yield recent[piece], np.arange(RECENT_ITEMS) < held[:, None]

    def _columns(self, slots: int) -> dict[str, Any]:
        """Return the columns of `slots` users, those that are there included, all of one user side by side.

        An event touches most of its user's columns: in one block of memory that is one page instead of
        eight, which a table larger than the caches feels, and undo copies a row in one go.
        """
        width = self._row_bytes + self._mark_bytes
        self._block = self._block.grow(slots) if self._block else Block(slots, width)
        memory = self._block.bytes
        return {"memory": memory, **self._views(memory, self._layout)}

    def _undo(self, slots: int) -> Undo:
        memory = np.zeros((slots, self._row_bytes), np.uint8)
        rows = self._views(memory, {"rows": self._layout["rows"]})["rows"]
        return Undo(np.zeros(slots, np.int32), memory, rows)

    @staticmethod
    def _views(memory: Bytes, layout: Mapping[str, _Column]) -> dict[str, Any]:
        views: dict[str, Any] = {}
        for name, column in layout.items():
            inner = np.zeros(column.shape, column.dtype).strides
            view: Any = np.ndarray(
                (len(memory), *column.shape), column.dtype, memory, column.start, (memory.shape[1], *inner)
            )
            views[name] = view.view(np.recarray) if column.dtype.names else view
        return views

    def _grow(self, slots: int) -> None:
        self.users = self.users._replace(
            **self._columns(slots),
            **{name: self._longer(name, slots) for name in ("free", "gone", "held")},
        )
        counts = self.users.counts[0]
        old = self.users.dirty
        dirty = np.zeros(slots, np.int32)
        dirty[: counts.dirty] = old[(counts.dirty_first + np.arange(counts.dirty)) % len(old)]
        counts.dirty_first = 0
        lookup = np.empty(1 << (2 * slots - 1).bit_length(), np.int32)
        self.users = self.users._replace(dirty=dirty, lookup=lookup)
        build_index(self.users)

    def _longer(self, name: str, slots: int) -> Any:
        old = getattr(self.users, name)
        new = np.zeros((slots, *old.shape[1:]), old.dtype).view(type(old))
        new[: len(old)] = old
        return new

    def _grow_ids(self, id_bytes: int) -> None:
        counts = self.users.counts[0]
        needed = int(counts.ids - counts.ids_dead) + id_bytes
        # It may be that every dead id is still named by a timer or a snapshot, and none can be dropped.
        ids = np.zeros(max(len(self.users.ids), 2 * needed, int(counts.ids) + id_bytes), np.uint8)
        if counts.undo == 0 and counts.ids_dead > counts.ids // 2:
            counts.ids = compact_ids(self.users, ids)
            counts.ids_dead = 0
        else:  # copies of rows still name their ids by place
            ids = np.zeros(2 * (int(counts.ids) + id_bytes), np.uint8)
            ids[: counts.ids] = self.users.ids[: counts.ids]
        self.users = self.users._replace(ids=ids)

    def _grow_undo(self, slots: int) -> None:
        n = int(self.users.counts[0].undo)
        old, self.undo = self.undo, self._undo(slots)
        for new_column, old_column in zip(self.undo, old, strict=True):
            new_column[:n] = old_column[:n]

    def _reserve_heap(self, entries: int) -> None:
        needed = int(self.users.counts[0].heap) + entries
        if needed > len(self.users.heap_time):
            longer = max(needed, 3 * len(self.users.heap_time) // 2)
            self.users = self.users._replace(
                heap_time=self._longer("heap_time", longer), heap_slot=self._longer("heap_slot", longer)
            )


@kernel
def put_back(users: Users, undo: Undo, since: int) -> None:
    """Undo the touches since `since`, the last one first."""
    counts = users.counts[0]
    for at in range(counts.undo - 1, since - 1, -1):
        slot = undo.slot[at]
        lives, lived = users.rows[slot].live, undo.rows[at].live
        if lives and not lived:
            remove_from_index(users, slot)
            users.rows[slot].live = 0
            users.rows[slot].deadline = NO_DEADLINE
            counts.live -= 1
            counts.ids_dead += users.rows[slot].id_length
        if not lived:
            continue
        copy(users.memory[slot, : undo.memory.shape[1]], undo.memory[at])
        if not lives:
            add_to_index(users, slot)
            counts.live += 1
            counts.ids_dead -= users.rows[slot].id_length
        schedule(users, slot)


@kernel
def bury_undone(users: Users, undo: Undo, since: int) -> None:
    """Hand the slots of users whose creation was undone to `release_gone`."""
    counts = users.counts[0]
    for at in range(since, counts.undo):
        slot = undo.slot[at]
        if not undo.rows[at].live and not users.rows[slot].live:
            users.gone[counts.gone] = slot
            counts.gone += 1
