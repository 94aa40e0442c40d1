"""`ebbtide repartition`: users, and the place on the log, are the same behind it; the partitions differ."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from stream.assembly import identify
from stream.broker import Identity
from stream.config import Config
from stream.errors import BrokerError, StateError, UsageError
from stream.testing import Crash, FaultPlan
from stream.testing_log import PartitionLog
from stream.upkeep import copying
from stream.upkeep import repartition as module
from stream.upkeep.repartition import Moved, repartition
from stream.upkeep.rows_differ import encode_users
from stream.upkeep.verify import verify_group
from stream.worker import Worker
from stream.workshop import Workshop
from tests.upkeep.rig import SETTINGS, Rig
from tests.upkeep.test_rekey import Nobody


def move_to(rig: Rig, partitions: int) -> Config:
    """Return a config of another group, whose topics exist."""
    names = {role: f"new-{name}" for role, name in msgspec.to_builtins(rig.config.topics).items()}
    config = msgspec.structs.replace(
        rig.config,
        kafka=msgspec.structs.replace(rig.config.kafka, group_id="new"),
        topics=msgspec.structs.replace(rig.config.topics, **names),
    )
    rig.create(config, partitions)
    return config


def run(rig: Rig, new: Config, **how: Any) -> Moved:
    def connect(identity: Identity) -> Any:
        return rig.client(identity)

    return repartition(connect, rig.config, new, rig.clock, **how)


def users_of(rig: Rig, config: Config) -> dict[bytes, bytes]:
    """Return every user's row as workers of this config restore it."""
    worker = rig.start(config)
    rows: dict[bytes, bytes] = {}
    for _ in range(200):
        worker._poll()
        worker._restore()
    for share in worker.shares.values():
        found = encode_users(share.engine, config)
        assert not rows.keys() & found.keys()
        rows.update(found)
    worker._broken = True  # it has folded nothing, and commits nothing
    worker.close()
    return rows


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.publish(200)
    rig.work()
    rig.publish(40)  # what the old workers did not come to
    return rig


@pytest.mark.parametrize("partitions", [1, 2, 5])
def test_every_users_row_is_the_same_in_the_partition_that_it_belongs_to_now(
    rig: Rig, partitions: int
) -> None:
    before = users_of(rig, rig.config)
    new = move_to(rig, partitions)
    assert run(rig, new) == Moved(rows=len(before), records=40)
    assert users_of(rig, new) == before


def test_nothing_is_folded_twice_and_nothing_is_left_out(rig: Rig) -> None:
    new = move_to(rig, 5)
    run(rig, new)
    rig.publish(30)  # to the old topic still
    assert run(rig, new) == Moved(rows=None, records=30)
    rig.work(new)
    ours = counts(rig, new)
    rig.work()
    assert ours == counts(rig, rig.config)
    reports = verify_group(new, rig.client(identify(new)), clock=rig.clock)
    assert [report.wrong for report in reports] == [0] * 5
    assert all("rows were moved here" in report.notes[0] for report in reports)


def counts(rig: Rig, config: Config) -> dict[str, tuple[int, ...]]:
    """Return of every user what does not depend on when the watermark passed a deadline."""
    from stream.rows import read_rows

    worker = rig.start(config)
    rig.settle(worker)
    found = {}
    for share in worker.shares.values():
        table = share.engine.table
        slots = table.slots()
        ids = [table.row_id(slot) for slot in slots.tolist()]
        for row in read_rows(share.engine, config, worker.workshop.items, slots, ids):
            found[row.user_id] = row.events, row.sessions, row.conversions, row.last_event_time, row.gaps
    worker.stop()
    worker.close()
    return found


def test_a_topic_that_was_given_partitions_in_place_is_mended(rig: Rig) -> None:
    before = users_of(rig, rig.config)
    grow(rig, 5)
    rig.publish(50)
    with pytest.raises(StateError, match="ebbtide repartition"):
        worker_of(rig).run()
    new = move_to(rig, 5)
    assert run(rig, new) == Moved(rows=len(before), records=90)
    assert users_of(rig, new) == before
    rig.work(new)
    assert sum(events for events, *_ in counts(rig, new).values()) > 0


def worker_of(rig: Rig) -> Worker:
    client = rig.client()
    return Worker(rig.config, client, Workshop(rig.config, None), clock=rig.clock)


def grow(rig: Rig, partitions: int) -> None:
    """Give the events topic more partitions, as an administrator may."""
    topic = rig.broker.topic("events")
    topic.logs += [PartitionLog("events", p) for p in range(len(topic.logs), partitions)]
    for group in rig.broker.groups():
        group._partitions = partitions


def test_workers_in_the_group_are_in_the_way(rig: Rig) -> None:
    new = move_to(rig, 2)
    for group, topic in ((rig.config.kafka.group_id, "events"), ("new", new.topics.events)):
        member = rig.client(Identity(group, "", {"events": topic})).source()
        member.subscribe(Nobody())
        member.poll(1, 0.0)
        with pytest.raises(UsageError, match="SIGTERM"):
            run(rig, new, wait_s=5.0)
        member.close()
    assert run(rig, new).rows


def test_a_worker_that_comes_in_the_middle_stops_it_and_nothing_has_begun(rig: Rig, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "ROWS_MAX", 2)
    new = move_to(rig, 2)
    member = rig.client(Identity(rig.config.kafka.group_id, "", {"events": "events"})).source()
    member.subscribe(Nobody())

    def told(what: str, done: int, total: int) -> None:
        if what == "moving rows" and done == 1:
            member.poll(1, 0.0)

    with pytest.raises(UsageError, match="SIGTERM"):
        run(rig, new, told=told)
    member.close()
    source = rig.client(Identity("new", "", {"events": new.topics.events})).source()
    assert set(source.committed([0, 1]).values()) == {None}
    before = users_of(rig, rig.config)
    run(rig, new)
    assert users_of(rig, new) == before


@pytest.mark.parametrize("seed", range(20))
def test_a_move_that_dies_anywhere_can_be_run_again(rig: Rig, seed: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "ROWS_MAX", 2)
    monkeypatch.setattr(copying, "RECORDS_MAX", 7)
    before = users_of(rig, rig.config)
    new = move_to(rig, 4)
    faults = ("crash_before", "crash_after", "answer_lost", "end_delayed", "expired", "offsets_refused")
    plan = FaultPlan(seed=seed, rates=dict.fromkeys(faults, 0.01))
    rig.broker.plan = rig.broker.transactions._plan = plan
    for _ in range(200):
        try:
            run(rig, new)
            break
        except (Crash, BrokerError):
            rig.clock.advance(100_000.0)
    rig.broker.plan = rig.broker.transactions._plan = None
    rig.clock.advance(100_000.0)
    run(rig, new)
    assert users_of(rig, new) == before
    values = Counter(value for p in range(4) for value in rig.read(new.topics.events, p).values)
    assert values.total() == len(values) == 40


def test_rows_that_an_interrupted_run_left_of_users_who_are_gone_do_not_come_back(rig: Rig) -> None:
    new = move_to(rig, 2)
    row = rig.read("user-state", 0)
    key = next(key for key in row.keys if key and key.startswith(b"u"))
    value = next(value for each, value in zip(row.keys, row.values, strict=True) if each == key)
    rig.client().publisher().publish(new.topics.user_state, [b"ughost"], [value])
    before = users_of(rig, rig.config)
    run(rig, new)
    assert users_of(rig, new) == before


def test_what_will_not_do_is_refused(rig: Rig) -> None:
    with pytest.raises(UsageError, match=r"kafka\.group_id"):
        run(rig, rig.config)
    new = move_to(rig, 2)
    same = msgspec.structs.replace(
        new, topics=msgspec.structs.replace(new.topics, journal=rig.config.topics.journal)
    )
    with pytest.raises(UsageError, match=r"topics\.journal"):
        run(rig, same)
    kinds = {"view": "engagement"}
    other = Rig(events={"kinds": kinds}).config
    other = msgspec.structs.replace(other, kafka=new.kafka, topics=new.topics)
    with pytest.raises(UsageError, match="another layout"):
        run(rig, other)
    rig.send(list(rig.events(1)), topic=new.topics.events)
    with pytest.raises(UsageError, match="somebody else"):
        run(rig, new)


def test_topics_of_the_new_config_must_be_right() -> None:
    rig = Rig()
    rig.publish(10)
    rig.work()
    new = move_to(rig, 2)
    rig.client().admin().configure(new.topics.user_state, {"cleanup.policy": "delete"})
    with pytest.raises(UsageError, match=r"cleanup\.policy"):
        run(rig, new)


def test_a_group_that_never_committed_has_nothing_to_move() -> None:
    rig = Rig()
    rig.publish(10)
    with pytest.raises(UsageError, match="nothing was committed"):
        run(rig, move_to(rig, 2))


def test_another_config_than_the_last_commits_is_refused(rig: Rig) -> None:
    new = move_to(rig, 2)
    changed = Rig(lifecycle={**SETTINGS["lifecycle"], "cadence": 2.0}).config
    rig.config = changed
    with pytest.raises(StateError, match="SIGTERM"):
        run(rig, new)
