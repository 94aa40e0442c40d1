"""A worker's share: one assigned partition, from its restore to its last commit.

It holds the partition's engine, how far it has come, and what the next commit has to say. The commit record
and the rolling snapshot go into the same transaction as the outputs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from stream import idle, journal
from stream.broker import Broker, CommittedOffset, Source
from stream.catch_up import find_slot
from stream.checkpoint import Checkpoints
from stream.clock import Clock
from stream.commits import Commits
from stream.config import Config
from stream.core.forget import forget_until
from stream.core.table import Savepoint
from stream.core.users import NO_SLOT
from stream.engine import Slice
from stream.errors import InvariantError, RetriableError, StateError
from stream.partitioner import partition_of
from stream.phases import Act, Happening, Passage, Phase
from stream.records import Output, RecordBatch
from stream.restore import Restore
from stream.workshop import Workshop

#: Records that a restore reads before other partitions have their turn.
RESTORE_RECORDS: Final = 10_000
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
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.partition, self._checkpoints = partition, checkpoints
        self.engine = workshop.partition(source.topic, partition, undo=True, snapshots=True, clock=clock)
        self.engine.tested = workshop.tested
        self.next_offset = 0
        self.committed_offset = 0
        self.lag = 0
        self._folded = False  # since the last commit
        self._begun = False  # what the last commit cut short is finished
        self._passage = Passage(f"{source.topic}-{partition}")
        self._config, self._broker, self._source, self._clock = config, broker, source, clock
        self._workshop = workshop
        self._restore: Restore | None = None
        self._commits: Commits | None = None
        self._idle = idle.Idle(config, f"{source.topic}-{partition}")
        self._silent_since_ms = clock.now_ms()
        self._savepoint: Savepoint = self.engine.table.savepoint()
        self._prepared = 0, self._savepoint  # the next offset and the table as of the commit that is made

    @property
    def phase(self) -> Phase:
        return self._passage.phase

    @property
    def progress(self) -> str:
        """How far the restore is, in words."""
        return str(self._restore.progress) if self._restore else "waiting for its turn"

    @property
    def waiting(self) -> bool:
        """Whether the restore can do nothing before some time has passed."""
        return self._restore is not None and self._restore.waiting

    @property
    def changed(self) -> bool:
        """Whether there is anything to commit: records that were folded, rows that no snapshot holds, or the
        moment of the first start.
        """
        commits = self._commits
        if commits is not None and commits.changing and not self._begun:
            return False  # what changed with the config takes effect first
        return self._folded or (commits is not None and (commits.owing or self.is_new))

    @property
    def is_new(self) -> bool:
        """Whether nobody has ever committed here: the moment of the first start is not written down yet."""
        return self._commits is not None and self._commits.n == 0

    @property
    def owed(self) -> int:
        """Rows that no snapshot holds: until they are written, a restore must replay the log behind them."""
        return int(self.engine.table.users.counts[0].dirty)

    @property
    def commits(self) -> int:
        """How many commits there were."""
        return 0 if self._commits is None else self._commits.n

    @property
    def undo_is_full(self) -> bool:
        return int(self.engine.table.users.counts[0].undo) >= UNDO_ROWS_MAX

    def restore_some(self) -> bool:
        """Take a step of the restore; return whether the partition is live now.

        Raises RetriableError, and StateError if committed state and log do not fit together. After that the
        share is of no use any more.
        """
        self._passage.expect(Act.RESTORE)
        if self._restore is None:
            self._restore = self._new_restore()
        restored = self._restore.step(RESTORE_RECORDS)
        if self._restore.loaded and self.phase is Phase.RESTORING:
            self._passage.move(Happening.LOADED)
        standing = self._restore.standing
        if not restored or standing is None:
            return False
        self._passage.move(Happening.CAUGHT_UP)
        self._commits = Commits(self.engine, self._workshop.format, standing)
        self.next_offset = self.committed_offset = standing.offset
        self._folded = not standing.known  # the group hears of it with the next commit
        self.engine.table.commit()
        self._savepoint = self.engine.table.savepoint()
        return True

    @property
    def is_outdated(self) -> bool:
        """Whether somebody else may have committed since this share did, or since its restore began.

        So it is if the process stood still meanwhile, lost the partition, and was not told yet.
        """
        if self._restore is None:
            return False
        try:
            committed = self._source.committed([self.partition])[self.partition]
        except RetriableError:
            return True
        if self._commits is None:
            return committed != self._restore.committed
        return (committed.offset if committed else 0) != self.committed_offset

    def _new_restore(self) -> Restore:
        topic = self._source.topic
        admin = self._broker.admin()
        try:
            found = admin.describe([topic])[topic]
        finally:
            admin.close()
        if found is None:
            raise StateError(f"the topic {topic} is gone", remedy="create it with `ebbtide topics --create`")
        return Restore(
            self.engine,
            self._workshop.format,
            self._config,
            self._broker,
            self._source,
            self._clock,
            partitions=found.partitions,
            checkpoints=self._checkpoints,
        )

    def begin(self) -> Iterator[Slice]:
        """Finish what the last commit cut short, before the first record after it; once."""
        if self.phase is Phase.LIVE and not self._begun:
            self._begun = True
            yield from self._note(self._live.begin())

    def apply(self, records: RecordBatch) -> Iterator[Slice]:
        """Fold records; every slice leaves the share ready for a commit."""
        self._passage.expect(Act.FOLD)
        self._silent_since_ms = self._clock.now_ms()
        yield from self.begin()
        yield from self._note(self.engine.apply(records))

    def advance_idle(self, source: Source, clock: Clock) -> Iterator[Slice]:
        """Let event time follow the wall clock if the partition is silent and a deadline is due."""
        if self.phase is not Phase.LIVE:
            return
        now_ms = clock.now_ms()
        watermark = self._idle.due(self.engine, self._silent_since_ms, now_ms)
        if watermark is None or not self._is_read_to_its_end(source):
            return
        yield from self.begin()
        for part in self._note(self._live.apply(journal.Idle(self.next_offset, watermark))):
            self._idle.alerted(part.tally.alerts["opened"], now_ms)
            yield part

    @property
    def obeyed(self) -> int | None:
        """The offset of the control topic up to which commands are obeyed; None while it is not live."""
        return self._commits.control if self._commits and self.phase is Phase.LIVE else None

    def pass_command(self, offset: int) -> None:
        """Commands of the control topic before this offset need not be looked at again."""
        if self._commits is not None:
            self._commits.control = max(self._commits.control, offset)

    def answers_for(self, user_id: str) -> bool:
        """Whether the user's row is here, or would be if there was one."""
        user = user_id.encode()
        here = partition_of(user, self._live.partitions) == self.partition
        return here or find_slot(self.engine, user) != NO_SLOT

    def erase(self, user_id: str) -> Iterator[Slice]:
        """Remove a user before the next record, by an entry of the journal."""
        yield from self.begin()
        yield from self._note(self._live.apply(journal.Erase(self.next_offset, user_id)))

    def _is_read_to_its_end(self, source: Source) -> bool:
        """Ask anew where the log ends. A log may end with markers, which the position has moved over."""
        try:
            end = source.end_offsets([self.partition])[self.partition]
        except RetriableError:
            return False  # it is asked again soon
        return source.position(self.partition) >= end

    def _note(self, parts: Iterator[Slice]) -> Iterator[Slice]:
        for part in parts:
            self.next_offset = part.next_offset
            self._folded = True
            yield part

    @property
    def _live(self) -> Commits:
        if self._commits is None:
            raise InvariantError("the partition is not restored", place=f"partition {self.partition}")
        return self._commits

    def prepare_commit(self, rows_max: int) -> tuple[list[Output], CommittedOffset]:
        """Return what joins the transaction: snapshot rows, the commit record, and the offset.

        More may be folded before the commit is confirmed; it is not part of it.
        """
        self._passage.expect(Act.COMMIT)
        prepared = self._live.prepare(self.next_offset, rows_max)
        self._prepared = self.next_offset, self.engine.table.savepoint()
        self._folded = False
        return prepared

    def confirm_commit(self) -> None:
        """The transaction is committed: forget the way back to before it."""
        self._live.confirm()
        self.committed_offset, savepoint = self._prepared
        self._savepoint = forget_until(self.engine.table, savepoint)

    def undo(self) -> None:
        """The transaction is aborted: put every row back as it was at the last commit."""
        self._live.cancel()
        self._begun = False
        self.engine.table.rollback(self._savepoint)
        self.next_offset = self.committed_offset
        self._folded = False

    def save(self, end: int | None) -> Iterator[None]:
        """Leave a checkpoint in some steps, if all that is here is committed and written.

        end: where `user_state` ended before the last commit, which proved that nobody else had written until
        then; None if there was none, and the file ends where the restore did.
        """
        restore, commits = self._restore, self._commits
        if self._checkpoints is None or restore is None or commits is None or not restore.topic_id:
            return
        if not commits.whole or self._folded:
            return
        table = self.engine.table
        yield from self._checkpoints.write(
            table,
            self._workshop.format,
            commits.last_words(),
            partition=self.partition,
            n=commits.n,
            position=restore.position if end is None else end,
            topic_id=restore.topic_id,
            through=int(table.clock[0].applied),
        )

    def close(self) -> None:
        """Let go of the rows."""
        if self._restore is not None:
            self._restore.close()
        if self.phase is not Phase.GONE:
            self._passage.move(Happening.LOST)
