"""Commits: what a partition writes with each transaction so that whoever comes after can go on from it.

    layout          what the rows hold, with the first of them (`layouts.py`)
    rows            of the rolling snapshot (`snapshot.py`)
    commit record   how far the fold has come, and from where on the log is still needed for unwritten rows
    entries         of the journal, since the commit before

all in one transaction with the outputs and the group's offset, whose metadata carries the record's number n.
A record lies behind the rows of its transaction, so who has seen record n has seen them.

The place from where the log is needed (the floor) is one where a commit fell: there the clock is known to the
bit. It never lies inside a storm of timers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from stream.broker import CommittedOffset
from stream.core import catching_up
from stream.core.fold import CLOCK
from stream.core.users import NO_SLOT
from stream.engine import Partition, Slice
from stream.errors import StateError
from stream.journal import Entry, ModelChange, RulesChange, apply_entry, write_entry
from stream.loading import write_description, write_void
from stream.records import Output
from stream.snapshot import COMMIT_KEY, USER_STATE, Snapshot
from stream.snapshot_format import SnapshotFormat
from stream.stored import OTHER_VERSION, decode_stored

VERSION: Final = 1
SCHEMA: Final = b"commit/1"

#: Places to choose the floor from; when there are more, every second one is forgotten.
POINTS_MAX: Final = 4_096

_CLOCK_NAMES: Final = tuple(name for name in CLOCK.names or () if name != "fresh")
_METADATA: Final = re.compile(r"ebbtide (\d+)")


class Point(Struct, frozen=True):
    """A place between two records: the next offset, the journal entries before it, and the clock there."""

    offset: int
    entries: int
    clock: dict[str, int]

    @property
    def applied(self) -> int:
        """Records and entries that were applied until here."""
        return self.clock["applied"]

    @property
    def ringing(self) -> bool:
        """Whether timers of the last record or entry are still to ring."""
        return self.clock["ringing"] != 0


class Timer(Struct, frozen=True):
    """The next timer to ring in a storm that a commit cut short."""

    deadline: int
    user_id: str


class Terms(Struct, frozen=True):
    """What must not change between two commits unless somebody sees to it."""

    group: str
    partitions: int  # of the events topic
    layout: str  # `SnapshotFormat.layout` of the rows that were written last
    meaning: str  # `Config.meaning`
    bundle: str | None  # its version
    model_since: int = 0  # the journal entry (`clock.applied`) of the last change of the bundle


class Commit(Struct, frozen=True, kw_only=True):
    """A commit record."""

    version: int = VERSION
    n: int
    at: Point
    floor: Point
    timer: Timer | None
    journal_start: int  # no entry behind the floor lies before this offset of the journal
    terms: Terms
    emit_from_ms: int
    catalogue: int | None
    live: bool = False  # the last event's time lay close to its record's timestamp
    silent: bool = False  # the storm that the commit cuts short is that of a record from before emit_from
    begun: int | None = None  # where on the log the fold began with no users; None if rows were moved here
    control: int = 0  # commands of the control topic before this offset were obeyed


class _Version(Struct):
    version: int


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Commit).decode
_decode_version = msgspec.json.Decoder(_Version).decode


def read_commit(value: bytes | None, *, place: str) -> Commit:
    """Return the commit record. Raises StateError, naming `place`, if this version cannot read it."""
    found = decode_stored(_decode_version, value, "a commit record", place=place).version
    if found != VERSION:
        what = f"a commit record has version {found}, this version reads {VERSION}"
        raise StateError(what, place=place, remedy=OTHER_VERSION)
    return decode_stored(_decode, value, "a commit record", place=place)


def write_metadata(n: int) -> str:
    return f"ebbtide {n}"


def read_metadata(metadata: str) -> int | None:
    """Return the number of the commit record that belongs to a committed offset, None if it has none."""
    match = _METADATA.fullmatch(metadata)
    return int(match[1]) if match else None


def read_clock(clock: Any) -> dict[str, int]:
    return {name: int(clock[0][name]) for name in _CLOCK_NAMES}


def set_clock(clock: Any, values: dict[str, int]) -> None:
    for name in _CLOCK_NAMES:
        clock[name] = values[name]


class History:
    """The places that the floor may be put to, oldest first. None lies inside a storm."""

    def __init__(self, points: Sequence[Point]) -> None:
        self._points = list(points)

    def note(self, point: Point) -> None:
        """A commit falls here."""
        if point.ringing or point.applied == self._points[-1].applied:
            return
        self._points.append(point)
        if len(self._points) > POINTS_MAX:
            del self._points[1:-1:2]

    def find(self, since: int | None) -> Point:
        """Return the last place before record or entry `since`, or the last of all."""
        if since is None:
            return self._points[-1]
        return next(point for point in reversed(self._points) if point.applied < since)

    def trim(self, floor: Point) -> None:
        """Forget what lies before the floor."""
        self._points = [point for point in self._points if point.applied >= floor.applied]

    def back_to(self, applied: int, *, ringing: bool) -> None:
        """Forget what an undo took back: the end of the storm, too, that was ringing there."""
        while self._points[-1].applied > applied - ringing:
            self._points.pop()


class Standing(NamedTuple):
    """Where a partition stands when it goes live: after a restore, or at its first start."""

    offset: int  # the next record
    n: int  # of the last commit, 0 if there was none
    entries: int  # journal entries in the committed state
    journal_start: int
    emit_from_ms: int
    terms: Terms  # of the last commit
    points: tuple[Point, ...]
    changes: tuple[Entry, ...] = ()  # of the terms, to take effect before the first record
    silent: bool = False  # see `Commit`
    begun: int | None = None  # see `Commit`
    control: int = 0  # see `Commit`
    #: Whether the group knows of the last commit. At least once its record may be all that there is of it.
    known: bool = True
    #: Whether the layout of the rows that will be written is described in the topic.
    described: bool = False
    #: Whether the rows in the topic are void: the partition was folded anew.
    void: bool = False


class _Prepared(NamedTuple):
    """What `confirm` makes the last commit; records may have been folded since."""

    here: Point
    floor: Point
    entries: int  # journal entries that the commit writes
    terms: Terms
    silent: bool
    control: int
    record: bytes | None = None


class Commits:
    """The commits of one live partition, one at a time: `prepare`, then `confirm` or `cancel`.

    commits.begin()                                             before the first record; again after a cancel
    outputs, offset = commits.prepare(next_offset, rows_max)    into the transaction
    commits.confirm()                                           it is committed; then the table forgets
    commits.cancel()                                            it is not; then `table.rollback(…)`

    Between `prepare` and its end records and entries may be applied: they are the next commit's.
    """

    def __init__(self, partition: Partition, format: SnapshotFormat, standing: Standing) -> None:
        self._partition, self._format = partition, format
        self._snapshot = Snapshot(partition.table, format, partition.partition)
        self._history = History(standing.points)
        self._floor = standing.points[0]
        self._standing = standing  # as of the last commit
        self._terms = standing.terms
        #: Commands of the control topic before this offset are obeyed, and need not be looked at again.
        self.control = standing.control
        self._written: list[Entry] = []  # entries that no commit holds
        self._committed, self._ringing = int(partition.table.clock[0].applied), partition.ringing
        self._prepared: _Prepared | None = None
        #: The record of the last commit as it was written, None before the first of this life.
        self.record: bytes | None = None

    @property
    def n(self) -> int:
        """Number of the last commit."""
        return self._standing.n

    @property
    def partitions(self) -> int:
        """How many partitions the events topic has."""
        return self._terms.partitions

    @property
    def floor(self) -> Point:
        """From where on the log is needed, as of the last commit."""
        return self._floor

    @property
    def changing(self) -> bool:
        """Whether changed terms are still to take effect, or have and are not committed.

        A commit must not come before that: it would write rows of the new terms under the old ones.
        """
        return bool(self._standing.changes)

    def last_words(self) -> tuple[list[bytes], list[bytes | None]]:
        """Return keys and values of what the topic says beside rows: what they hold, and the last commit."""
        description = write_description(self._format, self._partition.partition)
        return [description.key or b"", COMMIT_KEY], [description.value, self.record]

    @property
    def whole(self) -> bool:
        """Whether the topic says all that the table does, as of the last commit, which is of this life."""
        applied = int(self._partition.table.clock[0].applied)
        ringing = self._partition.ringing or self._ringing
        return self.record is not None and self._floor.applied == self._committed == applied and not ringing

    @property
    def owing(self) -> bool:
        """Whether there is something to commit even if no record comes: rows, graves or entries to write.

        As long as there is, the floor stays behind, and the log must reach back to it.
        """
        return bool(self._written) or self._partition.table.users.counts[0].dirty > 0

    def begin(self) -> Iterator[Slice]:
        """End the storm that the last commit cut short, and let changed terms take effect."""
        partition = self._partition
        partition.silent = [int(partition.table.clock[0].offset)] if self._standing.silent else []
        yield from partition.ring_on(self._standing.offset)
        for change in self._standing.changes:
            yield from self.apply(change)

    def apply(self, entry: Entry) -> Iterator[Slice]:
        """Let an entry take effect now, and write it to the journal with the next commit."""
        self._written.append(entry)
        applied = int(self._partition.table.clock[0].applied) + 1
        if isinstance(entry, RulesChange):
            self._terms = msgspec.structs.replace(self._terms, meaning=entry.after)
        elif isinstance(entry, ModelChange):
            self._terms = msgspec.structs.replace(self._terms, bundle=entry.after, model_since=applied)
        yield from apply_entry(self._partition, entry)

    def prepare(self, next_offset: int, rows_max: int) -> tuple[list[Output], CommittedOffset]:
        """Return what belongs into the transaction beside the outputs, and the offset with its metadata."""
        partition, entries = self._partition, self._standing.entries
        here = Point(next_offset, entries + len(self._written), read_clock(partition.table.clock))
        since = self._snapshot.take(rows_max)
        self._history.note(here)
        prepared = _Prepared(
            here,
            self._history.find(since),
            len(self._written),
            self._terms,
            self._is_silent(here),
            self.control,
        )
        outputs = [
            write_entry(msgspec.structs.replace(entry, n=entries + i), partition.partition)
            for i, entry in enumerate(self._written)
        ]
        if self._standing.void:
            outputs.append(write_void(self.n + 1, partition.partition))
        if not self._standing.described:
            outputs.append(write_description(self._format, partition.partition))
        outputs += self._snapshot.outputs(prepared.floor.applied)
        record = self._record(prepared)
        outputs.append(record)
        self._prepared = prepared._replace(record=record.value)
        return outputs, CommittedOffset(next_offset, write_metadata(self.n + 1))

    def confirm(self) -> None:
        """The transaction is committed."""
        self._snapshot.confirm()
        assert self._prepared is not None
        (here, floor, entries, terms, silent, control, self.record), self._prepared = self._prepared, None
        standing, written = self._standing, self._written[:entries]
        self._standing = standing._replace(
            offset=here.offset,
            n=standing.n + 1,
            entries=here.entries,
            terms=terms,
            changes=tuple(change for change in standing.changes if change not in written),
            silent=silent,
            control=control,
            described=True,
            void=False,
        )
        self._written = self._written[entries:]
        self._floor = floor
        self._history.trim(floor)
        self._committed, self._ringing = here.applied, here.ringing

    def cancel(self) -> None:
        """The transaction is not committed, and everything since the commit before it is undone."""
        self._snapshot.cancel()
        self._history.back_to(self._committed, ringing=self._ringing)
        self._terms, self._written, self._prepared = self._standing.terms, [], None
        self.control = self._standing.control

    def _record(self, prepared: _Prepared) -> Output:
        model, here = self._partition.model, prepared.here
        record = Commit(
            n=self.n + 1,
            at=here,
            floor=prepared.floor,
            timer=next_timer(self._partition) if here.ringing else None,
            journal_start=self._standing.journal_start,
            terms=prepared.terms,
            emit_from_ms=self._standing.emit_from_ms,
            catalogue=None if model is None else model.catalogue,
            live=self._partition.last_event_live,
            silent=prepared.silent,
            begun=self._standing.begun,
            control=prepared.control,
        )
        return Output(
            USER_STATE, self._partition.partition, COMMIT_KEY, _encode(record), [("schema", SCHEMA)]
        )

    def _is_silent(self, here: Point) -> bool:
        """Whether the storm that goes on here is one of those that are not produced.

        It may be the one of the last commit still, and nobody has begun to go on with it.
        """
        if here.applied == self._committed:
            return self._standing.silent
        return here.clock["offset"] in self._partition.silent


def next_timer(partition: Partition) -> Timer | None:
    """Return the next timer that is due, None if none is."""
    table = partition.table
    slot = catching_up.peek_due(table.users, table.clock[0].watermark)
    if slot == NO_SLOT:
        return None
    return Timer(int(table.users.rows[slot].deadline), table.row_id(slot).decode())
