"""Rows as bytes: many at once out of the table, and many at once into it.

A row is a frame, its scalars as they lie in the table, and of each column what is not zero:

    frame     what follows, how much of it, and which layout it has
    scalars   one ROW; the fields that mean something in one table only are zero
    heads     8 bytes a ring
    cells     2 bytes index, 2 bytes count, of the cells that are not 0
    spend     2 bytes index, 8 bytes sum, of the days that are not 0
    seen      8 bytes an event id, in the places of the ring
    recent    items by id: 1 byte length (255: 4 more follow), the id's bytes; in the places of the ring
    state     4 bytes a float; nothing if all are 0

A grave is a frame alone. Rings and kinds are written in an order of their own (`Order`), so that the order in
which a config names them does not matter. Numbers are little-endian, as numpy has them on every machine that
this runs on. Whoever calls has checked the frames.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stream.core.compiled import copy, kernel, leaf
from stream.core.dirty import GRAVE, LIVE, NOTHING
from stream.core.events import NEVER
from stream.core.hashing import fnv1a
from stream.core.lifecycle import CHURNED
from stream.core.rules import DEDUP_IDS, RECENT_ITEMS, Rules
from stream.core.users import NO_SLOT, ROW, Undo, Users, create, find, remove

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

FRAME: Final = np.dtype(
    [
        ("format", "u1"),
        ("word", "u1"),  # LIVE or GRAVE; NOTHING has no bytes at all
        ("seen", "u1"),
        ("recent", "u1"),
        ("spend", "u2"),
        ("state", "u2"),
        ("cells", "u4"),
        ("recent_bytes", "u4"),
        ("layout", "u8"),
        ("through", "i8"),  # the row holds all records and entries up to this one (`clock.applied`)
    ]
)
FORMAT: Final = 1
FRAME_BYTES: Final = FRAME.itemsize
ROW_BYTES: Final = ROW.itemsize

_SHORT: Final = 255  # from this length on, an item id's length takes four more bytes
_CELL_BYTES: Final = 4
_DAY_BYTES: Final = 10

#: The deadline of a row that stands for a grave while the log is replayed: always due.
GRAVE_DEADLINE: Final = NEVER

#: The place of a cell that is read and not kept (`Order`).
DROPPED: Final = -1

#: What `load_rows` notes of an item that it does not know. Until that is named, the n-th has the index
#: FIRST_MISSING − n: a later row of the same user may have taken its place.
FIRST_MISSING: Final = -2
MISSING: Final = np.dtype([("slot", "i8"), ("place", "i8"), ("start", "i8"), ("stop", "i8")])


class Raw(NamedTuple):
    """The columns of a table as bytes, a slot a row; cells as they are, but flat."""

    rows: Bytes  # [U, bytes of a ROW]
    heads: Bytes  # [U, 8 R]
    cells: npt.NDArray[np.uint16]  # [U, W K]
    spend: Bytes  # [U, 8 days]
    seen: Bytes  # [U, 8 · 32]
    state: Bytes  # [U, 4 S]


class Order(NamedTuple):
    """Where the written rings and cells lie in the table, in the order of writing.

    Of rows in an older layout the kinds are the older ones; what the table has no place for is DROPPED.
    """

    rings: Ints  # [R]
    cells: Ints  # [W K] flat


class Names(NamedTuple):
    """Item ids end to end, the i-th is data[start[i]:start[i + 1]]; lookup: open addressing by FNV-1a."""

    data: Bytes
    start: Ints
    lookup: npt.NDArray[np.int32]


def view_raw(users: Users) -> Raw:
    """Return the columns as bytes; valid as long as `users` is."""
    slots = len(users.rows)

    def as_bytes(column: Any) -> Bytes:
        raw: Bytes = column.view(np.ndarray).view(np.uint8).reshape(slots, -1)
        return raw

    return Raw(
        rows=as_bytes(users.rows.view(np.ndarray).reshape(slots, 1)),
        heads=as_bytes(users.heads),
        cells=users.cells.reshape(slots, -1),
        spend=as_bytes(users.spend),
        seen=as_bytes(users.seen),
        state=as_bytes(users.state) if users.state.shape[1] else np.zeros((slots, 0), np.uint8),
    )


# ------------------------------------------------------------------------------------------ out of the table


@kernel
def measure(
    users: Users, raw: Raw, names: Names, slots: npt.NDArray[np.int32], frames: Any, size: Ints
) -> None:
    """Fill in the frames of the rows in `slots`, and the size of each in bytes. `word` is there already."""
    for i in range(len(slots)):
        frame, slot = frames[i], slots[i]
        if frame.word == NOTHING:
            size[i] = 0
            continue
        if frame.word == GRAVE:
            size[i] = FRAME_BYTES
            continue
        row = users.rows[slot]
        frame.seen = min(row.seen_count, DEDUP_IDS)
        frame.recent = min(row.recent_count, RECENT_ITEMS)
        frame.cells = count_cells(raw.cells[slot])
        frame.spend = count_days(users.spend[slot])
        frame.state = len(users.state[slot]) if has_state(users.state[slot]) else 0
        recent_bytes = 0
        for j in range(frame.recent):
            item = users.recent[slot, j]
            length = names.start[item + 1] - names.start[item]
            recent_bytes += length + (1 if length < _SHORT else 5)
        frame.recent_bytes = recent_bytes
        size[i] = row_bytes(frame, raw.heads.shape[1])


@leaf
def row_bytes(frame: Any, heads_bytes: int) -> int:
    """Return the bytes of a LIVE row with this frame."""
    columns = _CELL_BYTES * frame.cells + _DAY_BYTES * frame.spend + 8 * frame.seen
    return FRAME_BYTES + ROW_BYTES + heads_bytes + columns + frame.recent_bytes + 4 * frame.state


@leaf
def count_cells(cells: npt.NDArray[np.uint16]) -> int:
    n = 0
    for j in range(len(cells)):
        n += cells[j] != 0
    return n


@leaf
def count_days(spend: npt.NDArray[np.float64]) -> int:
    n = 0
    for j in range(len(spend)):
        n += spend[j] != 0.0
    return n


@leaf
def has_state(state: npt.NDArray[np.float32]) -> bool:
    for j in range(len(state)):  # noqa: SIM110 (compiled: a loop, not a generator)
        if state[j] != 0.0:
            return True
    return False


@kernel
def write_rows(
    users: Users,
    raw: Raw,
    order: Order,
    names: Names,
    slots: npt.NDArray[np.int32],
    frames: Any,
    frame_bytes: Bytes,
    start: Ints,
    out: Bytes,
) -> None:
    """Write the rows in `slots` to out[start[i]:start[i + 1]]; frame_bytes [B, bytes of a FRAME]."""
    for i in range(len(slots)):
        frame, slot, at = frames[i], slots[i], start[i]
        if frame.word == NOTHING:
            continue
        at = write_bytes(out, at, frame_bytes[i])
        if frame.word == GRAVE:
            continue
        at = write_scalars(users, raw, slot, out, at)
        for ring in order.rings:
            at = write_bytes(out, at, raw.heads[slot, 8 * ring : 8 * ring + 8])
        for j in range(len(order.cells)):
            count = raw.cells[slot, order.cells[j]]
            if count != 0:
                at = write_short(out, at, j)
                at = write_short(out, at, count)
        for day in range(users.spend.shape[1]):
            if users.spend[slot, day] != 0.0:
                at = write_short(out, at, day)
                at = write_bytes(out, at, raw.spend[slot, 8 * day : 8 * day + 8])
        at = write_bytes(out, at, raw.seen[slot, : 8 * frame.seen])
        for j in range(frame.recent):
            at = write_name(out, at, names, users.recent[slot, j])
        write_bytes(out, at, raw.state[slot, : 4 * frame.state])


@leaf
def write_bytes(out: Bytes, at: int, source: Bytes) -> int:
    copy(out[at : at + len(source)], source)
    return at + len(source)


@leaf
def write_short(out: Bytes, at: int, value: int) -> int:
    out[at] = value & 255
    out[at + 1] = value >> 8
    return at + 2


@leaf
def write_scalars(users: Users, raw: Raw, slot: int, out: Bytes, at: int) -> int:
    """Write the ROW; what only this table understands is 0 while it is copied."""
    row = users.rows[slot]
    hash_, id_start, id_length = row.hash, row.id_start, row.id_length
    row.hash, row.id_start, row.id_length = 0, 0, 0
    at = write_bytes(out, at, raw.rows[slot])
    row.hash, row.id_start, row.id_length = hash_, id_start, id_length
    return at


@leaf
def write_name(out: Bytes, at: int, names: Names, item: int) -> int:
    name = names.data[names.start[item] : names.start[item + 1]]
    if len(name) < _SHORT:
        out[at] = len(name)
        return write_bytes(out, at + 1, name)
    out[at] = _SHORT
    at = write_short(out, at + 1, len(name) & 65_535)
    at = write_short(out, at, len(name) >> 16)
    return write_bytes(out, at, name)


# ------------------------------------------------------------------------------------------- into the table


@kernel
def load_rows(
    rules: Rules,
    users: Users,
    undo: Undo,
    raw: Raw,
    order: Order,
    names: Names,
    frames: Any,
    data: Bytes,
    start: Ints,
    ids: Bytes,
    id_start: Ints,
    missing: Any,
) -> int:
    """Put the rows data[start[i]:start[i + 1]] of the users ids[id_start[i]:id_start[i + 1]] into the table.

    The last one of a user holds. A row that loses cells to the order is marked, so that the change of the
    rules that took them away has it written anew (`change_rules`). A state of another length than the table's
    becomes zeros. Items without a name are noted in missing[items of all rows]; returns how many. No timer is
    set: `wind_up` does that.
    """
    unknown = 0
    for i in range(len(frames)):
        frame = frames[i]
        begin, end = id_start[i], id_start[i + 1]
        hash_ = fnv1a(ids, begin, end)
        slot = find(users, ids, begin, end, hash_)
        if slot != NO_SLOT and frame.word != LIVE:
            remove(users, slot)
            slot = NO_SLOT
        if frame.word == NOTHING:
            continue
        if slot == NO_SLOT:
            slot = create(users, undo, rules, ids, begin, end, hash_, 0)
        users.marks[slot].through = frame.through
        users.marks[slot].dropped = 0
        if frame.word == GRAVE:
            users.rows[slot].lifecycle = CHURNED
            users.rows[slot].deadline = GRAVE_DEADLINE
            continue
        at = read_scalars(users, raw, slot, data, start[i] + FRAME_BYTES)
        at = read_rings(users, raw, order, frame, slot, data, at)
        copy(raw.seen[slot], data[at : at + 8 * frame.seen])
        unknown = read_recent(users, names, frame, slot, data, at + 8 * frame.seen, missing, unknown)
        for j in range(users.state.shape[1]):
            users.state[slot, j] = 0.0
        if 4 * frame.state == raw.state.shape[1]:
            copy(raw.state[slot], data[start[i + 1] - 4 * frame.state : start[i + 1]])
    return unknown


@leaf
def read_scalars(users: Users, raw: Raw, slot: int, data: Bytes, at: int) -> int:
    row = users.rows[slot]
    hash_, id_start, id_length = row.hash, row.id_start, row.id_length
    copy(raw.rows[slot], data[at : at + ROW_BYTES])
    row.hash, row.id_start, row.id_length = hash_, id_start, id_length
    row.live = 1
    return at + ROW_BYTES


@leaf
def read_rings(users: Users, raw: Raw, order: Order, frame: Any, slot: int, data: Bytes, at: int) -> int:
    for ring in order.rings:
        copy(raw.heads[slot, 8 * ring : 8 * ring + 8], data[at : at + 8])
        at += 8
    for j in range(raw.cells.shape[1]):
        raw.cells[slot, j] = 0
    for _ in range(frame.cells):
        place = order.cells[min(data[at] | np.int64(data[at + 1]) << 8, len(order.cells) - 1)]
        if place == DROPPED:
            users.marks[slot].dropped = 1
        else:
            raw.cells[slot, place] = data[at + 2] | np.int64(data[at + 3]) << 8
        at += _CELL_BYTES
    for j in range(users.spend.shape[1]):
        users.spend[slot, j] = 0.0
    for _ in range(frame.spend):
        day = min(data[at] | np.int64(data[at + 1]) << 8, users.spend.shape[1] - 1)
        copy(raw.spend[slot, 8 * day : 8 * day + 8], data[at + 2 : at + _DAY_BYTES])
        at += _DAY_BYTES
    return at


@leaf
def read_recent(
    users: Users, names: Names, frame: Any, slot: int, data: Bytes, at: Any, missing: Any, unknown: int
) -> int:
    for j in range(frame.recent):
        length = np.int64(data[at])
        at += 1
        if length == _SHORT:
            length = data[at] | np.int64(data[at + 1]) << 8
            length |= np.int64(data[at + 2]) << 16 | np.int64(data[at + 3]) << 24
            at += 4
        item = find_name(names, data, at, at + length)
        users.recent[slot, j] = item if item >= 0 else FIRST_MISSING - unknown
        if item < 0:
            note = missing[unknown]
            note.slot, note.place, note.start, note.stop = slot, j, at, at + length
            unknown += 1
        at += length
    return unknown


@leaf
def find_name(names: Names, data: Bytes, start: Any, stop: Any) -> int:
    """Return the item data[start:stop], −1 if it has no name yet."""
    mask = len(names.lookup) - 1
    at = np.int64(fnv1a(data, start, stop) & np.uint64(mask))
    while names.lookup[at] >= 0:
        item = names.lookup[at]
        first = names.start[item]
        if names.start[item + 1] - first == stop - start:
            same = True
            for j in range(stop - start):
                if names.data[first + j] != data[start + j]:
                    same = False
                    break
            if same:
                return item
        at = (at + 1) & mask
    return -1


@kernel
def index_names(names: Names, first: int, count: int) -> None:
    """Enter the items first … count − 1 into the lookup."""
    mask = len(names.lookup) - 1
    for item in range(first, count):
        at = np.int64(fnv1a(names.data, names.start[item], names.start[item + 1]) & np.uint64(mask))
        while names.lookup[at] >= 0:
            at = (at + 1) & mask
        names.lookup[at] = item
