"""A storm: one event moves the watermark past the deadlines of a million users. In memory, with one worker.

Printed: messages of the largest transaction beside what one may hold, the longest turn beside what a poll may
take, and whether the outputs are in the order of (deadline, user).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import msgspec

from stream.broker import Identity
from stream.config import Config
from stream.config_load import parse_config
from stream.records import Output
from stream.testing import MemoryBroker, MemoryClient
from stream.testing_sink import MemorySink
from stream.topics import plan, topic_names
from stream.transaction import OUTPUTS_MAX
from stream.worker import Worker
from stream.workshop import Workshop

USERS: Final = 1_000_000
START_MS: Final = 1_700_000_000_000
DAY_MS: Final = 86_400_000
#: A deadline may move a user, open an alert or end one, and win back.
OUTPUTS_PER_TIMER: Final = 3
#: Kafka's default of max.poll.interval.ms.
POLL_S_MAX: Final = 300.0


class CountingSink:
    """Passes everything on, and counts what each transaction holds."""

    def __init__(self, sink: MemorySink) -> None:
        self._sink = sink
        self._produced = 0
        self.largest = self.commits = 0

    def produce(self, outputs: Sequence[Output], timestamps_ms: Sequence[int] | None = None) -> None:
        self._produced += len(outputs)
        self._sink.produce(outputs, timestamps_ms)

    def commit(self) -> None:
        self.largest, self._produced = max(self.largest, self._produced), 0
        self.commits += 1
        self._sink.commit()

    def __getattr__(self, name: str) -> object:
        return getattr(self._sink, name)


class CountingClient(MemoryClient):
    """A connection whose sink counts."""

    counting: CountingSink

    def sink(self) -> CountingSink:  # type: ignore[override]
        self.counting = CountingSink(super().sink())  # type: ignore[arg-type]
        return self.counting


def storm() -> None:
    config = parse_config({"worker": {"emit_from": "earliest"}})
    broker = MemoryBroker()
    client = CountingClient(broker, Identity("group", "id", topic_names(config)))
    client.admin().create(plan(config, dict.fromkeys(topic_names(config).values()), partitions=1))
    publisher = client.publisher()
    for first in range(0, USERS, 10_000):
        users = [b"user-%07d" % (i * 7_919 % USERS) for i in range(first, first + 10_000)]
        values = [
            b'{"user_id":"%b","event_type":"view","event_time":%d}' % (user, START_MS + i % 1_000)
            for i, user in enumerate(users)
        ]
        publisher.publish(config.topics.events, users, values)
    worker = Worker(config, client, Workshop(config, None))
    worker.start()
    while not worker.shares or worker.shares[0].committed_offset < USERS:
        worker.turn()
    client.counting.largest = client.counting.commits = 0
    late_ms = START_MS + 31 * DAY_MS
    last = b'{"user_id":"zz","event_type":"view","event_time":%d}' % late_ms
    publisher.publish(config.topics.events, [b"zz"], [last])
    alerts = broker.log(config.topics.churn_alerts, 0)
    before, longest_s, began_s = alerts.end, 0.0, time.perf_counter()
    while worker.shares[0].next_offset <= USERS or worker.shares[0].engine.ringing or worker.transaction.open:
        turn_s = time.perf_counter()
        worker.turn()
        longest_s = max(longest_s, time.perf_counter() - turn_s)
    took_s = time.perf_counter() - began_s
    tell(client.counting, longest_s, took_s)
    check_size(client.counting.largest, config)
    check_order(alerts.read(before, 2 * USERS)[0].values)


def tell(sink: CountingSink, longest_s: float, took_s: float) -> None:
    print(
        f"storm: {USERS:,} deadlines in {took_s:.1f} s, {sink.commits} commits, the largest of "
        f"{sink.largest:,} messages; the longest turn took {longest_s:.1f} s of {POLL_S_MAX:.0f}"
    )


def check_size(largest: int, config: Config) -> None:
    """Raise if a transaction held more than is promised: the outputs that make it full, those of the slice
    that was being folded, the rows of the snapshot, and a commit record.
    """
    worker = config.worker
    limit = OUTPUTS_MAX + OUTPUTS_PER_TIMER * worker.timers_max + worker.snapshot_rows_max + 1
    if largest > limit:
        raise RuntimeError(f"a transaction held {largest:,} messages, more than {limit:,}")
    print(f"storm: a transaction may hold {limit:,}")


def check_order(values: Sequence[bytes | None]) -> None:
    """Raise unless every user was alerted once, in the order of deadline and user."""
    alerts = [msgspec.json.decode(value or b"{}") for value in values]
    order = [(alert["at"], alert["user_id"].encode()) for alert in alerts]
    if len(order) != USERS or order != sorted(order):
        raise RuntimeError(f"{len(order):,} alerts, not {USERS:,} in the order of (deadline, user)")
    print("storm: every user was alerted once, in the order of (deadline, user)", flush=True)
