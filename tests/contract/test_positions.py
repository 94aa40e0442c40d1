"""Where a consumer stands: seeks, pauses, ends, and the offsets that markers take."""

from __future__ import annotations

import pytest

from stream.errors import StateError
from tests.contract.rigs import POLL_S, Member, Rig, identity, outputs, read_all, wait_until

VALUES = [f"{i}".encode() for i in range(100)]


def filled(rig: Rig, partitions: int = 1) -> str:
    """Return a topic with the same hundred records in each partition."""
    topic = rig.topic(partitions)
    publisher = rig.connect(identity(topic)).publisher()
    for partition in range(partitions):
        publisher.publish(topic, [None] * 100, VALUES, partitions=[partition] * 100)
    publisher.flush()
    publisher.close()
    return topic


def test_a_seek_back_repeats_and_a_seek_ahead_skips(rig: Rig) -> None:
    member = Member(rig.connect(identity(filled(rig))).source())
    wait_until(lambda: member.records() >= 100, member.poll)
    assert member.source.position(0) == 100

    member.source.seek(0, 90)
    assert member.source.position(0) == 90
    wait_until(lambda: member.records() >= 110, member.poll)
    member.source.seek(0, 20)
    wait_until(lambda: member.records() >= 130, lambda: member.poll(20))
    member.source.seek(0, 98)
    wait_until(lambda: member.source.position(0) == 100, member.poll)

    assert member.values(0) == VALUES + VALUES[90:] + VALUES[20:40] + VALUES[98:]
    member.source.close()


def test_a_seek_inside_of_the_callback_is_where_it_starts(rig: Rig) -> None:
    topic = filled(rig, 2)
    source = rig.connect(identity(topic)).source()

    class Late(Member):
        def on_assign(self, partitions: object) -> None:
            for partition in (0, 1):
                source.seek(partition, 97 + partition)
            source.resume([0, 1])

    member = Late(source)
    wait_until(lambda: member.records() >= 5, member.poll)
    assert member.values(0) == VALUES[97:]
    assert member.values(1) == VALUES[98:]
    source.close()


def test_nothing_comes_of_a_partition_that_is_paused_or_was_never_sought(rig: Rig) -> None:
    topic = filled(rig, 2)
    source = rig.connect(identity(topic)).source()

    class Waiting(Member):
        def on_assign(self, partitions: object) -> None:
            pass

    member = Waiting(source)
    wait_until(lambda: len(source.assignment()) == 2, member.poll)
    for _ in range(5):
        member.poll()
    assert member.records() == 0
    assert source.position(0) == -1

    source.seek(0, 50)
    source.seek(1, 0)
    source.resume([0])
    wait_until(lambda: member.records() >= 10, lambda: member.poll(10))
    source.pause([0])
    source.resume([1])
    wait_until(lambda: len(member.values(1)) == 100, member.poll)
    assert member.values(0) == VALUES[50:60]
    assert source.position(0) == 60

    source.resume([0])
    wait_until(lambda: len(member.values(0)) == 50, member.poll)
    assert member.values(0) == VALUES[50:]
    source.close()


def test_the_end_is_asked_afresh_and_counts_markers(rig: Rig) -> None:
    topic = filled(rig)
    broker = rig.connect(identity(topic, recommendations=topic))
    member = Member(broker.source())
    wait_until(lambda: member.records() >= 100, member.poll)
    source = member.source
    assert source.end_offsets([0]) == {0: 100}

    sink = broker.sink()
    sink.open()
    sink.begin()
    sink.produce(outputs("recommendations", b"a", b"b"))
    sink.flush()
    assert source.end_offsets([0]) == {0: 100}  # undecided: nobody may see it
    sink.commit()
    wait_until(lambda: source.end_offsets([0]) == {0: 103}, member.poll)
    sink.begin()
    sink.produce(outputs("recommendations", b"c"))
    sink.flush()
    sink.abort()
    wait_until(lambda: source.end_offsets([0]) == {0: 105}, member.poll)

    wait_until(lambda: source.position(0) == 105, member.poll)
    assert member.values(0) == [*VALUES, b"a", b"b"]
    assert member.offsets(0)[-2:] == [100, 101]
    sink.destroy()
    source.close()


def test_a_reader_ends_where_it_was_told_to(rig: Rig) -> None:
    topic = filled(rig)
    broker = rig.connect(identity(topic, recommendations=topic))
    reader = broker.reader(topic, 0, 10, 40)
    values: list[bytes | None] = []
    while not reader.done():
        batch = reader.read(7, POLL_S)
        assert len(batch.offsets) <= 7
        values += batch.values
    assert values == VALUES[10:40]
    assert reader.position() == 40
    assert reader.read(7, POLL_S).offsets == []
    reader.close()
    empty = broker.reader(topic, 0, 100)
    assert empty.done()
    empty.close()


def test_a_reader_passes_a_tail_of_markers_and_aborted_records(rig: Rig) -> None:
    topic = filled(rig)
    broker = rig.connect(identity(topic, recommendations=topic))
    sink = broker.sink()
    sink.open()
    sink.begin()
    sink.produce(outputs("recommendations", b"c"))
    sink.flush()
    sink.abort()
    wait_until(lambda: broker.admin().ranges(topic, [0])[0].end == 102, lambda: None)
    reader = broker.reader(topic, 0, 99)
    wait_until(reader.done, lambda: reader.read(10, POLL_S))
    assert reader.position() == 102
    reader.close()

    waiting = broker.reader(topic, 0, 99, 103)
    for _ in range(5):
        waiting.read(10, POLL_S)
    assert not waiting.done()
    sink.begin()
    sink.produce(outputs("recommendations", b"d"))
    sink.commit()
    batch = waiting.read(10, POLL_S)
    wait_until(waiting.done, lambda: batch.values.extend(waiting.read(10, POLL_S).values))
    assert batch.values == [b"d"]
    waiting.close()
    sink.destroy()


def test_a_position_that_the_log_no_longer_holds_is_refused(rig: Rig) -> None:
    topic = filled(rig)
    broker = rig.connect(identity(topic))
    admin = broker.admin()
    admin.delete_records(topic, {0: 30})
    assert admin.ranges(topic, [0])[0] == (30, 100)

    reader = broker.reader(topic, 0, 10)
    with pytest.raises(StateError, match=f"{topic}-0.*10"):
        wait_until(reader.done, lambda: reader.read(10, POLL_S))
    reader.close()

    source = broker.source()

    class Elsewhere(Member):
        def on_assign(self, partitions: object) -> None:
            source.seek(0, 29)
            source.resume([0])

    member = Elsewhere(source)
    with pytest.raises(StateError, match=f"{topic}-0.*29"):
        wait_until(lambda: member.records() > 0, member.poll)
    source.seek(0, 30)
    wait_until(lambda: member.records() == 70, member.poll)
    assert member.values(0) == VALUES[30:]
    source.close()
    assert read_all(broker, topic, 0, 30).values == VALUES[30:]
