"""Reading whole partitions and asking the broker, for commands: they may wait, a worker may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, TypeVar

from stream.broker import Broker, LogRange, Topic
from stream.clock import Clock
from stream.errors import RetriableError, UsageError
from stream.records import RecordBatch

T = TypeVar("T")

#: How long a command asks again while the broker says that it cannot answer yet.
PATIENCE_S: Final = 60.0
PAUSE_S: Final = 0.1
#: Records in one batch.
RECORDS_MAX: Final = 5_000
#: How long a read may wait for its first record.
READ_S: Final = 1.0


def ask(call: Callable[[], T], clock: Clock, *, patience_s: float = PATIENCE_S) -> T:
    """Make a call as often as the broker asks for it, for so long at most; then raise its RetriableError."""
    until_s = clock.monotonic_s() + patience_s
    while True:
        try:
            return call()
        except RetriableError:
            if clock.monotonic_s() >= until_s:
                raise
            clock.sleep(PAUSE_S)


def find_topic(broker: Broker, topic: str, clock: Clock) -> Topic | None:
    """Return a topic with its settings, None if there is none of that name."""
    admin = broker.admin()
    try:
        return ask(lambda: admin.describe([topic])[topic], clock)
    finally:
        admin.close()


def count_partitions(broker: Broker, topic: str, clock: Clock) -> int:
    """Return how many partitions a topic has. Raises UsageError if there is no such topic."""
    found = find_topic(broker, topic, clock)
    if found is None:
        raise UsageError("there is no such topic", place=topic, remedy="`ebbtide topics --create` makes it")
    return found.partitions


def ranges(broker: Broker, topic: str, partitions: range, clock: Clock) -> dict[int, LogRange]:
    """Return what can be read of each partition now."""
    admin = broker.admin()
    try:
        return ask(lambda: admin.ranges(topic, partitions), clock)
    finally:
        admin.close()


def read_log(
    broker: Broker, topic: str, partition: int, start: int, end: int, clock: Clock
) -> Iterator[RecordBatch]:
    """Yield the committed records with offsets in [start, end), in batches."""
    if start >= end:
        return
    reader = broker.reader(topic, partition, start, end)
    try:
        while not reader.done():
            batch = ask(lambda: reader.read(RECORDS_MAX, READ_S), clock)
            if batch.offsets:
                yield batch
    finally:
        reader.close()


def read_topic(broker: Broker, topic: str, clock: Clock) -> Iterator[RecordBatch]:
    """Yield everything that is committed in a topic by now, partition by partition."""
    partitions = range(count_partitions(broker, topic, clock))
    for partition, found in ranges(broker, topic, partitions, clock).items():
        yield from read_log(broker, topic, partition, found.start, found.end, clock)
