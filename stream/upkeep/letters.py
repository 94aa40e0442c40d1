"""The dead letters as an operator sees them: which, how many, since when, and which were sent again.

A letter is known by its source, `topic-partition-offset` of the record that it was: there is one for each bad
record. That it was sent again stands in the `control` topic, so that the dead letters stay what their
readers expect (docs/decisions/0130).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

import msgspec

from stream.broker import Broker
from stream.clock import Clock
from stream.config import Config
from stream.errors import StateError, UsageError
from stream.records import Headers, RecordBatch
from stream.upkeep.logs import count_partitions, find_topic, ranges, read_log, read_topic
from stream.wire import Control, Replayed

#: What Ebbtide adds to a record's own headers; ours are the last three.
_OURS: Final = ("reason", "detail", "source")

_decode_control = msgspec.json.Decoder(Control).decode


class Letter(NamedTuple):
    """One dead letter: the record as it came, why it is here, and where it was."""

    source: str
    reason: str
    detail: str
    partition: int
    offset: int  # in the dead-letter topic
    timestamp_ms: int  # when it was found to be bad
    key: bytes | None
    value: bytes | None
    headers: Headers  # its own


class Choice(NamedTuple):
    """Which letters are meant; what is None does not restrict."""

    sources: frozenset[str] | None = None
    reason: str | None = None
    partition: int | None = None
    since_ms: int | None = None

    @property
    def everything(self) -> bool:
        return self == Choice()

    def takes(self, letter: Letter) -> bool:
        return (
            (self.sources is None or letter.source in self.sources)
            and (self.reason is None or letter.reason == self.reason)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
        )


def read_letters(broker: Broker, config: Config, choice: Choice, clock: Clock) -> Iterator[Letter]:
    """Yield the chosen letters, partition by partition; of one source only the first.

    Raises UsageError if the topic has no such partition, StateError for a record that is no dead letter.
    """
    topic = config.topics.dead_letters
    partitions = range(count_partitions(broker, topic, clock))
    if choice.partition is not None:
        if choice.partition not in partitions:
            remedy = f"it has partitions 0 to {len(partitions) - 1}"
            raise UsageError(f"there is no partition {choice.partition}", place=topic, remedy=remedy)
        partitions = range(choice.partition, choice.partition + 1)
    for partition, found in ranges(broker, topic, partitions, clock).items():
        seen: set[str] = set()  # without transactions a letter may be there twice
        for batch in read_log(broker, topic, partition, found.start, found.end, clock):
            for row in range(len(batch.offsets)):
                letter = _open(batch, row)
                if letter.source not in seen and choice.takes(letter):
                    seen.add(letter.source)
                    yield letter


def _open(batch: RecordBatch, row: int) -> Letter:
    headers = list(batch.headers[row] or ())
    if tuple(name for name, _ in headers[-3:]) != _OURS:
        raise StateError(
            "a record is no dead letter: it lacks the headers reason, detail and source",
            place=f"{batch.topic}-{batch.partition}, offset {batch.offsets[row]}",
            remedy="see that nobody else writes to this topic",
        )
    reason, detail, source = (content.decode() for _, content in headers[-3:])
    return Letter(
        source=source,
        reason=reason,
        detail=detail,
        partition=batch.partition,
        offset=batch.offsets[row],
        timestamp_ms=batch.timestamps_ms[row],
        key=batch.keys[row],
        value=batch.values[row],
        headers=headers[:-3],
    )


def read_marks(broker: Broker, config: Config, clock: Clock) -> set[str]:
    """Return the sources of all letters that were sent again; none, if there is no control topic."""
    marks: set[str] = set()
    topic = config.topics.control
    if find_topic(broker, topic, clock) is None:
        return marks
    for batch in read_topic(broker, topic, clock):
        for value in batch.values:
            try:
                command = _decode_control(value or b"")
            except msgspec.MsgspecError:
                continue  # the workers say so
            if isinstance(command, Replayed):
                marks.update(command.letters)
    return marks
