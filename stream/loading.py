"""Loading: the rows of one partition, as whoever reads its `user_state` from the beginning knows them.

Beside rows, the topic holds descriptions of their layouts, and it may say that all rows until here are void:
then the partition was folded anew from the log. Rows whose layout is not known are kept aside until the end,
as the description may come behind them (rows may be older than the version that writes descriptions).

What is void is to vanish from the topic as well. The users of whom nothing was said since are stale; when the
log is folded, those of them that there is nobody of get a grave (`bury_stale`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from stream.core import catching_up
from stream.core.table import UserTable
from stream.records import Output
from stream.snapshot import LAYOUT_KEY, ROW_KEY, USER_STATE, VOID_KEY
from stream.snapshot_format import SnapshotFormat
from stream.stored import decode_stored


class Void(Struct, frozen=True):
    """The rows before this record are void, as of commit n."""

    n: int


_decode_void = msgspec.json.Decoder(Void).decode


def write_void(n: int, partition: int) -> Output:
    """Return the record that commit n begins with if the partition was folded anew."""
    return Output(USER_STATE, partition, VOID_KEY, msgspec.json.encode(Void(n)), [])


def write_description(format: SnapshotFormat, partition: int) -> Output:
    """Return the record that says what rows of this layout hold."""
    key = LAYOUT_KEY + format.layout.encode()
    return Output(USER_STATE, partition, key, format.description, [])


class Loading:
    """Loads rows into a table: `take` what the topic holds, in order, then `finish`."""

    def __init__(self, table: UserTable, format: SnapshotFormat) -> None:
        self._table, self._format = table, format
        self._aside: dict[bytes, bytes | None] = {}
        self._stale: set[bytes] = set()
        #: The commit that made the rows before it void, 0 if none did.
        self.void_n = 0
        #: Descriptions of layouts that were met, by their keys.
        self.described: dict[bytes, bytes] = {}

    @property
    def unread(self) -> int:
        """How many users have a row that cannot be read."""
        return len(self._aside)

    def describes(self, format: SnapshotFormat) -> bool:
        """Whether the topic says what rows of this format's layout hold."""
        return LAYOUT_KEY + format.layout.encode() in self.described

    @property
    def plain(self) -> bool:
        """Whether the table is all that the topic says: every row was read, whole, and none is void."""
        users = self._table.users
        return not (self._aside or self._stale or users.marks.dropped[: users.counts[0].slots].any())

    def take(self, keys: Sequence[bytes | None], values: Sequence[bytes | None], *, place: str) -> None:
        """Load rows, and heed what is said of rows. Raises StateError, naming `place`."""
        rows: list[int] = []
        for i, key in enumerate(keys):
            if key is None:
                continue
            if key.startswith(ROW_KEY):
                rows.append(i)
            elif key.startswith(LAYOUT_KEY) and (description := values[i]) is not None:
                self.described[key] = description
                self._format.learn(description)
            elif key == VOID_KEY:
                self._load(keys, values, rows, place)
                rows = []
                self._heed(values[i], place)
        self._load(keys, values, rows, place)

    def finish(self, *, place: str) -> None:
        """Everything is read: load what was kept aside, as far as it is known by now."""
        aside, self._aside = self._aside, {}
        ids, values = list(aside), list(aside.values())
        left_out = self._format.load(self._table, ids, values, place=place)
        self._aside = {ids[i]: values[i] for i in left_out}

    def void(self) -> None:
        """Let go of all rows: they hold no more."""
        table = self._table
        ids = [table.row_id(slot) for slot in table.slots().tolist()]
        self._stale.update(ids, self._aside)
        self._aside.clear()
        self._format.load(table, ids, [None] * len(ids), place="")

    def bury_stale(self) -> None:
        """The log is folded: let the snapshot say of the stale that there is nobody, unless there is."""
        if not self._stale:
            return
        table = self._table
        living = {table.row_id(slot) for slot in table.slots().tolist()}
        gone = sorted(self._stale - living)
        through = int(table.clock[0].applied)
        self._format.load(table, gone, self._format.graves(len(gone), through), place="")
        catching_up.bury(table.users, table.clock)
        self._stale.clear()

    def _load(
        self, keys: Sequence[bytes | None], values: Sequence[bytes | None], rows: list[int], place: str
    ) -> None:
        ids = [(keys[i] or b"")[len(ROW_KEY) :] for i in rows]
        said = [values[i] for i in rows]
        left_out = self._format.load(self._table, ids, said, place=place)
        if self._stale:
            self._stale.difference_update(ids)
        if self._aside:
            for user in ids:
                self._aside.pop(user, None)
        if left_out:
            last = {user: i for i, user in enumerate(ids)}
            self._aside.update((ids[i], said[i]) for i in left_out if last[ids[i]] == i)

    def _heed(self, value: bytes | None, place: str) -> None:
        self.void_n = decode_stored(_decode_void, value, "what is said of void rows", place=place).n
        self.void()
