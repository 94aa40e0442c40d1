"""Where a worker's outputs go on Apache Kafka: in transactions, or at least once.

Whoever asks for a transaction to be ended and does not hear that it was, knows nothing: every error of the
end itself is a FencedError here, even one that librdkafka would let the caller abort or try again. Only a
record that could not be stored leaves the transaction to be aborted, as its end is not asked for then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from confluent_kafka import KafkaException

from stream.broker import CommittedOffset, GroupToken
from stream.errors import AbortableError, BrokerError, FencedError
from stream.kafka_errors import before_the_end, kafka_error
from stream.kafka_producer import KafkaProducer
from stream.kafka_settings import TRANSACTION_CALL_TIMEOUT_S, Settings
from stream.kafka_source import to_places
from stream.records import Output

#: Opening waits for the broker to decide what a predecessor left open: timeout and sweep at worst.
_OPEN_TIMEOUT_S: Final = 30.0


class KafkaSink:
    """Implements `stream.broker.Sink`, exactly once."""

    def __init__(self, settings: Settings, topics: Mapping[str, str]) -> None:
        self._place = f"transactional id {settings['transactional.id']}"
        self._topics = topics
        self._producer = KafkaProducer(settings, self._place)

    def open(self) -> None:
        self._producer.call(self._producer.raw.init_transactions, _OPEN_TIMEOUT_S)

    def begin(self) -> None:
        self._producer.forget()
        self._producer.call(self._producer.raw.begin_transaction)

    def produce(self, outputs: Sequence[Output], timestamps_ms: Sequence[int] | None = None) -> None:
        produce_all(self._producer, self._topics, outputs, timestamps_ms)

    @property
    def waiting(self) -> int:
        return self._producer.waiting

    def flush(self) -> None:
        self._producer.flush(TRANSACTION_CALL_TIMEOUT_S)

    def send_offsets(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        send = self._producer.raw.send_offsets_to_transaction
        self._producer.call(send, to_places(topic, offsets), group, TRANSACTION_CALL_TIMEOUT_S)

    def commit(self) -> None:
        self._producer.flush(TRANSACTION_CALL_TIMEOUT_S)
        try:
            self._end(self._producer.raw.commit_transaction)
        except FencedError as error:
            cause = error.__cause__
            if isinstance(cause, AbortableError) and before_the_end(kafka_error(cause.__cause__)):
                raise cause from None
            raise

    def abort(self) -> None:
        self._end(self._producer.raw.abort_transaction)
        self._producer.forget()

    def destroy(self) -> None:
        self._producer.destroy()

    def _end(self, end: Callable[[float], None]) -> None:
        try:
            self._producer.call(end, TRANSACTION_CALL_TIMEOUT_S)
        except FencedError:
            raise
        except BrokerError as error:
            raise FencedError(
                f"the transaction may have ended or not: {error.what}", place=self._place
            ) from error


class KafkaPlainSink:
    """Implements `stream.broker.Sink`, at least once: flush, then commit.

    commit: the source's, as the group's offsets are then committed by the consumer itself; so a sink of this
    kind is used from the source's thread.
    """

    def __init__(
        self,
        settings: Settings,
        topics: Mapping[str, str],
        commit: Callable[[Mapping[int, CommittedOffset]], None],
    ) -> None:
        self._topics = topics
        self._commit = commit
        self._offsets: Mapping[int, CommittedOffset] = {}
        self._producer = KafkaProducer(settings, "the producer of outputs")

    def open(self) -> None:
        """There is nobody to fence."""

    def begin(self) -> None:
        self._offsets = {}

    def produce(self, outputs: Sequence[Output], timestamps_ms: Sequence[int] | None = None) -> None:
        produce_all(self._producer, self._topics, outputs, timestamps_ms)

    @property
    def waiting(self) -> int:
        return self._producer.waiting

    def flush(self) -> None:
        self._producer.flush(TRANSACTION_CALL_TIMEOUT_S)

    def send_offsets(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        self._offsets = dict(offsets)

    def commit(self) -> None:
        self._producer.flush(TRANSACTION_CALL_TIMEOUT_S)
        if self._offsets:
            self._commit(self._offsets)

    def abort(self) -> None:
        """What was produced stays; its ids let consumers drop it when it comes again."""
        self._offsets = {}
        self._producer.forget()

    def destroy(self) -> None:
        self._producer.destroy()


def produce_all(
    producer: KafkaProducer,
    topics: Mapping[str, str],
    outputs: Sequence[Output],
    timestamps_ms: Sequence[int] | None = None,
) -> None:
    """Queue outputs in order. Raises AbortableError, FencedError."""
    if timestamps_ms is not None:
        for (role, partition, key, value, headers), timestamp_ms in zip(outputs, timestamps_ms, strict=True):
            producer.queue(topics[role], value, key, partition, headers, timestamp_ms)
        producer.serve()
        return
    produce: Callable[..., None] = producer.raw.produce
    for role, partition, key, value, headers in outputs:
        try:
            produce(topics[role], value, key, partition, headers=headers or None)
        except (BufferError, KafkaException):
            producer.queue(topics[role], value, key, partition, headers)  # waits for room, or says why not
    producer.serve()
