"""The in-memory broker: topics, groups, transactions, and what happens to them as time passes.

It is reached through a `MemoryClient`, one for each process that takes part. Time is the clock's: late
markers, timed-out transactions and silent members happen when it has come that far, at the next call of any
client. A wait lets the clock go on to the next of these, so under a `VirtualClock` nothing ever takes long.

One lock guards all of it; a wait gives it up, so that under the system's clock threads may share a broker.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Final

from stream.broker import Topic
from stream.clock import Clock, SystemClock
from stream.errors import BrokerError, InvariantError
from stream.testing_faults import FaultPlan
from stream.testing_group import Group
from stream.testing_log import PartitionLog
from stream.testing_transactions import Transactions

#: A topic's settings unless it says otherwise: those of Kafka 4 that are enforced or looked at here.
TOPIC_DEFAULTS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "max.message.bytes": "1048588",
    "message.timestamp.after.max.ms": "3600000",
    "message.timestamp.type": "CreateTime",
    "retention.bytes": "-1",
    "retention.ms": "604800000",
}


class MemoryTopic:
    """A topic's settings and logs."""

    def __init__(self, topic: Topic, number: int) -> None:
        self.name = topic.name
        self.id = f"{topic.name}-{number}"
        self.logs = [PartitionLog(topic.name, partition) for partition in range(topic.partitions)]
        self.configs: dict[str, str] = {}
        self.configure({**TOPIC_DEFAULTS, **topic.configs})

    def configure(self, configs: Mapping[str, str]) -> None:
        self.configs.update(configs)
        self.message_bytes_max = int(self.configs["max.message.bytes"])
        self.log_append_time = self.configs["message.timestamp.type"] == "LogAppendTime"
        self.ahead_ms_max = int(self.configs["message.timestamp.after.max.ms"])

    def stamp(self, timestamp_ms: int | None, now_ms: int) -> int:
        """Return the time that the broker stores. Raises BrokerError if it lies too far ahead."""
        if self.log_append_time or timestamp_ms is None:
            return now_ms
        if timestamp_ms > now_ms + self.ahead_ms_max:
            raise BrokerError(
                f"a timestamp lies {timestamp_ms - now_ms} ms ahead of the broker's clock", place=self.name
            )
        return timestamp_ms


class MemoryBroker:
    """A broker within the process. The timeouts are Kafka's defaults."""

    def __init__(
        self,
        clock: Clock | None = None,
        plan: FaultPlan | None = None,
        *,
        session_timeout_ms: float = 45_000.0,
        poll_interval_ms_max: float = 300_000.0,
        transaction_sweep_ms: float = 10_000.0,
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.plan = plan
        self.lock = threading.Condition()
        self.transactions = Transactions(self, plan, transaction_sweep_ms)
        self._session_timeout_ms = session_timeout_ms
        self._poll_interval_ms_max = poll_interval_ms_max
        self._topics: dict[str, MemoryTopic] = {}
        self._groups: dict[str, Group] = {}
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    # Topics and groups

    def create_topic(self, name: str, partitions: int, configs: Mapping[str, str] | None = None) -> None:
        """Create a topic; one that exists already is left as it is."""
        with self.lock:
            if name not in self._topics:
                self._topics[name] = MemoryTopic(
                    Topic(name, partitions, configs=configs or {}), next(self._order)
                )

    def find_topic(self, name: str) -> MemoryTopic | None:
        return self._topics.get(name)

    def topic(self, name: str) -> MemoryTopic:
        """Return a topic. Raises BrokerError if there is none of that name."""
        topic = self._topics.get(name)
        if topic is None:
            raise BrokerError(
                "there is no such topic", place=name, remedy="create it: `ebbtide topics --create`"
            )
        return topic

    def log(self, name: str, partition: int) -> PartitionLog:
        """Return one partition of a topic. Raises BrokerError if there is none."""
        logs = self.topic(name).logs
        if not 0 <= partition < len(logs):
            raise BrokerError(f"there is no partition {partition} among {len(logs)}", place=name)
        return logs[partition]

    def group(self, group_id: str, topic: str) -> Group:
        """Return the group that reads a topic; it exists as soon as it is asked for."""
        group = self._groups.get(group_id)
        if group is None:
            group = self._groups[group_id] = Group(group_id, len(self.topic(topic).logs))
        return group

    def groups(self) -> Iterator[Group]:
        yield from self._groups.values()

    # Time

    def elapsed_ms(self) -> float:
        return self.clock.monotonic_s() * 1000.0

    def later(self, delay_ms: float, happen: Callable[[], None]) -> None:
        """Let something happen when so much time has passed."""
        heapq.heappush(self._due, (self.elapsed_ms() + delay_ms, next(self._order), happen))

    def tick(self) -> None:
        """Let happen what is due by now."""
        now_ms = self.elapsed_ms()
        while self._due and self._due[0][0] <= now_ms:
            heapq.heappop(self._due)[2]()
        for group in self._groups.values():
            for member in list(group.members.values()):
                limit_ms = self._session_timeout_ms if member.frozen else self._poll_interval_ms_max
                if now_ms - member.heard_ms > limit_ms:
                    group.leave(member.id)

    def wait_for(self, reached: Callable[[], bool], timeout_s: float) -> None:
        """Let time pass until something is reached, at most so long. The caller holds the lock."""
        deadline_ms = self.elapsed_ms() + timeout_s * 1000.0
        while not reached():
            next_ms = min(deadline_ms, self._due[0][0]) if self._due else deadline_ms
            if math.isinf(next_ms):
                raise InvariantError("the in-memory broker waits for what nothing will bring about")
            left_ms = next_ms - self.elapsed_ms()
            if left_ms > 0.0:
                self.clock.wait(self.lock, left_ms / 1000.0)
            self.tick()
            if self.elapsed_ms() >= deadline_ms:
                return

    def wait_until(self, reached: Callable[[], bool]) -> None:
        """Let time pass until something is reached that scheduled events bring about."""
        self.wait_for(reached, math.inf)
