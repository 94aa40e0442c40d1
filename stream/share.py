"""A worker's share: one assigned partition, from its restore to its last commit.

It holds the partition's engine, how far it has come, and what the next commit has to say. The commit record
and the rolling snapshot go into the same transaction as the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stream.broker import Broker, CommittedOffset, Source
from stream.clock import Clock
from stream.config import Config
from stream.core.table import Savepoint
from stream.engine import Slice
from stream.idle import Idle
from stream.phases import Act, Happening, Passage, Phase
from stream.records import Output, RecordBatch
from stream.workshop import Workshop

#: Rows copied for undo that make a commit come ahead of its interval: some 350 MB at 1.7 KB a row.
UNDO_ROWS_MAX: Final = 200_000


class Share:
    """One assigned partition. `next_offset` is the first record that is not folded yet."""

    def __init__(
        self,
        config: Config,
        workshop: Workshop,
        broker: Broker,
        source: Source,
        partition: int,
        clock: Clock,
    ) -> None:
        self.partition = partition
        self.engine = workshop.partition(source.topic, partition, undo=True, snapshots=True, clock=clock)
        self.next_offset = 0
        self.committed_offset = 0
        self.lag = 0
        self.changed = False
        self._passage = Passage(f"{source.topic}-{partition}")
        self._config, self._broker, self._source, self._clock = config, broker, source, clock
        self._idle = Idle(config, f"{source.topic}-{partition}")
        self._silent_since_ms = clock.now_ms()
        self._savepoint: Savepoint = self.engine.table.savepoint()

    @property
    def phase(self) -> Phase:
        return self._passage.phase

    @property
    def progress(self) -> str:
        """How far the restore is, in words."""
        return "reading the committed state"

    @property
    def undo_is_full(self) -> bool:
        return int(self.engine.table.users.counts[0].undo) >= UNDO_ROWS_MAX

    def restore_some(self) -> bool:
        """Take a step of the restore; return whether the partition is live now."""
        committed = self._source.committed([self.partition])[self.partition]
        admin = self._broker.admin()
        start = admin.ranges(self._source.topic, [self.partition])[self.partition].start
        admin.close()
        self.next_offset = self.committed_offset = start if committed is None else committed.offset
        self._passage.move(Happening.LOADED)
        self._passage.move(Happening.CAUGHT_UP)
        return True

    def apply(self, records: RecordBatch) -> Iterator[Slice]:
        """Fold records; every slice leaves the share ready for a commit."""
        self._passage.expect(Act.FOLD)
        self._silent_since_ms = self._clock.now_ms()
        for part in self.engine.apply(records):
            self.next_offset = part.next_offset
            self.changed = True
            yield part

    def advance_idle(self, source: Source, clock: Clock) -> Iterator[Slice]:
        """Let event time follow the wall clock if the partition is silent and a deadline is due."""
        if self.phase is not Phase.LIVE:
            return
        now_ms = clock.now_ms()
        watermark = self._idle.due(self.engine, self._silent_since_ms, now_ms)
        if watermark is None or source.end_offsets([self.partition])[self.partition] > self.next_offset:
            return
        for part in self.engine.advance(self.next_offset, watermark):
            self._idle.alerted(part.tally.alerts["opened"], now_ms)
            self.changed = True
            yield part

    def prepare_commit(self) -> tuple[list[Output], CommittedOffset]:
        """Return what joins the transaction: snapshot rows, the commit record, and the offset."""
        self._passage.expect(Act.COMMIT)
        return [], CommittedOffset(self.next_offset)

    def confirm_commit(self) -> None:
        """The transaction is committed: forget the way back."""
        self.engine.table.commit()
        self._savepoint = self.engine.table.savepoint()
        self.committed_offset = self.next_offset
        self.changed = False

    def undo(self) -> None:
        """The transaction is aborted: put every row back as it was at the last commit."""
        self.engine.table.rollback(self._savepoint)
        self.next_offset = self.committed_offset
        self.changed = False

    def close(self) -> None:
        """Let go of the rows."""
        if self.phase is not Phase.GONE:
            self._passage.move(Happening.LOST)
