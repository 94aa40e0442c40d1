"""`ebbtide rekey`: every record comes once, in its user's partition, in the order of its time."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stream.broker import Topic
from stream.errors import BrokerError, UsageError
from stream.partitioner import misplaced
from stream.testing import Crash, FaultPlan
from stream.upkeep import copying
from stream.upkeep.copying import copy_identity
from stream.upkeep.rekey import rekey
from tests.upkeep.rig import Rig


@pytest.fixture
def rig() -> Rig:
    """A topic whose producers sent no keys, or keyed by session: users are spread over all partitions."""
    rig = Rig()
    events = list(rig.events(300))
    keys = [None if i % 3 else b"session-%d" % i for i in range(300)]
    rig.send(events, keys=keys, headers=[[("n", b"%d" % i)] for i in range(300)])
    rig.send([("none", b"no json", events[-1][2])], keys=[b"as it was"])
    return rig


def run(rig: Rig, target: str = "keyed", **how: Any) -> int:
    broker = rig.client(copy_identity("events", target))
    return rekey(broker, rig.config, "events", target, rig.clock, **how)


def records(rig: Rig, topic: str) -> list[tuple[Any, ...]]:
    logs = rig.broker.topic(topic).logs
    batches = [rig.read(topic, p) for p in range(len(logs))]
    return [row for batch in batches for row in zip(*batch[2:], strict=True)]


def without_place(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(((row[2], row[3], row[4]) for row in rows), key=repr)


def test_every_record_comes_once_keyed_by_its_user(rig: Rig) -> None:
    assert run(rig, partitions=4) == 301
    assert without_place(records(rig, "keyed")) == without_place(records(rig, "events"))
    for _, key, value, _, _ in records(rig, "keyed"):
        assert key == (b"as it was" if value == b"no json" else json.loads(value)["user_id"].encode())
    for partition in range(4):
        batch = rig.read("keyed", partition)
        assert misplaced(batch.keys, partition, 4) == 0
        assert batch.timestamps_ms == sorted(batch.timestamps_ms)


def test_a_second_run_copies_what_came_since(rig: Rig) -> None:
    run(rig)
    assert run(rig) == 0
    rig.send(list(rig.events(20)), keys=[None] * 20)
    assert run(rig) == 20
    assert without_place(records(rig, "keyed")) == without_place(records(rig, "events"))


def test_the_copy_is_folded_as_if_the_keys_had_been_right(rig: Rig) -> None:
    run(rig)
    right = Rig()
    events = [(row[1].decode(), row[2], row[3]) for row in records(rig, "keyed") if row[2] != b"no json"]
    right.send(sorted(events, key=lambda event: event[2]))
    right.work()
    mended = Rig(topics={"events": "keyed"})
    mended.broker = rig.broker
    mended.work()
    for role in ("lifecycle", "churn_alerts"):
        assert [b.values for b in mended.read_all(role)] == [b.values for b in right.read_all(role)]


@pytest.mark.parametrize("seed", range(20))
def test_a_copy_that_dies_anywhere_can_be_run_again(rig: Rig, seed: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(copying, "RECORDS_MAX", 25)
    faults = ("crash_before", "crash_after", "answer_lost", "end_delayed", "expired", "offsets_refused")
    plan = FaultPlan(seed=seed, rates=dict.fromkeys(faults, 0.02))
    rig.broker.plan = rig.broker.transactions._plan = plan
    broke = 0
    for _ in range(200):
        try:
            run(rig)
            break
        except (Crash, BrokerError):
            broke += 1
            rig.clock.advance(100_000.0)
    rig.broker.plan = rig.broker.transactions._plan = None
    rig.clock.advance(100_000.0)
    run(rig)
    assert without_place(records(rig, "keyed")) == without_place(records(rig, "events"))


def test_offsets_outside_of_the_transaction_would_lose_or_repeat(rig: Rig, monkeypatch: Any) -> None:
    """The negative control: progress that is never committed."""
    monkeypatch.setattr(copying, "Progress", lambda topic, offsets, group: (topic, {}, group))
    run(rig)
    with pytest.raises(UsageError, match="somebody else"):
        run(rig)


def test_what_will_not_do_is_refused(rig: Rig) -> None:
    admin = rig.client().admin()
    with pytest.raises(UsageError, match="into itself"):
        run(rig, "events")
    with pytest.raises(UsageError, match="no such topic"):
        rekey(rig.client(), rig.config, "nowhere", "keyed", rig.clock)
    admin.create([Topic("stamped", 3, configs={"message.timestamp.type": "LogAppendTime"})])
    with pytest.raises(UsageError, match="new timestamps"):
        run(rig, "stamped")
    admin.create([Topic("full", 3)])
    rig.send(list(rig.events(1)), topic="full")
    with pytest.raises(UsageError, match="somebody else"):
        run(rig, "full")


def test_two_copies_at_once_are_refused(rig: Rig) -> None:
    other = rig.client(copy_identity("events", "keyed")).source()
    other.subscribe(Nobody())
    other.poll(1, 0.0)
    with pytest.raises(UsageError, match="held by other members"):
        run(rig, wait_s=5.0)


class Nobody:
    """A member that does nothing."""

    def on_assign(self, partitions: Any) -> None: ...

    def on_revoke(self, partitions: Any) -> None: ...

    def on_lost(self, partitions: Any) -> None: ...
