"""Copying a topic of events into another, each record to its user's partition, exactly once.

    merge    the partitions by the records' timestamps: events of one user may lie in several, and a fold that
             met one partition after the other would find most of them late
    write    some thousand records a transaction, with the offsets that they came from, of a group of its own

So the copy can be stopped anywhere and run again: it goes on behind the last record that is there. Keys may
be made anew on the way; values, headers and timestamps stay as they are.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from stream.broker import EVENTS, Broker, CommittedOffset, Identity
from stream.clock import Clock
from stream.config import Config
from stream.core.events import USER_ID_BYTES_MAX
from stream.partitioner import partition_of
from stream.records import Headers, Output
from stream.upkeep.alone import Alone
from stream.upkeep.job import Job, Progress, cut
from stream.upkeep.logs import ranges, read_log

#: The role of the topic that is written; the one that is read has that of the events.
TARGET: Final = "target"
#: What one transaction writes.
RECORDS_MAX: Final = 5_000
BYTES_MAX: Final = 16 * 2**20


class Record(NamedTuple):
    """A record on its way, with where it came from."""

    timestamp_ms: int
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers


#: What a record's key becomes.
Keying = Callable[[Record], bytes | None]


def keep_key(record: Record) -> bytes | None:
    return record.key


def key_by_user(config: Config) -> Keying:
    """Return a keying by the user_id in the record; a record that says none keeps its key."""
    name = config.events.fields.get("user_id", "user_id")
    shape = msgspec.defstruct("Keyed", [("user_id", str)], rename={"user_id": name})
    decode = msgspec.json.Decoder(shape).decode

    def key(record: Record) -> bytes | None:
        try:
            user = decode(record.value or b"").user_id.encode()  # type: ignore[attr-defined]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return record.key
        return user if 1 <= len(user) <= USER_ID_BYTES_MAX else record.key

    return key


def copy_identity(source: str, target: str, *, name: str = "rekey") -> Identity:
    """Say who copies: one process at a time for two topics."""
    group = f"ebbtide-{name}-{source}-to-{target}"
    return Identity(group, group, {EVENTS: source, TARGET: target})


def copy(
    broker: Broker,
    job: Job,
    alone: Alone,
    source: str,
    partitions: int,
    keying: Keying,
    clock: Clock,
    told: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Copy what the topic `source` holds by now and was not copied yet; return how many records.

    job: of `copy_identity`, into a topic with so many `partitions`. alone: the copy's own group. told: hears
    (copied, to copy), in offsets.
    """
    committed = alone.committed()
    kept = ranges(broker, source, alone.partitions, clock)
    starts = {p: kept[p].start if at is None else at.offset for p, at in committed.items()}
    total = sum(max(0, kept[p].end - starts[p]) for p in starts)
    streams = [_read(broker, source, p, starts[p], kept[p].end, clock) for p in starts]
    merged = heapq.merge(*streams, key=lambda record: record.timestamp_ms)
    copied, reached = 0, dict(starts)
    for part in cut(merged, RECORDS_MAX, BYTES_MAX):
        alone.check()
        reached.update({record.partition: record.offset + 1 for record in part})
        offsets = {p: CommittedOffset(offset) for p, offset in reached.items()}
        outputs = [_place(record, keying(record), partitions) for record in part]
        stamps = [record.timestamp_ms for record in part]
        job.commit(outputs, timestamps_ms=stamps, progress=[Progress(source, offsets, alone.token())])
        copied += len(part)
        told(sum(reached.values()) - sum(starts.values()), total)
    return copied


def _read(broker: Broker, topic: str, partition: int, start: int, end: int, clock: Clock) -> Iterator[Record]:
    for batch in read_log(broker, topic, partition, start, end, clock):
        columns = zip(*batch[2:], strict=True)
        for offset, key, value, timestamp_ms, headers in columns:
            yield Record(timestamp_ms, partition, offset, key, value, headers or [])


def _place(record: Record, key: bytes | None, partitions: int) -> Output:
    """Return the record for its key's partition; without a key, for one of the number that it had."""
    partition = record.partition % partitions if key is None else partition_of(key, partitions)
    return Output(TARGET, partition, key, record.value, record.headers)
