"""What brokers do to old records: retention drops the head of a log, the cleaner drops what was replaced.

Neither may take what a restore still needs. A commit record says what that is: the events from its floor on,
the journal from `journal_start` on, and of each key of `user_state` the last record.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from stream.commits import Commit, read_commit
from stream.config import Config
from stream.snapshot import COMMIT_KEY
from stream.testing import MemoryBroker

ALL: Final = 1 << 60


class Cleaner:
    """Cleans the logs of one broker. `keep` is called before anything is dropped: the truth needs it all."""

    def __init__(
        self, chance: random.Random, config: Config, broker: MemoryBroker, keep: Callable[[], None]
    ) -> None:
        self._chance, self._topics, self._broker, self._keep = chance, config.topics, broker, keep

    def trim(self) -> bool:
        """Drop records that no restore needs any more; return whether there were any."""
        self._keep()
        dropped = False
        for log in self._broker.topic(self._topics.events).logs:
            commit = self._last_commit(log.partition)
            if commit is None:
                continue
            dropped |= self._truncate(self._topics.events, log.partition, commit.floor.offset)
            dropped |= self._truncate(self._topics.journal, log.partition, commit.journal_start)
        return dropped

    def compact(self, *, drop_nulls: bool) -> bool:
        """Drop rows and commit records that later ones replace; return whether there were any.

        drop_nulls: nulls go, too. A reader that is under way would miss them, which `delete.retention.ms` is
        there to prevent, so it must be one at a time: clean or read.
        """
        before, after = 0, 0
        for log in self._broker.topic(self._topics.user_state).logs:
            before += len(log.read(log.start, ALL)[0].offsets)
            log.compact(self._chance.randint(log.start, log.end), keep_nulls=not drop_nulls)
            after += len(log.read(log.start, ALL)[0].offsets)
        return after < before

    def _truncate(self, topic: str, partition: int, needed: int) -> bool:
        log = self._broker.log(topic, partition)
        start = log.start
        log.truncate(self._chance.choice((needed, self._chance.randint(start, max(start, needed)))))
        return log.start > start

    def _last_commit(self, partition: int) -> Commit | None:
        """Return the newest commit record that is visible: its transaction is committed."""
        log = self._broker.log(self._topics.user_state, partition)
        batch, _ = log.read(log.start, ALL)
        values = [v for key, v in zip(batch.keys, batch.values, strict=True) if key == COMMIT_KEY]
        return read_commit(values[-1], place="user_state") if values else None
