"""The oracle: what the log and the journal make of the users, without workers, commits, or faults.

Each partition is folded by an engine of its own in a plain loop, journal entries at their offsets. What the
workers have produced must be exactly this: under exactly-once the same bytes in the same order, partition by
partition; under at-least-once the same after repeats were dropped by their ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, NamedTuple

from stream.commits import Commit, read_commit
from stream.config import Config
from stream.engine import Partition
from stream.journal import Entry, apply_entry, read_entry
from stream.records import Output, RecordBatch
from stream.snapshot import COMMIT_KEY
from stream.testing import MemoryBroker
from stream.topics import topic_names
from tests.simulation.options import Options
from tests.simulation.processes import TinyWorkshop
from tests.simulation.rows import compare

OUTPUTS: Final = ("recommendations", "lifecycle", "churn_alerts", "dead_letters")
ALL: Final = 1 << 60


class ViolationError(AssertionError):
    """A promise that was not kept."""


class Message(NamedTuple):
    """An output as a reader sees it."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def id(self) -> tuple[bytes, ...]:
        """What a consumer drops repeats by; a dead letter is known by its source."""
        notes = dict(self.headers)
        return (notes["id"],) if "id" in notes else (notes["source"],)

    def __str__(self) -> str:
        return f"{self.id[0].decode()}: {self.value!r}"


class PartitionTruth:
    """One partition: the records that were ever visible in it, and what they lead to."""

    def __init__(self, engine: Partition, batch_records: int) -> None:
        self.engine = engine
        self.expected: dict[str, list[Message]] = {role: [] for role in OUTPUTS}
        self._batch_records = batch_records

    def fold(self, records: RecordBatch, entries: Sequence[Entry]) -> None:
        """Apply records, and each journal entry before the record at its offset."""
        start = 0
        for entry in entries:
            stop = bisect_left(records.offsets, entry.offset)
            self._apply(records, start, stop)
            start = stop
            for part in apply_entry(self.engine, entry):
                self._expect(part.outputs)
        self._apply(records, start, len(records.offsets))

    def _apply(self, records: RecordBatch, start: int, stop: int) -> None:
        for first in range(start, stop, self._batch_records):
            batch = records.slice(first, min(first + self._batch_records, stop))
            for part in self.engine.apply(batch):
                self._expect(part.outputs)

    def _expect(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self.expected[output.topic].append(Message(output.key, output.value, tuple(output.headers)))


class Truth:
    """All partitions. `keep` must be called before anything is dropped from the head of a log."""

    def __init__(self, options: Options, config: Config, broker: MemoryBroker) -> None:
        self._options, self._config, self._broker = options, config, broker
        self._names = topic_names(config)
        self._kept = [0] * options.partitions
        self._records = [nothing(p) for p in range(options.partitions)]
        self._journal_kept = [0] * options.partitions
        self._journal: list[list[Entry]] = [[] for _ in range(options.partitions)]
        self._folded = [0] * options.partitions  # entries
        self._partitions: dict[int, PartitionTruth] = {}

    @property
    def entries(self) -> int:
        """How many journal entries there are."""
        return sum(self._folded)

    def keep(self) -> None:
        """Take a copy of the records and journal entries that became visible since the last call."""
        for partition in range(self._options.partitions):
            log = self._broker.log(self._config.topics.events, partition)
            batch, position = log.read(self._kept[partition], ALL)
            self._kept[partition] = position
            for column, more in zip(self._records[partition][2:], batch[2:], strict=True):
                column.extend(more)
            journal = self._broker.log(self._config.topics.journal, partition)
            batch, self._journal_kept[partition] = journal.read(self._journal_kept[partition], ALL)
            self._journal[partition] += [read_entry(value, place="journal") for value in batch.values]

    def check_outputs(self) -> None:
        """Fold what is new and compare the outputs. Raises ViolationError."""
        self.keep()
        for partition, records in enumerate(self._records):
            if partition not in self._partitions:
                if not records.offsets:
                    continue
                self._partitions[partition] = self._begin(partition)
            truth = self._partitions[partition]
            truth.fold(records, self._new_entries(partition))
            self._records[partition] = nothing(partition)
            for role in OUTPUTS:
                self._compare(role, partition, truth.expected[role])

    def check_users(self, partition: int, found: Partition) -> None:
        """Compare a partition's users, as a worker holds them. Raises ViolationError."""
        truth = self._partitions.get(partition)
        if truth is None:
            if len(found.table):
                raise ViolationError(f"partition {partition} has users and has seen no record")
        elif difference := compare(found, truth.engine):
            raise ViolationError(f"partition {partition}, {difference}")

    def _begin(self, partition: int) -> PartitionTruth:
        workshop = TinyWorkshop(self._config, bool(self._options.model))
        if workshop.model is not None:
            workshop.model.catalogue = 0  # the items topic is empty, and has been read
        engine = workshop.partition(self._config.topics.events, partition, undo=True, snapshots=False)
        engine.emit_from_ms = self._last_commit(partition).emit_from_ms
        return PartitionTruth(engine, self._options.oracle_batch)

    def _new_entries(self, partition: int) -> list[Entry]:
        """Return the journal entries since the last call. Raises ViolationError if their numbers have gaps.

        At least once an entry may be there again, and the last of a number holds.
        """
        entries = self._journal[partition]
        if not self._options.exactly_once:
            entries = list({entry.n: entry for entry in entries}.values())
        if [entry.n for entry in entries] != list(range(len(entries))):
            raise ViolationError(f"journal-{partition}: entries are numbered {[e.n for e in entries]}")
        first = self._folded[partition]
        self._folded[partition] = len(entries)
        return entries[first:]

    def _last_commit(self, partition: int) -> Commit:
        """Return the newest commit record. Raises ViolationError if two contradict each other."""
        log = self._broker.log(self._config.topics.user_state, partition)
        batch, _ = log.read(log.start, ALL)
        values = [v for key, v in zip(batch.keys, batch.values, strict=True) if key == COMMIT_KEY]
        commits = [read_commit(value, place="user_state") for value in values]
        if not commits:
            raise ViolationError(f"user_state-{partition}: there is no commit record")
        if len({commit.emit_from_ms for commit in commits}) > 1:
            raise ViolationError(f"user_state-{partition}: emit_from changed from one commit to the next")
        if self._options.exactly_once and [c.n for c in commits] != sorted({c.n for c in commits}):
            raise ViolationError(f"user_state-{partition}: commits are numbered {[c.n for c in commits]}")
        return commits[-1]

    def _compare(self, role: str, partition: int, expected: Sequence[Message]) -> None:
        log = self._broker.log(self._names[role], partition)
        batch, _ = log.read(0, ALL)
        columns = zip(batch.keys, batch.values, batch.headers, strict=True)
        found = [Message(key, value, tuple(headers or ())) for key, value, headers in columns]
        if not self._options.exactly_once:
            found = drop_repeats(found)
        if found != expected:
            raise ViolationError(f"{self._names[role]}-{partition}: {describe(found, expected)}")


def nothing(partition: int) -> RecordBatch:
    return RecordBatch("events", partition, [], [], [], [], [])


def drop_repeats(messages: Sequence[Message]) -> list[Message]:
    """Keep the first of those with equal ids, as a consumer does.

    A later one may be another output of the same record: rows that hold the record already ask for nothing,
    so that the others count from 0. The one that it replaces is out for long, as rows are written behind it.
    """
    first: dict[tuple[bytes, ...], Message] = {}
    for message in messages:
        first.setdefault(message.id, message)
    return list(first.values())


def describe(found: Sequence[Message], expected: Sequence[Message]) -> str:
    """Say how two sequences of outputs differ, in words of lost, repeated, and wrong."""
    ids, wanted = [message.id for message in found], [message.id for message in expected]
    lost = [name for name in wanted if name not in ids]
    strange = [name for name in ids if name not in wanted]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    words = f"{len(found)} outputs instead of {len(expected)}"
    for word, names in (("lost", lost), ("repeated", repeated), ("not expected", strange)):
        if names:
            words += f"; {word}: {len(names)}, as {b' '.join(names[0]).decode()}"
    for i, (a, b) in enumerate(zip(found, expected, strict=False)):
        if a != b:
            return f"{words}; output {i} is {a} instead of {b}"
    return words
