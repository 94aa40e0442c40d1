"""Apache Kafka behind `stream.broker`: makes each client with the settings of its job."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaException

from stream.broker import EVENTS, Identity, Sink
from stream.errors import InvariantError
from stream.kafka_admin import KafkaAdmin
from stream.kafka_committed import KafkaCommitted
from stream.kafka_producer import KafkaProducer
from stream.kafka_reader import KafkaReader
from stream.kafka_settings import (
    REQUEST_TIMEOUT_S,
    Setting,
    admin_settings,
    publisher_settings,
    reader_settings,
    sink_settings,
    source_settings,
)
from stream.kafka_sink import KafkaPlainSink, KafkaSink
from stream.kafka_source import KafkaSource
from stream.records import Headers

#: librdkafka's own word for "let the partitioner decide".
_ANY_PARTITION: Final = -1


class KafkaBroker:
    """Implements `stream.broker.Broker`.

    client: librdkafka settings from the config's `[kafka.client]`.
    """

    def __init__(
        self, bootstrap_servers: str, identity: Identity, client: Mapping[str, Setting] | None = None
    ) -> None:
        self._servers = bootstrap_servers
        self._identity = identity
        self._client = dict(client or {})
        self._admin: KafkaAdmin | None = None
        self._source: KafkaSource | None = None

    def source(self) -> KafkaSource:
        group_id, topic = self._identity.group_id, self._identity.topics[EVENTS]
        settings = source_settings(self._servers, group_id, self._client)
        committed = KafkaCommitted(reader_settings(self._servers, self._client, group_id), topic)
        self._source = KafkaSource(settings, topic, self.admin(), committed)
        return self._source

    def sink(self) -> Sink:
        identity = self._identity
        if identity.exactly_once:
            settings = sink_settings(self._servers, identity.transactional_id, self._client)
            return KafkaSink(settings, identity.topics)
        if self._source is None:
            raise InvariantError("an at-least-once sink commits through the source: open that first")
        return KafkaPlainSink(
            publisher_settings(self._servers, self._client), identity.topics, self._source.commit
        )

    def reader(self, topic: str, partition: int, start: int, end: int | None = None) -> KafkaReader:
        if end is None:
            end = self.admin().end_offsets(topic, [partition])[partition]
        settings = reader_settings(self._servers, self._client)
        return KafkaReader(settings, topic, partition, start, end)

    def publisher(self) -> KafkaPublisher:
        return KafkaPublisher(KafkaProducer(publisher_settings(self._servers, self._client), self._servers))

    def admin(self) -> KafkaAdmin:
        """Return the one admin client: it may be used from every thread."""
        if self._admin is None:
            self._admin = KafkaAdmin(admin_settings(self._servers, self._client))
        return self._admin


class KafkaPublisher:
    """Implements `stream.broker.Publisher`."""

    def __init__(self, producer: KafkaProducer) -> None:
        self._producer = producer

    def publish(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        *,
        partitions: Sequence[int] | None = None,
        timestamps_ms: Sequence[int] | None = None,
        headers: Sequence[Headers | None] | None = None,
    ) -> None:
        produce: Callable[..., None] = self._producer.raw.produce
        for i, (key, value) in enumerate(zip(keys, values, strict=True)):
            partition = _ANY_PARTITION if partitions is None else partitions[i]
            notes = None if headers is None else headers[i]
            timestamp_ms = 0 if timestamps_ms is None else timestamps_ms[i]
            try:
                produce(topic, value, key, partition, headers=notes, timestamp=timestamp_ms)
            except (BufferError, KafkaException):
                self._producer.queue(topic, value, key, partition, notes, timestamp_ms)
        self._producer.serve()

    def flush(self) -> None:
        self._producer.flush(REQUEST_TIMEOUT_S)

    def close(self) -> None:
        self._producer.destroy()
