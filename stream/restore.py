"""Restore: one partition from its last commit to where it stood when that was made, in small steps.

    commit     ask the group for the offset X and the number n of the commit record
    rows       read the partition of `user_state` until record n is seen, and load the rows on the way
    journal    read the entries between the floor and X
    log        replay the log from the floor to X, without outputs (`catch_up.py`)

Rows of a layout that cannot be carried over (`layouts.py`) are void: if log and journal reach back to where
the group began, everything is folded anew from there under the present config, and the rolling snapshot
writes it.

A commit returns before its markers have reached every partition: the end of `user_state` that is seen first
may lie before record n. The rows of a commit lie before its record. What lies behind record n the group did
not commit: someone wrote who did not own the partition any more, and it is not applied. At least once it is:
those rows were written when the outputs that they stand for were out, and say themselves what they hold.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stream.broker import Broker, CommittedOffset, Source
from stream.catch_up import CatchUp
from stream.checkpoint import Checkpoints
from stream.clock import Clock
from stream.commits import Commit, Point, Standing, Terms, read_clock, read_commit, read_metadata
from stream.config import Config
from stream.core import catching_up
from stream.core.fold import new_clock
from stream.engine import Partition
from stream.errors import StateError
from stream.journal import Entry, read_entry
from stream.loading import Loading
from stream.log import log
from stream.reading import Progress, Reading, Steps
from stream.records import RecordBatch
from stream.snapshot import COMMIT_KEY
from stream.snapshot_format import SnapshotFormat
from stream.terms import ANEW, Judge

#: How long a commit record may stay unseen although the broker answers. Markers take milliseconds, or seconds
#: while a partition's leader is elected.
VISIBLE_S_MAX: Final = 60.0


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
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._partition, self._format, self._config = partition, format, config
        self._source, self._clock, self._checkpoints = source, clock, checkpoints
        self._reading = Reading(broker, clock, partition.partition)
        self._exactly_once = config.worker.guarantee == "exactly-once"
        bundle = None if partition.model is None else partition.model.version
        self._terms = Terms(config.kafka.group_id, partitions, format.layout, config.meaning, bundle)
        self._judge = Judge(partition, self._terms, config, source.topic)
        self._loading = Loading(partition.table, format)
        self._newest: Commit | None = None
        self._newest_value: bytes | None = None
        self._seen_at = 0
        #: Records of `user_state` before this offset are in the table; read on from there.
        self.position = 0
        #: The topic's id, where there are checkpoints.
        self.topic_id = ""
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
        self._judge.check(commit, committed)
        anew = self._is_void(commit)
        begun = (yield from self._begin_anew(commit)) if anew else commit
        exact = not anew or commit.terms.meaning == self._terms.meaning
        entries, journal_start = yield from self._read_journal(begun)
        model_since = yield from self._replay(begun, entries, exact=exact)
        self._loading.bury_stale()
        at = commit.at if exact else self._point(commit)
        self._partition.emit_from_ms = commit.emit_from_ms
        self._partition.last_event_live = commit.live
        self.standing = Standing(
            commit.at.offset,
            commit.n,
            commit.at.entries,
            journal_start,
            commit.emit_from_ms,
            msgspec.structs.replace(commit.terms, layout=self._terms.layout, model_since=model_since),
            (begun.floor,) if at.ringing else (begun.floor, at),
            self._judge.changes(commit),
            commit.silent,
            commit.begun,
            commit.control,
            committed is not None and self._number(committed) == commit.n,
            self._loading.describes(self._format),
            anew,
        )

    def _start(self) -> Steps[Standing]:
        """Nobody has committed yet: begin where the log begins, and note the moment for `emit_from`."""
        kept = yield from self._reading.range(self._source.topic)
        journal = yield from self._reading.range(self._config.topics.journal)
        table, emit_from_ms = self._partition.table, self._config.worker.emit_from_ms
        table.reserve(0, 0, 0, timers=len(table))
        catching_up.wind_up(table.users)
        emit_from_ms = self._clock.now_ms() if emit_from_ms is None else emit_from_ms
        self._partition.emit_from_ms = emit_from_ms
        points = (Point(kept.start, 0, read_clock(table.clock)),)
        return Standing(kept.start, 0, 0, journal.end, emit_from_ms, self._terms, points, begun=kept.start)

    # ----------------------------------------------------------------------------------------- the rows

    def _load(self, committed: CommittedOffset | None) -> Steps[Commit | None]:
        """Load the rows up to the record of the committed offset, and return the record."""
        n = None if committed is None else self._number(committed)
        topic = self._config.topics.user_state
        start = (yield from self._reading.range(topic)).start
        position = self.position = (yield from self._load_checkpoint(n)) or start
        read_from, began_s = position, self._clock.monotonic_s()
        while True:
            looked_s = self._clock.monotonic_s()  # a process that stood still has not looked meanwhile
            if not self._exactly_once or self._newest is None or self._newest.n != n:
                position = self.position = yield from self._reading.records(
                    "loading rows", topic, position, None, lambda batch: self._take_rows(batch, n)
                )
            newest = self._newest
            if n is None or (newest is not None and newest.n >= n):
                break
            if looked_s - began_s > VISIBLE_S_MAX:
                raise StateError(
                    f"the group committed with record {n}, which is not there after {VISIBLE_S_MAX:.0f} s",
                    place=self._place(topic),
                    remedy=f"see that the topic is the group's own and was not emptied, {ANEW}",
                )
            yield from self._reading.wait()
        if self._exactly_once and n is not None:  # what lies behind record n was not looked at
            self.position = self._seen_at
        self._loading.finish(place=self._place(topic))
        if self._exactly_once and newest is None and len(self._partition.table):
            raise StateError(
                "there are rows without a commit record",
                place=self._place(topic),
                remedy=f"empty the topic, {ANEW}",
            )
        if newest is not None and position > read_from:
            yield from self._save(newest)
        return newest

    def _load_checkpoint(self, n: int | None) -> Steps[int | None]:
        """Load the rows of a file on this machine, if there is one that fits; return where to read on."""
        if self._checkpoints is None:
            return None
        topic, number = self._config.topics.user_state, self._partition.partition
        home = yield from self._reading.home(topic)
        self.topic_id = home.topic_id
        if n is None:
            return None
        saved = yield from self._checkpoints.find(number, self._format.layout, n, home)
        if saved is None:
            return None
        try:
            for keys, values in saved.blocks():
                count, nothing = len(keys), [0] * len(keys)
                offsets = [saved.header.position - 1] * count
                self._take_rows(
                    RecordBatch(topic, number, offsets, [*keys], values, nothing, [None] * count), n
                )
                yield
        finally:
            saved.close()
        log.info("%s: %d rows from the checkpoint", self._place(topic), len(self._partition.table))
        return saved.header.position

    def _save(self, newest: Commit) -> Steps[None]:
        """Leave the rows as they are now to the next restore, if they are all that the topic says.

        States of another bundle are not kept as they are, so they are not written either.
        """
        same = newest.terms.layout == self._terms.layout and newest.terms.bundle == self._terms.bundle
        if self._checkpoints is None or not same or not self._loading.plain or not self.topic_id:
            return
        described = self._loading.described
        yield from self._checkpoints.write(
            self._partition.table,
            self._format,
            ([*described, COMMIT_KEY], [*described.values(), self._newest_value]),
            partition=self._partition.partition,
            n=newest.n,
            position=self.position,
            topic_id=self.topic_id,
        )

    def _number(self, committed: CommittedOffset) -> int:
        n = read_metadata(committed.metadata)
        if n is None:
            raise StateError(
                f"the group's offset {committed.offset} was not committed by ebbtide: no rows belong to it",
                place=self._place(self._source.topic),
                remedy=f"set the group's offset back to what it was, {ANEW}",
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
                self._newest, self._newest_value = commit, batch.values[i]
            if self._exactly_once and commit.n == n:
                stop, seen = i, True
                self._seen_at = batch.offsets[i] + 1
                break
        self._loading.take(batch.keys[:stop], batch.values[:stop], place=place)
        return seen

    # -------------------------------------------------------------------------------------- other layouts

    def _is_void(self, commit: Commit) -> bool:
        """Whether the rows do not say what the users are: their layout is another, or they were voided for
        a commit that did not come about.
        """
        unread = self._loading.unread > 0 or not self._format.reads(commit.terms.layout)
        if not unread and commit.terms.layout != self._terms.layout:
            log.info("%s: rows are carried over to other kinds of events", self._place(self._source.topic))
        return unread or self._loading.void_n > commit.n

    def _begin_anew(self, commit: Commit) -> Steps[Commit]:
        """Let go of the rows, and return the commit with its floor where the group began.

        Raises StateError if the log does not reach back there.
        """
        place, floor = self._place(self._source.topic), Point(commit.begun or 0, 0, read_clock(new_clock()))
        start = (yield from self._reading.range(self._source.topic)).start
        why = f"the log begins at {start}, the group began at {commit.begun}"
        if commit.begun is None:
            why = "the rows were moved here from other partitions"
        if commit.begun is None or start > commit.begun:
            raise StateError(
                f"the rows have another layout than this config gives them, and cannot be folded anew: {why}",
                place=place,
                remedy=f"go back to the config or version that wrote them, {ANEW}",
            )
        self._judge.check_bundle(commit)
        log.warning(
            "%s: the rows have another layout; all users are folded anew from offset %d to %d",
            place, floor.offset, commit.at.offset,
        )  # fmt: skip
        self._loading.void()
        terms = msgspec.structs.replace(commit.terms, model_since=0)
        return msgspec.structs.replace(commit, floor=floor, journal_start=0, terms=terms)

    def _point(self, commit: Commit) -> Point:
        """Return where the commit was made, with the clock of the users that were folded anew."""
        return Point(commit.at.offset, commit.at.entries, read_clock(self._partition.table.clock))

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
                    remedy=f"give the journal the retention of the events, {ANEW}",
                )
            yield from self._reading.wait()
        return [found[n][1] for n in sorted(found)], start

    def _replay(self, commit: Commit, entries: list[Entry], *, exact: bool) -> Steps[int]:
        """Fold the log from the floor to the commit; return the last change of the model."""
        topic, floor, at = self._source.topic, commit.floor, commit.at
        encoding = commit.terms.bundle == self._terms.bundle
        place = self._place(topic)
        catch_up = CatchUp(self._partition, commit, entries, encoding=encoding, exact=exact, place=place)

        def take(batch: RecordBatch) -> bool:
            catch_up.take(batch)
            return False

        if floor.offset < at.offset:
            kept = yield from self._reading.range(topic)
            if floor.offset < kept.start or at.offset > kept.end:
                raise StateError(
                    f"the log holds offsets {kept.start} to {kept.end}, but commit {commit.n} needs "
                    f"{floor.offset} to {at.offset}",
                    place=self._place(topic),
                    remedy=f"raise the retention of the topic before it happens again; now {ANEW[3:]}",
                )
            yield from self._reading.records("replaying the log", topic, floor.offset, at.offset, take)
        catch_up.finish()
        return catch_up.model_since

    def _place(self, topic: str) -> str:
        return f"{topic}-{self._partition.partition}"
