"""A member of a consumer group on Apache Kafka.

Partitions are polled in bulk and sorted into one batch a partition. Positions are kept here, not asked of
librdkafka: its own stand still where a log ends in markers, and are unset after a seek.

What the group assigns is not handed to librdkafka's fetcher until it is sought, and then with that offset.
Else it would look up the committed offset first (and wait for whoever holds it in a transaction), or begin
to fetch from somewhere else; a seek in that state is refused, or undone by a look-up's late answer.

Used from one thread, except for `committed` and `end_offsets`, which other clients answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from stream.broker import CommittedOffset, GroupToken, Listener
from stream.errors import BrokerError, InvariantError, RetriableError
from stream.kafka_admin import KafkaAdmin
from stream.kafka_committed import KafkaCommitted
from stream.kafka_consumer import OUTSIDE_OF_LOG, consume, open_consumer, outside_of_log
from stream.kafka_errors import classify, kafka_error
from stream.kafka_records import Polled, sort, to_batch
from stream.kafka_settings import Settings
from stream.records import RecordBatch

#: The position of a partition that was not sought yet.
NOWHERE: Final = -1

#: The fetcher is not running: not yet, or not any more as its position was outside of the log.
_NOT_RUNNING: Final = (KafkaError._STATE, KafkaError._PREV_IN_PROGRESS, KafkaError._UNKNOWN_PARTITION)


class KafkaSource:
    """Implements `stream.broker.Source`."""

    def __init__(self, settings: Settings, topic: str, admin: KafkaAdmin, committed: KafkaCommitted) -> None:
        self._topic = topic
        self._group_id = str(settings["group.id"])
        self._admin = admin
        self._committed = committed
        self._positions: dict[int, int] = {}  # of what is assigned
        self._paused: set[int] = set()
        self._fetched: set[int] = set()  # handed to the fetcher
        self._moved: set[int] = set()  # sought since the last poll began
        self._failure: BaseException | None = None  # to be raised by the next poll
        self._consumer = open_consumer(settings, self._note)

    @property
    def topic(self) -> str:
        return self._topic

    def subscribe(self, listener: Listener) -> None:
        self._consumer.subscribe(
            [self._topic],
            on_assign=lambda _, assigned: self._take(listener, assigned),
            on_revoke=lambda _, revoked: self._give_up(listener.on_revoke, revoked),
            on_lost=lambda _, lost: self._give_up(listener.on_lost, lost),
        )

    # The group

    def _take(self, listener: Listener, assigned: list[KafkaPartition]) -> None:
        self._consumer.incremental_assign([])  # heard, and nothing to fetch yet
        partitions = sorted(each.partition for each in assigned)
        self._positions.update(dict.fromkeys(partitions, NOWHERE))
        self._paused.update(partitions)
        if partitions:
            self._tell(listener.on_assign, partitions)

    def _give_up(self, tell: Callable[[Sequence[int]], None], gone: list[KafkaPartition]) -> None:
        partitions = sorted(each.partition for each in gone if each.partition in self._positions)
        if partitions:
            self._tell(tell, partitions)
        fetched = self._fetched.intersection(partitions)
        self._consumer.incremental_unassign([KafkaPartition(self._topic, each) for each in fetched])
        self._fetched -= fetched
        self._paused.difference_update(partitions)
        self._committed.forget(partitions)
        for partition in partitions:
            del self._positions[partition]

    def _tell(self, tell: Callable[[Sequence[int]], None], partitions: Sequence[int]) -> None:
        """Call the listener. What it raises waits until librdkafka's callback is over."""
        try:
            tell(partitions)
        except BaseException as error:
            self._failure = error

    def group(self) -> GroupToken:
        return GroupToken(self._consumer.consumer_group_metadata())

    def assignment(self) -> frozenset[int]:
        return frozenset(self._positions)

    def member_id(self) -> str:
        return self._consumer.memberid() or ""

    def close(self) -> None:
        self._consumer.close()
        self._committed.close()
        failure, self._failure = self._failure, None
        if failure is not None and not isinstance(failure, RetriableError):  # there is no next time
            raise failure

    # Records

    def poll(self, records_max: int, timeout_s: float) -> list[RecordBatch]:
        self._moved.clear()
        polled = sort(consume(self._consumer, records_max, timeout_s, self._topic))
        failure, self._failure = self._failure, None
        if failure is not None and not (isinstance(failure, RetriableError) and polled.records):
            for partition in polled.records:
                self._rewind(partition)
            raise failure
        return self._deliver(polled)

    def _deliver(self, polled: Polled) -> list[RecordBatch]:
        """Make the batches, move the positions, and keep errors for the next poll."""
        batches = []
        for partition, messages in polled.records.items():
            if partition not in self._fetched:
                continue
            if partition in self._moved or partition in self._paused:  # by the listener, during this poll
                self._rewind(partition)
                continue
            batch = to_batch(self._topic, partition, messages, self._positions[partition], None)
            if batch.offsets:
                self._positions[partition] = batch.offsets[-1] + 1
                batches.append(batch)
        for partition, offset in polled.ends:
            if partition in self._fetched and partition not in self._moved:
                self._positions[partition] = max(offset, self._positions[partition])
        for error, partition, offset in polled.errors:
            if error.code() not in OUTSIDE_OF_LOG:
                self._failure = self._failure or self._meaning(error)
            elif self._positions.get(partition) == offset:
                self._failure = outside_of_log(self._topic, partition, offset)
        return batches

    def _note(self, error: KafkaError) -> None:
        """Keep an error that belongs to no record. One broker of several that is away is none."""
        meant = self._meaning(error)
        if error.code() == KafkaError._ALL_BROKERS_DOWN or not isinstance(meant, RetriableError):
            self._failure = self._failure or meant

    def _meaning(self, error: KafkaError) -> BrokerError:
        return classify(error, place=f"topic {self._topic}, group {self._group_id}")

    def _rewind(self, partition: int) -> None:
        """What was polled of this partition is not delivered: let it come again."""
        if partition in self._fetched:
            self._go(partition, self._positions[partition])

    def pause(self, partitions: Collection[int]) -> None:
        self._check(partitions)
        self._paused.update(partitions)
        self._consumer.pause(self._places(self._fetched.intersection(partitions)))

    def resume(self, partitions: Collection[int]) -> None:
        self._check(partitions)
        for partition in partitions:
            if self._positions[partition] == NOWHERE:
                raise InvariantError(f"partition {partition} is resumed before it was sought")
        self._paused.difference_update(partitions)
        self._consumer.resume(self._places(partitions))

    def seek(self, partition: int, offset: int) -> None:
        self._check([partition])
        self._positions[partition] = offset
        self._moved.add(partition)
        self._go(partition, offset)

    def _go(self, partition: int, offset: int) -> None:
        """Let the fetcher go on from an offset, starting it if it does not run."""
        place = KafkaPartition(self._topic, partition, offset)
        try:
            if partition in self._fetched:
                try:
                    self._consumer.seek(place)
                    return
                except KafkaException as error:
                    if kafka_error(error).code() not in _NOT_RUNNING:
                        raise
                self._consumer.incremental_unassign(self._places([partition]))
                self._fetched.discard(partition)
            self._consumer.incremental_assign([place])
            self._fetched.add(partition)
            if partition in self._paused:
                self._consumer.pause([place])
        except KafkaException as error:
            raise classify(kafka_error(error), place=f"{self._topic}-{partition}") from error

    def position(self, partition: int) -> int:
        self._check([partition])
        return self._positions[partition]

    def _check(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            if partition not in self._positions:
                raise InvariantError(f"partition {partition} of {self._topic} is not assigned")

    def _places(self, partitions: Collection[int]) -> list[KafkaPartition]:
        return [KafkaPartition(self._topic, partition) for partition in partitions]

    # Offsets

    def end_offsets(self, partitions: Collection[int]) -> dict[int, int]:
        return self._admin.end_offsets(self._topic, partitions)

    def committed(self, partitions: Collection[int]) -> dict[int, CommittedOffset | None]:
        return self._committed.ask(partitions)

    def commit(self, offsets: Mapping[int, CommittedOffset]) -> None:
        places = to_places(self._topic, offsets)
        try:
            answers = self._consumer.commit(offsets=places, asynchronous=False)
        except KafkaException as error:
            raise classify(kafka_error(error), place=f"group {self._group_id}") from error
        for answer in answers:
            if answer.error is not None:
                raise classify(answer.error, place=f"group {self._group_id}, partition {answer.partition}")


def to_places(topic: str, offsets: Mapping[int, CommittedOffset]) -> list[KafkaPartition]:
    """Return committed offsets in librdkafka's form."""
    return [
        KafkaPartition(topic, partition, committed.offset, committed.metadata)
        for partition, committed in offsets.items()
    ]
