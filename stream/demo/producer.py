"""The demo's producer: publishes the year to the events topic, at full speed or at so many days a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from threading import Event
from typing import Final

from stream.broker import Broker
from stream.demo.journey import Sent

#: Records handed to the client at a time.
RECORDS_MAX: Final = 2_000
#: How long to wait when nothing is due yet.
PAUSE_S: Final = 0.05
#: The pace counts from New Year 2017, 05:00 UTC; the mailings of the year before are sent at once.
NEW_YEAR_MS: Final = 1_483_246_800_000
DAY_MS: Final = 86_400_000


class Producer:
    """Sends `records` in order; `days_per_s` None means as fast as the broker takes them."""

    def __init__(self, broker: Broker, topic: str, records: Sequence[Sent], days_per_s: float | None) -> None:
        self._publisher = broker.publisher()
        self._topic, self._records, self._days_per_s = topic, records, days_per_s
        self._leave = Event()
        self.sent = 0

    @property
    def done(self) -> bool:
        return self.sent == len(self._records)

    def run(self) -> None:
        """Send until all is sent or `leave` is called."""
        started_s = time.monotonic()
        while not self.done and not self._leave.is_set():
            part = self._due(time.monotonic() - started_s)
            if not part:
                self._leave.wait(PAUSE_S)
                continue
            self._publisher.publish(self._topic, [r.key for r in part], [r.value for r in part])
            self._publisher.flush()
            self.sent += len(part)
        self._publisher.close()

    def leave(self) -> None:
        """Stop sending; may be called from another thread."""
        self._leave.set()

    def _due(self, passed_s: float) -> Sequence[Sent]:
        ahead = self._records[self.sent : self.sent + RECORDS_MAX]
        if self._days_per_s is None:
            return ahead
        now_ms = NEW_YEAR_MS + passed_s * self._days_per_s * DAY_MS
        return [record for record in ahead if record.at_ms <= now_ms]
