"""Real workers: as many as one likes, under either protocol, with names that stay, or without a broker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from stream.config import Config
from stream.errors import RetriableError
from stream.kafka_broker import KafkaBroker
from tests.compare import FULL
from tests.kafka.broker import own_kafka, shared_kafka
from tests.kafka.running import (
    DEADLINE_S,
    OUTPUTS,
    Process,
    connect,
    create_topics,
    fold_partition,
    load,
    read_partition,
    readiness,
    restored_rows,
    running,
    wait_for_offset,
    write_config,
)

pytestmark = pytest.mark.kafka

PARTITIONS = 4
EVENTS = 4_000
#: What readers see, by topic and partition: keys, values, headers.
Seen = dict[tuple[str, int], tuple[object, object, object]]
#: What was published, by role and partition.
Values = dict[tuple[str, int], list[bytes | None]]


def publish(broker: KafkaBroker, topic: str, first: int, count: int) -> None:
    users = [f"user-{i * 7 % 300}" for i in range(first, first + count)]
    publisher = broker.publisher()
    publisher.publish(
        topic, [user.encode() for user in users], [event(u, first + i) for i, u in enumerate(users)]
    )
    publisher.flush()
    publisher.close()


def event(user: str, i: int) -> bytes:
    """Return a purchase or a look; the times of a log of a year, so that users fall silent and come back."""
    if i % 101 == 50:
        return b"no event"
    time_ms = 1_700_000_000_000 + i * 3_600_000
    kind = "purchase" if i % 3 else "coupon"
    fields = {"user_id": user, "event_type": kind, "event_time": time_ms, "item_id": f"item-{i % 97}"}
    return json.dumps(fields).encode()


def wait(reached: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + DEADLINE_S
    while not reached():
        assert time.monotonic() < until, what
        time.sleep(0.2)


def ends(broker: KafkaBroker, config: Config) -> dict[int, int]:
    """Return where each partition ends; a node that has just come back is asked again."""
    found: dict[int, int] = {}

    def ask() -> bool:
        with suppress(RetriableError):
            ranges = broker.admin().ranges(config.topics.events, range(PARTITIONS))
            found.update({p: part.end for p, part in ranges.items()})
        return bool(found)

    wait(ask, "nobody knows where the log ends")
    return found


def work(path: Path, folder: Path, names: Sequence[str]) -> tuple[Seen, list[set[bytes]]]:
    """Let workers of these names fold the log to its end; return what readers see, and the users."""
    config = load(path)
    broker = connect(config)
    create_topics(config, broker, PARTITIONS)
    with ExitStack() as running_workers:
        workers = [
            running_workers.enter_context(
                running(path, folder / f"{path.stem}-{name}.log", {"EBBTIDE_INSTANCE": name})
            )
            for name in names
        ]
        wait(lambda: all(map(has_joined, workers)), "not every worker has a share")
        wait_for_offset(broker, config, ends(broker, config), workers[0])
    seen: Seen = {}
    for role in OUTPUTS:
        for p in range(PARTITIONS):
            batch = read_partition(broker, getattr(config.topics, role), p)
            seen[role, p] = (batch.keys, batch.values, batch.headers)
    return seen, [restored_rows(config, broker, p, PARTITIONS) for p in range(PARTITIONS)]


def test_one_two_and_four_workers_make_the_same_outputs_and_users_of_one_log(tmp_path: Path) -> None:
    servers, log = shared_kafka().bootstrap_servers, "scale-events"
    runs = []
    for count in (1, 2, 4):
        path = write_config(tmp_path, servers, f"scale-{count}", events=log)
        if count == 1:
            broker = connect(load(path))
            create_topics(load(path), broker, PARTITIONS)
            publish(broker, log, 0, EVENTS)
        runs.append(work(path, tmp_path, [f"w{i}" for i in range(count)]))
    assert runs[0] == runs[1] == runs[2]
    assert all(values for (role, _), (_, values, _) in runs[0][0].items() if role == "lifecycle")
    assert all(runs[0][1])


def test_a_worker_that_is_stopped_while_it_rehearses_is_gone_at_once_and_was_never_in_the_group(
    tmp_path: Path,
) -> None:
    path = write_config(tmp_path, shared_kafka().bootstrap_servers, "early")
    create_topics(load(path), connect(load(path)), PARTITIONS)
    nothing_compiled = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}  # so that it rehearses for long
    with running(path, tmp_path / "early.log", nothing_compiled) as worker:
        wait(lambda: "rehearsing" in worker.log.read_text(), "the worker does not come up")
    said = worker.log.read_text()
    assert "gone at once" in said
    assert "partitions assigned" not in said


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
def test_a_worker_with_a_name_is_restarted_under_either_protocol(tmp_path: Path, protocol: str) -> None:
    name = f"named-{protocol}"
    paths = []
    for i in range(2):  # each worker has a config of its own, which names it
        folder = tmp_path / f"w{i}"
        folder.mkdir()
        client = {"group.protocol": protocol, "group.instance.id": f"{name}-{i}"}
        paths.append(write_config(folder, shared_kafka().bootstrap_servers, name, client=client))
    config = load(paths[0])
    broker = connect(config)
    create_topics(config, broker, PARTITIONS)
    with running(paths[0], paths[0].with_suffix(".log")) as first:
        for round_ in range(3):  # the second one is restarted twice
            with running(paths[1], paths[1].with_suffix(f".{round_}.log")) as second:
                wait(partial(has_joined, first), "the first worker does not join")
                wait(partial(has_joined, second), "the second worker does not join")
                publish(broker, config.topics.events, round_ * 500, 500)
                wait_for_offset(broker, config, ends(broker, config), first)
    assert outputs_of(config, broker) == fold_of(config, broker)


def has_joined(worker: Process) -> bool:
    return "partitions assigned" in worker.log.read_text()


def outputs_of(config: Config, broker: KafkaBroker) -> Values:
    """Return what the group published, by role and partition."""
    return {
        (role, p): read_partition(broker, getattr(config.topics, role), p).values
        for role in OUTPUTS
        for p in range(PARTITIONS)
    }


def fold_of(config: Config, broker: KafkaBroker) -> Values:
    """Return what a fold of the log makes, by role and partition."""
    values: Values = {}
    for p in range(PARTITIONS):
        expected, _ = fold_partition(config, read_partition(broker, config.topics.events, p))
        for role in OUTPUTS:
            values[role, p] = [output.value for output in expected if output.topic == role]
    return values


@pytest.mark.skipif(not FULL, reason="three minutes: `make outage`")
def test_a_broker_that_is_away_for_a_minute_is_waited_for_and_readyz_says_so(tmp_path: Path) -> None:
    with own_kafka() as cluster:
        path = write_config(tmp_path, cluster.bootstrap_servers, "away")
        config = load(path)
        broker = connect(config)
        create_topics(config, broker, PARTITIONS)
        publish(broker, config.topics.events, 0, 500)
        with running(path, tmp_path / "worker.log") as worker:
            wait_for_offset(broker, config, ends(broker, config), worker)
            wait(lambda: readiness(worker) == {}, "the worker is not ready")

            (node,) = cluster.nodes
            node.kill()
            went = time.monotonic()
            wait(lambda: "broker_away" in readiness(worker), "/readyz says nothing of the broker")
            wait(lambda: time.monotonic() - went > 60.0, "a minute")
            assert worker.process.poll() is None, worker.log.read_text()
            assert "broker_away" in readiness(worker)
            node.start()
            cluster.wait()
            publish(broker, config.topics.events, 500, 500)
            wait_for_offset(broker, config, ends(broker, config), worker)
            wait(lambda: readiness(worker) == {}, "the worker is not ready again")
        assert outputs_of(config, broker) == fold_of(config, broker)
