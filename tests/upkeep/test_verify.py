"""`ebbtide verify`: what was committed is what the log says, and whatever is not is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from export.random_bundle import random_bundle
from stream import cli
from stream.bundle import Bundle
from stream.commands import options
from stream.core.persist import FRAME_BYTES
from stream.core.users import ROW
from stream.errors import StateError, UsageError
from stream.testing_log import PartitionLog
from stream.upkeep.verify import Report, verify_group
from tests.upkeep.rig import DAY_MS, SETTINGS, USERS, Rig


def verify(rig: Rig, **how: Any) -> list[Report]:
    return verify_group(rig.config, rig.client(), clock=rig.clock, **how)


def assert_equal(reports: list[Report]) -> None:
    assert [(report.wrong, report.differences, report.rows) for report in reports] == [(0, [], [])] * len(
        reports
    )


def worked(count: int = 240, **changes: Any) -> Rig:
    rig = Rig(**changes)
    rig.publish(count // 2)
    rig.work()
    rig.publish(count // 2)
    rig.work()
    return rig


@pytest.fixture
def rig() -> Rig:
    return worked()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    kinds = tuple(SETTINGS["events"]["kinds"])
    items = [f"item-{i}" for i in range(40)]
    return random_bundle(tmp_path_factory.mktemp("bundle") / "b", kinds, items=items)


# What is equal.


def test_a_group_that_did_nothing_wrong_is_equal_to_its_log(rig: Rig) -> None:
    reports = verify(rig)
    assert_equal(reports)
    assert sum(report.records for report in reports) == 240
    assert sum(report.users for report in reports) > 0
    outputs = ("lifecycle", "churn_alerts", "dead_letters")
    there = sum(len(batch.offsets) for role in outputs for batch in rig.read_all(role))
    assert sum(report.outputs for report in reports) == there > 100
    assert all(report.users_older == 0 and not report.notes for report in reports)


def test_lists_are_compared_item_by_item(bundle: Bundle) -> None:
    rig = worked(bundle=bundle)
    reports = verify(rig)
    assert_equal(reports)
    assert sum(report.unscored for report in reports) == 0
    lists = [batch for batch in rig.read_all("recommendations") if batch.offsets]
    assert sum(len(batch.offsets) for batch in lists) > 50
    log = rig.broker.log("recommendations", lists[0].partition)
    change(log, 3, lambda made: {**made, "items": [{**made["items"][0], "score": 9.0}, *made["items"][1:]]})
    assert found(rig, lists[0].partition) == ["different: lists other items or scores"]
    change(log, 3, lambda made: {**made, "catalogue": -1})
    assert_equal(verify(rig))  # it cannot be known any more what was in that catalogue
    assert verify(rig)[lists[0].partition].unscored == 1


def test_lists_of_an_earlier_bundle_are_there_and_not_scored(bundle: Bundle, tmp_path: Path) -> None:
    kinds, items = tuple(SETTINGS["events"]["kinds"]), [f"item-{i}" for i in range(40)]
    rig = Rig(bundle=bundle)
    rig.publish(100)
    rig.work()
    newer = random_bundle(tmp_path / "newer", kinds, items=items, seed=9)
    rig.bundle, rig.config = newer, Rig(bundle=newer).config
    rig.publish(100)
    rig.work()
    reports = verify(rig)
    assert_equal(reports)
    assert 0 < sum(report.unscored for report in reports) < sum(report.outputs for report in reports)
    rig.config = Rig(bundle=bundle).config
    with pytest.raises(UsageError, match="bundle that the workers run with"):
        verify(rig)


def rested() -> Rig:
    """A group that saw some users come and then nothing for days: time went on by the journal."""
    rig = Rig(time={"idle_after": "30s", "lateness_max": "90d"})
    rig._now_ms = rig.clock.now_ms()
    worker = rig.start()
    for user, value, timestamp_ms in rig.events(20):
        rig.clock.advance(max(0.0, timestamp_ms - rig.clock.now_ms()))
        rig.send([(user, value, timestamp_ms)])
        worker.turn()
    rig.settle(worker)
    for _ in range(40):
        rig.clock.advance(DAY_MS / 8)
        worker.turn()
    rig.settle(worker)
    worker.stop()
    worker.close()
    return rig


def test_the_moments_that_the_clock_told_are_in_the_journal() -> None:
    rig = rested()
    assert sum(len(batch.offsets) for batch in rig.read_all("journal")) > 2
    assert_equal(verify(rig))


def test_workers_may_go_on_and_a_storm_may_be_cut_by_a_commit() -> None:
    rig = Rig(worker={**SETTINGS["worker"], "timers_max": 1, "commit_interval_ms": 1})
    rig.publish(60)
    worker = rig.work(leave=False)
    rig._now_ms += 40 * DAY_MS
    rig.publish(1)
    storms = 0
    for _ in range(10):
        for records in worker._poll():
            share = worker.shares[records.partition]
            for part in share.apply(records):
                worker._produce(share, part)
                worker.commit()
                storms += share.engine.ringing
                assert_equal(verify(rig))
    assert storms > 3
    worker.close()


def test_what_was_not_to_be_emitted_is_not_missed() -> None:
    rig = Rig()
    events = list(rig.events(200))
    middle_ms = events[100][2]
    tree = {**SETTINGS["worker"], "emit_from": msgspec.to_builtins(iso(middle_ms))}
    rig = Rig(worker=tree)
    rig.send(events)
    rig.work()
    assert_equal(verify(rig))
    assert sum(len(batch.offsets) for batch in rig.read_all("lifecycle")) > 0


def iso(ms: int) -> str:
    from datetime import UTC, datetime

    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


def test_without_transactions_repeats_are_dropped_by_their_ids() -> None:
    rig = worked(worker={**SETTINGS["worker"], "guarantee": "at-least-once"})
    log = rig.broker.log("lifecycle", 1)
    for column in log._columns():
        column.insert(5, column[2])
    log._offsets[:] = range(len(log._offsets))
    log.end = len(log._offsets)
    assert_equal(verify(rig))


def test_nothing_was_committed_yet() -> None:
    reports = verify(Rig())
    assert_equal(reports)
    assert [report.notes for report in reports] == [["nothing was committed yet"]] * 3


# What is not.


def change(log: PartitionLog, row: int, edit: Callable[[Any], Any]) -> None:
    """Change one output's value where it lies."""
    log._values[row] = msgspec.json.encode(edit(msgspec.json.decode(log._values[row] or b"")))


def remove(log: PartitionLog, row: int) -> None:
    for column in log._columns():
        del column[row]


def found(rig: Rig, partition: int) -> list[str]:
    reports = verify(rig)
    assert all(report.wrong == 0 for report in reports if report.partition != partition)
    report = reports[partition]
    told = [f"{difference.kind}: {difference.what}" for _, difference in report.differences]
    told += [f"row: {row.what}" for row in report.rows]
    assert report.wrong == len(told)
    return told


@pytest.mark.parametrize("role", ["lifecycle", "churn_alerts", "dead_letters"])
def test_an_output_that_is_lost_is_named(rig: Rig, role: str) -> None:
    log = rig.broker.log(getattr(rig.config.topics, role), 1)
    lost = dict(log._headers[2] or [])
    remove(log, 2)
    assert found(rig, 1) == ["lost: is not there"]
    ((topic, difference),) = verify(rig)[1].differences
    assert (topic, difference.id.encode()) == (log.topic, lost.get("id", lost["source"]))


def test_an_output_that_is_there_twice_is_named(rig: Rig) -> None:
    log = rig.broker.log("lifecycle", 0)
    for column in log._columns():
        column.append(column[4])
    log._offsets[-1] = log.end
    log.end += 1
    assert found(rig, 0) == ["strange: should not be there, or is there twice"]


def test_an_output_that_says_something_else_is_named(rig: Rig) -> None:
    log = rig.broker.log("lifecycle", 2)
    change(log, 1, lambda value: {**value, "events": 77})
    (told,) = found(rig, 2)
    assert told.startswith("different: events is 77, and should be ")
    change(rig.broker.log("churn-alerts", 0), 0, lambda value: {**value, "status": "expired"})
    assert [report.wrong for report in verify(rig)] == [1, 0, 1]


def test_outputs_out_of_order_are_named(rig: Rig) -> None:
    log = rig.broker.log("lifecycle", 0)
    for column in (log._keys, log._values, log._headers):
        column[3], column[4] = column[4], column[3]
    assert found(rig, 0) == ["different: is there out of its order"]


def tamper(rig: Rig, user: str, name: str = "events") -> int:
    """Change a scalar of a user's row as the topic has it; return the partition."""
    partition = rig.partition(user)
    log = rig.broker.log("user-state", partition)
    rows = [i for i, key in enumerate(log._keys) if key == b"u" + user.encode()]
    value = bytearray(log._values[rows[-1]] or b"")
    assert len(value) > FRAME_BYTES + ROW.itemsize
    value[FRAME_BYTES + ROW.fields[name][1]] ^= 1
    log._values[rows[-1]] = bytes(value)
    return partition


def live_users(rig: Rig) -> list[str]:
    worker = rig.work(leave=False)
    tables = [share.engine.table for share in worker.shares.values()]
    users = sorted(table.row_id(slot).decode() for table in tables for slot in table.slots().tolist())
    worker.stop()
    worker.close()
    return users


def test_a_user_whose_row_was_changed_is_named_with_what_differs(rig: Rig) -> None:
    user = live_users(rig)[0]
    partition = tamper(rig, user)
    (told,) = found(rig, partition)
    assert told.startswith("row: events is ")
    assert verify(rig)[partition].rows[0].user_id == user


def test_what_the_files_do_not_show_is_compared_too(rig: Rig) -> None:
    partition = tamper(rig, live_users(rig)[0], "throttle_events")
    (told,) = found(rig, partition)
    assert "beside users.jsonl" in told


def test_a_user_who_is_missing_is_named(rig: Rig) -> None:
    user = live_users(rig)[0]
    log = rig.broker.log("user-state", rig.partition(user))
    for row in [i for i, key in enumerate(log._keys) if key == b"u" + user.encode()][::-1]:
        remove(log, row)
    assert found(rig, rig.partition(user)) == ["row: has no row, and should have one"]


# Logs that do not reach back.


@pytest.fixture
def cut() -> Rig:
    """A log that has lost its first part; some users came only afterwards."""
    rig = Rig()
    rig.publish(150)
    rig.work()
    ends = [log.end for log in rig.broker.topic("events").logs]
    rig.publish(1)
    rig.publish(150, [*USERS[:6], "late-1", "late-2", "late-3", "late-4"])
    rig.work()
    for log, end in zip(rig.broker.topic("events").logs, ends, strict=True):
        log.truncate(end)
    return rig


def test_where_the_log_was_cut_users_who_came_later_are_compared(cut: Rig) -> None:
    reports = verify(cut)
    assert_equal(reports)
    assert all("the log begins at" in report.notes[0] for report in reports)
    assert sum(report.users for report in reports) >= 4
    assert sum(report.users_older for report in reports) > 0
    assert sum(report.outputs for report in reports) > 10
    late = next(user for user in live_users(cut) if user.startswith("late"))
    partition = tamper(cut, late)
    assert [report.wrong for report in verify(cut) if report.wrong] == [1]
    assert verify(cut)[partition].rows[0].user_id == late


def test_where_the_log_was_cut_a_lost_output_of_such_a_user_is_found(cut: Rig) -> None:
    late = next(user for user in live_users(cut) if user.startswith("late"))
    log = cut.broker.log("lifecycle", cut.partition(late))
    remove(log, log._keys.index(late.encode()))
    assert [report.wrong for report in verify(cut) if report.wrong] == [1]


def test_an_offset_may_be_named_if_the_log_reaches_back_to_it(cut: Rig) -> None:
    start = cut.broker.log("events", 1).start
    (report,) = verify(cut, only=1, begin=start + 10)
    assert report.wrong == 0
    assert report.start == start + 10
    with pytest.raises(UsageError, match=f"from any offset from {start} to"):
        verify(cut, only=1, begin=start - 1)
    with pytest.raises(UsageError, match="--partition"):
        verify(cut, begin=start)


def test_outputs_that_retention_took_are_not_missed(rig: Rig) -> None:
    for role in ("lifecycle", "churn-alerts"):
        for log in rig.broker.topic(role).logs:
            log.truncate(log._offsets[len(log._offsets) // 2])
    assert_equal(verify(rig))
    log = rig.broker.log("lifecycle", 0)
    remove(log, len(log._offsets) - 2)
    assert found(rig, 0) == ["lost: is not there"]


def test_a_journal_that_lost_entries_is_no_base() -> None:
    rig = rested()
    log = next(log for log in rig.broker.topic("journal").logs if len(log._offsets) > 1)
    log.truncate(log._offsets[0] + 1)
    with pytest.raises(StateError, match="journal entries there are"):
        verify(rig)


def test_another_config_than_the_workers_is_refused(rig: Rig) -> None:
    other = Rig(lifecycle={**SETTINGS["lifecycle"], "cadence": 2.0})
    with pytest.raises(UsageError, match="config and bundle that the workers run with"):
        verify_group(other.config, rig.client(), clock=rig.clock)


# The command line.


def test_the_command_says_what_it_compared_and_ends_with_1_if_anything_differs(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "read_config", lambda path: rig.config)
    monkeypatch.setattr(options, "open_broker", lambda config: rig.client())

    def run(*arguments: str) -> Any:
        command = ["verify", "--config", "c.toml", *arguments]
        return CliRunner().invoke(cli.app, command, prog_name="ebbtide")

    done = run()
    assert done.exit_code == 0, done.output
    assert done.output.count("equal") == 3
    assert "equal" in run("--from", "0", "--partition", "1").output
    remove(rig.broker.log("lifecycle", 1), 0)
    wrong = run()
    assert wrong.exit_code == 1
    assert "lifecycle-1, lost: events-1-" in wrong.output
    assert "1 DIFFER" in wrong.output
    assert run("--from", "yesterday").exit_code == 2
    assert run("--partition", "9").exit_code == 2
