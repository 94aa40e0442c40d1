"""Idle partitions: when event time may follow the wall clock although nothing arrives.

Event time stands still when nothing arrives, and silent users would never be found in a quiet night. So a
partition that is read to its end and silent moves its watermark by the wall clock, if a deadline would fall
due. It must not disturb a backfill (its last event was not live), nor turn everyone into a churner because
something upstream is down (`alerts_share_per_hour_max` stops it). A step enters the core only through the
journal, so that a replay gives the same outputs.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from stream.config import Config
from stream.core.events import NEVER
from stream.core.rules import HOUR_MS
from stream.engine import Partition
from stream.log import log

#: How often a silent partition is looked at.
LOOK_EVERY_S: Final = 1.0


class Idle:
    """Decides the idle steps of one partition."""

    def __init__(self, config: Config, place: str) -> None:
        self._idle_after_ms = config.time.idle_after_ms
        self._advance_max_ms = config.time.idle_advance_max_ms
        self._out_of_order_ms = config.time.out_of_order_max_ms
        self._share_max = config.worker.alerts_share_per_hour_max
        self._place = place
        self._alerts: deque[tuple[int, int]] = deque()  # (wall clock, alerts opened then)
        self._stopped = False
        self._looked_ms = NEVER

    def due(self, partition: Partition, silent_since_ms: int, now_ms: int) -> int | None:
        """Return the watermark to step to, None if no step is due. It asks for no network."""
        if now_ms - silent_since_ms < self._idle_after_ms or not partition.last_event_live:
            return None
        if self._looked_ms <= now_ms < self._looked_ms + int(LOOK_EVERY_S * 1000):
            return None
        self._looked_ms = now_ms
        clock = partition.table.clock[0]
        if clock.event_time_max == NEVER:
            return None
        watermark = min(now_ms - self._out_of_order_ms, int(clock.event_time_max) + self._advance_max_ms)
        first = partition.table.first_deadline
        if watermark <= clock.watermark or first is None or first > watermark:
            return None
        return None if self._too_many(partition, now_ms) else watermark

    def alerted(self, alerts: int, now_ms: int) -> None:
        """Note how many users an idle step alerted."""
        if alerts:
            self._alerts.append((now_ms, alerts))

    def _too_many(self, partition: Partition, now_ms: int) -> bool:
        """Whether the share of users alerted within the hour has reached its limit."""
        while self._alerts and self._alerts[0][0] <= now_ms - HOUR_MS:
            self._alerts.popleft()
        alerted = sum(n for _, n in self._alerts)
        too_many = alerted > self._share_max * max(1, len(partition.table))
        if too_many and not self._stopped:
            log.warning(
                "%s: idle steps stop for now, %d of %d users were alerted within an hour "
                "(worker.alerts_share_per_hour_max); is something upstream down?",
                self._place,
                alerted,
                len(partition.table),
            )
        self._stopped = too_many
        return too_many
