"""One process's connection to the in-memory broker."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from stream.broker import EVENTS, Identity, LogRange, Sink, Topic
from stream.testing_broker import MemoryBroker
from stream.testing_line import Line
from stream.testing_sink import MemoryPlainSink, MemoryPublisher, MemorySink
from stream.testing_source import MemoryReader, MemorySource


class MemoryClient:
    """Implements `stream.broker.Broker`, and lets a test do to the process what can be done to one."""

    def __init__(self, broker: MemoryBroker, identity: Identity, name: str = "worker") -> None:
        self._broker = broker
        self._identity = identity
        self._line = Line(broker, name)

    def source(self) -> MemorySource:
        return MemorySource(self._line, self._identity.topics[EVENTS], self._identity.group_id)

    def sink(self) -> Sink:
        if self._identity.exactly_once:
            return MemorySink(self._line, self._identity.transactional_id, self._identity.topics)
        return MemoryPlainSink(self._line, self._identity.topics)

    def reader(self, topic: str, partition: int, start: int, end: int | None = None) -> MemoryReader:
        return MemoryReader(self._line, self._broker.log(topic, partition), start, end)

    def publisher(self) -> MemoryPublisher:
        return MemoryPublisher(self._line)

    def admin(self) -> MemoryAdmin:
        return MemoryAdmin(self._line)

    def kill(self) -> None:
        """The process is gone. Its transaction stays open, its membership lasts, until they time out."""
        self._line.kill()

    def freeze(self) -> None:
        """The process stands still; do not call it until it is thawed."""
        self._line.freeze()

    def thaw(self) -> None:
        """The process goes on and knows nothing of what happened meanwhile."""
        self._line.thaw()

    @property
    def dead(self) -> bool:
        return self._line.dead

    def crash_point(self, name: str) -> None:
        """A step of the process itself at which it may die, as `worker.fold`."""
        self._line.crash_if_struck("crash_before", name)


class MemoryAdmin:
    """Implements `stream.broker.Admin`."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._broker = line.broker

    def describe(self, names: Collection[str]) -> dict[str, Topic | None]:
        with self._line.call("admin.describe", refusable=True):
            return {name: self._describe(name) for name in names}

    def _describe(self, name: str) -> Topic | None:
        topic = self._broker.find_topic(name)
        return None if topic is None else Topic(name, len(topic.logs), 1, dict(topic.configs))

    def topic_id(self, name: str) -> str:
        with self._line.call("admin.topic_id", refusable=True):
            topic = self._broker.find_topic(name)
            return "" if topic is None else topic.id

    def create(self, topics: Sequence[Topic]) -> None:
        with self._line.call("admin.create", refusable=True):
            for topic in topics:
                self._broker.create_topic(topic.name, topic.partitions, topic.configs)

    def configure(self, name: str, configs: Mapping[str, str]) -> None:
        with self._line.call("admin.configure", refusable=True):
            self._broker.topic(name).configure(configs)

    def ranges(self, topic: str, partitions: Collection[int]) -> dict[int, LogRange]:
        with self._line.call("admin.ranges", refusable=True):
            return {p: self._broker.log(topic, p).range() for p in partitions}

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        with self._line.call("admin.delete_records", refusable=True):
            for partition, offset in before.items():
                self._broker.log(topic, partition).truncate(offset)

    def close(self) -> None:
        """Nothing is held."""
