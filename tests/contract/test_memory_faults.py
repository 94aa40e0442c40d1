"""The testing kit's own promises: every fault does what its line in `FAULTS` says, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from stream.broker import CommittedOffset
from stream.clock import VirtualClock
from stream.errors import AbortableError, FencedError, RetriableError
from stream.testing import FAULTS, Crash, FaultPlan, MemoryBroker, MemoryClient
from tests.contract.rigs import Member, identity, outputs, read_all

ME = identity("events", recommendations="lists")


class Stage:
    """A broker under a plan, one worker on it, and an observer that no fault strikes."""

    def __init__(
        self,
        at: Mapping[tuple[str, str], int] | None = None,
        *,
        rates: Mapping[str, float] | None = None,
        delays_ms: Sequence[float] = (),
    ) -> None:
        self.clock = VirtualClock()
        self.plan = FaultPlan(1, rates, at, delays_ms)
        self.broker = MemoryBroker(self.clock, self.plan)
        self.broker.create_topic("events", 2)
        self.broker.create_topic("lists", 2)
        self.client = MemoryClient(self.broker, ME, "first")
        self.member = Member(self.client.source())
        self.sink = self.client.sink()
        self.sink.open()
        self.member.poll()

    def produce(self) -> None:
        self.sink.begin()
        self.sink.produce(outputs("recommendations", b"a"))
        self.sink.produce(outputs("recommendations", b"b", partition=1))
        offsets = {0: CommittedOffset(1), 1: CommittedOffset(1)}
        self.sink.send_offsets("events", offsets, self.member.source.group())

    def seen(self) -> list[bytes | None]:
        return [v for p in (0, 1) for v in self.broker.log("lists", p).read(0, 100)[0].values]

    def committed(self) -> CommittedOffset | None:
        return self.broker.group(ME.group_id, "events").committed("events", [0])[0]

    def undecided(self) -> bool:
        try:
            self.committed()
        except RetriableError:
            return True
        return False

    def pass_s(self, seconds: float) -> None:
        self.clock.sleep(seconds)
        self.broker.tick()


def test_the_same_seed_strikes_at_the_same_moments_and_is_counted() -> None:
    def draw(seed: int) -> list[bool]:
        plan = FaultPlan(seed, {"refused": 0.3})
        return [plan.strikes("refused", "source.poll") for _ in range(50)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)
    plan = FaultPlan(3, {"refused": 1.0}, {("crash_after", "sink.commit"): 2})
    assert [plan.strikes("crash_after", "sink.commit") for _ in range(3)] == [False, True, False]
    assert plan.strikes("refused", "reader.read")
    plan.heal()
    assert not plan.strikes("refused", "reader.read")
    assert plan.counts == {("crash_after", "sink.commit"): 1, ("refused", "reader.read"): 1}
    assert plan.totals()["refused"] == 1
    assert plan.totals().keys() == FAULTS.keys()
    with pytest.raises(ValueError, match="no such fault: meteor"):
        FaultPlan(0, {"meteor": 1.0})


def test_a_process_that_dies_before_its_commit_leaves_the_transaction_to_the_timeout() -> None:
    stage = Stage({("crash_before", "sink.commit"): 1})
    stage.produce()
    with pytest.raises(Crash):
        stage.sink.commit()
    assert stage.client.dead
    with pytest.raises(Crash):
        stage.member.poll()
    stage.pass_s(9.0)
    assert stage.undecided()
    stage.pass_s(11.0)
    assert stage.committed() is None
    assert stage.seen() == []
    assert [stage.broker.log("lists", p).end for p in (0, 1)] == [2, 2]  # the record, and the marker


def test_a_process_that_dies_after_its_commit_has_committed() -> None:
    stage = Stage({("crash_after", "sink.commit"): 1})
    stage.produce()
    with pytest.raises(Crash):
        stage.sink.commit()
    assert stage.committed() == CommittedOffset(1)
    assert stage.seen() == [b"a", b"b"]


def test_a_commit_whose_answer_is_lost_has_happened_and_the_sink_is_of_no_use() -> None:
    stage = Stage({("answer_lost", "sink.commit"): 1})
    stage.produce()
    with pytest.raises(FencedError, match="timed out"):
        stage.sink.commit()
    assert stage.committed() == CommittedOffset(1)
    with pytest.raises(FencedError, match="must not be used again"):
        stage.sink.begin()
    with pytest.raises(FencedError, match="must not be used again"):
        stage.sink.abort()


def test_a_delayed_commit_happens_late_if_nobody_comes_before_it() -> None:
    stage = Stage({("end_delayed", "sink.commit"): 1}, delays_ms=[3_000.0, 1_000.0])
    stage.produce()
    with pytest.raises(FencedError, match="timed out"):
        stage.sink.commit()
    assert stage.undecided()
    stage.pass_s(2.5)
    assert stage.committed() == CommittedOffset(1)
    assert stage.seen() == [b"a", b"b"]


def test_a_delayed_commit_comes_to_nothing_once_a_successor_has_opened() -> None:
    stage = Stage({("end_delayed", "sink.commit"): 1}, delays_ms=[3_000.0, 1_000.0])
    stage.produce()
    with pytest.raises(FencedError, match="timed out"):
        stage.sink.commit()
    stage.sink = stage.client.sink()
    stage.sink.open()
    stage.sink.begin()
    stage.sink.produce(outputs("recommendations", b"heir"))
    stage.pass_s(5.0)
    assert stage.committed() is None
    assert stage.seen() == []
    stage.sink.commit()
    assert stage.seen() == [b"heir"]


def test_whoever_goes_on_with_a_producer_that_timed_out_is_hit_by_the_late_end() -> None:
    """Not a promise but a danger, of Kafka's own: the reason for a new producer after every time-out."""
    stage = Stage({("end_delayed", "sink.commit"): 1}, delays_ms=[3_000.0, 1_000.0])
    stage.produce()
    with pytest.raises(FencedError):
        stage.sink.commit()
    stage.sink.commit()  # the same call again, as librdkafka allows
    assert stage.seen() == [b"a", b"b"]
    stage.sink.begin()
    stage.sink.produce(outputs("recommendations", b"half of the next transaction"))
    stage.pass_s(2.5)
    assert b"half of the next transaction" in stage.seen()


def test_a_late_marker_hides_one_partition_and_all_that_comes_after_in_it() -> None:
    stage = Stage({("marker_late", "marker"): 1}, delays_ms=[4_000.0])
    stage.produce()
    stage.sink.commit()
    assert stage.committed() == CommittedOffset(1)  # ahead of what a reader of the partition sees
    assert stage.seen() == [b"b"]
    other = MemoryClient(stage.broker, identity("events"), "other").publisher()
    other.publish("lists", [None], [b"behind it"], partitions=[0])
    assert stage.seen() == [b"b"]
    assert stage.broker.log("lists", 0).range() == (0, 0)
    before_s = stage.clock.monotonic_s()
    stage.sink.begin()
    stage.sink.produce(outputs("recommendations", b"next"))  # waits for the marker
    assert stage.clock.monotonic_s() - before_s == pytest.approx(4.0)
    assert stage.seen() == [b"a", b"behind it", b"b"]


def test_late_offsets_stay_pending_while_the_outputs_are_seen() -> None:
    stage = Stage({("offsets_late", "marker"): 1}, delays_ms=[4_000.0])
    stage.produce()
    stage.sink.commit()
    assert stage.seen() == [b"a", b"b"]
    with pytest.raises(RetriableError, match="undecided"):
        stage.member.source.committed([0])
    assert stage.member.source.committed([]) == {}
    stage.pass_s(4.5)
    assert stage.member.source.committed([0]) == {0: CommittedOffset(1)}


def test_opening_waits_until_what_the_predecessor_left_is_decided() -> None:
    stage = Stage({("marker_late", "marker"): 1}, delays_ms=[4_000.0])
    stage.produce()
    heir = MemoryClient(stage.broker, ME, "heir").sink()
    heir.open()
    assert stage.clock.monotonic_s() >= 4.0
    assert not stage.undecided()
    assert stage.broker.log("lists", 0).range() == (0, 2)
    with pytest.raises(FencedError, match="fenced by epoch"):
        stage.sink.commit()


@pytest.mark.parametrize("point", ["sink.produce", "sink.send_offsets", "sink.commit"])
def test_an_expired_transaction_fences_its_producer(point: str) -> None:
    stage = Stage({("expired", point): 1})
    with pytest.raises(FencedError):
        commit(stage)
    assert stage.committed() is None
    assert stage.seen() == []


def commit(stage: Stage) -> None:
    stage.produce()
    stage.sink.commit()


def test_a_transaction_that_is_open_for_too_long_expires_by_itself() -> None:
    stage = Stage()
    stage.produce()
    stage.pass_s(25.0)
    assert not stage.undecided()
    with pytest.raises(FencedError):
        stage.sink.abort()
    assert stage.seen() == []


def test_a_delivery_that_fails_surfaces_at_the_latest_in_the_commit() -> None:
    stage = Stage({("delivery_failed", "sink.produce"): 2})
    stage.produce()
    with pytest.raises(AbortableError, match="could not be stored"):
        stage.sink.commit()
    with pytest.raises(AbortableError, match="must be aborted"):
        stage.sink.commit()
    stage.sink.abort()
    commit(stage)
    assert stage.seen() == [b"a", b"b"]


def test_a_delivery_that_failed_in_an_aborted_transaction_is_forgotten() -> None:
    stage = Stage({("delivery_failed", "sink.produce"): 2})
    stage.produce()
    stage.sink.abort()
    commit(stage)
    assert stage.seen() == [b"a", b"b"]


def test_a_token_of_an_earlier_epoch_is_refused() -> None:
    stage = Stage()
    old = stage.member.source.group()
    second = Member(MemoryClient(stage.broker, ME._replace(transactional_id="second"), "second").source())
    second.poll()
    stage.sink.begin()
    offsets = {0: CommittedOffset(1)}
    stage.sink.send_offsets("events", offsets, old)  # the member has not heard of the change yet
    stage.sink.commit()
    stage.member.poll()  # and now it has, and gave up a partition
    stage.sink.begin()
    with pytest.raises(AbortableError, match="epoch"):
        stage.sink.send_offsets("events", offsets, old)
    stage.sink.abort()
    stage.sink.begin()
    stage.sink.send_offsets("events", offsets, stage.member.source.group())
    stage.sink.commit()


def test_refused_offsets_are_to_be_aborted() -> None:
    stage = Stage({("offsets_refused", "sink.send_offsets"): 1})
    with pytest.raises(AbortableError, match="refuses"):
        stage.produce()
    stage.sink.abort()
    commit(stage)
    assert stage.committed() == CommittedOffset(1)


def test_a_refused_call_has_done_nothing_and_may_be_made_again() -> None:
    stage = Stage({("refused", "sink.commit"): 1, ("refused", "sink.send_offsets"): 1})
    stage.sink.begin()
    token = stage.member.source.group()
    with pytest.raises(RetriableError):
        stage.sink.send_offsets("events", {0: CommittedOffset(1)}, token)
    stage.sink.send_offsets("events", {0: CommittedOffset(1)}, token)
    with pytest.raises(RetriableError):
        stage.sink.commit()
    assert stage.undecided()
    stage.sink.commit()
    assert stage.committed() == CommittedOffset(1)


def test_a_slow_commit_takes_time() -> None:
    stage = Stage({("commit_slow", "sink.commit"): 1}, delays_ms=[7_000.0])
    before_s = stage.clock.monotonic_s()
    commit(stage)
    assert stage.clock.monotonic_s() - before_s == pytest.approx(7.0)
    assert stage.seen() == [b"a", b"b"]


def test_a_member_that_is_given_up_loses_everything_and_joins_anew() -> None:
    stage = Stage({("expelled", "source.poll"): 1})
    old = stage.member.source.group()
    stage.member.poll()
    assert stage.member.lost == [[0, 1]]
    assert stage.member.revoked == []
    assert stage.member.assigned == [[0, 1], [0, 1]]
    stage.sink.begin()
    with pytest.raises(AbortableError, match="no member any more"):
        stage.sink.send_offsets("events", {0: CommittedOffset(1)}, old)


def test_a_process_that_stands_still_for_too_long_wakes_up_as_a_zombie() -> None:
    stage = Stage()
    stage.produce()
    stage.client.freeze()
    heir = Member(MemoryClient(stage.broker, ME._replace(transactional_id="heir"), "heir").source())
    heir.poll()
    assert heir.source.assignment() == frozenset()
    stage.pass_s(44.0)
    heir.poll()
    assert heir.source.assignment() == frozenset()
    stage.pass_s(2.0)
    heir.poll()
    assert heir.source.assignment() == {0, 1}

    stage.client.thaw()
    with pytest.raises(FencedError):
        stage.sink.commit()
    stage.member.poll()
    assert stage.member.lost == [[0, 1]]
    assert stage.seen() == []
    heir.poll()
    stage.member.poll()
    assert len(heir.source.assignment()) == len(stage.member.source.assignment()) == 1


def test_a_short_stop_goes_unnoticed() -> None:
    stage = Stage()
    stage.client.freeze()
    stage.pass_s(40.0)
    stage.client.thaw()
    stage.pass_s(40.0)
    stage.member.poll()
    assert stage.member.lost == []


def test_a_live_member_that_does_not_poll_is_expelled_after_minutes() -> None:
    stage = Stage()
    stage.pass_s(299.0)
    stage.member.poll()
    assert stage.member.lost == []
    stage.pass_s(301.0)
    stage.member.poll()
    assert stage.member.lost == [[0, 1]]


def test_the_wall_clock_may_jump_and_no_timeout_notices() -> None:
    stage = Stage()
    stage.produce()
    now_ms = stage.clock.now_ms()
    stage.clock.jump(-3_600_000)
    assert stage.clock.now_ms() == now_ms - 3_600_000
    stage.clock.jump(7_200_000)
    stage.broker.tick()
    stage.sink.commit()
    assert stage.broker.log("lists", 0).read(0, 1)[0].timestamps_ms == [now_ms]


def test_mixed_short_and_empty_fetches_keep_the_order_of_each_partition() -> None:
    stage = Stage(rates={"fetch_mixed": 0.5, "fetch_short": 0.5, "fetch_empty": 0.3})
    values = [f"{i}".encode() for i in range(200)]
    publisher = stage.client.publisher()
    publisher.publish("events", [None] * 200, values, partitions=[i % 2 for i in range(200)])
    while stage.member.records() < 200:
        stage.member.poll(50)
    assert stage.member.values(0) == values[0::2]
    assert stage.member.values(1) == values[1::2]
    assert all(stage.plan.totals()[fault] for fault in ("fetch_mixed", "fetch_short", "fetch_empty"))
    assert read_all(stage.client, "events", 1).values == values[1::2]
    # with two partitions in one poll, each got few of the records
    mixed = [batch for batch in stage.member.batches if len(batch.offsets) <= 3]
    assert len({batch.partition for batch in mixed}) == 2


def test_the_crash_point_of_a_step_of_the_process_itself() -> None:
    stage = Stage({("crash_before", "worker.fold"): 2})
    stage.client.crash_point("worker.fold")
    with pytest.raises(Crash, match=r"worker\.fold"):
        stage.client.crash_point("worker.fold")
    with pytest.raises(Crash, match="is dead"):
        stage.member.poll()
