"""Topics, their settings and their logs on Apache Kafka.

Every call asks the broker and waits for the answer, and may come from any thread.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection
from confluent_kafka import TopicPartition as KafkaPartition
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # re-exported without saying so
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    OffsetSpec,
    ResourceType,
)

from stream.broker import LogRange, Topic
from stream.errors import BrokerError, RetriableError
from stream.kafka_consumer import LOG
from stream.kafka_errors import classify, kafka_error, refused_setting
from stream.kafka_settings import REQUEST_TIMEOUT_S, Settings

T = TypeVar("T")

#: Waiting for a future: the request's own timeout comes first.
_FUTURE_TIMEOUT_S = REQUEST_TIMEOUT_S + 5.0


class KafkaAdmin:
    """Implements `stream.broker.Admin`. Raises UsageError if librdkafka refuses a setting."""

    def __init__(self, settings: Settings) -> None:
        try:
            self._client = AdminClient(dict(settings), logger=LOG)
        except KafkaException as error:
            raise refused_setting(error) from error
        self._place = str(settings["bootstrap.servers"])

    def describe(self, names: Collection[str]) -> dict[str, Topic | None]:
        known = self._topics()
        found = [name for name in names if name in known]
        configs = self._configs(found)
        topics: dict[str, Topic | None] = dict.fromkeys(names)
        for name in found:
            partitions = known[name].partitions
            replication = min((len(each.replicas) for each in partitions.values()), default=0)
            topics[name] = Topic(name, len(partitions), replication, configs[name])
        return topics

    def _topics(self) -> dict[str, Any]:
        try:
            return dict(self._client.list_topics(timeout=REQUEST_TIMEOUT_S).topics)
        except KafkaException as error:
            raise classify(kafka_error(error), place=self._place) from error

    def _configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Return the configs of topics that there are. Raises RetriableError if the node lags behind."""
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = self._client.describe_configs(resources, request_timeout=REQUEST_TIMEOUT_S)
        return {
            resource.name: {key: entry.value for key, entry in _of_known(future, resource.name).items()}
            for resource, future in futures.items()
        }

    def topic_id(self, name: str) -> str:
        asked = self._client.describe_topics(TopicCollection([name]), request_timeout=REQUEST_TIMEOUT_S)
        try:
            return str(_of_known(asked[name], name).topic_id or "")
        except RetriableError:
            if name in self._topics():
                raise
            return ""

    def create(self, topics: Sequence[Topic]) -> None:
        if not topics:
            return
        new = [NewTopic(t.name, t.partitions, t.replication, config=dict(t.configs)) for t in topics]
        for name, future in self._client.create_topics(new, request_timeout=REQUEST_TIMEOUT_S).items():
            try:
                future.result(_FUTURE_TIMEOUT_S)
            except KafkaException as error:
                if kafka_error(error).code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise classify(kafka_error(error), place=name) from error

    def configure(self, name: str, configs: Mapping[str, str]) -> None:
        changes = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
            for key, value in configs.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)
        for future in self._client.incremental_alter_configs([resource]).values():
            _result(future, name)

    def ranges(self, topic: str, partitions: Collection[int]) -> dict[int, LogRange]:
        starts = self._offsets(topic, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        ends = self.end_offsets(topic, partitions)
        return {partition: LogRange(starts[partition], ends[partition]) for partition in partitions}

    def end_offsets(self, topic: str, partitions: Collection[int]) -> dict[int, int]:
        """Return the last stable offset of each, asked now."""
        return self._offsets(topic, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]

    def _offsets(self, topic: str, partitions: Collection[int], spec: OffsetSpec) -> dict[int, int]:
        if not partitions:
            return {}
        futures = self._client.list_offsets(
            {KafkaPartition(topic, partition): spec for partition in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_TIMEOUT_S,
        )
        try:
            return {
                asked.partition: int(_result(future, f"{topic}-{asked.partition}").offset)
                for asked, future in futures.items()
            }
        except RetriableError:
            self._expect(topic, partitions)  # to librdkafka no leader and no partition are the same
            raise

    def _expect(self, topic: str, partitions: Collection[int]) -> None:
        """Raise BrokerError if one of these partitions does not exist."""
        known = self._topics()
        missing = set(partitions) - (known[topic].partitions.keys() if topic in known else set())
        if missing:
            raise BrokerError(f"there is no partition {min(missing)}", place=topic)

    def delete_records(self, topic: str, before: Mapping[int, int]) -> None:
        asked = [KafkaPartition(topic, partition, offset) for partition, offset in before.items()]
        for partition, future in self._client.delete_records(asked).items():
            _result(future, f"{topic}-{partition.partition}")

    def close(self) -> None:
        """Nothing to wait for: the client ends with its last reference."""


def _result(future: Future[T], place: str) -> Any:
    """Wait for an answer. Raises a BrokerError that says what it means."""
    try:
        return future.result(_FUTURE_TIMEOUT_S)
    except KafkaException as error:
        raise classify(kafka_error(error), place=place) from error
    except TimeoutError as error:
        raise RetriableError("no answer", place=place) from error


def _of_known(future: Future[T], place: str) -> Any:
    """Wait for an answer about a topic that another node knows: one that does not will, in a moment."""
    try:
        return _result(future, place)
    except BrokerError as error:
        cause = error.__cause__
        if (
            isinstance(cause, KafkaException)
            and kafka_error(cause).code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        ):
            raise RetriableError("the node asked does not know the topic yet", place=place) from error
        raise
