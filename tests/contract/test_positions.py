"""Where a consumer stands: seeks, pauses, ends, and the offsets that markers take."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from stream.broker import Source
from stream.errors import StateError
from stream.records import RecordBatch
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


class Exact(Member):
    """Expects of every partition exactly the record that its position names, and no gap after it."""

    def __init__(self, source: Source, chance: random.Random) -> None:
        self.expected: dict[int, int] = {}
        self.paused: set[int] = set()
        self.chance = chance
        super().__init__(source)

    def on_assign(self, partitions: Sequence[int]) -> None:
        self.assigned.append(list(partitions))
        for partition in partitions:
            self.seek(partition)
        self.source.resume(partitions)

    def on_revoke(self, partitions: Sequence[int]) -> None:
        super().on_revoke(partitions)
        for partition in partitions:
            del self.expected[partition]
        self.paused.difference_update(partitions)
        for partition in self.expected:  # as a worker that undoes in the middle of a poll
            self.seek(partition)

    def seek(self, partition: int) -> None:
        self.expected[partition] = self.chance.randrange(100)
        self.source.seek(partition, self.expected[partition])

    def check(self, batch: RecordBatch) -> None:
        partition, first = batch.partition, self.expected[batch.partition]
        assert partition not in self.paused
        assert batch.offsets == list(range(first, first + len(batch.offsets)))
        assert batch.values == VALUES[first : first + len(batch.offsets)]
        self.expected[partition] = first + len(batch.offsets)
        assert self.source.position(partition) >= self.expected[partition]

    def act(self) -> None:
        """Seek, pause or resume something, or nothing."""
        held = sorted(self.expected)
        if not held:
            return
        partition = self.chance.choice(held)
        match self.chance.randrange(6):
            case 0:
                self.seek(partition)
            case 1:
                self.source.pause([partition])
                self.paused.add(partition)
            case 2 | 3:
                self.source.resume(held)
                self.paused.clear()


@pytest.mark.parametrize("seed", [1, 2])
def test_no_seek_pause_or_rebalance_ever_skips_or_repeats_a_record(group_rig: Rig, seed: int) -> None:
    me = identity(filled(group_rig, 4))
    chance = random.Random(seed)
    members = [Exact(group_rig.connect(me).source(), chance)]
    wait_until(lambda: len(members[0].expected) == 4, members[0].poll)
    seen = 0
    for turn in range(300):
        if turn % 60 == 30:
            members.append(Exact(group_rig.connect(me).source(), chance))
        if turn % 60 == 59 and len(members) > 1:
            members.pop(chance.randrange(len(members))).source.close()
        for member in members:
            for batch in member.source.poll(1 + chance.randrange(30), 0.02):
                member.check(batch)
                seen += len(batch.offsets)
            member.act()
    assert seen > 1_000
    for member in members:
        member.source.close()
