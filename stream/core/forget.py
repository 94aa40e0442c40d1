"""Forgetting a part of the way back: a commit is known to have ended, and the table has gone on since.

What was copied before the commit was made is dropped, what was copied since moves to the front: from now on
an undo leads to the commit. Slots of users who died before it may be let go; who died since may come back.
"""

from __future__ import annotations

from stream.core.compiled import copy, kernel
from stream.core.events import NEVER
from stream.core.table import Savepoint, UserTable
from stream.core.users import Undo, Users


def forget_until(table: UserTable, committed: Savepoint) -> Savepoint:
    """Forget the way back to before `committed`; return the same place as it is called from now on."""
    kept = drop_front(table.users, table.undo, committed.undo, committed.gone)
    return Savepoint(0, int(kept), committed.clock)


@kernel
def drop_front(users: Users, undo: Undo, undo_until: int, gone_until: int) -> int:
    """Drop the first copies and let go of the first of the dead; return how many of these must be kept."""
    counts = users.counts[0]
    for at in range(undo_until, counts.undo):
        undo.slot[at - undo_until] = undo.slot[at]
        copy(undo.memory[at - undo_until], undo.memory[at])
    counts.undo -= undo_until
    kept = kept_of_the_first = 0
    for j in range(counts.gone):
        slot = users.gone[j]
        mark = users.marks[slot]
        if j < gone_until and mark.heap_entries == 0 and mark.dirty_since == NEVER:
            users.free[counts.free] = slot
            counts.free += 1
            continue
        users.gone[kept] = slot
        kept += 1
        kept_of_the_first += j < gone_until
    counts.gone = kept
    return kept_of_the_first
