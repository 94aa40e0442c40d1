"""How fast a partition comes back, and what being able to come back costs. Ratios, side by side in one run.

restore    users a second from rows, in memory and on Kafka, and how soon a partition of 100,000 is live
snapshot   events a second with the rolling snapshot and with next to none of it
commit     events a second with a commit every second and every 100 ms
failover   a worker of 100,000 users is killed at full load: how long until another has its partitions live
storm      a million deadlines due at once: outputs of the largest commit, longest turn, order

All but `restore` in memory and `storm` need KAFKA_HOME: one node of Apache Kafka on this machine. The ratios
are of events a second of the worker's own thread, and of the wall; the wall says what the neighbours leave.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import uuid4

from benchmarks import failover
from benchmarks.storm import storm
from stream.broker import Broker, Identity, Topic
from stream.bundle import Bundle, open_bundle
from stream.clock import SystemClock
from stream.config import Config
from stream.config_load import parse_config
from stream.flight import InAThread
from stream.garbage import settled
from stream.kafka_broker import KafkaBroker
from stream.observe import Observer
from stream.phases import Phase
from stream.restore import Restore
from stream.testing import MemoryBroker, MemoryClient
from stream.testing_kafka import KafkaCluster
from stream.topics import plan, topic_names
from stream.worker import Worker
from stream.workshop import Workshop

USERS: Final = 100_000
PARTITIONS: Final = 4
EVENTS: Final = 400_000
ROUNDS: Final = 3
RESTORE_RECORDS: Final = 10_000
START_MS: Final = 1_700_000_000_000
BUNDLE: Final = Path(__file__).parents[1] / "stream" / "demo" / "bundle"
KINDS: Final = {"purchase": "conversion", "coupon": "engagement", "campaign": "contact"}


class Speed(NamedTuple):
    """Events a second of the wall, and of the worker's own thread."""

    wall: float
    thread: float


def run() -> None:
    identity = Identity("group", "id", topic_names(parse_config({})))
    measure_restore("in memory", MemoryClient(MemoryBroker(), identity))
    storm()
    home = os.environ.get("KAFKA_HOME")
    if not home:
        print("  KAFKA_HOME is not set: Apache Kafka was not measured")
        return
    with KafkaCluster(Path(home)) as cluster:
        servers = cluster.bootstrap_servers
        measure_restore("on Kafka", KafkaBroker(servers, identity))
        fill(KafkaBroker(servers, identity), "load", EVENTS)
        compare(servers, None, "without a model")
        compare(servers, open_bundle(BUNDLE), "with the demo's model")
    failover.run(Path(home))


def make_config(servers: str, name: str, events: str, bundle: Bundle | None, **worker: object) -> Config:
    """Return a config of a group of its own over an events topic."""
    roles = ("recommendations", "lifecycle", "churn_alerts", "dead_letters", "user_state", "journal")
    own = {role: f"{name}-{role.replace('_', '-')}" for role in (*roles, "items", "control")}
    return parse_config(
        {
            "events": {"kinds": KINDS, "recommend": ["purchase"] if bundle else []},
            "kafka": {"bootstrap_servers": servers, "group_id": name},
            "topics": {"events": events, **own},
            "worker": {"emit_from": "earliest", **worker},
        }
    )


def fill(broker: Broker, topic: str, count: int) -> None:
    """Publish events of USERS users, each of whom comes first once, then anybody in any order."""
    chance = random.Random(1)
    broker.admin().create([Topic(topic, PARTITIONS)])
    publisher = broker.publisher()
    for first in range(0, count, 10_000):
        keys, values = [], []
        for i in range(first, first + 10_000):
            user = b"user-%06d" % (i if i < USERS else chance.randrange(USERS))
            keys.append(user)
            values.append(
                b'{"user_id":"%b","event_type":"%b","event_time":%d,"item_id":"%d","event_id":"e%d"}'
                % (user, (b"purchase", b"coupon")[i & 1], START_MS + i * 50, chance.randrange(20_000), i)
            )
        publisher.publish(topic, keys, values)
    publisher.flush()
    publisher.close()


# ---------------------------------------------------------------------------------------------- the restore


def measure_restore(name: str, broker: Broker) -> None:
    """Let a worker write USERS rows of one partition, and restore them as often as ROUNDS says.

    The last commit writes them all, so that the topic holds a row a user, as it does once it is compacted.
    """
    config = parse_config({"worker": {"snapshot_rows_max": 1_000_000, "commit_interval_ms": 60_000}})
    broker.admin().create(plan(config, dict.fromkeys(topic_names(config).values()), partitions=1))
    publisher = broker.publisher()
    for first in range(0, 3 * USERS // 2, 10_000):
        users = [b"user-%06d" % (i % USERS) for i in range(first, first + 10_000)]
        values = [
            b'{"user_id":"%b","event_type":"purchase","event_time":%d,"item_id":"item-%d"}'
            % (user, START_MS + first, i % 5_000)
            for i, user in enumerate(users)
        ]
        publisher.publish(config.topics.events, users, values)
    publisher.flush()
    worker = Worker(config, broker, Workshop(config, None))
    worker.start()
    while not worker.shares or worker.shares[0].next_offset < 3 * USERS // 2:
        worker.turn()
    worker.stop()
    worker.close()
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        workshop = Workshop(config, None)
        engine = workshop.partition(config.topics.events, 0, undo=True, snapshots=True)
        restore = Restore(
            engine, workshop.format, config, broker, broker.source(), SystemClock(), partitions=1
        )
        wall_s, thread_s = time.perf_counter(), time.thread_time()
        while not restore.step(RESTORE_RECORDS):
            pass
        for clock, spent in (
            ("wall", time.perf_counter() - wall_s),
            ("thread", time.thread_time() - thread_s),
        ):
            best[clock] = min(best.get(clock, spent), spent)
        assert len(engine.table) == USERS
    print(
        f"restore {name}: {USERS / best['wall']:,.0f} users/s of the wall, "
        f"{USERS / best['thread']:,.0f} of the thread; {USERS:,} users in {best['wall']:.2f} s",
        flush=True,
    )


# ------------------------------------------------------------------------------------------- the throughput


def compare(servers: str, bundle: Bundle | None, name: str) -> None:
    """Print what snapshots and frequent commits cost, the best of ROUNDS for each, in turns."""
    variants: dict[str, dict[str, Any]] = {
        "a commit a second": {"commit_interval_ms": 1_000},
        "a commit every 100 ms": {"commit_interval_ms": 100},
        "one row a commit": {"commit_interval_ms": 1_000, "snapshot_rows_max": 1},
    }
    events = EVENTS if bundle is None else EVENTS // 4
    measured: dict[str, Speed] = {}
    fold(servers, bundle, events, commit_interval_ms=1_000)  # whatever is done for the first time is slow
    for _ in range(ROUNDS):
        for variant, settings in variants.items():
            now, best = fold(servers, bundle, events, **settings), measured.get(variant, Speed(0.0, 0.0))
            measured[variant] = Speed(max(now.wall, best.wall), max(now.thread, best.thread))
    for variant, speed in measured.items():
        print(
            f"  {name}, {variant:<22} {speed.wall:>9,.0f}/s wall {speed.thread:>9,.0f}/s thread", flush=True
        )
    every_second, often, bare = measured.values()
    for what, slow, fast in (
        ("snapshots", every_second, bare),
        ("ten times the commits", often, every_second),
    ):
        wall, thread = 1 - slow.wall / fast.wall, 1 - slow.thread / fast.thread
        print(f"{what} {name}: {wall:.0%} of the wall, {thread:.0%} of the thread", flush=True)


def fold(servers: str, bundle: Bundle | None, events: int, **worker: object) -> Speed:
    """Fold the first events of the log in a group of its own, to the last commit."""
    with live_worker(servers, bundle, **worker) as made:
        wall_s, thread_s = time.perf_counter(), time.thread_time()
        folded = 0
        while folded < events:
            made.turn()
            folded = sum(share.next_offset for share in made.shares.values())
        made.commit()
        return Speed(folded / (time.perf_counter() - wall_s), folded / (time.thread_time() - thread_s))


@contextmanager
def live_worker(servers: str, bundle: Bundle | None, **settings: object) -> Iterator[Worker]:
    name = f"group-{uuid4().hex[:8]}"
    config = make_config(servers, name, "load", bundle, **settings)
    broker = KafkaBroker(servers, Identity(name, name, topic_names(config)))
    broker.admin().create(plan(config, dict.fromkeys(topic_names(config).values()), partitions=PARTITIONS))
    observer = Observer(config)
    worker = Worker(config, broker, Workshop(config, bundle), observer=observer, launch=InAThread)
    worker.start()
    while len(worker.shares) < PARTITIONS or any(s.phase is not Phase.LIVE for s in worker.shares.values()):
        worker.turn()
    with settled():
        yield worker
    worker.close()
