"""The commands of an operator on Apache Kafka: verify, dlq, rekey, repartition, with workers as processes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from stream.assembly import connect as connect_as
from stream.clock import SystemClock
from stream.config import Config
from stream.core.persist import FRAME_BYTES
from stream.core.users import ROW
from stream.errors import UsageError
from stream.kafka_broker import KafkaBroker
from stream.partitioner import misplaced, partition_of
from stream.snapshot import ROW_KEY
from stream.upkeep.command import erase
from stream.upkeep.copying import copy_identity
from stream.upkeep.letters import Choice, read_letters
from stream.upkeep.letters_replay import Sent, job_identity, replay_letters
from stream.upkeep.rekey import rekey
from stream.upkeep.repartition import repartition
from stream.upkeep.user import Looker
from stream.upkeep.verify import verify_group
from tests.kafka.broker import shared_kafka
from tests.kafka.running import (
    connect,
    create_topics,
    load,
    read_partition,
    running,
    wait_for_offset,
    write_config,
)

pytestmark = pytest.mark.kafka

PARTITIONS = 3
USERS = [f"user-{i}" for i in range(40)]
CLOCK = SystemClock()


class Group(NamedTuple):
    """A config, and a broker to look at its topics with."""

    path: Path
    config: Config
    broker: KafkaBroker

    def publish(self, events: Sequence[tuple[str, bytes]], *, keyed: bool = True) -> None:
        publisher = self.broker.publisher()
        keys = [user.encode() if keyed else None for user, _ in events]
        publisher.publish(self.config.topics.events, keys, [value for _, value in events])
        publisher.flush()
        publisher.close()

    def ends(self) -> dict[int, int]:
        topic = self.config.topics.events
        found = self.broker.admin().describe([topic])[topic]
        assert found is not None
        return {p: part.end for p, part in self.broker.admin().ranges(topic, range(found.partitions)).items()}

    def work(self) -> None:
        """Let a worker come up, fold everything, and leave."""
        with running(self.path, self.path.with_suffix(".log")) as worker:
            wait_for_offset(self.broker, self.config, self.records_end(), worker)

    def records_end(self) -> dict[int, int]:
        """Return what a worker commits that has read everything: behind the last record, not the markers."""
        topic = self.config.topics.events
        batches = {p: read_partition(self.broker, topic, p) for p in self.ends()}
        return {p: batch.offsets[-1] + 1 for p, batch in batches.items() if batch.offsets}

    def verify(self) -> list[int]:
        """Return how much differs in each partition."""
        return [report.wrong for report in verify_group(self.config, connect(self.config))]


def make_group(folder: Path, name: str, partitions: int = PARTITIONS) -> Group:
    path = write_config(folder, shared_kafka().bootstrap_servers, name)
    config = load(path)
    broker = connect(config)
    create_topics(config, broker, partitions)
    return Group(path, config, broker)


def clicks(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield events of now, one in ten of a kind that is not known."""
    chance = random.Random(seed)
    for i in range(count):
        user = chance.choice(USERS)
        kind = "click" if i % 10 == 3 else chance.choice(("purchase", "coupon", "campaign"))
        now_ms = time.time_ns() // 1_000_000 - chance.choice((0, 0, 30_000))
        event = {"user_id": user, "event_type": kind, "event_time": now_ms, "item_id": f"item-{i % 30}"}
        yield user, json.dumps(event).encode()


def test_what_workers_committed_is_what_verify_folds_and_what_is_wrong_is_found(tmp_path: Path) -> None:
    group = make_group(tmp_path, "verify")
    group.publish(list(clicks(300, 1)))
    group.work()
    assert group.verify() == [0, 0, 0]
    with running(group.path, tmp_path / "verify.log") as worker:
        group.publish(list(clicks(300, 2)))
        assert group.verify() == [0, 0, 0]  # at whatever was committed by then
        wait_for_offset(group.broker, group.config, group.records_end(), worker)
    partition = tamper_with_a_row(group)
    assert group.verify() == [int(p == partition) for p in range(PARTITIONS)]
    strange = read_partition(group.broker, group.config.topics.lifecycle, partition)
    publisher = group.broker.publisher()
    publisher.publish(
        strange.topic,
        strange.keys[:1],
        strange.values[:1],
        partitions=[partition],
        headers=strange.headers[:1],
    )
    publisher.flush()
    assert group.verify()[partition] == 2
    publisher.close()


def tamper_with_a_row(group: Group) -> int:
    """Put a wrong row of a user before the next commit, which another user causes; return the partition."""
    batch = read_partition(group.broker, group.config.topics.user_state, 0)
    rows = {key: value for key, value in zip(batch.keys, batch.values, strict=True) if value}
    key = next(key for key in rows if key is not None and key.startswith(ROW_KEY))
    value = bytearray(rows[key] or b"")
    value[FRAME_BYTES + ROW.fields["sessions"][1]] ^= 1  # type: ignore[index]
    publisher = group.broker.publisher()
    publisher.publish(group.config.topics.user_state, [key], [bytes(value)], partitions=[0])
    publisher.flush()
    publisher.close()
    other = next(
        user
        for user in USERS
        if partition_of(user.encode(), PARTITIONS) == 0 and ROW_KEY + user.encode() != key
    )
    group.publish([(other, b"no event")])
    group.work()
    return 0


def test_dead_letters_are_sent_again_once(tmp_path: Path) -> None:
    group = make_group(tmp_path, "letters")
    group.publish(list(clicks(100, 3)))
    group.work()
    letters = list(read_letters(group.broker, group.config, Choice(), CLOCK))
    assert [letter.reason for letter in letters] == ["unknown_event_type"] * 10
    broker = connect_as(group.config, job_identity(group.config))
    assert replay_letters(broker, group.config, Choice(), CLOCK) == Sent(sent=10, before=0)
    assert replay_letters(broker, group.config, Choice(), CLOCK) == Sent(sent=0, before=10)
    group.work()
    again = list(read_letters(group.broker, group.config, Choice(), CLOCK))
    assert len(again) == 20
    assert sorted(letter.value or b"" for letter in again) == sorted(2 * [x.value or b"" for x in letters])
    assert group.verify() == [0, 0, 0]


def test_a_topic_without_keys_is_rekeyed_in_two_runs(tmp_path: Path) -> None:
    group = make_group(tmp_path, "rekey")
    source, target = group.config.topics.events, "rekey-keyed"
    events = list(clicks(200, 4))
    for part in (events[:150], events[150:]):
        group.publish(part, keyed=False)
        broker = connect_as(group.config, copy_identity(source, target))
        assert rekey(broker, group.config, source, target, CLOCK, partitions=4) == len(part)
    batches = [read_partition(group.broker, target, p) for p in range(4)]
    assert [misplaced(batch.keys, batch.partition, 4) for batch in batches] == [0] * 4
    came = [pair for batch in batches for pair in zip(batch.keys, batch.values, strict=True)]
    assert sorted(came) == sorted((user.encode(), value) for user, value in events)
    old = [read_partition(group.broker, source, p) for p in range(PARTITIONS)]
    stamps = [stamp for batch in batches for stamp in batch.timestamps_ms]
    assert sorted(stamps) == sorted(stamp for batch in old for stamp in batch.timestamps_ms)


def test_a_group_goes_over_to_more_partitions_and_on(tmp_path: Path) -> None:
    group, new = make_group(tmp_path, "few"), make_group(tmp_path, "many", 5)
    group.publish(list(clicks(300, 5)))

    def move(wait_s: float = 30.0) -> tuple[int | None, int]:
        def connected(identity: object) -> KafkaBroker:
            return connect_as(group.config, identity)  # type: ignore[arg-type]

        return repartition(connected, group.config, new.config, CLOCK, wait_s=wait_s)

    with running(group.path, tmp_path / "few.log") as worker:
        wait_for_offset(group.broker, group.config, group.ends(), worker)
        with pytest.raises(UsageError, match="SIGTERM"):
            move(wait_s=3.0)
    group.publish(list(clicks(50, 6)))
    rows, records = move()
    counted = (b"purchase", b"coupon")  # what else they did makes no row
    assert rows == len({user for user, event in clicks(300, 5) if any(kind in event for kind in counted)})
    assert records == 50
    assert move() == (None, 0)
    new.work()
    assert new.verify() == [0] * 5
    letters = list(read_letters(new.broker, new.config, Choice(), CLOCK))
    assert len(letters) == 5


def test_a_worker_refuses_topics_that_would_lose_state_and_check_says_so_too(tmp_path: Path) -> None:
    group = make_group(tmp_path, "refused")
    state = group.config.topics.user_state
    group.broker.admin().configure(state, {"cleanup.policy": "delete"})
    for command in ("run", "check"):
        arguments = [sys.executable, "-m", "stream", command, "--config", str(group.path)]
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode != 0
        assert f"{state}: cleanup.policy is delete" in done.stdout + done.stderr
        assert "set cleanup.policy=compact" in done.stdout + done.stderr
    group.broker.admin().configure(state, {"cleanup.policy": "compact"})
    group.publish(list(clicks(50, 7)))
    group.work()
    arguments = [sys.executable, "-m", "stream", "check", "--config", str(group.path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "group    ok" in done.stdout
    assert "keys     ok" in done.stdout


def test_an_erased_user_is_gone_and_stays_gone_through_a_restart(tmp_path: Path) -> None:
    group = make_group(tmp_path, "erased")
    group.publish(list(clicks(200, 8)))
    group.work()
    look = Looker(group.config, connect(group.config), USERS[0], CLOCK).look()
    assert look.notes == []
    assert look.explanation.user is not None
    erase(group.broker, group.config, USERS[0], CLOCK)
    with running(group.path, tmp_path / "erased.log"):
        until = time.monotonic() + 60.0
        while not journal(group, look.partition) and time.monotonic() < until:
            time.sleep(0.2)
    (entry,) = journal(group, look.partition)
    assert b'"entry":"erase"' in entry
    group.publish([(USERS[1], b"no event")])
    group.work()
    assert journal(group, look.partition) == [entry]
    shown = Looker(group.config, connect(group.config), USERS[0], CLOCK).look()
    assert shown.explanation.user is None
    assert shown.explanation.transitions == look.explanation.transitions
    assert group.verify() == [0, 0, 0]


def journal(group: Group, partition: int) -> list[bytes]:
    batch = read_partition(group.broker, group.config.topics.journal, partition)
    return [value or b"" for value in batch.values]
