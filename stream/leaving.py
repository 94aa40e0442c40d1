"""Partitions that leave in good order: their last commits, and the checkpoint that each leaves behind.

The checkpoint is written when the partition is gone already, a few rows a turn, so that nobody waits for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from stream.broker import Broker
from stream.checkpoint import Checkpoints
from stream.clock import Clock
from stream.config import Config
from stream.drain import drain
from stream.errors import RetriableError
from stream.share import Share


class Before(NamedTuple):
    """How it was before the last commits: how many there were, and where `user_state` ended."""

    commits: dict[int, int]
    ends: dict[int, int]


class Leaving:
    """Writes checkpoints of one worker's partitions if the config names a folder for them."""

    def __init__(self, config: Config, broker: Broker, clock: Clock) -> None:
        folder = config.worker.checkpoint_dir
        self.checkpoints = None if folder is None else Checkpoints(folder, config, clock)
        self._topic, self._broker, self._clock = config.topics.user_state, broker, clock
        #: At least once nobody fences a second worker, and the topic may say more than the table.
        self._on = self.checkpoints is not None and config.worker.guarantee == "exactly-once"
        self._writing: dict[int, Iterator[None]] = {}

    def drain(self, shares: Sequence[Share], commit: Callable[[], None]) -> None:
        """Commit until no row waits to be written, so that whoever comes next has nothing to replay.

        No commit may be on its way.
        """
        looked = self._look(shares)
        drain(commit, shares, self._clock)
        self._leave(shares, looked)

    @property
    def busy(self) -> bool:
        """Whether tables are still being written: the items that they name must keep their numbers."""
        return bool(self._writing)

    def _look(self, shares: Sequence[Share]) -> Before:
        """Note how it is before the last commits of partitions that leave; none may be on its way.

        A commit that succeeds later proves that nobody else has written until now: what lies before the end
        that is seen here is in the table.
        """
        commits = {share.partition: share.commits for share in shares}
        if not self._on or not shares:
            return Before(commits, {})
        admin = self._broker.admin()
        try:
            found = admin.ranges(self._topic, list(commits))
        except RetriableError:
            found = {}
        finally:
            admin.close()
        return Before(commits, {partition: kept.end for partition, kept in found.items()})

    def _leave(self, shares: Sequence[Share], before: Before) -> None:
        """Begin to write what the partitions are after their last commits."""
        for share in shares if self._on else ():
            committed = share.commits > before.commits[share.partition]
            end = before.ends.get(share.partition) if committed else None
            self._writing[share.partition] = share.save(end)

    def step(self) -> bool:
        """Write some rows; return whether there were any to write."""
        for partition, steps in list(self._writing.items()):
            if next(steps, self) is not self:
                return True
            del self._writing[partition]
        return False

    def finish(self, *, write: bool) -> None:
        """Write all that is begun, or nothing more of it."""
        while write and self.step():
            pass

    def come_back(self, partition: int) -> None:
        """The partition is this worker's again, and will leave another file."""
        self._writing.pop(partition, None)

    def forget(self) -> None:
        """A user is erased: no file may keep the row, whichever partition it is of."""
        self._writing.clear()
        if self.checkpoints is not None:
            self.checkpoints.forget()
