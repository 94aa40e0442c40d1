"""Outputs and offsets are committed together, or neither is; and a zombie commits nothing."""

from __future__ import annotations

import pytest

from stream.broker import Broker, CommittedOffset, Sink
from stream.errors import AbortableError, FencedError, RetriableError
from tests.contract.rigs import Member, Rig, committed_of, identity, outputs, read_all, wait_until


class Pipe:
    """A worker's clients: a source of `events`, and a sink into `lists`, of two partitions each."""

    def __init__(self, rig: Rig, *, exactly_once: bool = True) -> None:
        self.rig = rig
        self.events = rig.topic(2)
        self.lists = rig.topic(2)
        self.identity = identity(self.events, exactly_once=exactly_once, recommendations=self.lists)
        self.broker: Broker = rig.connect(self.identity)
        self.member = Member(self.broker.source())
        self.source = self.member.source
        wait_until(lambda: len(self.source.assignment()) == 2, self.member.poll)
        self.sink = self.open_sink()

    def open_sink(self) -> Sink:
        sink = self.rig.connect(self.identity).sink() if self.identity.exactly_once else self.broker.sink()
        sink.open()
        return sink

    def send(self, offset: int, note: str = "", sink: Sink | None = None) -> None:
        offsets = {0: CommittedOffset(offset, note), 1: CommittedOffset(offset + 1, note)}
        (sink or self.sink).send_offsets(self.events, offsets, self.source.group())

    def seen(self) -> list[bytes | None]:
        return [value for p in (0, 1) for value in read_all(self.broker, self.lists, p).values]

    def ranges(self) -> list[tuple[int, int]]:
        return list(self.broker.admin().ranges(self.lists, [0, 1]).values())

    def committed(self) -> tuple[CommittedOffset | None, CommittedOffset | None]:
        found = committed_of(self.source, [0, 1])
        return found[0], found[1]

    def wait_committed(self, offset: int) -> None:
        """Wait until the group has committed this offset of partition 0."""
        wait_until(lambda: (self.committed()[0] or CommittedOffset(-1)).offset == offset, self.member.poll)

    def close(self) -> None:
        self.sink.destroy()
        self.source.close()


def produce_and_commit(sink: Sink, value: bytes) -> None:
    """A producer that was fenced learns it in either call."""
    sink.produce(outputs("recommendations", value))
    sink.commit()


def test_nothing_is_seen_before_the_commit_and_everything_after(rig: Rig) -> None:
    pipe = Pipe(rig)
    assert pipe.committed() == (None, None)
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"a"))
    pipe.sink.produce(outputs("recommendations", b"b", partition=1))
    pipe.sink.flush()
    assert pipe.seen() == []
    assert pipe.ranges() == [(0, 0), (0, 0)]
    pipe.send(5, "note 1")
    for _ in range(3):
        with pytest.raises(RetriableError, match="undecided"):
            pipe.source.committed([0, 1])
    pipe.sink.commit()
    pipe.wait_committed(5)
    assert pipe.committed() == (CommittedOffset(5, "note 1"), CommittedOffset(6, "note 1"))
    wait_until(lambda: pipe.ranges() == [(0, 2), (0, 2)], pipe.member.poll)
    assert pipe.seen() == [b"a", b"b"]
    pipe.close()


def test_of_an_aborted_transaction_nothing_is_ever_seen(rig: Rig) -> None:
    pipe = Pipe(rig)
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"kept"))
    pipe.send(1)
    pipe.sink.commit()
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"lost", b"lost too"))
    pipe.sink.produce(outputs("recommendations", b"lost", partition=1))
    pipe.sink.flush()
    pipe.send(9)
    pipe.sink.abort()
    pipe.wait_committed(1)
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"next"))
    pipe.send(2)
    pipe.sink.commit()
    pipe.wait_committed(2)
    # a record and its marker, two aborted ones and theirs, a record and its marker
    wait_until(lambda: pipe.ranges() == [(0, 7), (0, 2)], pipe.member.poll)
    batch = read_all(pipe.broker, pipe.lists, 0)
    assert batch.values == [b"kept", b"next"]
    assert batch.offsets == [0, 5]
    pipe.close()


def test_two_transactions_in_one_partition_end_each_on_its_own(rig: Rig) -> None:
    pipe = Pipe(rig)
    other_me = pipe.identity._replace(transactional_id=pipe.identity.transactional_id + "-other")
    other = rig.connect(other_me).sink()
    other.open()
    other.begin()
    pipe.sink.begin()
    for i in range(3):
        for sink, name in ((pipe.sink, b"kept"), (other, b"lost")):
            sink.produce(outputs("recommendations", name + b"%d" % i))
            sink.flush()
    pipe.sink.commit()
    wait_until(lambda: pipe.seen() == [b"kept0"], pipe.member.poll)  # the rest is behind what is undecided
    other.abort()
    wait_until(lambda: pipe.ranges()[0] == (0, 8), pipe.member.poll)
    batch = read_all(pipe.broker, pipe.lists, 0)
    assert batch.values == [b"kept0", b"kept1", b"kept2"]
    assert len(batch.keys) == len(batch.headers) == len(batch.timestamps_ms) == 3
    other.destroy()
    pipe.close()


def test_an_empty_transaction_commits_and_aborts(rig: Rig) -> None:
    pipe = Pipe(rig)
    pipe.sink.begin()
    pipe.sink.commit()
    pipe.sink.begin()
    pipe.sink.abort()
    pipe.sink.begin()
    pipe.send(3)
    pipe.sink.commit()
    pipe.wait_committed(3)
    assert pipe.ranges() == [(0, 0), (0, 0)]
    pipe.close()


def test_a_new_sink_aborts_what_the_old_one_left_and_fences_it(rig: Rig) -> None:
    pipe = Pipe(rig)
    zombie = pipe.sink
    zombie.begin()
    zombie.produce(outputs("recommendations", b"zombie"))
    zombie.flush()
    pipe.send(7, "zombie")

    pipe.sink = pipe.open_sink()
    assert pipe.committed() == (None, None)
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"heir"))
    pipe.send(1, "heir")

    with pytest.raises(FencedError):
        produce_and_commit(zombie, b"zombie again")
    with pytest.raises(FencedError):
        zombie.abort()
    zombie.destroy()

    pipe.sink.commit()
    pipe.wait_committed(1)
    wait_until(lambda: pipe.seen() != [], pipe.member.poll)
    assert pipe.seen() == [b"heir"]
    pipe.close()


def test_a_zombie_between_two_transactions_is_fenced_as_well(rig: Rig) -> None:
    pipe = Pipe(rig)
    zombie, pipe.sink = pipe.sink, pipe.open_sink()
    zombie.begin()
    with pytest.raises(FencedError):
        produce_and_commit(zombie, b"zombie")
    zombie.destroy()
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"heir"))
    pipe.sink.commit()
    wait_until(lambda: pipe.seen() == [b"heir"], pipe.member.poll)
    pipe.close()


def test_offsets_of_someone_who_is_no_member_are_refused_and_the_sink_goes_on(rig: Rig) -> None:
    pipe = Pipe(rig)
    old = pipe.source.group()
    pipe.source.close()
    pipe.member = Member(rig.connect(pipe.identity).source())
    pipe.source = pipe.member.source
    wait_until(lambda: len(pipe.source.assignment()) == 2, pipe.member.poll)

    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"with a stale token"))
    with pytest.raises(AbortableError):
        pipe.sink.send_offsets(pipe.events, {0: CommittedOffset(4)}, old)
    pipe.sink.abort()
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"with a fresh one"))
    pipe.send(4)
    pipe.sink.commit()
    pipe.wait_committed(4)
    wait_until(lambda: pipe.seen() == [b"with a fresh one"], pipe.member.poll)
    pipe.close()


def test_a_member_may_commit_what_it_does_not_own(rig: Rig) -> None:
    """Kafka looks at the member and not at its partitions: to stay inside of them is up to the worker."""
    pipe = Pipe(rig)
    other = Member(rig.connect(pipe.identity).source())
    wait_until(
        lambda: len(pipe.source.assignment()) == 1 and len(other.source.assignment()) == 1,
        lambda: (pipe.member.poll(), other.poll()),
    )
    pipe.sink.begin()
    pipe.send(8)
    pipe.sink.commit()
    pipe.wait_committed(8)
    assert pipe.committed() == (CommittedOffset(8, ""), CommittedOffset(9, ""))
    other.source.close()
    pipe.close()


def test_at_least_once_shows_outputs_at_once_and_commits_after_them(rig: Rig) -> None:
    pipe = Pipe(rig, exactly_once=False)
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"a"))
    pipe.sink.flush()
    assert pipe.seen() == [b"a"]
    assert pipe.committed() == (None, None)
    pipe.send(3, "note")
    pipe.sink.commit()
    assert pipe.committed() == (CommittedOffset(3, "note"), CommittedOffset(4, "note"))
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"b"))
    pipe.sink.flush()
    pipe.send(9)
    pipe.sink.abort()
    assert pipe.committed()[0] == CommittedOffset(3, "note")
    assert pipe.seen() == [b"a", b"b"]
    pipe.close()


def test_a_copied_record_keeps_its_timestamp(rig: Rig) -> None:
    pipe = Pipe(rig)
    pipe.sink.begin()
    pipe.sink.produce(outputs("recommendations", b"a", b"b"), [1_500_000_000_000, 1_400_000_000_000])
    pipe.sink.produce(outputs("recommendations", b"now"))
    pipe.sink.commit()
    wait_until(lambda: len(pipe.seen()) == 3, pipe.member.poll)
    found = read_all(pipe.broker, pipe.lists)
    assert found.timestamps_ms[:2] == [1_500_000_000_000, 1_400_000_000_000]
    assert found.timestamps_ms[2] > 1_600_000_000_000
    pipe.close()
