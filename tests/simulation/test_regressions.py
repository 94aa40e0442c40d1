"""What the simulator has found, each as the smallest scenario that shows it, named after the promise."""

from __future__ import annotations

import msgspec
import pytest

from stream.commits import Commits, Point, Standing, Terms, read_clock, read_commit
from stream.config_load import parse_config
from stream.records import RecordBatch
from tests.simulation.options import T0_MS
from tests.simulation.processes import TinyWorkshop
from tests.simulation.tiny_model import POISON_ITEM

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
