"""Restore: one partition from its last commit to where it stood when that was made, in small steps.

    commit     ask the group for the offset X and the number n of the commit record
    rows       read the partition of `user_state` until record n is seen, and load the rows on the way
    journal    read the entries between the floor and X
    log        replay the log from the floor to X, without outputs (`catch_up.py`)

A commit returns before its markers have reached every partition: the end of `user_state` that is seen first
may lie before record n. The rows of a commit lie before its record. What lies behind record n the group did
not commit: someone wrote who did not own the partition any more, and it is not applied. At least once it is:
those rows were written when the outputs that they stand for were out, and say themselves what they hold.
"""

from __future__ import annotations

from typing import Final

from stream.broker import Broker, CommittedOffset, Source
from stream.catch_up import CatchUp
from stream.clock import Clock
from stream.commits import Commit, Point, Standing, Terms, read_clock, read_commit, read_metadata
from stream.config import Config
from stream.core import catching_up
from stream.engine import Partition
from stream.errors import StateError
from stream.journal import Entry, ModelChange, RulesChange, read_entry
from stream.reading import Progress, Reading, Steps
from stream.records import RecordBatch
from stream.snapshot import COMMIT_KEY, ROW_KEY
from stream.snapshot_format import SnapshotFormat

#: How long a commit record may stay unseen although the broker answers. Markers take milliseconds, or seconds
#: while a partition's leader is elected.
VISIBLE_S_MAX: Final = 60.0

_ANEW: Final = "or start anew with another group and other user_state and journal topics"


class Restore:
    """Restores one partition. Call `step` until it says that it is done; then `standing` is there.

    partitions: how many the events topic has. Raises StateError, with the remedy, if what was committed and
    what is there now do not fit together.
    """

    def __init__(
        self,
        partition: Partition,
        format: SnapshotFormat,
        config: Config,
        broker: Broker,
        source: Source,
        clock: Clock,
        *,
        partitions: int,
    ) -> None:
        self._partition, self._format, self._config = partition, format, config
        self._source, self._clock = source, clock
        self._reading = Reading(broker, clock, partition.partition)
        self._exactly_once = config.worker.guarantee == "exactly-once"
        bundle = None if partition.model is None else partition.model.version
        self._terms = Terms(config.kafka.group_id, partitions, format.layout, config.meaning, bundle)
        self._newest: Commit | None = None
        #: What the group had committed when the restore began.
        self.committed: CommittedOffset | None = None
        self._steps = self._run()
        #: The rows are loaded; what is left is the log.
        self.loaded = False
        self.standing: Standing | None = None
        #: The commit that is restored; none at the first start.
        self.commit: Commit | None = None

    def step(self, records_max: int) -> bool:
        """Read and apply at most so many records; return whether the partition is restored."""
        self._reading.records_max = records_max
        next(self._steps, None)
        return self.standing is not None

    @property
    def waiting(self) -> bool:
        """Whether the last step found nothing, and the next will not before some time has passed."""
        return self._reading.waiting

    @property
    def progress(self) -> Progress:
        return self._reading.progress

    def close(self) -> None:
        """Stop in the middle. Closing twice is allowed."""
        self._steps.close()

    def _run(self) -> Steps[None]:
        number, source = self._partition.partition, self._source
        committed = (yield from self._reading.ask(lambda: source.committed([number])))[number]
        self.committed = committed
        commit = yield from self._load(committed)
        self.loaded = True
        if commit is None:
            self.standing = yield from self._start()
            return
        self.commit = commit
        self._check(commit, committed)
        entries, journal_start = yield from self._read_journal(commit)
        yield from self._replay(commit, entries)
        self._partition.emit_from_ms = commit.emit_from_ms
        self._partition.last_event_live = commit.live
        self.standing = Standing(
            commit.at.offset,
            commit.n,
            commit.at.entries,
            journal_start,
            commit.emit_from_ms,
            commit.terms,
            (commit.floor,) if commit.at.ringing else (commit.floor, commit.at),
            self._changes(commit),
            commit.silent,
            commit.begun,
            commit.control,
            committed is not None and self._number(committed) == commit.n,
        )

    def _start(self) -> Steps[Standing]:
        """Nobody has committed yet: begin where the log begins, and note the moment for `emit_from`."""
        log = yield from self._reading.range(self._source.topic)
        journal = yield from self._reading.range(self._config.topics.journal)
        table, emit_from_ms = self._partition.table, self._config.worker.emit_from_ms
        table.reserve(0, 0, 0, timers=len(table))
        catching_up.wind_up(table.users)
        emit_from_ms = self._clock.now_ms() if emit_from_ms is None else emit_from_ms
        self._partition.emit_from_ms = emit_from_ms
        points = (Point(log.start, 0, read_clock(table.clock)),)
        return Standing(log.start, 0, 0, journal.end, emit_from_ms, self._terms, points, begun=log.start)

    # ----------------------------------------------------------------------------------------- the rows

    def _load(self, committed: CommittedOffset | None) -> Steps[Commit | None]:
        """Load the rows up to the record of the committed offset, and return the record."""
        n = None if committed is None else self._number(committed)
        topic = self._config.topics.user_state
        position = (yield from self._reading.range(topic)).start
        began_s = self._clock.monotonic_s()
        while True:
            looked_s = self._clock.monotonic_s()  # a process that stood still has not looked meanwhile
            position = yield from self._reading.records(
                "loading rows", topic, position, None, lambda batch: self._take_rows(batch, n)
            )
            newest = self._newest
            if n is None or (newest is not None and newest.n >= n):
                break
            if looked_s - began_s > VISIBLE_S_MAX:
                raise StateError(
                    f"the group committed with record {n}, which is not there after {VISIBLE_S_MAX:.0f} s",
                    place=self._place(topic),
                    remedy=f"see that the topic is the group's own and was not emptied, {_ANEW}",
                )
            yield from self._reading.wait()
        if self._exactly_once and newest is None and len(self._partition.table):
            raise StateError(
                "there are rows without a commit record",
                place=self._place(topic),
                remedy=f"empty the topic, {_ANEW}",
            )
        return newest

    def _number(self, committed: CommittedOffset) -> int:
        n = read_metadata(committed.metadata)
        if n is None:
            raise StateError(
                f"the group's offset {committed.offset} was not committed by ebbtide: no rows belong to it",
                place=self._place(self._source.topic),
                remedy=f"set the group's offset back to what it was, {_ANEW}",
            )
        return n

    def _take_rows(self, batch: RecordBatch, n: int | None) -> bool:
        """Load the rows of a batch, and note the commit records; return whether the right one is seen."""
        place = self._place(batch.topic)
        stop, seen = len(batch.keys), False
        for i, key in enumerate(batch.keys):
            if key != COMMIT_KEY:
                continue
            commit = read_commit(batch.values[i], place=place)
            if self._exactly_once and n is not None and commit.n > n:
                raise StateError(
                    f"there is commit record {commit.n}, but the group committed with record {n}",
                    place=place,
                    remedy="see that no other group or worker writes to this user_state topic",
                )
            if self._newest is None or commit.n >= self._newest.n:  # else from who was here before
                self._newest = commit
            if self._exactly_once and commit.n == n:
                stop, seen = i, True
                break
        rows = [i for i in range(stop) if (batch.keys[i] or b"").startswith(ROW_KEY)]
        ids = [(batch.keys[i] or b"")[len(ROW_KEY) :] for i in rows]
        self._format.load(self._partition.table, ids, [batch.values[i] for i in rows], place=place)
        return seen

    # ---------------------------------------------------------------------------------------- the terms

    def _check(self, commit: Commit, committed: CommittedOffset | None) -> None:
        """Raise StateError if the commit is none that this worker can go on from."""
        place = self._place(self._source.topic)
        terms, n = commit.terms, commit.n
        if terms.group != self._terms.group:
            raise StateError(
                f'the rows are those of the group "{terms.group}", not of "{self._terms.group}"',
                place=place,
                remedy=f"give each group its own user_state and journal topics, {_ANEW}",
            )
        if terms.partitions != self._terms.partitions:
            raise StateError(
                f"commit {n} was made with {terms.partitions} partitions, now there are "
                f"{self._terms.partitions}: users are in other partitions",
                place=place,
                remedy="move the rows with `ebbtide repartition`",
            )
        if committed and read_metadata(committed.metadata) == n and committed.offset != commit.at.offset:
            raise StateError(
                f"the group's offset is {committed.offset}, but commit {n} was made at {commit.at.offset}",
                place=place,
                remedy=f"set the group's offset back to {commit.at.offset}, {_ANEW}",
            )
        self._check_rows(commit)
        if commit.floor.applied < commit.at.applied:
            self._check_replay(commit)

    def _check_rows(self, commit: Commit) -> None:
        ahead = catching_up.count_ahead(self._partition.table.users, commit.at.applied)
        if self._exactly_once and ahead:
            raise StateError(
                f"{ahead} rows before commit {commit.n} hold more than it does: two workers wrote here",
                place=self._place(self._config.topics.user_state),
                remedy=f"see that no other group writes to this topic, then {_ANEW[3:]}",
            )

    def _check_replay(self, commit: Commit) -> None:
        """The log before the commit must be folded as it was: raise StateError if that cannot be done."""
        terms, ours = commit.terms, self._terms
        changed = ""
        if terms.meaning != ours.meaning:
            changed = "the config means something else"
        elif terms.bundle != ours.bundle and None in (terms.bundle, ours.bundle):
            changed = "there is a model now" if terms.bundle is None else "there is no model any more"
        elif terms.bundle != ours.bundle and self._partition.rules.model_risk:
            changed = f"the bundle is {ours.bundle}, not {terms.bundle}, and sets the risk"
        if changed:
            raise StateError(
                f"{changed} since commit {commit.n}, which left records to be replayed",
                place=self._place(self._source.topic),
                remedy="start all workers with what they had, stop them with SIGTERM, and start them anew: "
                "a worker that stops in good order leaves nothing to replay",
            )

    def _changes(self, commit: Commit) -> tuple[Entry, ...]:
        """Return the journal entries that lead from the commit's terms to ours."""
        terms, ours, offset = commit.terms, self._terms, commit.at.offset
        changes: list[Entry] = []
        if terms.bundle != ours.bundle:
            changes.append(ModelChange(offset, terms.bundle, ours.bundle))
        if terms.meaning != ours.meaning:
            changes.append(RulesChange(offset, terms.meaning, ours.meaning))
        return tuple(changes)

    # --------------------------------------------------------------------------- the journal and the log

    def _read_journal(self, commit: Commit) -> Steps[tuple[list[Entry], int]]:
        """Return the entries between floor and commit, and the offset from where to look for later ones."""
        first, stop = commit.floor.entries, commit.at.entries
        topic = self._config.topics.journal
        found: dict[int, tuple[int, Entry]] = {}
        start = commit.journal_start
        if first < stop:
            start = max(start, (yield from self._reading.range(topic)).start)

        def take(batch: RecordBatch) -> bool:
            for offset, value in zip(batch.offsets, batch.values, strict=True):
                entry = read_entry(value, place=self._place(topic))
                if first <= entry.n < stop:
                    found[entry.n] = offset, entry
            return self._exactly_once and stop - 1 in found

        began_s = self._clock.monotonic_s()
        position = start
        while first < stop:
            looked_s = self._clock.monotonic_s()
            position = yield from self._reading.records("reading the journal", topic, position, None, take)
            if len(found) == stop - first:
                start = found[first][0]
                break
            if looked_s - began_s > VISIBLE_S_MAX:
                raise StateError(
                    f"of the journal entries {first} to {stop - 1} there are {len(found)}",
                    place=self._place(topic),
                    remedy=f"give the journal the retention of the events, {_ANEW}",
                )
            yield from self._reading.wait()
        return [found[n][1] for n in sorted(found)], start

    def _replay(self, commit: Commit, entries: list[Entry]) -> Steps[None]:
        """Fold the log from the floor to the commit."""
        topic, floor, at = self._source.topic, commit.floor, commit.at
        encoding = commit.terms.bundle == self._terms.bundle
        catch_up = CatchUp(self._partition, commit, entries, encoding=encoding, place=self._place(topic))

        def take(batch: RecordBatch) -> bool:
            catch_up.take(batch)
            return False

        if floor.offset < at.offset:
            log = yield from self._reading.range(topic)
            if floor.offset < log.start or at.offset > log.end:
                raise StateError(
                    f"the log holds offsets {log.start} to {log.end}, but commit {commit.n} needs "
                    f"{floor.offset} to {at.offset}",
                    place=self._place(topic),
                    remedy=f"raise the retention of the topic before it happens again; now {_ANEW[3:]}",
                )
            yield from self._reading.records("replaying the log", topic, floor.offset, at.offset, take)
        catch_up.finish()

    def _place(self, topic: str) -> str:
        return f"{topic}-{self._partition.partition}"
