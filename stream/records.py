"""Records and outputs: the value types that cross the border between bytes and events."""

from __future__ import annotations

from typing import NamedTuple

Headers = list[tuple[str, bytes]]


class RecordBatch(NamedTuple):
    """Consecutive records of one partition in offset order, as parallel lists.

    A line of a file has topic `file`, partition 0, its line number (from 0) as offset, no key (which means
    that none is checked), and `--now` or `NO_GUARD` as timestamp.
    """

    topic: str
    partition: int
    offsets: list[int]
    keys: list[bytes | None]
    values: list[bytes | None]
    timestamps_ms: list[int]
    headers: list[Headers | None]

    def slice(self, start: int, stop: int) -> RecordBatch:
        rows = slice(start, stop)
        return RecordBatch(
            self.topic,
            self.partition,
            self.offsets[rows],
            self.keys[rows],
            self.values[rows],
            self.timestamps_ms[rows],
            self.headers[rows],
        )


class Output(NamedTuple):
    """One message to produce. `topic` is its role in `[topics]`, not yet the topic's name."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: Headers
