"""When a worker takes in no more: too many users, or too many dead letters.

At `users_max` intake pauses, and `/readyz` says why; timers and idle steps go on, so that users who are
forgotten make room. A share of dead letters beyond its limit means a wrong deployment rather than wrong
records: the worker stops before it commits them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import Final

from stream.broker import Source
from stream.config import Config
from stream.engine import Tally
from stream.errors import StateError
from stream.log import log

#: The records over which the share of dead letters is taken; fewer are not judged.
JUDGED_RECORDS: Final = 10_000


class Intake:
    """Pauses the partitions of a worker while it holds as many users as it may."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.paused = False

    def hold(self, full: bool, live: Collection[int]) -> None:
        """Take in nothing of the live partitions while the worker is full, and go on when it is not."""
        if full == self.paused:
            return
        self.paused = full
        (self._source.pause if full else self._source.resume)(live)
        log.warning("intake %s at users_max", "pauses" if full else "goes on")


class DeadLetterShare:
    """Watches how many of the last records became dead letters."""

    def __init__(self, config: Config) -> None:
        self._share_max = config.worker.dead_letters_share_max
        self._slices: deque[tuple[int, int]] = deque()  # (records, dead letters)
        self._records = self._dead = 0

    def note(self, tally: Tally, place: str) -> None:
        """Count a slice. Raises StateError when the share is beyond its limit."""
        dead = tally.dead_letters.total()
        self._slices.append((tally.records_in, dead))
        self._records += tally.records_in
        self._dead += dead
        while self._slices and self._records - self._slices[0][0] >= JUDGED_RECORDS:
            records, gone = self._slices.popleft()
            self._records -= records
            self._dead -= gone
        if self._records >= JUDGED_RECORDS and self._dead > self._share_max * self._records:
            reasons = ", ".join(f"{reason} {n:,}" for reason, n in tally.dead_letters.most_common())
            raise StateError(
                f"{self._dead:,} of the last {self._records:,} records are dead letters (newest: {reasons})",
                place=place,
                remedy="they are not committed: compare [events] of the config with what producers "
                "send, or raise worker.dead_letters_share_max",
            )
