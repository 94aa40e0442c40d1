"""The transaction coordinator of the in-memory broker, as strict as Kafka's.

A transactional id has one producer at a time: opening a new one raises the epoch, aborts what the old one had
open, and whatever the old one still sends is refused. A transaction that is open for too long is aborted and
its producer fenced in the same way.

To end a transaction the coordinator writes markers, one into every partition it touched and one for every
group. They may arrive late, each on its own. Until the last has, the id begins nothing new; a reader of one
partition may see the transaction while a reader of another does not.

An end carries the producer's epoch and no more: one that was delayed on its way ends whatever transaction
that epoch has open when it arrives. (KIP-890 repairs this with an epoch for every transaction; librdkafka
does not speak that yet.) It is the reason why a producer that timed out must never be used again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from stream.errors import FencedError
from stream.testing_faults import FaultPlan
from stream.testing_group import Group
from stream.testing_log import NO_OWNER, PartitionLog


class Timeline(Protocol):
    """What the coordinator needs of the broker: things that happen later, and waiting for them."""

    def later(self, delay_ms: float, happen: Callable[[], None]) -> None: ...

    def wait_until(self, reached: Callable[[], bool]) -> None: ...


class Producer:
    """What the coordinator knows of one transactional id."""

    __slots__ = ("epoch", "groups", "id", "logs", "markers_due", "owner", "timeout_ms")

    def __init__(self, transactional_id: str) -> None:
        self.id = transactional_id
        self.epoch = -1
        self.timeout_ms = 0.0
        #: The open transaction's number, or NO_OWNER. Numbers are never used twice.
        self.owner = NO_OWNER
        self.logs: list[PartitionLog] = []
        self.groups: list[Group] = []
        self.markers_due = 0


class Transactions:
    """Every transactional id of the broker."""

    def __init__(self, timeline: Timeline, plan: FaultPlan | None, sweep_ms: float) -> None:
        self._timeline = timeline
        self._plan = plan
        self._sweep_ms = sweep_ms
        self._producers: dict[str, Producer] = {}
        self._owners = NO_OWNER

    def open(self, transactional_id: str, timeout_ms: float) -> tuple[Producer, int]:
        """Fence the id's older producer, end its transaction, and return the new epoch."""
        producer = self._producers.setdefault(transactional_id, Producer(transactional_id))
        self._fence(producer)
        producer.timeout_ms = timeout_ms
        epoch = producer.epoch
        self._timeline.wait_until(lambda: producer.markers_due == 0)
        self.check(producer, epoch)  # someone else may have opened it meanwhile
        return producer, epoch

    def check(self, producer: Producer, epoch: int) -> None:
        """Raise FencedError if this epoch is not the id's present one."""
        if producer.epoch != epoch:
            raise FencedError(
                f"epoch {epoch} of the producer is fenced by epoch {producer.epoch}",
                place=f"transactional id {producer.id}",
            )

    def owner(self, producer: Producer, epoch: int) -> int:
        """Return the number of the open transaction; begins one if there is none. Raises FencedError."""
        self.check(producer, epoch)
        if producer.owner == NO_OWNER:
            self._timeline.wait_until(lambda: producer.markers_due == 0)
            self.check(producer, epoch)  # the wait may have been long
            self._owners += 1
            producer.owner = owner = self._owners
            self._timeline.later(producer.timeout_ms + self._sweep_ms, lambda: self._expire(producer, owner))
        return producer.owner

    def touch(self, producer: Producer, log: PartitionLog) -> None:
        """The open transaction will write here."""
        producer.logs.append(log)

    def touch_group(self, producer: Producer, group: Group) -> None:
        """The open transaction will commit offsets here."""
        if group not in producer.groups:
            producer.groups.append(group)

    def end(self, producer: Producer, epoch: int, committed: bool) -> None:
        """End the open transaction, if there is one. Raises FencedError."""
        self.check(producer, epoch)
        self._write_markers(producer, committed)

    def end_late(self, producer: Producer, epoch: int, committed: bool) -> None:
        """End what is open now, if the epoch still holds; there is nobody to tell if it does not."""
        if producer.epoch == epoch:
            self._write_markers(producer, committed)

    def expire(self, producer: Producer) -> None:
        """Do what the timeout does: abort what is open, and fence its producer."""
        self._fence(producer)

    def _expire(self, producer: Producer, owner: int) -> None:
        if producer.owner == owner:
            self._fence(producer)

    def _fence(self, producer: Producer) -> None:
        producer.epoch += 1
        self._write_markers(producer, committed=False)

    def _write_markers(self, producer: Producer, committed: bool) -> None:
        owner, producer.owner = producer.owner, NO_OWNER
        for log in producer.logs:
            self._write_marker(producer, "marker_late", log, owner, committed)
        for group in producer.groups:
            self._write_marker(producer, "offsets_late", group, owner, committed)
        producer.logs, producer.groups = [], []

    def _write_marker(
        self, producer: Producer, fault: str, target: PartitionLog | Group, owner: int, committed: bool
    ) -> None:
        if self._plan is None or not self._plan.strikes(fault, "marker"):
            target.decide(owner, committed)
            return

        def arrive() -> None:
            target.decide(owner, committed)
            producer.markers_due -= 1

        producer.markers_due += 1
        self._timeline.later(self._plan.delay_ms(), arrive)
