"""A librdkafka producer that never loses sight of a failed delivery.

A record that cannot be stored makes itself known in two ways: at once, as `produce` refuses it, or later, in
a delivery report. The first failure is kept here until someone asks (`surface`), as every flush and commit
does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, ParamSpec, TypeVar

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from stream.errors import AbortableError, BrokerError, FencedError
from stream.kafka_consumer import LOG
from stream.kafka_errors import RAISED, classify, kafka_error, refused_setting
from stream.kafka_settings import TRANSACTION_CALL_TIMEOUT_S, Settings
from stream.records import Headers

P = ParamSpec("P")
T = TypeVar("T")

#: While the queue is full: how long each wait for room is, and after how many to give up.
_ROOM_WAIT_S: Final = 0.1
_ROOM_WAITS_MAX: Final = int(TRANSACTION_CALL_TIMEOUT_S / _ROOM_WAIT_S)

#: Reports of what was thrown away come at once.
_PURGE_TIMEOUT_S: Final = 1.0

#: What happens to records that an abort, or the end of the producer, throws away.
_THROWN_AWAY: Final = (KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT, KafkaError._DESTROY)


class KafkaProducer:
    """Queues records and remembers the first that was not stored.

    place: what errors are about that concern no single record.
    Raises UsageError if librdkafka refuses a setting.
    """

    def __init__(self, settings: Settings, place: str) -> None:
        self._place = place
        self._failure: BrokerError | None = None
        self._destroyed = False
        self._calls = 0  # that have not returned
        try:
            #: For loops that call `produce` for every record and leave the rest to `queue`.
            self.raw = Producer({**settings, "on_delivery": self._report}, logger=LOG)
        except KafkaException as error:
            raise refused_setting(error) from error

    def _report(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None and error.code() not in _THROWN_AWAY:
            self._failure = _undelivered(error, f"{message.topic()}-{message.partition()}")

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call librdkafka. Raises a BrokerError that says what its error means."""
        self._calls += 1
        try:
            return function(*args, **kwargs)
        except RAISED as error:
            meant = classify(kafka_error(error), place=self._place)
            failure, self._failure = self._failure, None
            # The report of the record that is to blame says more than the transaction's state does.
            raise (failure if type(failure) is type(meant) and failure else meant) from error
        finally:
            self._calls -= 1

    def queue(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        partition: int,
        headers: Headers | None,
        timestamp_ms: int = 0,
    ) -> None:
        """Queue one record; waits for room. Raises AbortableError, FencedError."""
        place = f"{topic}-{partition}"
        notes: Any = headers or None
        for _ in range(_ROOM_WAITS_MAX):
            try:
                self.raw.produce(topic, value, key, partition, headers=notes, timestamp=timestamp_ms)
            except BufferError:
                self.call(self.raw.poll, _ROOM_WAIT_S)
            except KafkaException as error:
                self.surface()
                raise _undelivered(kafka_error(error), place) from error
            else:
                return
        raise FencedError("the producer's queue stays full: nothing is delivered", place=place)

    def serve(self) -> None:
        """Take the reports that have come, and raise the first failure."""
        self.call(self.raw.poll, 0.0)
        self.surface()

    @property
    def waiting(self) -> int:
        """How many records are queued and not stored yet."""
        return len(self.raw)

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is stored. Raises the first failure, FencedError if it takes too long."""
        left = self.call(self.raw.flush, timeout_s)
        self.surface()
        if left:
            raise FencedError(f"{left} records are not stored after {timeout_s:.0f} s", place=self._place)

    def surface(self) -> None:
        """Raise the first failure, once."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def forget(self) -> None:
        """What has failed is not wanted any more."""
        self._failure = None

    def destroy(self) -> None:
        """Throw away what is queued, and end. An open transaction stays open. Twice is allowed."""
        if self._destroyed:
            return
        self._destroyed = True
        try:
            self.raw.purge(in_queue=True, in_flight=True)
            if self.raw.flush(_PURGE_TIMEOUT_S) == 0 and not self._calls:
                self.raw.close()  # it waits without a limit; what is stuck ends with its last reference
        except RAISED as error:
            LOG.info("a producer ended with an error: %s", kafka_error(error).str())


def _undelivered(error: KafkaError, place: str) -> BrokerError:
    """A record that is not stored spoils its transaction; whether it may be tried again changes nothing."""
    meant = classify(error, place=place)
    if isinstance(meant, FencedError):
        return meant
    return AbortableError(f"a record was not stored: {meant.what}", place=place, remedy=meant.remedy)
