"""The rolling snapshot of one partition: with each commit, the rows that have been dirty longest.

`take` chooses them, `outputs` writes them, and after the commit `confirm` lets them count as written, or
`cancel` puts them back in their places. In between the table may go on: a row that is touched meanwhile is
dirty again.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream.core import dirty
from stream.core.events import NEVER
from stream.core.table import UserTable
from stream.records import Output
from stream.snapshot_format import SnapshotFormat

USER_STATE: Final = "user_state"

#: First byte of a key in the `user_state` topic: no user's id can be taken for the commit record's key.
ROW_KEY: Final = b"u"
COMMIT_KEY: Final = b"c"
#: The description of a layout; its hash in hex follows.
LAYOUT_KEY: Final = b"l"
#: The rows before this record hold no more: the partition was folded anew (`loading.py`).
VOID_KEY: Final = b"v"


class Snapshot:
    """Which rows of a table are written when. One round at a time: take, outputs, confirm or cancel."""

    def __init__(self, table: UserTable, format: SnapshotFormat, partition: int) -> None:
        self._table, self._format, self._partition = table, format, partition
        self._forget()

    def take(self, rows_max: int) -> int | None:
        """Choose at most rows_max rows; return since which record or entry the rest waits, None if none."""
        users = self._table.users
        waiting = min(rows_max, int(users.counts[0].dirty))
        self._slots, self._since = np.zeros(waiting, np.int32), np.zeros(waiting, np.int64)
        dirty.pop_dirty(users, self._slots, self._since)
        since = int(dirty.first_dirty(users))
        return None if since == NEVER else since

    def outputs(self, floor: int) -> list[Output]:
        """Return the chosen rows as messages, if the log is needed from behind record or entry `floor` on."""
        users = self._table.users
        self._chosen = np.zeros(len(self._slots), np.int32)
        self._words = np.zeros(len(self._slots), np.uint8)
        dirty.choose(users, self._slots, floor, self._chosen, self._words)
        self._written = int(self._table.clock[0].applied)
        values = self._format.encode(self._table, self._chosen, self._words, self._written)
        return [
            Output(USER_STATE, self._partition, key, value, [])
            for key, value in zip(self._keys(), values, strict=True)
        ]

    def _keys(self) -> list[bytes]:
        """Return the keys of the chosen rows; a record at a time would cost more than the row."""
        rows = self._table.users.rows.view(np.ndarray)
        start = rows["id_start"][self._slots]
        stop = start + rows["id_length"][self._slots]
        ids = self._table.users.ids.data
        edges = zip(start.tolist(), stop.tolist(), strict=True)
        return [ROW_KEY + ids[first:last] for first, last in edges]

    def confirm(self) -> None:
        """The rows are committed. Comes before `UserTable.commit`, which lets go of the slots of the dead."""
        users = self._table.users
        dirty.settle(users, self._slots, self._chosen, self._words, self._written, self._table.clock)
        self._forget()

    def cancel(self) -> None:
        """The rows are not committed: they wait as if nothing had been taken."""
        dirty.requeue(self._table.users, self._slots, self._since)
        self._forget()

    def _forget(self) -> None:
        self._slots = self._chosen = np.zeros(0, np.int32)
        self._since = np.zeros(0, np.int64)
        self._words = np.zeros(0, np.uint8)
        self._written = 0
