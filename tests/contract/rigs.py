"""The brokers that the contract is tried on, and a consumer to drive them with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Protocol, TypeVar
from uuid import uuid4

from confluent_kafka import Producer

from stream.broker import Broker, CommittedOffset, Identity, Source, Topic
from stream.clock import VirtualClock
from stream.errors import RetriableError
from stream.kafka_broker import KafkaBroker
from stream.records import Output, RecordBatch
from stream.testing import MemoryBroker, MemoryClient
from stream.testing_kafka import KafkaCluster
from tests.kafka.broker import shared_kafka

T = TypeVar("T")

#: A wait is so many polls of so many seconds; on a broker that works it is over after a few.
POLLS_MAX = 600
POLL_S = 0.1
LOOKS_MAX = 100


class Rig(Protocol):
    """A broker, however it is made."""

    name: str

    def topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        """Create a topic that nobody else uses."""
        ...

    def connect(self, identity: Identity) -> Broker: ...


class MemoryRig:
    name = "memory"

    def __init__(self) -> None:
        self.broker = MemoryBroker(VirtualClock())
        self._names = count(1)

    def topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        name = f"topic-{next(self._names)}"
        self.broker.create_topic(name, partitions, configs)
        return name

    def connect(self, identity: Identity) -> MemoryClient:
        return MemoryClient(self.broker, identity)


class KafkaRig:
    """Apache Kafka, the run's own unless another is given; `client` chooses the group protocol."""

    def __init__(self, name: str, client: Mapping[str, str], cluster: KafkaCluster | None = None) -> None:
        self.name = name
        self.servers = (cluster or shared_kafka()).bootstrap_servers
        self._client = client

    def topic(
        self, partitions: int = 1, configs: Mapping[str, str] | None = None, replication: int = 1
    ) -> str:
        name = f"topic-{uuid4().hex[:12]}"
        admin = self.connect(Identity("", "", {})).admin()
        again(lambda: admin.create([Topic(name, partitions, replication, configs or {})]))
        wait_until(lambda: again(lambda: admin.describe([name]))[name] is not None, lambda: None)
        return name

    def connect(self, identity: Identity) -> KafkaBroker:
        return KafkaBroker(self.servers, identity, self._client)


class MockRig:
    """librdkafka's mock cluster: it takes transactions and enforces nothing, and makes topics by itself."""

    name = "mock"
    PARTITIONS = 4  # of every topic; it keeps about 5 MB for each

    def __init__(self) -> None:
        self._host = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, "log_level": 0})
        (node,) = self._host.list_topics(timeout=5.0).brokers.values()
        self._servers = f"{node.host}:{node.port}"
        self._names = count(1)

    def topic(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> str:
        name = f"topic-{next(self._names)}"
        self._host.list_topics(name, timeout=5.0)
        return name

    def connect(self, identity: Identity) -> KafkaBroker:
        return KafkaBroker(self._servers, identity, {"group.protocol": "classic"})


def identity(events: str, *, exactly_once: bool = True, **topics: str) -> Identity:
    """Return an identity that nobody else has."""
    unique = uuid4().hex[:12]
    return Identity(f"group-{unique}", f"id-{unique}", {"events": events, **topics}, exactly_once)


class Member:
    """A consumer that starts where its group has committed, or at 0, and remembers what it heard."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.assigned: list[list[int]] = []
        self.revoked: list[list[int]] = []
        self.lost: list[list[int]] = []
        self.batches: list[RecordBatch] = []
        source.subscribe(self)

    def on_assign(self, partitions: Sequence[int]) -> None:
        self.assigned.append(list(partitions))
        committed = committed_of(self.source, partitions)
        for partition in partitions:
            start = committed[partition] or CommittedOffset(0)
            self.source.seek(partition, start.offset)
        self.source.resume(partitions)

    def on_revoke(self, partitions: Sequence[int]) -> None:
        self.revoked.append(list(partitions))

    def on_lost(self, partitions: Sequence[int]) -> None:
        self.lost.append(list(partitions))

    def poll(self, records_max: int = 500) -> None:
        self.batches += self.source.poll(records_max, POLL_S)

    def records(self) -> int:
        return sum(len(batch.offsets) for batch in self.batches)

    def values(self, partition: int) -> list[bytes | None]:
        return [value for batch in self.batches if batch.partition == partition for value in batch.values]

    def offsets(self, partition: int) -> list[int]:
        return [offset for batch in self.batches if batch.partition == partition for offset in batch.offsets]


def committed_of(source: Source, partitions: Sequence[int] = (0,)) -> dict[int, CommittedOffset | None]:
    """Return what the group has committed, once that is decided."""
    return again(lambda: source.committed(partitions))


def again(call: Callable[[], T]) -> T:
    """Make a call as often as the broker asks for it, and return what it returns."""
    for _ in range(POLLS_MAX):
        try:
            return call()
        except RetriableError:
            time.sleep(POLL_S)
    raise AssertionError("the broker asks for the same call again and again")


def wait_until(reached: Callable[[], bool], step: Callable[[], object]) -> None:
    """Take steps until a condition holds; fail if it does not come about."""
    for _ in range(POLLS_MAX):
        if reached():
            return
        step()
    raise AssertionError("the condition that the test waits for did not come about")


def read_all(
    broker: Broker, topic: str, partition: int = 0, start: int = 0, *, expected: int = 0
) -> RecordBatch:
    """Return everything that a reader sees up to the last stable offset of now.

    expected: records that were committed: a commit returns before its markers reach every partition, so
    fewer of them mean to look again.
    """
    for _ in range(LOOKS_MAX):
        whole = _read_once(broker, topic, partition, start)
        if len(whole.values) >= expected:
            break
        time.sleep(POLL_S)
    return whole


def _read_once(broker: Broker, topic: str, partition: int, start: int) -> RecordBatch:
    reader = broker.reader(topic, partition, start)
    whole = RecordBatch(topic, partition, [], [], [], [], [])
    try:
        for _ in range(POLLS_MAX):
            if reader.done():
                return whole
            batch = reader.read(1_000, POLL_S)
            for column, more in zip(whole[2:], batch[2:], strict=True):
                column.extend(more)
    finally:
        reader.close()
    raise AssertionError(f"the reader stands still at {reader.position()}")


def outputs(role: str, *values: bytes, partition: int = 0) -> list[Output]:
    return [Output(role, partition, b"key", value, [("id", value)]) for value in values]
