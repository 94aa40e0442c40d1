"""The pace of commits: when one is due, how many rows it writes, and how long a poll may wait for it."""

from __future__ import annotations

from collections.abc import Collection

from stream.clock import Clock
from stream.config import Config
from stream.share import Share


class Pace:
    """Counts from the last commit that began."""

    def __init__(self, config: Config, clock: Clock) -> None:
        self._interval_s = config.worker.commit_interval_ms / 1000.0
        self._rows_max = config.worker.snapshot_rows_max
        self._exactly_once = config.worker.guarantee == "exactly-once"
        self._clock = clock
        self._began_s = clock.monotonic_s()

    def begin(self) -> None:
        """A commit begins now."""
        self._began_s = self._clock.monotonic_s()

    @property
    def elapsed_s(self) -> float:
        return self._clock.monotonic_s() - self._began_s

    @property
    def rows(self) -> int:
        """How many rows a commit writes now: a second's at most."""
        return int(self._rows_max * min(1.0, self.elapsed_s))

    def due(self, shares: Collection[Share], *, full: bool) -> bool:
        """Whether to commit. full: no more should be undone, or put into one transaction."""
        if not any(share.changed for share in shares):
            return False
        if not self._exactly_once and any(share.engine.ringing for share in shares):
            return False  # a row written within a storm does not say how far into it; only a transaction may
        return full or any(share.is_new for share in shares) or self.elapsed_s >= self._interval_s

    def wait_s(self, shares: Collection[Share], most_s: float) -> float:
        """How long to wait for records: no longer than to the next commit that has something to commit."""
        if not any(share.changed for share in shares):
            return most_s
        return max(0.0, min(most_s, self._interval_s - self.elapsed_s))
