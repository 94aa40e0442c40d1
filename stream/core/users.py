"""The users of one partition as a struct of arrays, and the hash index from id to slot.

A user is a slot: a number that all columns share. Scalars are `rows`; rings, ids of seen events, recent items
and the encoder's state are columns of their own. `marks` is bookkeeping that no abort puts back: who has been
touched, when a timer rings. In memory the columns of one user lie side by side (`UserTable` lays them out).

Invariants: a live slot is in the index exactly once; a slot that died is not reused before `commit` has let
it go (its tombstone is written and no timer names it); ids are never moved except by `compact_ids`.
Growth happens between folds only (`UserTable.reserve`): compiled code never allocates.

U slots, R rings, W buckets of all rings, K kinds, S floats of encoder state.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stream.core.compiled import copy, kernel, leaf
from stream.core.events import NEVER
from stream.core.hashing import fnv1a
from stream.core.lifecycle import NONE
from stream.core.rules import DEDUP_IDS, RECENT_ITEMS, Rules

Bytes = npt.NDArray[np.uint8]

NO_SLOT: Final = -1
NO_DEADLINE: Final = np.iinfo(np.int64).max

ROW: Final = np.dtype(
    [
        ("hash", "u8"),
        ("id_start", "i8"),
        ("first_event_time", "i8"),
        ("last_event_time", "i8"),
        ("deadline", "i8"),
        ("at_risk_after", "i8"),
        ("gap_mean", "f8"),
        ("alert_event_time", "i8"),  # the last_event_time that the open alert was opened with
        ("last_list_time", "i8"),  # when the user was last recommended to, NEVER if not yet
        ("throttle_span", "i8"),
        ("throttle_events", "i4"),
        ("id_length", "i4"),
        ("events", "i4"),
        ("conversions", "i4"),
        ("sessions", "i4"),
        ("orders", "i4"),
        ("gaps", "i4"),
        ("seen_count", "i4"),  # event ids ever remembered; the ring holds the last 32
        ("recent_count", "i4"),  # items ever remembered; the ring holds the last 20
        ("recent_converted", "u4"),  # bit j: the item in place j was a conversion
        ("live", "u1"),
        ("lifecycle", "u1"),
        ("session_has_order", "u1"),
        ("alert_open", "u1"),
    ],
    align=True,
)

MARK: Final = np.dtype(
    [
        ("stamp", "i8"),  # the fold call that touched the slot last
        ("scheduled", "i8"),  # earliest time in the heap for this slot
        ("dirty_since", "i8"),  # the record or entry (`applied`) of the first change that no snapshot holds
        ("through", "i8"),  # restore: the row holds all records and entries up to this one
        ("grave", "i8"),  # of a user who is gone: when a snapshot said so first, 0 if none has
        ("heap_entries", "i4"),
        ("steps", "i4"),  # encoder steps in the fold call `stamp`
        ("dropped", "i4"),  # restore: the row was read without cells that it has in the snapshot
    ],
    align=True,
)

COUNTS: Final = np.dtype(
    [(name, "i8") for name in (
        "slots", "live", "ids", "ids_dead", "heap", "free", "gone", "held", "dirty_first", "dirty",
        "undo", "stamp", "warmed",
        "keep_undo", "keep_dirty",
    )]
)  # fmt: skip


class Users(NamedTuple):
    """The columns, as compiled code sees them. Valid until the next `reserve`."""

    memory: Bytes  # [U, bytes of a row, then of its marks]: what the next eight are views of
    rows: Any  # ROW[U]
    marks: Any  # MARK[U]
    heads: npt.NDArray[np.int64]  # [U, R]
    cells: npt.NDArray[np.uint16]  # [U, W, K]
    spend: npt.NDArray[np.float64]  # [U, buckets of the day ring]
    seen: npt.NDArray[np.uint64]  # [U, 32]
    recent: npt.NDArray[np.int32]  # [U, 20]
    state: npt.NDArray[np.float32]  # [U, S]
    ids: Bytes  # the ids one after the other
    lookup: npt.NDArray[np.int32]  # open addressing, a power of two
    heap_time: npt.NDArray[np.int64]
    heap_slot: npt.NDArray[np.int32]
    free: npt.NDArray[np.int32]
    gone: npt.NDArray[np.int32]  # died since they were last looked at by `commit`
    held: npt.NDArray[np.int32]  # restore: timers of rows that are ahead of the replay
    dirty: npt.NDArray[np.int32]  # ring of slots, dirty longest first
    counts: Any  # COUNTS[1]


class Undo(NamedTuple):
    """Copies of rows as they were before a fold call touched them, in the order of touching."""

    slot: npt.NDArray[np.int32]
    memory: Bytes  # [touches, bytes of a row]
    rows: Any  # ROW[touches], a view of memory


@leaf
def same_id(users: Users, slot: int, data: Bytes, start: int, stop: int) -> bool:
    row = users.rows[slot]
    if row.id_length != stop - start:
        return False
    for j in range(stop - start):  # noqa: SIM110 (compiled: a loop, not a generator)
        if users.ids[row.id_start + j] != data[start + j]:
            return False
    return True


@leaf
def find(users: Users, data: Bytes, start: int, stop: int, hash_: np.uint64) -> int:
    """Return the slot of the live user data[start:stop], or NO_SLOT."""
    mask = len(users.lookup) - 1
    at = np.int64(hash_ & np.uint64(mask))
    while users.lookup[at] != NO_SLOT:
        slot = users.lookup[at]
        if users.rows[slot].hash == hash_ and same_id(users, slot, data, start, stop):
            return slot
        at = (at + 1) & mask
    return NO_SLOT


@leaf
def add_to_index(users: Users, slot: int) -> None:
    mask = len(users.lookup) - 1
    at = np.int64(users.rows[slot].hash & np.uint64(mask))
    while users.lookup[at] != NO_SLOT:
        at = (at + 1) & mask
    users.lookup[at] = slot


@kernel
def remove_from_index(users: Users, slot: int) -> None:
    """Close the gap that the slot leaves by shifting its followers back (Knuth, TAOCP 6.4, algorithm R)."""
    mask = len(users.lookup) - 1
    at = np.int64(users.rows[slot].hash & np.uint64(mask))
    while users.lookup[at] != slot:
        at = (at + 1) & mask
    gap = at
    while True:
        at = (at + 1) & mask
        follower = users.lookup[at]
        if follower == NO_SLOT:
            break
        home = np.int64(users.rows[follower].hash & np.uint64(mask))
        if (at - home) & mask >= (at - gap) & mask:
            users.lookup[gap] = follower
            gap = at
    users.lookup[gap] = NO_SLOT


@leaf
def remember_row(users: Users, undo: Undo, slot: int) -> None:
    at = users.counts[0].undo
    users.counts[0].undo += 1
    undo.slot[at] = slot
    undo.rows[at].live = users.rows[slot].live
    if users.rows[slot].live:  # of a slot that was empty there is nothing else to put back
        copy(undo.memory[at], users.memory[slot, : undo.memory.shape[1]])


@leaf
def touch(users: Users, undo: Undo, slot: int, applied: int) -> None:
    """Copy the row if this fold call has not touched it yet, and note the change for the snapshot."""
    counts = users.counts[0]
    mark = users.marks[slot]
    if mark.stamp != counts.stamp:
        mark.stamp = counts.stamp
        mark.steps = 0
        if counts.keep_undo:
            remember_row(users, undo, slot)
    if counts.keep_dirty and mark.dirty_since == NEVER:
        mark.dirty_since = applied
        users.dirty[(counts.dirty_first + counts.dirty) % len(users.dirty)] = slot
        counts.dirty += 1


@kernel
def create(
    users: Users, undo: Undo, rules: Rules, data: Bytes, start: int, stop: int, hash_: np.uint64, applied: int
) -> int:
    """Take a slot for a new user, in the state `none`, and return it."""
    counts = users.counts[0]
    if counts.free > 0:
        counts.free -= 1
        slot = int(users.free[counts.free])
    else:
        slot = counts.slots  # its memory is zero
        counts.slots += 1
        users.marks[slot].dirty_since = NEVER
    touch(users, undo, slot, applied)
    row = users.rows[slot]
    row.hash = hash_
    row.id_start = counts.ids
    row.id_length = stop - start
    copy(users.ids[counts.ids :], data[start:stop])
    counts.ids += stop - start
    row.first_event_time = NEVER
    row.last_event_time = NEVER
    row.deadline = NO_DEADLINE
    row.at_risk_after = rules.at_risk_default_ms
    row.gap_mean = 0.0
    row.alert_event_time = NEVER
    row.last_list_time = NEVER
    row.throttle_span = NEVER
    row.throttle_events = 0
    row.events = 0
    row.conversions = 0
    row.sessions = 0
    row.orders = 0
    row.gaps = 0
    row.seen_count = 0
    row.recent_count = 0
    row.recent_converted = 0
    row.live = 1
    row.lifecycle = NONE
    row.session_has_order = 0
    row.alert_open = 0
    users.marks[slot].scheduled = NO_DEADLINE
    users.marks[slot].through = NEVER
    users.heads[slot] = NEVER
    users.cells[slot] = 0
    users.spend[slot] = 0.0
    users.state[slot] = 0.0
    add_to_index(users, slot)
    counts.live += 1
    return slot


@kernel
def remove(users: Users, slot: int) -> None:
    """End the row. The slot is used again only after `release_gone`."""
    counts = users.counts[0]
    remove_from_index(users, slot)
    users.rows[slot].live = 0
    users.rows[slot].deadline = NO_DEADLINE
    counts.live -= 1
    counts.ids_dead += users.rows[slot].id_length
    users.gone[counts.gone] = slot
    counts.gone += 1


@leaf
def is_duplicate(users: Users, slot: int, event_id: np.uint64) -> bool:
    for j in range(min(users.rows[slot].seen_count, DEDUP_IDS)):  # noqa: SIM110
        if users.seen[slot, j] == event_id:
            return True
    return False


@leaf
def remember_event(users: Users, slot: int, event_id: np.uint64) -> None:
    row = users.rows[slot]
    users.seen[slot, row.seen_count % DEDUP_IDS] = event_id
    row.seen_count += 1


@leaf
def remember_item(users: Users, slot: int, item: int, converted: bool) -> None:
    row = users.rows[slot]
    place = row.recent_count % RECENT_ITEMS
    users.recent[slot, place] = item
    bit = np.uint32(1) << np.uint32(place)
    if converted:
        row.recent_converted = row.recent_converted | bit
    else:
        row.recent_converted = row.recent_converted & ~bit
    row.recent_count += 1


@kernel
def release_gone(users: Users) -> None:
    """Let go of the slots that died: those that no timer and no snapshot still names become free."""
    counts = users.counts[0]
    kept = 0
    for j in range(counts.gone):
        slot = users.gone[j]
        mark = users.marks[slot]
        if users.rows[slot].live:
            continue  # an abort brought it back
        if mark.heap_entries > 0 or mark.dirty_since != NEVER:
            users.gone[kept] = slot
            kept += 1
        else:
            users.free[counts.free] = slot
            counts.free += 1
    counts.gone = kept


@kernel
def find_all(users: Users, data: Bytes, start: npt.NDArray[np.int64], slots: npt.NDArray[np.int32]) -> None:
    """Write the slots of the users data[start[i]:start[i + 1]], NO_SLOT for the unknown."""
    for i in range(len(slots)):
        slots[i] = find(users, data, start[i], start[i + 1], fnv1a(data, start[i], start[i + 1]))


@kernel
def build_index(users: Users) -> None:
    users.lookup[:] = NO_SLOT
    for slot in range(users.counts[0].slots):
        if users.rows[slot].live:
            add_to_index(users, slot)


@kernel
def compact_ids(users: Users, into: Bytes) -> int:
    """Copy the ids that a live slot or a timer still needs into `into`; return the bytes used."""
    used = 0
    for slot in range(users.counts[0].slots):
        row = users.rows[slot]
        if row.live or users.marks[slot].heap_entries > 0 or users.marks[slot].dirty_since != NEVER:
            copy(into[used:], users.ids[row.id_start : row.id_start + row.id_length])
            row.id_start = used
            used += row.id_length
    return used
