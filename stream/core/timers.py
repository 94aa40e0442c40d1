"""Timers: one deadline a user, rung in the order (deadline, user_id), users compared as bytes.

A binary heap of (time, slot). An entry is a hint, not the truth: it says "look at this slot no later than
now". An event that moves its user's deadline back leaves the heap alone; when the old entry comes up, it is
pushed again with the deadline that holds. Only a deadline that moves forward is pushed at once. So an event
costs no heap operation, and an entry is never later than its user's deadline (`marks.scheduled` is the
earliest).
"""

from __future__ import annotations

from stream.core.compiled import kernel, leaf
from stream.core.users import NO_DEADLINE, NO_SLOT, Users


@leaf
def id_before(users: Users, a: int, b: int) -> bool:
    """Compare the ids of two slots as bytes: a prefix comes before what it begins."""
    row_a, row_b = users.rows[a], users.rows[b]
    for j in range(min(row_a.id_length, row_b.id_length)):
        x, y = users.ids[row_a.id_start + j], users.ids[row_b.id_start + j]
        if x != y:
            return x < y
    return row_a.id_length < row_b.id_length


@leaf
def rings_before(users: Users, i: int, j: int) -> bool:
    if users.heap_time[i] != users.heap_time[j]:
        return users.heap_time[i] < users.heap_time[j]
    return id_before(users, users.heap_slot[i], users.heap_slot[j])


@leaf
def swap(users: Users, i: int, j: int) -> None:
    users.heap_time[i], users.heap_time[j] = users.heap_time[j], users.heap_time[i]
    users.heap_slot[i], users.heap_slot[j] = users.heap_slot[j], users.heap_slot[i]


@kernel
def push(users: Users, time_ms: int, slot: int) -> None:
    counts = users.counts[0]
    i = counts.heap
    counts.heap += 1
    users.heap_time[i] = time_ms
    users.heap_slot[i] = slot
    users.marks[slot].heap_entries += 1
    while i > 0 and rings_before(users, i, (i - 1) // 2):
        swap(users, i, (i - 1) // 2)
        i = (i - 1) // 2


@kernel
def drop_first(users: Users) -> None:
    """Take the first entry off the heap."""
    counts = users.counts[0]
    users.marks[users.heap_slot[0]].heap_entries -= 1
    counts.heap -= 1
    n = counts.heap
    users.heap_time[0] = users.heap_time[n]
    users.heap_slot[0] = users.heap_slot[n]
    i = 0
    while True:
        first = i
        for child in (2 * i + 1, 2 * i + 2):
            if child < n and rings_before(users, child, first):
                first = child
        if first == i:
            return
        swap(users, i, first)
        i = first


@leaf
def schedule(users: Users, slot: int) -> None:
    """Make sure that the heap names the slot no later than its deadline."""
    deadline = users.rows[slot].deadline
    if deadline < users.marks[slot].scheduled:
        users.marks[slot].scheduled = deadline
        push(users, deadline, slot)


@leaf
def next_due(users: Users, watermark: int) -> int:
    """Return the slot of the first live user with deadline ≤ watermark, off the heap, or NO_SLOT."""
    while users.counts[0].heap > 0 and users.heap_time[0] <= watermark:
        time_ms, slot = users.heap_time[0], users.heap_slot[0]
        drop_first(users)
        if time_ms != users.marks[slot].scheduled:
            continue  # an earlier entry has already done this one's work
        users.marks[slot].scheduled = NO_DEADLINE
        if users.rows[slot].deadline == time_ms:
            return slot
        if users.rows[slot].live:
            schedule(users, slot)
    return NO_SLOT
