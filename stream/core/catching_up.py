"""What only a restore does to a table: the heap of all timers, the end of a storm cut short, the last graves.

And what a journal entry does to every row at once: other rules, another model, one user less. An entry skips
the rows that hold it already (`marks.through`), as a record does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from stream.core.compiled import kernel, leaf
from stream.core.dirty import enqueue, find_next
from stream.core.effects import Folded
from stream.core.events import NEVER
from stream.core.fold import begin, find_rhythm
from stream.core.hashing import fnv1a
from stream.core.persist import GRAVE_DEADLINE
from stream.core.rules import Rules
from stream.core.silence import EFFECTS_PER_TIMER, find_deadline, hold, release_held, ring
from stream.core.timers import next_due, push, schedule
from stream.core.users import NO_DEADLINE, NO_SLOT, Undo, Users, find, remove, touch


@leaf
def is_grave(row: Any) -> bool:
    return row.live == 1 and row.deadline == GRAVE_DEADLINE


@kernel
def wind_up(users: Users) -> None:
    """Set the timers of all rows that were loaded. A grave has none: only an event of its user wakes it."""
    counts = users.counts[0]
    counts.heap = 0
    counts.held = 0
    for slot in range(counts.slots):
        users.marks[slot].heap_entries = 0
        users.marks[slot].scheduled = NO_DEADLINE
    for slot in range(counts.slots):
        row = users.rows[slot]
        if row.live and not is_grave(row):
            users.marks[slot].scheduled = row.deadline
            push(users, row.deadline, slot)


@kernel
def bury(users: Users, clocks: Any) -> None:
    """The replay is over: take the graves out, and let a later snapshot say that there is nothing."""
    counts = users.counts[0]
    for slot in range(counts.slots):
        if is_grave(users.rows[slot]):
            remove(users, slot)
            mark = users.marks[slot]
            mark.grave = mark.through
            if mark.dirty_since == NEVER:
                enqueue(users, slot, find_next(clocks[0]))


@kernel
def peek_due(users: Users, watermark: int) -> int:
    """Return the slot whose timer is the next to ring, or NO_SLOT."""
    slot = next_due(users, watermark)
    if slot != NO_SLOT:
        schedule(users, slot)
    return slot


@kernel
def ring_before(
    rules: Rules,
    users: Users,
    undo: Undo,
    clocks: Any,
    out: Folded,
    until_slot: int,
    until_ms: int,
    timers_max: int,
) -> bool:
    """Ring what is due before the deadline `until_ms` of `until_slot`; all that is due if that is NO_SLOT.

    Return whether it came that far.
    """
    clock, n = clocks[0], out.n[0]
    users.counts[0].stamp += 1
    if users.counts[0].held > 0:
        release_held(users, clock.applied)
    while True:
        if n.timers >= timers_max or n.effects + EFFECTS_PER_TIMER > len(out.effects):
            return False
        slot = next_due(users, clock.watermark)
        if slot == NO_SLOT:
            return True
        if slot == until_slot and users.rows[slot].deadline == until_ms:
            schedule(users, slot)
            return True
        if users.marks[slot].through > clock.applied:
            hold(users, slot)
        else:
            ring(rules, users, undo, clock, out, slot)


@kernel
def change_rules(rules: Rules, users: Users, undo: Undo, clocks: Any, offset: int) -> None:
    """Journal: from `offset` on these rules hold. Every deadline is set anew; those due ring as timers do.

    A row that was read without the cells of a kind that is no more has changed, too: while the snapshot has
    these cells, the kind must not come back.
    """
    clock = clocks[0]
    users.counts[0].stamp += 1
    begin(clock, offset)
    clock.ringing = 1
    for slot in range(users.counts[0].slots):
        row = users.rows[slot]
        if not row.live or is_grave(row) or users.marks[slot].through >= clock.applied:
            continue
        at_risk_after = find_rhythm(rules, row)
        deadline = find_deadline(rules, row, at_risk_after)
        changed = deadline != row.deadline or at_risk_after != row.at_risk_after
        if changed or users.marks[slot].dropped:
            touch(users, undo, slot, clock.applied)
            row.at_risk_after = at_risk_after
            row.deadline = deadline
            schedule(users, slot)


@kernel
def change_model(users: Users, clocks: Any, offset: int) -> None:
    """Journal: from `offset` on another bundle encodes, and its states begin anew."""
    clock = clocks[0]
    begin(clock, offset)
    forget_states(users, clock.applied)


@kernel
def forget_states(users: Users, applied: int) -> None:
    """Zero the state of every row that does not hold record or entry `applied`.

    What the row kept then rebuilds it (stream/renew.py). No row is dirty for it: whoever loads one from
    before a change of the model does the same.
    """
    for slot in range(users.counts[0].slots):
        if users.rows[slot].live and users.marks[slot].through < applied:
            for j in range(users.state.shape[1]):
                users.state[slot, j] = np.float32(0.0)


@kernel
def count_ahead(users: Users, applied: int) -> int:
    """Count the rows that hold more than `applied` records and entries."""
    n = 0
    for slot in range(users.counts[0].slots):
        n += users.rows[slot].live and users.marks[slot].through > applied
    return n


@kernel
def erase(users: Users, undo: Undo, clocks: Any, offset: int, user: Any) -> bool:
    """Journal: before `offset` the user goes, without any output. Return whether there was one."""
    clock = clocks[0]
    users.counts[0].stamp += 1
    begin(clock, offset)
    slot = find(users, user, 0, len(user), fnv1a(user, 0, len(user)))
    if slot == NO_SLOT or is_grave(users.rows[slot]) or users.marks[slot].through >= clock.applied:
        return False
    touch(users, undo, slot, clock.applied)
    remove(users, slot)
    return True
