"""One partition of the in-memory broker: records in columns, and the transactions that are still undecided.

As in Kafka, the marker that ends a transaction takes an offset of its own, and so do records that were
aborted; a reader sees neither. Reading is `read_committed` only: nothing at or past the last stable offset,
where the first undecided transaction begins. That is why an aborted record can be taken out of the columns
when its marker arrives: nobody has seen it, and nobody will.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from stream.broker import LogRange
from stream.errors import StateError
from stream.records import Headers, RecordBatch

#: The owner of a record that belongs to no transaction.
NO_OWNER = 0


class PartitionLog:
    """Appends records and reads them back."""

    __slots__ = (
        "_headers",
        "_keys",
        "_offsets",
        "_owners",
        "_timestamps_ms",
        "_values",
        "end",
        "open",
        "partition",
        "start",
        "topic",
    )

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition
        self.start = 0
        #: The offset that the next record or marker takes.
        self.end = 0
        #: Undecided transactions: owner → its first offset here.
        self.open: dict[int, int] = {}
        self._offsets: list[int] = []
        self._keys: list[bytes | None] = []
        self._values: list[bytes | None] = []
        self._timestamps_ms: list[int] = []
        self._headers: list[Headers | None] = []
        self._owners: list[int] = []

    def append(
        self, owner: int, key: bytes | None, value: bytes | None, timestamp_ms: int, headers: Headers | None
    ) -> None:
        """Append one record. `owner` is its transaction, or NO_OWNER."""
        if owner != NO_OWNER and owner not in self.open:
            self.open[owner] = self.end
        self._offsets.append(self.end)
        self._keys.append(key)
        self._values.append(value)
        self._timestamps_ms.append(timestamp_ms)
        self._headers.append(headers)
        self._owners.append(owner)
        self.end += 1

    def decide(self, owner: int, committed: bool) -> None:
        """Write the marker that ends a transaction here."""
        first = self.open.pop(owner, None)
        if first is not None and not committed:
            self._take_out(owner, first)
        self.end += 1

    def _take_out(self, owner: int, first: int) -> None:
        begin = bisect_left(self._offsets, first)
        kept = [i for i in range(begin, len(self._offsets)) if self._owners[i] != owner]
        for column in self._columns():
            column[begin:] = [column[i] for i in kept]

    def stable_end(self) -> int:
        """Return the last stable offset."""
        return min(self.open.values()) if self.open else self.end

    def range(self) -> LogRange:
        return LogRange(self.start, self.stable_end())

    def read(self, offset: int, records_max: int, end: int | None = None) -> tuple[RecordBatch, int]:
        """Return records from an offset on, before `end`, and the position after them.

        Raises StateError if the offset is outside of the log.
        """
        if not self.start <= offset <= self.end:
            raise StateError(
                f"offset {offset} is not in the log, which holds {self.start} to {self.end}",
                place=f"{self.topic}-{self.partition}",
            )
        stop = self.stable_end() if end is None else min(end, self.stable_end())
        first = bisect_left(self._offsets, offset)
        last = bisect_left(self._offsets, stop, first)
        if last - first > records_max:
            last = first + records_max
            position = self._offsets[last - 1] + 1 if records_max else offset
        else:
            position = max(offset, stop)
        return self._slice(first, last), position

    def _slice(self, first: int, last: int) -> RecordBatch:
        return RecordBatch(
            self.topic,
            self.partition,
            self._offsets[first:last],
            self._keys[first:last],
            self._values[first:last],
            self._timestamps_ms[first:last],
            self._headers[first:last],
        )

    def truncate(self, before: int) -> None:
        """Drop what lies before an offset, as retention or DeleteRecords does."""
        self.start = max(self.start, min(before, self.stable_end()))
        gone = bisect_left(self._offsets, self.start)
        for column in self._columns():
            del column[:gone]

    def compact(self, before: int, *, keep_nulls: bool = True) -> None:
        """Drop what a later record of the same key replaces, as the cleaner of a compacted topic does.

        It looks at offsets below `before` and the last stable offset only. A null that is a key's last record
        stays for readers that are behind, until the cleaner drops it too (`delete.retention.ms`).
        """
        stop = bisect_left(self._offsets, min(before, self.stable_end()))
        last = {key: i for i, key in enumerate(self._keys[:stop])}
        kept = [i for i in last.values() if keep_nulls or self._values[i] is not None]
        kept.sort()
        for column in self._columns():
            column[:stop] = [column[i] for i in kept]

    def _columns(self) -> Sequence[list]:  # type: ignore[type-arg]  # of six element types
        return (
            self._offsets,
            self._keys,
            self._values,
            self._timestamps_ms,
            self._headers,
            self._owners,
        )
