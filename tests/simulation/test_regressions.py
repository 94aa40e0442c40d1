"""What the simulator has found, each as the smallest scenario that shows it, named after the promise."""

from __future__ import annotations

from unittest.mock import patch

import msgspec
import pytest

from stream.broker import CommittedOffset
from stream.commits import (
    Commits,
    History,
    Point,
    Standing,
    Terms,
    read_clock,
    read_commit,
    write_metadata,
)
from stream.compaction import Compaction
from stream.config_load import parse_config
from stream.phases import Phase
from stream.records import RecordBatch
from tests.simulation.options import T0_MS
from tests.simulation.processes import TinyWorkshop
from tests.simulation.tiny_model import POISON_ITEM
from tests.upkeep.rig import Rig

HOUR_MS = 3_600_000


def batch(*events: tuple[str, int, str]) -> RecordBatch:
    """Views as (user, hours since T0, item), at offsets from 0."""
    n = len(events)
    times = [T0_MS + hours * HOUR_MS for _, hours, _ in events]
    values: list[bytes | None] = [
        msgspec.json.encode({"user_id": user, "event_type": "view", "event_time": time, "item_id": item})
        for (user, _, item), time in zip(events, times, strict=True)
    ]
    keys: list[bytes | None] = [user.encode() for user, _, _ in events]
    return RecordBatch("events", 0, list(range(n)), keys, values, times, [None] * n)


@pytest.mark.parametrize("records", [1, 4])
def test_timers_cut_short_before_a_poison_record_keep_their_offset(records: int) -> None:
    """Found by seed 47: what was still due went out under the offset of the poison record behind it."""
    config = parse_config(
        {
            "lifecycle": {"at_risk_min": "1h", "at_risk_default": "6h", "at_risk_max": "6h"},
            "worker": {"timers_max": 1},
        }
    )
    partition = TinyWorkshop(config, model=True).partition("events", 0, undo=True, snapshots=False)
    log = batch(("a", 0, "apple"), ("b", 0, "bread"), ("c", 12, "drum"), ("d", 12, POISON_ITEM))
    slices = [
        part for first in range(0, 4, records) for part in partition.apply(log.slice(first, first + records))
    ]
    outputs = [output for part in slices for output in part.outputs]
    sources = [dict(output.headers)["source"] for output in outputs if output.topic == "churn_alerts"]
    assert sources == [b"events-0-2", b"events-0-2"]
    assert [dict(output.headers)["source"] for output in outputs if output.topic == "dead_letters"] == [
        b"events-0-3"
    ]


def test_a_storm_of_an_old_record_stays_silent_when_another_partition_commits_before_it_goes_on() -> None:
    """Found by seed 993: two partitions were restored, the first committed both while it began."""
    config = parse_config({"worker": {"timers_max": 1}})
    workshop = TinyWorkshop(config, model=False)
    partition = workshop.partition("events", 0, undo=True, snapshots=True)
    partition.table.clock.ringing = 1
    here = Point(45, 0, read_clock(partition.table.clock))
    terms = Terms("group", 1, workshop.format.layout, config.meaning, None)
    standing = Standing(45, 9, 0, 0, emit_from_ms=T0_MS, terms=terms, points=(here,), silent=True)
    outputs, _ = Commits(partition, workshop.format, standing).prepare(45, rows_max=1)
    assert read_commit(outputs[-1].value, place="user_state").silent


def test_a_commit_that_only_its_record_tells_of_is_told_to_the_group() -> None:
    """Found by seed 157: at least once, a crash before the offsets were committed, and no more records."""
    rig = Rig(partitions=1, worker={"guarantee": "at-least-once", "emit_from": "earliest"})
    rig.publish(20)
    rig.work()
    group = rig.broker.group(rig.config.kafka.group_id, rig.config.topics.events)
    told = group.committed(rig.config.topics.events, [0])
    group._committed.clear()
    heir = rig.start()
    for _ in range(20):
        heir.turn()
        rig.clock.advance(200)
    assert group.committed(rig.config.topics.events, [0])[0].offset == told[0].offset


def test_the_end_of_a_storm_that_was_undone_is_no_place_for_the_floor() -> None:
    """Found by seed 487: a commit within a storm was followed by one behind it, which was aborted."""
    within = Point(15, 0, {"applied": 13, "ringing": 1})
    behind = Point(15, 0, {"applied": 13, "ringing": 0})
    before = Point(12, 0, {"applied": 11, "ringing": 0})
    history = History([before])
    history.note(within)
    history.note(behind)
    history.back_to(within.applied, ringing=True)
    assert history.find(None) == before


def test_a_restore_that_was_overtaken_begins_anew_instead_of_stopping_the_worker() -> None:
    """Found by seed 993: a process stood still in a restore; others committed, and rows were compacted."""
    rig = Rig(partitions=1)
    rig.publish(20)
    rig.work()
    log = rig.broker.log(rig.config.topics.user_state, 0)
    log.compact(log.end)
    sleeper = rig.start()
    answers = [{0: CommittedOffset(1, write_metadata(1))}]
    ask = sleeper.source.committed
    with patch.object(sleeper.source, "committed", lambda asked: answers.pop() if answers else ask(asked)):
        for _ in range(20):
            sleeper.turn()
    assert not answers
    assert sleeper.shares[0].phase is Phase.LIVE


def test_items_are_dropped_beside_a_partition_that_nobody_has_touched() -> None:
    """Found by seed 4: a table without a copy to undo has no memory that could be looked into."""
    workshop = TinyWorkshop(parse_config({}), model=False)
    partitions = [workshop.partition("events", p, undo=True, snapshots=True) for p in range(2)]
    for _ in partitions[0].apply(batch(("a", 0, "apple"), ("b", 0, "bread"))):
        pass
    Compaction(workshop, spare=0).run(partitions)
    assert sorted(workshop.items.names) == ["apple", "bread"]
