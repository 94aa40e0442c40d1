"""What happens inside of one poll of librdkafka cannot be staged on a broker: here they are made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from confluent_kafka import KafkaError, Message
from confluent_kafka import TopicPartition as KafkaPartition

from stream import kafka_source
from stream.broker import Identity
from stream.errors import AbortableError, RetriableError, StateError
from stream.kafka_broker import KafkaBroker
from stream.kafka_source import KafkaSource

NOBODY = "127.0.0.1:9"


def record(partition: int, offset: int) -> Message:
    return Message("events", partition, offset, b"key", b"%d" % offset, None, None, (1, 1_000 + offset))


def end(partition: int, offset: int) -> Message:
    return Message("events", partition, offset, error=KafkaError(KafkaError._PARTITION_EOF))


def failed(code: int, partition: int = 0, offset: int = -1001) -> Message:
    return Message("events", partition, offset, error=KafkaError(code))


class Stage:
    """A source whose polls return what the test puts in, after letting the listener act."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        identity = Identity("group", "id", {"events": "events"})
        self.source: KafkaSource = KafkaBroker(NOBODY, identity).source()
        self.messages: list[Message] = []
        self.acts: list[object] = []
        monkeypatch.setattr(kafka_source, "consume", self._consume)
        self.source._take(self, [KafkaPartition("events", 0), KafkaPartition("events", 1)])
        for partition in (0, 1):
            self.source.seek(partition, 100)
        self.source.resume([0, 1])
        self.told: list[tuple[int, int]] = []  # what the fetcher was told since
        monkeypatch.setattr(self.source, "_go", lambda *place: self.told.append(place))

    def _consume(self, *_: object) -> list[Message]:
        messages, self.messages = self.messages, []
        acts, self.acts = self.acts, []
        for act in acts:
            act()  # type: ignore[operator]
        return messages

    def poll(self, *messages: Message, during: object = None) -> dict[int, list[int]]:
        self.messages = list(messages)
        self.acts = [] if during is None else [during]
        return {batch.partition: batch.offsets for batch in self.source.poll(100, 0.0)}

    def lose(self, partition: int, tell: object = None) -> None:
        self.source._give_up(tell or self.on_revoke, [KafkaPartition("events", partition)])  # type: ignore[arg-type]

    def on_assign(self, partitions: Sequence[int]) -> None: ...

    def on_revoke(self, partitions: Sequence[int]) -> None: ...

    def on_lost(self, partitions: Sequence[int]) -> None: ...


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch)
    yield stage
    stage.source.close()


def test_records_are_sorted_by_partition_and_move_the_positions(stage: Stage) -> None:
    mixed = [record(1, 100), record(0, 100), record(0, 102), record(1, 101)]
    assert stage.poll(*mixed) == {0: [100, 102], 1: [100, 101]}
    assert (stage.source.position(0), stage.source.position(1)) == (103, 102)


def test_a_seek_during_the_poll_outdates_what_the_poll_brought(stage: Stage) -> None:
    """The records lie behind the new position and look like what comes next; those between would be lost."""
    got = stage.poll(record(0, 100), record(1, 100), end(0, 101), during=lambda: stage.source.seek(0, 50))
    assert got == {1: [100]}
    assert stage.source.position(0) == 50
    assert stage.told[-1] == (0, 50)
    assert stage.poll(record(0, 50)) == {0: [50]}


def test_a_pause_during_the_poll_holds_back_what_the_poll_brought(stage: Stage) -> None:
    got = stage.poll(record(0, 100), record(1, 100), during=lambda: stage.source.pause([0]))
    assert got == {1: [100]}
    assert stage.source.position(0) == 100
    assert stage.told == [(0, 100)]


def test_a_partition_that_goes_during_the_poll_takes_its_records_along(stage: Stage) -> None:
    assert stage.poll(record(0, 100), record(1, 100), during=lambda: stage.lose(0)) == {1: [100]}
    assert stage.source.assignment() == {1}


def test_what_a_listener_raises_puts_the_records_of_the_poll_back(stage: Stage) -> None:
    def fail(_: Sequence[int]) -> None:
        raise AbortableError("no")

    with pytest.raises(AbortableError, match="no"):
        stage.poll(record(1, 100), during=lambda: stage.lose(0, fail))
    assert stage.source.assignment() == {1}  # gone all the same
    assert stage.source.position(1) == 100
    assert stage.told == [(1, 100)]
    assert stage.poll(record(1, 100)) == {1: [100]}


def test_an_end_moves_the_position_over_markers_and_never_back(stage: Stage) -> None:
    assert stage.poll(record(0, 100), end(0, 104)) == {0: [100]}
    assert stage.source.position(0) == 104
    stage.poll(end(0, 90))
    assert stage.source.position(0) == 104


def test_records_before_the_position_are_dropped(stage: Stage) -> None:
    assert stage.poll(record(0, 98), record(0, 99), record(0, 100)) == {0: [100]}
    assert stage.poll(record(0, 99), record(0, 100)) == {}


def test_a_passing_error_waits_for_a_poll_that_brings_nothing(stage: Stage) -> None:
    assert stage.poll(record(0, 100), failed(KafkaError._TRANSPORT)) == {0: [100]}
    assert stage.poll(record(0, 101)) == {0: [101]}
    assert stage.poll(failed(KafkaError._TRANSPORT)) == {}
    with pytest.raises(RetriableError):
        stage.poll()
    assert stage.poll() == {}


def test_only_the_position_itself_can_lie_outside_of_the_log(stage: Stage) -> None:
    stage.poll(failed(KafkaError._AUTO_OFFSET_RESET, 0, 0))  # of a fetch from before the seek
    assert stage.poll() == {}
    stage.poll(failed(KafkaError._AUTO_OFFSET_RESET, 0, 100))
    with pytest.raises(StateError, match="events-0: offset 100"):
        stage.poll()
