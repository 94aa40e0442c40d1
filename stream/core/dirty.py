"""The queue of dirty slots: whose changes no snapshot holds yet, those that have waited longest first.

`marks.dirty_since` is the record or journal entry (`clock.applied`) of a slot's first unwritten change. The
queue is sorted by it: slots join at its end as they are touched, and what an undo takes back is dirty from
where it went back to. So the first one says from where on the log is still needed.

What a snapshot says of a user is what is true now, whichever of the user's slots it was that was dirty: a row
if there is one, else a grave. A grave says "nobody, up to here": without it, a replay that begins before the
end of the row would make a new one of the events between. When the log is no longer needed from before the
grave, the user's turn comes again, and nothing is left to be said.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from stream.core.compiled import kernel, leaf
from stream.core.events import NEVER
from stream.core.users import NO_SLOT, Users, find

Slots = npt.NDArray[np.int32]
Counts = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint8]

# What a snapshot says of a user.
NOTHING: Final = 0
LIVE: Final = 1
GRAVE: Final = 2


@leaf
def find_next(clock: Any) -> int:
    """Return the first record or entry that may still touch a row: the last one if its timers are ringing."""
    return clock.applied if clock.ringing else clock.applied + 1


@leaf
def enqueue(users: Users, slot: int, applied: int) -> None:
    counts = users.counts[0]
    users.marks[slot].dirty_since = applied
    users.dirty[(counts.dirty_first + counts.dirty) % len(users.dirty)] = slot
    counts.dirty += 1


@kernel
def pop_dirty(users: Users, slots: Slots, since: Counts) -> int:
    """Take at most len(slots) slots off the queue and return how many; the living among them are clean.

    The dead stay marked, so that nobody takes their slots until `settle` says what became of them.
    """
    counts = users.counts[0]
    n = min(len(slots), counts.dirty)
    for j in range(n):
        slot = users.dirty[(counts.dirty_first + j) % len(users.dirty)]
        slots[j] = slot
        since[j] = users.marks[slot].dirty_since
        if users.rows[slot].live:
            users.marks[slot].dirty_since = NEVER
    counts.dirty_first = (counts.dirty_first + n) % len(users.dirty)
    counts.dirty -= n
    return n


@kernel
def first_dirty(users: Users) -> int:
    """Return since when the first in the queue waits, NEVER if it is empty."""
    counts = users.counts[0]
    return users.marks[users.dirty[counts.dirty_first]].dirty_since if counts.dirty > 0 else NEVER


@kernel
def choose(users: Users, slots: Slots, floor: int, chosen: Slots, words: Words) -> None:
    """Decide what to say of the users of popped slots, if the log is needed from behind `floor` on.

    chosen: the slot whose row is to be written, for LIVE.
    """
    for j in range(len(slots)):
        slot = slots[j]
        row = users.rows[slot]
        if not row.live:  # an undo or a return may have given the user another slot
            slot = find(users, users.ids, row.id_start, row.id_start + row.id_length, row.hash)
        grave = users.marks[slots[j]].grave
        chosen[j] = slot
        if slot != NO_SLOT:
            words[j] = LIVE
        else:
            words[j] = NOTHING if 0 < grave <= floor else GRAVE


@kernel
def settle(users: Users, slots: Slots, chosen: Slots, words: Words, written: int, clocks: Any) -> None:
    """What was said at `written` is committed: let go of the dead; graves wait for their turn once more."""
    next_ = find_next(clocks[0])
    for j in range(len(slots)):
        mark = users.marks[slots[j]]
        if words[j] == GRAVE:
            if mark.grave == 0:
                mark.grave = written
            enqueue(users, slots[j], next_)
        elif chosen[j] != slots[j]:
            mark.grave = 0
            mark.dirty_since = NEVER


@kernel
def rewind_dirty(users: Users, clocks: Any) -> None:
    """After an undo back to this clock: what was touched since is dirty from here, and the queue in order."""
    counts = users.counts[0]
    next_ = find_next(clocks[0])
    for j in range(counts.dirty - 1, -1, -1):
        mark = users.marks[users.dirty[(counts.dirty_first + j) % len(users.dirty)]]
        if mark.dirty_since <= next_:
            return
        mark.dirty_since = next_


def requeue(users: Users, slots: Slots, since: Counts) -> None:
    """Put popped slots back in their places: what was said of them was not committed."""
    counts = users.counts[0]
    marks = users.marks
    waiting = users.dirty[(counts.dirty_first + np.arange(counts.dirty)) % len(users.dirty)]
    touched = marks.dirty_since[slots]
    marks.dirty_since[slots] = np.where(touched == NEVER, since, np.minimum(touched, since))
    everyone = np.unique(np.concatenate([slots, waiting]))
    order = np.argsort(marks.dirty_since[everyone], kind="stable")
    users.dirty[: len(everyone)] = everyone[order]
    counts.dirty_first = 0
    counts.dirty = len(everyone)
