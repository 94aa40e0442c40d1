"""A worker is killed at full load: how long until another one has its partitions live and goes on.

Two workers share four partitions and 100,000 users, with more events in the log than they can fold. One is
killed with SIGKILL in the middle of a transaction. Its partitions are back when the group has committed
beyond where they stood. That may take the session timeout (set to 6 s here, Kafka's default is 45 s) plus the
transaction timeout (10 s) plus 5 s.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from stream.broker import Identity, Source
from stream.config import Config
from stream.config_load import load_config
from stream.errors import RetriableError
from stream.kafka_broker import KafkaBroker
from stream.kafka_settings import TRANSACTION_TIMEOUT_MS
from stream.testing_kafka import KafkaCluster
from stream.topics import plan, topic_names

USERS: Final = 100_000
PARTITIONS: Final = 4
EVENTS: Final = 3_000_000
SESSION_S: Final = 6.0
GRACE_S: Final = 5.0
DEADLINE_S: Final = 180.0
START_MS: Final = 1_700_000_000_000
SETTINGS: Final[Mapping[str, str]] = {
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.session.timeout.ms": str(int(SESSION_S * 1000)),
}


def run(home: Path) -> None:
    with (
        KafkaCluster(home, settings=SETTINGS) as cluster,
        tempfile.TemporaryDirectory() as folder,
    ):
        path = Path(folder) / "failover.toml"
        path.write_text(
            '[events]\nkinds = { purchase = "conversion", coupon = "engagement" }\nrecommend = []\n'
            f'[kafka]\nbootstrap_servers = "{cluster.bootstrap_servers}"\ngroup_id = "failover"\n'
            '[worker]\nemit_from = "earliest"\n[http]\nport = 0\n'
        )
        config = load_config(path)
        names = topic_names(config)
        broker = KafkaBroker(cluster.bootstrap_servers, Identity("failover", "watcher", names))
        broker.admin().create(plan(config, dict.fromkeys(names.values()), partitions=PARTITIONS))
        fill(broker, config)
        workers = [start(path, Path(folder) / f"{name}.log", name) for name in ("a", "b")]
        try:
            measure(broker.source(), workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def fill(broker: KafkaBroker, config: Config) -> None:
    chance = random.Random(1)
    publisher = broker.publisher()
    for first in range(0, EVENTS, 10_000):
        numbers = [i if i < USERS else chance.randrange(USERS) for i in range(first, first + 10_000)]
        users = [b"user-%06d" % number for number in numbers]
        values = [
            b'{"user_id":"%b","event_type":"%b","event_time":%d}'
            % (user, (b"purchase", b"coupon")[i & 1], START_MS + (first + i) * 50)
            for i, user in enumerate(users)
        ]
        publisher.publish(config.topics.events, users, values)
    publisher.flush()
    publisher.close()


def start(config: Path, log: Path, name: str) -> subprocess.Popen[bytes]:
    with log.open("wb") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "stream", "run", "--config", str(config)],
            stderr=stream,
            env={**os.environ, "EBBTIDE_INSTANCE": name},
        )


def measure(source: Source, workers: list[subprocess.Popen[bytes]]) -> None:
    """Kill the first worker when every partition holds its users, and wait for its partitions."""
    each = 2 * USERS // PARTITIONS
    wait(lambda: all(offset >= each for offset in committed(source).values()))
    workers[0].kill()
    killed_s = time.monotonic()
    stood = committed(source, pending_is={})
    while not stood:  # what it had open is pending, and hides where the group stands
        stood = committed(source, pending_is={})
        time.sleep(0.05)
    wait(lambda: all(offset > stood[p] for p, offset in committed(source, pending_is=stood).items()))
    took_s, most_s = time.monotonic() - killed_s, SESSION_S + TRANSACTION_TIMEOUT_MS / 1000 + GRACE_S
    print(
        f"failover: {USERS:,} users, killed at full load: live elsewhere after {took_s:.1f} s, "
        f"at most {most_s:.0f} s ({SESSION_S:.0f} session + {TRANSACTION_TIMEOUT_MS // 1000} transaction + "
        f"{GRACE_S:.0f})",
        flush=True,
    )


def committed(source: Source, pending_is: Mapping[int, int] | None = None) -> Mapping[int, int]:
    """Return the committed offsets; `pending_is` while a transaction hides any of them."""
    try:
        found = source.committed(range(PARTITIONS))
    except RetriableError:
        return dict.fromkeys(range(PARTITIONS), -1) if pending_is is None else pending_is
    return {p: -1 if offset is None else offset.offset for p, offset in found.items()}


def wait(reached: Callable[[], bool]) -> None:
    until = time.monotonic() + DEADLINE_S
    while not reached():
        if time.monotonic() > until:
            raise RuntimeError(f"not there after {DEADLINE_S:.0f} s")
        time.sleep(0.05)
