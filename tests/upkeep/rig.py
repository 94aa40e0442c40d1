"""A group of workers on the in-memory broker, with a producer of clicks: what the commands are tried on."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from stream.assembly import identify
from stream.broker import Identity
from stream.bundle import Bundle
from stream.config import Config
from stream.config_load import parse_config
from stream.partitioner import partition_of
from stream.records import RecordBatch
from stream.testing import MemoryBroker, MemoryClient, VirtualClock
from stream.topics import plan, topic_names
from stream.worker import Worker
from stream.workshop import Workshop

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS
OUTPUTS: Final = ("recommendations", "lifecycle", "churn_alerts", "dead_letters")
USERS: Final = tuple(f"user-{i}" for i in range(12))

#: Short lives: within some weeks of events users fall silent, come back, and are forgotten.
SETTINGS: Final[dict[str, Any]] = {
    "events": {"kinds": {"view": "engagement", "buy": "conversion", "mail": "contact"}},
    "time": {"lateness_max": "90d"},
    "lifecycle": {
        "at_risk_min": "1d", "at_risk_max": "3d", "at_risk_default": "2d", "dormant_after": "5d",
        "churned_after": "8d", "forget_after": "12d",
    },
    "policies": {"at_risk": {"k": 3}},
    "worker": {"emit_from": "earliest", "snapshot_rows_max": 5, "commit_interval_ms": 100},
}  # fmt: skip


class Rig:
    """A broker with the topics of a config, and whoever works on them."""

    def __init__(self, partitions: int = 3, bundle: Bundle | None = None, **changes: Any) -> None:
        if bundle is not None:
            changes["bundle"] = {"path": str(bundle.path)}
        self.config = parse_config({**SETTINGS, **changes})
        self.clock = VirtualClock(time.time_ns() // 1_000_000)  # commands ask the machine's clock
        self.broker = MemoryBroker(self.clock, poll_interval_ms_max=math.inf)
        self.bundle = bundle
        self.partitions = partitions
        self.create(self.config, partitions)
        self._random = random.Random(7)
        self._now_ms = self.clock.now_ms() - 60 * DAY_MS

    def create(self, config: Config, partitions: int) -> None:
        admin = self.client().admin()
        admin.create(plan(config, dict.fromkeys(topic_names(config).values()), partitions=partitions))

    def client(self, identity: Identity | None = None) -> MemoryClient:
        return MemoryClient(self.broker, identity or identify(self.config))

    # Events

    def events(self, count: int, users: Sequence[str] = USERS) -> Iterator[tuple[str, bytes, int]]:
        """Yield (user, record, timestamp) with some hours between them; one in twenty is bad."""
        for i in range(count):
            self._now_ms += self._random.choice((1_000, HOUR_MS // 2, 2 * HOUR_MS, 9 * HOUR_MS))
            user = self._random.choice(users)
            kind = self._random.choice(("view", "view", "buy", "mail"))
            event = {"user_id": user, "event_type": kind, "event_time": self._now_ms, "value": i}
            event["item_id"] = f"item-{self._random.randrange(40)}"
            if i % 20 == 13:
                event["event_time"] = self._now_ms + 2 * DAY_MS  # from the future, until its time has come
            yield user, json.dumps(event).encode(), self._now_ms

    def publish(self, count: int, users: Sequence[str] = USERS) -> None:
        self.send(list(self.events(count, users)))

    def send(self, events: Sequence[tuple[str, bytes, int]], topic: str | None = None, **how: Any) -> None:
        users, values, timestamps_ms = zip(*events, strict=True)
        keys = how.pop("keys", [user.encode() for user in users])
        publisher = self.client().publisher()
        topic = topic or self.config.topics.events
        publisher.publish(topic, keys, values, timestamps_ms=timestamps_ms, **how)

    def partition(self, user: str) -> int:
        return partition_of(user.encode(), self.partitions)

    # Work

    def start(self, config: Config | None = None) -> Worker:
        config = config or self.config
        client = MemoryClient(self.broker, identify(config))
        worker = Worker(config, client, Workshop(config, self.bundle), clock=self.clock)
        worker.start()
        return worker

    def work(self, config: Config | None = None, *, leave: bool = True) -> Worker:
        """Let a worker come up and fold everything; then it leaves, as on SIGTERM."""
        worker = self.start(config)
        self.settle(worker)
        if leave:
            worker.stop()
            worker.close()
        return worker

    def settle(self, worker: Worker) -> None:
        """Let a worker work until everything is committed."""
        topic = worker.config.topics.events
        for _ in range(3_000):
            worker.turn()
            self.clock.advance(20.0)
            logs = self.broker.topic(topic).logs
            offsets = {p: share.committed_offset for p, share in worker.shares.items()}
            if all(offsets.get(p, -1) >= self._end(topic, p) for p in range(len(logs))):
                return
        raise AssertionError("the lag does not reach 0")

    def turn_until(self, worker: Worker, reached: Callable[[], object], *, step_ms: float = 20.0) -> None:
        """Let a worker work until something is so; between two turns time goes on by `step_ms`."""
        for _ in range(400):
            worker.turn()
            self.clock.advance(step_ms)
            if reached():
                return
        raise AssertionError("it does not come about")

    def _end(self, topic: str, partition: int) -> int:
        """Return what a worker that has read everything commits: the offset behind the last record."""
        batch = self.read(topic, partition)
        return batch.offsets[-1] + 1 if batch.offsets else 0

    # What a reader of committed records sees

    def read(self, topic: str, partition: int) -> RecordBatch:
        log = self.broker.log(topic, partition)
        return log.read(log.start, 1 << 40)[0]

    def read_all(self, role: str) -> list[RecordBatch]:
        topic = getattr(self.config.topics, role)
        return [self.read(topic, p) for p in range(len(self.broker.topic(topic).logs))]
