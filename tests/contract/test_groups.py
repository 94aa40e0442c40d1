"""Members of a group share the partitions, and hear of every change in time."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from stream.broker import CommittedOffset
from stream.errors import AbortableError
from tests.contract.rigs import Member, Rig, committed_of, identity, wait_until

PARTITIONS = 6


def filled(rig: Rig) -> str:
    topic = rig.topic(PARTITIONS)
    publisher = rig.connect(identity(topic)).publisher()
    partitions = [i % PARTITIONS for i in range(60)]
    publisher.publish(topic, [None] * 60, [f"{i}".encode() for i in range(60)], partitions=partitions)
    publisher.flush()
    publisher.close()
    return topic


def poll_all(*members: Member) -> None:
    for member in members:
        member.poll()


def shares(*members: Member) -> list[int]:
    return sorted(len(member.source.assignment()) for member in members)


def test_a_second_member_takes_half_and_gives_it_back(group_rig: Rig) -> None:
    me = identity(filled(group_rig))
    first = Member(group_rig.connect(me).source())
    wait_until(lambda: shares(first) == [6] and first.records() == 60, first.poll)
    assert first.source.member_id()

    second = Member(group_rig.connect(me).source())
    wait_until(lambda: shares(first, second) == [3, 3], lambda: poll_all(first, second))
    assert first.source.assignment() | second.source.assignment() == set(range(PARTITIONS))
    revoked = {partition for each in first.revoked for partition in each}
    assert revoked == second.source.assignment()  # the others were never taken away
    assert first.lost == second.lost == []
    assert first.source.member_id() != second.source.member_id()

    held = second.source.assignment()
    second.source.close()
    assert {partition for each in second.revoked for partition in each} == held
    wait_until(lambda: shares(first) == [6], first.poll)
    assert {partition for each in first.assigned[1:] for partition in each} == held
    first.source.close()
    first.source.close()


def test_a_third_member_takes_a_third_and_nothing_else_moves(group_rig: Rig) -> None:
    me = identity(filled(group_rig))
    first, second = (Member(group_rig.connect(me).source()) for _ in range(2))
    wait_until(lambda: shares(first, second) == [3, 3], lambda: poll_all(first, second))
    before = first.source.assignment(), second.source.assignment()
    third = Member(group_rig.connect(me).source())
    members = first, second, third
    wait_until(lambda: shares(*members) == [2, 2, 2], lambda: poll_all(*members))
    assert first.source.assignment() < before[0]
    assert second.source.assignment() < before[1]
    assert len(set().union(*(member.source.assignment() for member in members))) == PARTITIONS
    for member in members:
        member.source.close()


def test_what_is_revoked_may_still_be_committed_in_the_callback(group_rig: Rig) -> None:
    topic = filled(group_rig)
    me = identity(topic)
    source = group_rig.connect(me).source()
    sink = group_rig.connect(me).sink()
    sink.open()

    class Committing(Member):
        def on_revoke(self, partitions: Sequence[int]) -> None:
            super().on_revoke(partitions)
            sink.begin()
            offsets = {p: CommittedOffset(source.position(p), "left") for p in partitions}
            sink.send_offsets(topic, offsets, source.group())
            sink.commit()

    first = Committing(source)
    wait_until(lambda: first.records() == 60, first.poll)
    second = Member(group_rig.connect(me).source())
    wait_until(lambda: shares(first, second) == [3, 3], lambda: poll_all(first, second))
    for _ in range(5):
        poll_all(first, second)
    assert second.records() == 0  # it began where the first had committed
    for partition in second.source.assignment():
        found = committed_of(second.source, [partition])
        assert found == {partition: CommittedOffset(10, "left")}
    first.source.close()
    second.source.close()
    sink.destroy()


def test_what_a_listener_raises_comes_out_of_the_poll_and_loses_nothing(group_rig: Rig) -> None:
    me = identity(filled(group_rig))
    first = Member(group_rig.connect(me).source())
    wait_until(lambda: first.records() == 60, first.poll)

    class Failing(Member):
        raised = 0

        def on_revoke(self, partitions: Sequence[int]) -> None:
            super().on_revoke(partitions)
            raise AbortableError("the listener gives up")

        def poll(self, records_max: int = 500) -> None:
            try:
                super().poll(records_max)
            except AbortableError:
                self.raised += 1

    first.source.close()
    second = Failing(group_rig.connect(me).source())
    wait_until(lambda: second.records() == 60, second.poll)
    third = Member(group_rig.connect(me).source())
    wait_until(lambda: shares(second, third) == [3, 3], lambda: poll_all(second, third))
    assert second.raised == 1
    wait_until(lambda: third.records() == 30, lambda: poll_all(second, third))
    assert second.records() == 60
    third.source.close()
    wait_until(lambda: second.records() == 90, second.poll)
    with pytest.raises(AbortableError, match="the listener gives up"):
        second.source.close()
