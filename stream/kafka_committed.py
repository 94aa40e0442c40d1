"""What a group has committed on Apache Kafka, asked without holding anyone up.

librdkafka offers two ways, and neither will do as it is. A consumer's `committed` waits, as long as a
transaction on the offsets is pending: for as long as a dead worker's takes to time out, while the partitions
that stay would stand still. The admin client answers at once, and ends the whole process if the coordinator
goes away at the wrong moment (librdkafka #4605, open). So the first is called in a thread of its own, with a
consumer that is in no group and used by nobody else.

An answer is given to one question only. What was asked before a partition went is forgotten with it: it may
have been committed by someone else when it comes back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from threading import Condition, Thread
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import TopicPartition as KafkaPartition

from stream.broker import CommittedOffset
from stream.errors import BrokerError, RetriableError
from stream.kafka_consumer import open_consumer
from stream.kafka_errors import classify, kafka_error
from stream.kafka_settings import Settings

#: How long whoever asks waits for the answer; a broker at ease needs 2 to 10 ms.
_ANSWER_WAIT_S: Final = 0.05

#: How long one partition may hold up the thread, before the next has its turn.
_TURN_S: Final = 0.3

#: A partition's answer, or why there is none.
_Answer = CommittedOffset | BrokerError | None


class KafkaCommitted:
    """Looks up the committed offsets of one group in one topic. May be used from any thread."""

    def __init__(self, settings: Settings, topic: str) -> None:
        self._topic = topic
        self._place = f"group {settings['group.id']}, topic {topic}"
        self._settings = settings
        self._changed = Condition()
        self._asked: dict[int, int] = {}  # partition → the question's number
        self._questions = 0
        self._answers: dict[int, _Answer] = {}
        self._thread: Thread | None = None
        self._closed = False

    def ask(self, partitions: Collection[int]) -> dict[int, CommittedOffset | None]:
        """Return what is committed. Raises RetriableError as long as it is undecided, or nobody answers."""
        with self._changed:
            if new := [p for p in partitions if p not in self._asked and p not in self._answers]:
                self._begin(new)
                self._changed.wait_for(lambda: self._known(new), _ANSWER_WAIT_S)
            if not self._known(partitions):
                raise RetriableError("what is committed is undecided, or not answered yet", place=self._place)
            answers = {partition: self._answers.pop(partition) for partition in partitions}
        offsets: dict[int, CommittedOffset | None] = {}
        for partition, answer in answers.items():
            if isinstance(answer, BrokerError):
                raise answer
            offsets[partition] = answer
        return offsets

    def forget(self, partitions: Iterable[int]) -> None:
        """Drop questions and answers of these."""
        with self._changed:
            for partition in partitions:
                self._asked.pop(partition, None)
                self._answers.pop(partition, None)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _begin(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._questions += 1
            self._asked[partition] = self._questions
        if self._thread is None:
            self._thread = Thread(target=self._look_up, name="committed", daemon=True)
            self._thread.start()
        self._changed.notify_all()

    def _known(self, partitions: Iterable[int]) -> bool:
        return all(partition in self._answers for partition in partitions)

    def _look_up(self) -> None:
        """Go round the questions until closed."""
        consumer = open_consumer(self._settings, lambda _: None)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._asked) or self._closed)
                if self._closed:
                    break
                questions = list(self._asked.items())
            consumer.poll(0.0)  # for its log lines
            for partition, question in questions:
                try:
                    (found,) = consumer.committed([KafkaPartition(self._topic, partition)], _TURN_S)
                    error = found.error
                except KafkaException as exception:
                    found, error = None, kafka_error(exception)
                self._answer(partition, question, found, error)
        consumer.close()

    def _answer(
        self, partition: int, question: int, found: KafkaPartition | None, error: KafkaError | None
    ) -> None:
        meant = None if error is None else classify(error, place=self._place)
        if isinstance(meant, RetriableError):
            return
        answer: _Answer = meant
        if found is not None and meant is None and found.offset >= 0:
            answer = CommittedOffset(found.offset, found.metadata or "")
        with self._changed:
            if self._asked.get(partition) == question:
                del self._asked[partition]
                self._answers[partition] = answer
                self._changed.notify_all()
