"""Reads one partition of Apache Kafka, from an offset to an end, with a consumer of its own."""

from __future__ import annotations

from confluent_kafka import KafkaError
from confluent_kafka import TopicPartition as KafkaPartition

from stream.errors import BrokerError
from stream.kafka_consumer import OUTSIDE_OF_LOG, consume, open_consumer, outside_of_log
from stream.kafka_errors import classify
from stream.kafka_records import sort, to_batch
from stream.kafka_settings import Settings
from stream.records import RecordBatch


class KafkaReader:
    """Implements `stream.broker.Reader`."""

    def __init__(self, settings: Settings, topic: str, partition: int, start: int, end: int) -> None:
        self._topic = topic
        self._partition = partition
        self._position = start
        self._end = end
        self._failure: BrokerError | None = None
        self._consumer = open_consumer(settings, self._note)
        self._consumer.assign([KafkaPartition(topic, partition, start)])

    def read(self, records_max: int, timeout_s: float) -> RecordBatch:
        nothing = RecordBatch(self._topic, self._partition, [], [], [], [], [])
        if self.done():
            return nothing
        messages = consume(self._consumer, records_max, timeout_s, self._place())
        batch = nothing
        if messages:
            polled = sort(messages)
            for records in polled.records.values():
                last = records[-1].offset() or 0
                batch = to_batch(self._topic, self._partition, records, self._position, self._end)
                self._position = max(self._position, min(last + 1, self._end))
            for _, offset in polled.ends:
                self._position = max(self._position, min(offset, self._end))
            for error, _, offset in polled.errors:
                if error.code() in OUTSIDE_OF_LOG:
                    raise outside_of_log(self._topic, self._partition, offset)
                self._note(error)
        failure, self._failure = self._failure, None
        if failure is not None and not batch.offsets:
            raise failure
        return batch

    def _note(self, error: KafkaError) -> None:
        if self._failure is None:
            self._failure = classify(error, place=self._place())

    def _place(self) -> str:
        return f"{self._topic}-{self._partition}"

    def position(self) -> int:
        return self._position

    def done(self) -> bool:
        return self._position >= self._end

    def close(self) -> None:
        self._consumer.close()
