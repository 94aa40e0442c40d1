"""librdkafka's messages, sorted into batches of one partition each.

Of every call on a message the price is paid for every record, so they are made column by column, in C.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, Message

from stream.records import RecordBatch


class Polled(NamedTuple):
    """What one poll brought: records by partition, the ends that were reached, and errors."""

    records: dict[int, list[Message]]
    ends: list[tuple[int, int]]  # partition, and the offset that comes next in it
    errors: list[tuple[KafkaError, int, int]]  # with partition and offset, -1 if it concerns none


def sort(messages: list[Message]) -> Polled:
    """Tell records, ends and errors apart; the order within a partition stays."""
    polled = Polled({}, [], [])
    if any(map(Message.error, messages)):
        messages = list(_take_out(messages, polled))
    records = polled.records
    for message, partition in zip(messages, map(Message.partition, messages), strict=True):
        own = records.get(partition)  # type: ignore[arg-type]  # a record always has one
        if own is None:
            records[partition] = [message]  # type: ignore[index]
        else:
            own.append(message)
    return polled


def _take_out(messages: list[Message], polled: Polled) -> Iterator[Message]:
    for message in messages:
        error, partition, offset = message.error(), message.partition(), message.offset()
        if error is None:
            yield message
        elif error.code() == KafkaError._PARTITION_EOF and partition is not None and offset is not None:
            polled.ends.append((partition, offset))
        else:
            polled.errors.append((error, -1 if partition is None else partition, offset or -1))


def to_batch(topic: str, partition: int, messages: list[Message], start: int, end: int | None) -> RecordBatch:
    """Return the messages with offsets in [start, end) as columns."""
    offsets: list[Any] = list(map(Message.offset, messages))
    if offsets[0] < start or (end is not None and offsets[-1] >= end):
        messages = [
            message
            for message, offset in zip(messages, offsets, strict=True)
            if start <= offset and (end is None or offset < end)
        ]
        offsets = list(map(Message.offset, messages))
    headers: list[Any] = list(map(Message.headers, messages))
    return RecordBatch(
        topic,
        partition,
        offsets,
        list(map(Message.key, messages)),
        list(map(Message.value, messages)),
        [timestamp_ms for _, timestamp_ms in map(Message.timestamp, messages)],
        headers,
    )
