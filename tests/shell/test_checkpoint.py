"""Checkpoints: a restore with a file is the restore without it, and a file that does not fit is not used."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from stream import drain
from stream.broker import Topic
from stream.checkpoint import AGE_MS_MAX, Checkpoints
from stream.log import log
from stream.snapshot import ROW_KEY
from stream.testing import MemoryClient
from stream.testing_broker import MemoryTopic
from stream.worker import Worker
from tests.checkpoint_site import Site, behind_the_file, frames, leave_all, rewrite
from tests.courses import NARROW, kill, leave

HOUR_MS: Final = 3_600_000.0


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path)
    for _ in range(6):
        site.publish(40)
        leave_all(site)
    return site


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    log.addHandler(caplog.handler)
    yield caplog
    log.removeHandler(caplog.handler)


def test_a_worker_that_left_comes_back_from_its_file(site: Site) -> None:
    assert site.path.stat().st_mode & 0o777 == 0o600
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read == 0 < both.whole


def test_what_others_did_since_is_read_behind_it(site: Site) -> None:
    site.publish(60)
    site.work(site.plain)
    tail = behind_the_file(site)
    assert tail > 10
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read <= tail < both.whole


@pytest.mark.parametrize("seed", range(5))
def test_a_kill_leaves_what_the_restore_had_read(tmp_path: Path, seed: int) -> None:
    """The file of a restore whose log is not replayed yet: rows are ahead of the floor, others behind it."""
    site, chance = Site(tmp_path, snapshot_rows_max=2), random.Random(seed)
    for _ in range(5):
        worker, _ = site.live()
        site.publish(chance.randint(5, 60))
        for _ in range(chance.randint(1, 80)):
            worker.turn()
            site.clock.advance(float(chance.choice((1, 50, 200))))
        kill(site, worker)
        state = site.broker.log("user-state", 0)
        state.compact(chance.randint(state.start, state.end))
    worker, _ = site.live()  # reads, leaves a file, and may commit before it is killed
    kill(site, worker)
    tail = behind_the_file(site)
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read == tail < both.whole


def publish_and_commit_some(site: Site) -> Worker:
    """Return a worker whose last commit leaves rows to be written, so that the log behind it is needed."""
    worker, _ = site.live()
    site.settle(worker)
    site.publish(60)
    count = worker.shares[0].commits
    while worker.shares[0].commits < count + 2:
        worker.turn()
        site.clock.advance(60.0)
    assert worker.shares[0].owed > 3
    return worker


def test_rows_keep_what_they_hold_until_the_log_is_replayed(tmp_path: Path) -> None:
    site = Site(tmp_path, snapshot_rows_max=2)
    site.publish(40)
    kill(site, publish_and_commit_some(site))
    kill(site, site.live()[0])  # reads, and leaves a file
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read == 0 < both.whole


def test_what_is_not_written_to_the_topic_is_not_left_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget of a revocation is over before the rows are: a file would make them look written."""
    site = Site(tmp_path, snapshot_rows_max=2)
    site.publish(40)
    worker = publish_and_commit_some(site)
    before = site.path.read_bytes() if site.path.exists() else b""
    monkeypatch.setattr(drain, "DRAIN_S", 0.0)
    leave(worker)
    assert (site.path.read_bytes() if site.path.exists() else b"") == before
    worker, _ = site.live()
    found = site.users(worker)
    kill(site, worker)
    assert found == site.users(site.live(site.plain)[0])


def test_a_revoked_partition_is_written_while_the_others_go_on(tmp_path: Path) -> None:
    site = Site(tmp_path, partitions=2)
    site.publish(80)
    first, _ = site.live()
    site.settle(first)
    second = site.start()
    for _ in range(50):
        first.turn()
        second.turn()
        site.clock.advance(50.0)
    assert len(first.shares) == len(second.shares) == 1
    gone = next(iter(second.shares))
    assert site.files.path(gone).exists()
    kill(site, second)
    kill(site, first)
    worker, _ = site.live()
    found = site.users(worker)
    kill(site, worker)
    assert found == site.users(site.live(site.plain)[0])


def damage(site: Site) -> None:
    data = bytearray(site.path.read_bytes())
    data[len(data) // 2] ^= 1
    site.path.write_bytes(data)


def tear(site: Site) -> None:
    site.path.write_bytes(site.path.read_bytes()[:-9])


def empty(site: Site) -> None:
    site.path.write_bytes(b"")


def take_a_foreign_one(site: Site) -> None:
    kafka = msgspec.structs.replace(site.config.kafka, group_id="other")
    other = Checkpoints(site.folder, msgspec.structs.replace(site.config, kafka=kafka), site.clock)
    worker, _ = site.live(site.plain)
    table, format_ = worker.shares[0].engine.table, worker.workshop.format
    for _ in other.write(table, format_, ([], []), partition=0, n=1, position=1, topic_id="user-state-1"):
        pass
    kill(site, worker)
    other.path(0).rename(site.path)


def age(site: Site) -> None:
    site.clock.advance(AGE_MS_MAX + 1.0)


def age_by_the_topic(site: Site) -> None:
    site.client().admin().configure("user-state", {"delete.retention.ms": "1000000"})
    site.clock.advance(500_001.0)


def go_back_in_time(site: Site) -> None:
    site.clock.jump(-60_000)


def make_the_topic_anew(site: Site) -> None:
    """As a mirror would: the same records at the same offsets, in another topic."""
    topic = site.broker.topic("user-state")
    topic.id = MemoryTopic(Topic("user-state", 1), 99).id


def lose_records(site: Site) -> None:
    """The topic ends before the file does, as after an unclean election."""
    header = msgspec.json.decode(frames(site)[0])
    header["position"] = site.broker.log("user-state", 0).end + 5
    rewrite(site, header)


def come_from_the_future(site: Site) -> None:
    header = msgspec.json.decode(frames(site)[0])
    header["n"] += 1
    rewrite(site, header)


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (damage, "it is damaged"), (tear, "it is torn"), (empty, "it is no checkpoint of this version"),
        (take_a_foreign_one, "it is of user-state-0 of the group other"), (age, "it counts for 43200 s"),
        (age_by_the_topic, "it counts for 500 s"), (go_back_in_time, "it was written -"),
        (make_the_topic_anew, "the topic was made anew"), (lose_records, "the log goes from 0 to"),
        (come_from_the_future, "and the group has committed"),
    ],
)  # fmt: skip
def test_a_file_that_does_not_fit_is_not_used(
    site: Site, heard: pytest.LogCaptureFixture, harm: Any, why: str
) -> None:
    harm(site)
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read == both.whole
    assert why in heard.text
    assert len({record.getMessage() for record in heard.records if "is not used" in record.msg}) == 1
    both = site.restore_both_ways()  # the restore has left a good one
    assert both.found == both.plainly
    assert both.read == 0 < both.whole


def test_a_file_of_another_layout_is_not_used(site: Site, heard: pytest.LogCaptureFixture) -> None:
    worker = msgspec.structs.replace(site.config.worker)
    config = msgspec.structs.replace(site.config, events=NARROW.events, meaning=NARROW.meaning, worker=worker)
    whole = len(site.read("user-state", 0).offsets)
    worker_, read = site.live(config)
    assert read == whole
    assert "its rows have another layout" in heard.text
    kill(site, worker_)


def test_a_disk_that_refuses_stops_nothing(site: Site, heard: pytest.LogCaptureFixture) -> None:
    for path in site.folder.iterdir():
        path.unlink()
    site.folder.rmdir()
    site.folder.write_text("no folder")
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read == both.whole
    assert "no checkpoint is written" in heard.text


def test_at_least_once_only_what_was_read_is_kept(tmp_path: Path) -> None:
    site = Site(tmp_path, guarantee="at-least-once")
    site.publish(80)
    leave_all(site)
    assert not site.path.exists()
    worker, _ = site.live()
    kill(site, worker)
    assert site.path.exists()
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read == 0 < both.whole


def test_an_erased_user_is_in_no_file(site: Site) -> None:
    user = next(iter(site.users(site.live()[0])))
    site = site_again(site)
    assert user in site.path.read_bytes()
    worker, _ = site.live()
    command = msgspec.json.encode({"command": "erase", "user_id": user.decode()})
    site.client().publisher().publish("control", [user], [command])
    for _ in range(40):
        worker.turn()
        site.clock.advance(500.0)
    assert user not in site.users(worker)
    assert not any(user in path.read_bytes() for path in site.folder.iterdir())
    leave(worker)
    assert ROW_KEY + user not in site.path.read_bytes()
    both = site.restore_both_ways()
    assert both.found == both.plainly
    assert both.read == 0 < both.whole


def site_again(site: Site) -> Site:
    """Let whoever is a member of the group go."""
    for group in site.broker.groups():
        for member in list(group.members.values()):
            group.leave(member.id)
    return site


def test_files_that_are_too_old_or_unfinished_are_removed(site: Site) -> None:
    old = site.files.path(7)
    old.write_bytes(b"x")
    os.utime(old, (0, 0))
    unfinished = site.folder / f"{site.path.name}.1234.new"
    unfinished.write_bytes(b"x")
    os.utime(unfinished, (0, 0))
    other = site.folder / "notes.txt"
    other.write_text("not ours")
    os.utime(other, (0, 0))
    site.publish(5)
    leave_all(site)
    assert set(site.folder.iterdir()) == {site.path, other}
    assert isinstance(site.client(), MemoryClient)
