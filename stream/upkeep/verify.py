"""Verification: the log and the journal folded again, and what was committed held against it.

    restore    a partition's users at its last commit X, as a worker would have them
    fold       the log from where the group began to X, the journal's entries between its records
    compare    every output with the committed one while the fold goes, every user's row at the end

Workers may go on meanwhile: what lies behind X is left out. Where the log no longer reaches back to where the
group began, or other rules held before (a change of the config's meaning), the fold begins later, without
users; then only those users are compared whose whole history lies behind that place, and their outputs.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stream.broker import Broker, LogRange, Source
from stream.bundle import open_bundle
from stream.clock import Clock, SystemClock
from stream.commits import Commit, read_clock
from stream.config import Config
from stream.engine import Partition, Slice
from stream.errors import UsageError
from stream.journal import Entry, ModelChange, RulesChange, apply_entry
from stream.records import RecordBatch
from stream.upkeep.catalogue_now import load_catalogue
from stream.upkeep.journal_read import read_entries
from stream.upkeep.logs import count_partitions, ranges, read_log
from stream.upkeep.outputs_differ import Comparison, Message, OutputDifference, Scored
from stream.upkeep.outputs_found import FoundOutputs, OwnHistory
from stream.upkeep.restored import Restored, restore
from stream.upkeep.rows_differ import RowDifference, differing_rows, first_event_times
from stream.wire import CHURN_ALERTS, DEAD_LETTERS, LIFECYCLE, RECOMMENDATIONS
from stream.workshop import Workshop

OUTPUTS: Final = (RECOMMENDATIONS, LIFECYCLE, CHURN_ALERTS, DEAD_LETTERS)
#: What of the clock follows from the log and the journal alone, wherever commits fell.
CLOCK: Final = ("applied", "event_time_max", "watermark")
#: Differing users that are told for one partition; the rest is counted.
ROWS_TOLD_MAX: Final = 100


@dataclass
class Report:
    """What was compared in one partition, and what differs."""

    partition: int
    start: int = 0  # the first offset that was folded
    stop: int = 0  # the committed offset
    records: int = 0
    users: int = 0  # compared
    users_older: int = 0  # not compared: their history begins before `start`
    outputs: int = 0
    unscored: int = 0
    notes: list[str] = field(default_factory=list)
    differences: list[tuple[str, OutputDifference]] = field(default_factory=list)  # with the topic
    rows: list[RowDifference] = field(default_factory=list)
    wrong: int = 0  # differences altogether, told or not


class Span(NamedTuple):
    """The part of the log that is folded, and whether it is all that the group has folded."""

    start: int
    stop: int
    whole: bool


class Verifier:
    """Verifies the partitions of one group, one after the other.

    broker, source: of the workers' group, which is not joined. begin: the offset to begin at instead of where
    the group began. told: hears (partition, offset reached, offset to reach).
    """

    def __init__(
        self,
        config: Config,
        broker: Broker,
        source: Source,
        workshop: Workshop,
        scored: Scored,
        clock: Clock,
        *,
        begin: int | None = None,
        told: Callable[[int, int, int], None] = lambda *_: None,
    ) -> None:
        self._config, self._broker, self._source, self._clock = config, broker, source, clock
        self._workshop, self._scored = workshop, scored
        self._begin, self._told = begin, told

    def verify(self, partition: int, partitions: int) -> Report:
        """Verify one of the partitions. Raises StateError if nothing can be said, UsageError for `begin`."""
        report = Report(partition)
        restored = restore(
            self._config, self._workshop, self._broker, self._source, partition, partitions, self._clock
        )
        if restored.commit is None:
            report.notes.append("nothing was committed yet")
            return report
        self._check_terms(restored.commit, partition)
        count = restored.commit.at.entries
        entries = read_entries(self._broker, self._config, partition, count, self._clock)
        log = ranges(self._broker, self._source.topic, range(partition, partition + 1), self._clock)
        span = self._choose_span(restored.commit, entries, log[partition], report)
        born = None if span.whole else self._find_born(restored.engine, span, partition)
        folded = self._fold(restored, entries, span, born, report)
        self._compare_users(restored, folded, born, report)
        return report

    def _check_terms(self, commit: Commit, partition: int) -> None:
        """Raise UsageError unless config and bundle are those that the rows were committed with."""
        model = self._workshop.model
        ours = self._config.meaning, None if model is None else model.version
        theirs = commit.terms.meaning, commit.terms.bundle
        for name, mine, other in zip(("config means", "bundle is"), ours, theirs, strict=True):
            if mine != other:
                raise UsageError(
                    f"the {name} {mine or 'none'}, but commit {commit.n} was made with {other or 'none'}",
                    place=f"{self._source.topic}-{partition}",
                    remedy="verify with the config and bundle that the workers run with",
                )

    def _choose_span(self, commit: Commit, entries: list[Entry], log: LogRange, report: Report) -> Span:
        """Decide where to begin. Raises UsageError if the log does not reach back to what was asked for."""
        changed = max((entry.offset for entry in entries if isinstance(entry, RulesChange)), default=0)
        earliest = max(log.start, changed)
        if self._begin is not None:
            if not earliest <= self._begin <= commit.at.offset:
                remedy = f"it can be verified from any offset from {earliest} to {commit.at.offset}"
                place = f"{self._source.topic}-{report.partition}"
                raise UsageError(f"cannot be verified from {self._begin}", place=place, remedy=remedy)
            span = Span(self._begin, commit.at.offset, self._begin == commit.begun)
        elif commit.begun is not None and earliest <= commit.begun:
            span = Span(commit.begun, commit.at.offset, True)
        else:
            why = f"the log begins at {log.start}" if log.start >= changed else f"rules changed at {changed}"
            if commit.begun is None and not earliest:
                why = "rows were moved here"
            report.notes.append(f"{why}: users whose history begins before {earliest} are not compared")
            span = Span(earliest, commit.at.offset, False)
        report.start, report.stop = span.start, span.stop
        return span

    def _find_born(self, engine: Partition, span: Span, partition: int) -> dict[bytes, int]:
        """Return the users whose whole history lies behind the start, with the time that it begins at.

        An event is no further ahead of its record's timestamp than `future_max`. So who has a first event
        later than that, seen from the first record of the span, has no record before it.
        """
        topic = self._source.topic
        first = next(read_log(self._broker, topic, partition, span.start, span.stop, self._clock), None)
        if first is None:
            return {}
        since_ms = first.timestamps_ms[0] + self._config.time.future_max_ms
        return {user: ms for user, ms in first_event_times(engine).items() if ms > since_ms}

    # -------------------------------------------------------------------------------------------- the fold

    def _fold(
        self,
        restored: Restored,
        entries: list[Entry],
        span: Span,
        born: dict[bytes, int] | None,
        report: Report,
    ) -> Partition:
        """Fold the span and compare the outputs on the way; return the users as they should be."""
        assert restored.commit is not None
        at, partition = restored.commit.at, report.partition
        engine = self._workshop.partition(self._source.topic, partition, undo=True, snapshots=False)
        engine.emit_from_ms = restored.commit.emit_from_ms
        history = None if born is None else OwnHistory(born)
        found = FoundOutputs(self._config, self._broker, partition, at.offset, history, self._clock)
        roles = [role for role in OUTPUTS if history is None or role != DEAD_LETTERS]
        compared = {role: Comparison(role, self._scored) for role in roles}
        for part, bundle in self._walk(engine, entries, span, restored.commit, report):
            for output in part.outputs:
                comparison = compared.get(output.topic)
                if comparison is None or (output.topic == RECOMMENDATIONS and bundle is None):
                    continue
                message = Message(output.key, output.value, output.headers)
                found.meet(output.topic, message, comparison)
        storm = at.clock["offset"] if at.ringing else -1
        for role, comparison in compared.items():
            found.drain(role, comparison)
            comparison.finish(lambda message: message.source_offset == storm)
            report.outputs += comparison.compared
            report.unscored += comparison.unscored
            report.wrong += comparison.counts.total()
            topic = getattr(self._config.topics, role)
            report.differences += [(topic, difference) for difference in comparison.told]
        return engine

    def _walk(
        self, engine: Partition, entries: list[Entry], span: Span, commit: Commit, report: Report
    ) -> Iterator[tuple[Slice, str | None]]:
        """Apply the log and the journal; yield each slice with the bundle that was in force."""
        ahead = [entry for entry in entries if entry.offset >= span.start]
        changes = [entry for entry in ahead if isinstance(entry, ModelChange)]
        bundle = changes[0].before if changes else commit.terms.bundle
        topic, partition = self._source.topic, report.partition
        for records in read_log(self._broker, topic, partition, span.start, span.stop, self._clock):
            report.records += len(records.offsets)
            for piece, entry in _cut(records, ahead):
                for part in engine.apply(piece) if entry is None else apply_entry(engine, entry):
                    yield part, bundle
                    engine.table.commit()
                if isinstance(entry, ModelChange):
                    bundle = entry.after
            self._told(partition, records.offsets[-1] + 1, span.stop)
        for entry in ahead:
            for part in apply_entry(engine, entry):
                yield part, bundle
                engine.table.commit()

    # ------------------------------------------------------------------------------------------- the users

    def _compare_users(
        self, restored: Restored, folded: Partition, born: dict[bytes, int] | None, report: Report
    ) -> None:
        ours = restored.engine
        only = None if born is None else frozenset(born)
        report.users = len(ours.table) if only is None else len(only)
        report.users_older = len(ours.table) - report.users
        for difference in differing_rows(ours, folded, self._config, only):
            report.wrong += 1
            if len(report.rows) < ROWS_TOLD_MAX:
                report.rows.append(difference)
        if only is None:
            clock, should = read_clock(ours.table.clock), read_clock(folded.table.clock)
            for name in CLOCK:
                if clock[name] != should[name]:
                    report.wrong += 1
                    report.notes.append(f"{name} is {clock[name]}, and should be {should[name]}")


def _cut(records: RecordBatch, ahead: list[Entry]) -> Iterator[tuple[RecordBatch, Entry | None]]:
    """Yield pieces of the batch, and between them the entries that take effect there, taken from `ahead`."""
    first = 0
    while ahead and ahead[0].offset <= records.offsets[-1]:
        entry = ahead.pop(0)
        stop = bisect_left(records.offsets, entry.offset)
        if first < stop:
            yield records.slice(first, stop), None
        yield records.slice(stop, stop), entry
        first = stop
    yield records.slice(first, len(records.offsets)), None


def verify_group(
    config: Config,
    broker: Broker,
    *,
    begin: int | None = None,
    only: int | None = None,
    clock: Clock | None = None,
    told: Callable[[int, int, int], None] = lambda *_: None,
) -> list[Report]:
    """Verify a group, or one of its partitions. Raises UsageError, StateError, BundleError, BrokerError."""
    clock = clock or SystemClock()
    topic = config.topics.events
    count = count_partitions(broker, topic, clock)
    partitions = range(count) if only is None else range(only, only + 1)
    if only is not None and only >= count:
        raise UsageError(f"there is no partition {only}", place=topic, remedy=f"it has {count}")
    if begin is not None and len(partitions) > 1:
        remedy = "name the partition with --partition"
        raise UsageError("an offset is one of a single partition", place="--from", remedy=remedy)
    workshop = Workshop(config, open_bundle(config.bundle.path) if config.bundle.path else None)
    scored = load_catalogue(config, broker, workshop, clock)
    source = broker.source()
    try:
        verifier = Verifier(config, broker, source, workshop, scored, clock, begin=begin, told=told)
        return [verifier.verify(partition, count) for partition in partitions]
    finally:
        source.close()
