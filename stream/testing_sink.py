"""Producers of the in-memory broker: transactional, at-least-once, and plain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, cast

from stream.broker import CommittedOffset, GroupToken
from stream.errors import AbortableError, BrokerError, FencedError, InvariantError
from stream.partitioner import partition_of
from stream.records import Headers, Output
from stream.testing_broker import MemoryTopic
from stream.testing_group import MemberToken
from stream.testing_line import Line
from stream.testing_log import NO_OWNER
from stream.testing_transactions import Producer

#: Ebbtide's own (`kafka_settings.py`).
TRANSACTION_TIMEOUT_MS: Final = 10_000.0

#: What Kafka adds to a record for its batch, at most.
RECORD_OVERHEAD_BYTES: Final = 70


def check_size(topic: MemoryTopic, key: bytes | None, value: bytes | None, headers: Headers | None) -> None:
    """Raise AbortableError if the broker would refuse a record for its size."""
    size = len(key or b"") + len(value or b"") + RECORD_OVERHEAD_BYTES
    size += sum(len(name) + len(content) for name, content in headers or ())
    if size > topic.message_bytes_max:
        raise AbortableError(
            f"a record of {size} bytes is larger than {topic.message_bytes_max}",
            place=topic.name,
            remedy="raise max.message.bytes of the topic",
        )


class MemorySink:
    """Implements `stream.broker.Sink`, exactly once.

    States: new → ready ⇄ open; open → failed (abort leads back to ready); any → fenced, unknown, destroyed.
    `unknown` is after a time-out: as in librdkafka the same call may then be made again, and as in Kafka it
    may meet another transaction than the one it was meant for.
    """

    def __init__(self, line: Line, transactional_id: str, topics: Mapping[str, str]) -> None:
        self._line = line
        self._broker = line.broker
        self._id = transactional_id
        self._topics = topics
        self._state = "new"
        self._producer = Producer(transactional_id)
        self._epoch = -1
        self._failure: BrokerError | None = None

    def open(self) -> None:
        with self._line.call("sink.open", refusable=True):
            self._expect("new")
            transactions = self._broker.transactions
            self._producer, self._epoch = transactions.open(self._id, TRANSACTION_TIMEOUT_MS)
            self._state = "ready"

    def begin(self) -> None:
        with self._line.call("sink.begin"):
            self._expect("ready")
            self._state = "open"

    def produce(self, outputs: Sequence[Output], timestamps_ms: Sequence[int] | None = None) -> None:
        with self._line.call("sink.produce"):
            self._expect("open")
            self._expire_if_struck("sink.produce")
            owner = self._owner()
            now_ms = self._broker.clock.now_ms()
            for i, output in enumerate(outputs):
                topic = self._broker.topic(self._topics[output.topic])
                log = self._broker.log(topic.name, output.partition)
                try:
                    check_size(topic, output.key, output.value, output.headers)
                except AbortableError as error:
                    raise self._fail(error) from None
                if owner not in log.open:
                    self._broker.transactions.touch(self._producer, log)
                stamp_ms = now_ms if timestamps_ms is None else topic.stamp(timestamps_ms[i], now_ms)
                log.append(owner, output.key, output.value, stamp_ms, output.headers or None)
            if self._line.strikes("delivery_failed", "sink.produce"):
                self._failure = AbortableError("a record could not be stored", place=self._id)

    @property
    def waiting(self) -> int:
        return 0  # what is produced is stored

    def flush(self) -> None:
        with self._line.call("sink.flush"):
            self._expect("open")
            self._surface()

    def send_offsets(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        with self._line.call("sink.send_offsets", refusable=True):
            self._expect("open")
            self._expire_if_struck("sink.send_offsets")
            token = cast(MemberToken, group)
            owner = self._owner()
            members = self._broker.group(token.group_id, topic)
            try:
                if self._line.strikes("offsets_refused", "sink.send_offsets"):
                    raise AbortableError("the group's coordinator refuses the offsets", place=token.group_id)
                members.commit_pending(owner, topic, offsets, token)
            except AbortableError as error:
                raise self._fail(error) from None
            self._broker.transactions.touch_group(self._producer, members)

    def commit(self) -> None:
        with self._line.call("sink.commit", refusable=True):
            self._expect("open", "unknown")
            if self._line.strikes("commit_slow", "sink.commit"):
                self._pass_time()
            self._expire_if_struck("sink.commit")
            self._surface()
            self._end("sink.commit", committed=True)

    def abort(self) -> None:
        with self._line.call("sink.abort", refusable=True):
            self._expect("open", "failed")
            self._failure = None
            self._end("sink.abort", committed=False)

    def destroy(self) -> None:
        with self._line.call("sink.destroy"):
            self._state = "destroyed"

    def _end(self, point: str, committed: bool) -> None:
        plan, transactions = self._broker.plan, self._broker.transactions
        producer, epoch = self._producer, self._epoch
        self._state = "unknown"
        if plan is not None and plan.strikes("end_delayed", point):
            self._broker.later(plan.delay_ms(), lambda: transactions.end_late(producer, epoch, committed))
            self._pass_time()
            raise FencedError("the end of the transaction timed out", place=self._id)
        try:
            transactions.end(producer, epoch, committed)
        except FencedError:
            self._state = "fenced"
            raise
        if self._line.strikes("answer_lost", point):
            raise FencedError("the end of the transaction timed out", place=self._id)
        self._state = "ready"

    def _owner(self) -> int:
        """Return the open transaction's number. Raises FencedError, and is fenced from then on."""
        try:
            return self._broker.transactions.owner(self._producer, self._epoch)
        except FencedError:
            self._state = "fenced"
            raise

    def _expect(self, *states: str) -> None:
        """Refuse a call that the sink's state does not allow."""
        if self._state in states:
            return
        if self._state in ("fenced", "unknown"):
            raise FencedError(f"the producer is {self._state}: it must not be used again", place=self._id)
        if self._state == "failed":
            raise AbortableError("the transaction has failed and must be aborted", place=self._id)
        raise InvariantError(f"the sink is {self._state}, not {' or '.join(states)}")

    def _fail(self, error: AbortableError) -> AbortableError:
        self._state = "failed"
        return error

    def _surface(self) -> None:
        """Raise what became known only after `produce` had returned."""
        failure, self._failure = self._failure, None
        if failure is not None:
            self._state = "failed"
            raise failure

    def _expire_if_struck(self, point: str) -> None:
        if self._line.strikes("expired", point):
            self._broker.transactions.expire(self._producer)

    def _pass_time(self) -> None:
        if self._broker.plan is not None:
            self._broker.wait_for(lambda: False, self._broker.plan.delay_ms() / 1000.0)


class MemoryPlainSink:
    """Implements `stream.broker.Sink`, at least once: what is produced is there, whatever comes after."""

    def __init__(self, line: Line, topics: Mapping[str, str]) -> None:
        self._line = line
        self._broker = line.broker
        self._topics = topics
        self._failure: BrokerError | None = None
        self._offsets: tuple[str, Mapping[int, CommittedOffset], MemberToken] | None = None

    def open(self) -> None:
        """There is nobody to fence."""

    def begin(self) -> None:
        self._offsets = None

    def produce(self, outputs: Sequence[Output], timestamps_ms: Sequence[int] | None = None) -> None:
        with self._line.call("sink.produce"):
            now_ms = self._broker.clock.now_ms()
            for i, output in enumerate(outputs):
                topic = self._broker.topic(self._topics[output.topic])
                try:
                    check_size(topic, output.key, output.value, output.headers)
                except AbortableError as error:
                    self._failure = self._failure or error
                    continue
                log = self._broker.log(topic.name, output.partition)
                stamp_ms = now_ms if timestamps_ms is None else topic.stamp(timestamps_ms[i], now_ms)
                log.append(NO_OWNER, output.key, output.value, stamp_ms, output.headers or None)

    @property
    def waiting(self) -> int:
        return 0  # what is produced is stored

    def flush(self) -> None:
        with self._line.call("sink.flush"):
            self._surface()

    def send_offsets(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        self._offsets = topic, offsets, cast(MemberToken, group)

    def commit(self) -> None:
        with self._line.call("sink.commit", refusable=True):
            self._surface()
            if self._offsets is not None:
                topic, offsets, token = self._offsets
                self._broker.group(token.group_id, topic).commit(topic, offsets, token)

    def abort(self) -> None:
        self._failure = None
        self._offsets = None

    def destroy(self) -> None:
        """Nothing is held."""

    def _surface(self) -> None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure


class MemoryPublisher:
    """Implements `stream.broker.Publisher`."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._turn = 0

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
        broker = self._line.broker
        with self._line.call("publisher.publish"):
            target, now_ms = broker.topic(topic), broker.clock.now_ms()
            for i, (key, value) in enumerate(zip(keys, values, strict=True)):
                partition = self._partition(key, len(target.logs)) if partitions is None else partitions[i]
                notes = None if headers is None else headers[i]
                check_size(target, key, value, notes)
                stamp_ms = target.stamp(None if timestamps_ms is None else timestamps_ms[i], now_ms)
                broker.log(topic, partition).append(NO_OWNER, key, value, stamp_ms, notes)

    def _partition(self, key: bytes | None, partitions: int) -> int:
        if key is not None:
            return partition_of(key, partitions)
        self._turn += 1
        return self._turn % partitions

    def flush(self) -> None:
        """Everything is stored already."""

    def close(self) -> None:
        """Nothing is held."""
