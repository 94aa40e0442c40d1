"""The producers: what users click, and everything that producers get wrong.

Event times cluster at the thresholds of the config, a millisecond before, at, and after. The wall clock
follows the events, so that most of them are live. Partitions are written to as Kafka's rules allow: in
transactions of the producer's own or without, some aborted, some records twice, neighbours out of order.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from stream.clock import VirtualClock
from stream.config import Config
from stream.partitioner import partition_of
from stream.testing_broker import MemoryBroker
from stream.testing_log import NO_OWNER, PartitionLog
from tests.simulation.options import QUIRKS, Options
from tests.simulation.tiny_model import ITEMS, POISON_ITEM

BURST_RECORDS_MAX: Final = 16
#: Owners of the producers' transactions lie far from those that the broker gives to workers.
FIRST_OWNER: Final = 1_000_000

#: Ordinary gaps of event time between two records; thresholds come from the config.
GAPS_MS: Final = (0, 1, 900, 60_000, 60_000, 300_000, 1_200_000)


#: What is counted of their doings.
WRITTEN: Final = ("records", "threshold", *QUIRKS, "aborted")


class Record(NamedTuple):
    """A record on its way to a partition."""

    partition: int
    key: bytes | None
    value: bytes
    timestamp_ms: int


class Producers:
    """Writes the events topic, a burst at a time, until all records of the options are written."""

    def __init__(
        self,
        chance: random.Random,
        options: Options,
        config: Config,
        broker: MemoryBroker,
        clock: VirtualClock,
    ) -> None:
        self.left = options.records
        self.written: dict[str, int] = dict.fromkeys(WRITTEN, 0)
        self._chance, self._options, self._config = chance, options, config
        self._quirks = options.quirks
        self._clock = clock
        self._logs = [broker.log(config.topics.events, p) for p in range(options.partitions)]
        self._users = [f"u{i}" for i in range(options.users)]
        self._kinds = list(config.events.kinds)
        self._last_ms: dict[str, int] = {}
        self._ids = 0
        self._owner = FIRST_OWNER
        self._open: list[tuple[int, list[PartitionLog]]] = []
        life, time = config.lifecycle, config.time
        self._thresholds = (
            *(time.session_gap_ms, time.visit_gap_ms, life.at_risk_min_ms, life.at_risk_default_ms),
            *(life.at_risk_max_ms, life.dormant_after_ms, life.churned_after_ms),
        )
        self._silences = (life.at_risk_max_ms, life.dormant_after_ms, life.churned_after_ms)

    def burst(self, records_max: int = BURST_RECORDS_MAX) -> None:
        """Write some of the records that are left."""
        self.settle()
        count = min(self.left, self._chance.randint(1, records_max))
        self.left -= count
        if self._strikes("silence"):
            self._clock.jump(self._chance.choice(self._silences))
        records = [self._record() for _ in range(count)]
        records += [self._chance.choice(records) for _ in records if self._strikes("repeated")]
        if len(records) > 1 and self._strikes("reordered"):
            self._chance.shuffle(records)
        self._write(records)

    def night(self, users: int) -> None:
        """Let every partition see someone for the last time today, and hours pass."""
        self.left += users
        self.burst(users)
        self._clock.jump(self._chance.choice(self._silences))

    def settle(self) -> None:
        """End the transactions that are open."""
        for owner, logs in self._open:
            committed = self._chance.random() < 0.7
            self.written["aborted"] += not committed
            for log in logs:
                log.decide(owner, committed)
        self._open.clear()

    def _strikes(self, quirk: str) -> bool:
        rate = self._quirks.get(quirk)
        if rate is None or self._chance.random() >= rate:
            return False
        self.written[quirk] += 1
        return True

    def _write(self, records: Sequence[Record]) -> None:
        owner = NO_OWNER
        self.written["records"] += len(records)
        if self._strikes("transactional"):
            self._owner += 1
            owner = self._owner
            logs = [self._logs[p] for p in sorted({record.partition for record in records})]
            self._open.append((owner, logs))
        for record in records:
            log = self._logs[record.partition]
            log.append(owner, record.key, record.value, record.timestamp_ms, None)
        if self._open and self._chance.random() < 0.5:
            self.settle()

    def _record(self) -> Record:
        user = self._chance.choice(self._users)
        time_ms = self._time(user)
        kind = self._chance.choice(self._kinds)
        event: dict[str, object] = {"user_id": user, "event_type": kind, "event_time": time_ms}
        if self._chance.random() < 0.8:
            event["item_id"] = self._item()
        if self._chance.random() < 0.6:
            self._ids += 1
            event["event_id"] = f"e{self._ids}"
        if kind == "buy" and self._chance.random() < 0.8:
            event["value"] = self._chance.choice((1, 9.5, 0.1, -3))
        stamp_ms = time_ms + self._chance.choice((0, 5, 1_000, 60_000))
        if self._strikes("bad"):
            return self._spoil(user, event, stamp_ms)
        key = user.encode()
        return Record(partition_of(key, len(self._logs)), key, msgspec.json.encode(event), stamp_ms)

    def _item(self) -> str:
        if self._strikes("poison"):
            return POISON_ITEM
        return self._chance.choice((*ITEMS, f"new-{self._chance.randrange(5)}"))

    def _time(self, user: str) -> int:
        """Draw an event time and let the wall clock follow it."""
        now_ms = self._clock.now_ms()
        last_ms = self._last_ms.get(user)
        if last_ms is not None and self._chance.random() < 0.3:
            self.written["threshold"] += 1
            time_ms = last_ms + self._chance.choice(self._thresholds) + self._chance.randint(-1, 1)
            time_ms = min(time_ms, now_ms + self._config.lifecycle.at_risk_min_ms)
        elif self._strikes("late"):
            time_ms = now_ms - self._chance.choice((60_001, 3_600_000, 4 * 3_600_000, 3 * 86_400_000))
        else:
            time_ms = now_ms + self._chance.choice(GAPS_MS)
        if time_ms > now_ms:
            self._clock.jump(time_ms - now_ms)
        self._last_ms[user] = max(time_ms, last_ms or time_ms)
        return time_ms

    def _spoil(self, user: str, event: dict[str, object], stamp_ms: int) -> Record:
        """Make a dead letter of an event, one of several reasons."""
        key = user.encode()
        partition = partition_of(key, len(self._logs))
        future_ms = self._config.time.future_max_ms
        spoilers: Sequence[Callable[[], Record]] = (
            lambda: Record(partition, key, b"{", stamp_ms),
            lambda: Record(partition, key, b"", stamp_ms),
            lambda: Record(partition, key, b'{"user_id": "%b"}' % key, stamp_ms),
            lambda: Record(partition, None, msgspec.json.encode(event), stamp_ms),
            lambda: Record(
                partition,
                key,
                msgspec.json.encode(event | {"event_time": stamp_ms + future_ms + 1}),
                stamp_ms,
            ),
            lambda: Record(partition, key, msgspec.json.encode(event | {"event_type": "sneeze"}), stamp_ms),
        )
        return self._chance.choice(spoilers)()
