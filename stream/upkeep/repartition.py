"""Repartitioning: a group's users and its place on the log moved to topics with another number of partitions.

    alone     nobody else is a member of the old group, nor of the new one: no worker folds meanwhile
    rows      every old partition is restored, and its users' rows go to the new user_state topic, each to the
              partition of its user
    commit    in one transaction: a commit record for every new partition, the new group's offsets, and how
              far the old topic was folded
    copy      what lies behind that place in the old topic goes to the new one (`copying.py`)

The new group begins with its third step or not at all; before it everything can be run again, after it only
the copy goes on. Nothing of the old group is changed: it can be gone back to until the new one has begun. The
partitions of the old group are those of its user_state topic; the events topic may have been given more.
What this does to time, and why rows are moved and the log is not folded again: docs/decisions/0132.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np

from stream.broker import EVENTS, Broker, CommittedOffset, Identity
from stream.bundle import open_bundle
from stream.clock import Clock
from stream.commits import SCHEMA, Commit, Point, Terms, read_clock, write_metadata
from stream.config import Config
from stream.core.dirty import LIVE
from stream.core.events import NEVER
from stream.core.fold import new_clock
from stream.errors import StateError, UsageError
from stream.loading import write_description
from stream.partitioner import partition_of
from stream.records import Output
from stream.snapshot import COMMIT_KEY, ROW_KEY, USER_STATE
from stream.topics import judge, topic_names
from stream.upkeep.alone import WAIT_S, Alone
from stream.upkeep.copying import TARGET, copy, copy_identity, keep_key
from stream.upkeep.job import Job, Progress
from stream.upkeep.logs import ask, count_partitions, ranges, read_topic
from stream.upkeep.rekey import expect_empty
from stream.upkeep.restored import Restored, restore
from stream.workshop import Workshop

#: Rows that one transaction writes: some megabytes.
ROWS_MAX: Final = 5_000

#: Told what is done, how much of it, and how much there is to do.
Told = Callable[[str, int, int], None]


class Moved(NamedTuple):
    """What was moved now. `rows` is None if an earlier run had moved them already."""

    rows: int | None
    records: int


def job_identity(old: Config, new: Config) -> Identity:
    """Say who moves, and which topics by which roles."""
    identity = copy_identity(old.topics.events, new.topics.events, name="repartition")
    topics = {EVENTS: old.topics.events, TARGET: new.topics.events, USER_STATE: new.topics.user_state}
    return identity._replace(topics=topics)


def repartition(
    connect: Callable[[Identity], Broker],
    old: Config,
    new: Config,
    clock: Clock,
    *,
    wait_s: float = WAIT_S,
    told: Told = lambda *_: None,
) -> Moved:
    """Move the group of the config `old` to the topics and the group of `new`.

    connect: opens the broker as somebody. Raises UsageError if the configs or the topics will not do, or if
    workers are in one of the groups; StateError if the old group's state is not whole.
    """
    check_configs(old, new)
    identity = job_identity(old, new)
    broker = connect(identity)
    check_topics(broker, new, clock)
    counts = {c.topics.events: count_partitions(broker, c.topics.events, clock) for c in (old, new)}

    def join(group_id: str, config: Config) -> Alone:
        topic = config.topics.events
        member = connect(Identity(group_id, "", {EVENTS: topic}))
        return Alone(member.source(), group_id, counts[topic], clock, wait_s=wait_s)

    with (
        Job(broker, clock) as job,
        join(old.kafka.group_id, old) as leaving,
        join(new.kafka.group_id, new) as coming,
        join(identity.group_id, old) as copying,
    ):
        rows = None
        if all(at is None for at in coming.committed().values()):
            expect_empty(broker, new.topics.events, counts[new.topics.events], clock)
            source = connect(Identity(old.kafka.group_id, "", {EVENTS: old.topics.events}))
            rows = Move(old, new, broker, job, (leaving, coming, copying), clock, told).run(source)
        count_to = counts[new.topics.events]
        records = copy(
            broker, job, copying, old.topics.events, count_to, keep_key, clock,
            lambda done, total: told("copying records", done, total),
        )  # fmt: skip
    return Moved(rows, records)


def check_configs(old: Config, new: Config) -> None:
    """Raise UsageError unless the new config names topics and a group of its own, and the same rows."""
    names = {"kafka.group_id": (old.kafka.group_id, new.kafka.group_id)}
    for role in ("events", "user_state", "journal"):
        names[f"topics.{role}"] = getattr(old.topics, role), getattr(new.topics, role)
    for key, (before, after) in names.items():
        if before == after:
            remedy = "what is moved must be apart from what it came from: give it another name"
            raise UsageError(f'{key} is "{after}" in both configs', place=new.place, remedy=remedy)
    if Workshop(old, None).format.layout != Workshop(new, None).format.layout:
        remedy = "move first with equal [events] kinds and [windows] rings"
        raise UsageError("rows have another layout in the new config", place=new.place, remedy=remedy)


def check_topics(broker: Broker, new: Config, clock: Clock) -> None:
    """Raise UsageError for the first thing that is wrong with the topics of the new config."""
    admin = broker.admin()
    try:
        found = ask(lambda: admin.describe(list(topic_names(new).values())), clock)
    finally:
        admin.close()
    wrong = next((finding for finding in judge(new, found) if not finding.note), None)
    if wrong is not None:
        raise UsageError(wrong.what, place=wrong.place, remedy=wrong.remedy)


class Move:
    """The move of the rows, from the restore of the old partitions to the first commit of the new ones."""

    def __init__(
        self,
        old: Config,
        new: Config,
        broker: Broker,
        job: Job,
        members: tuple[Alone, Alone, Alone],
        clock: Clock,
        told: Told,
    ) -> None:
        self._old, self._new, self._broker, self._job = old, new, broker, job
        self._leaving, self._coming, self._copying = members
        self._clock, self._told = clock, told
        self._partitions = len(self._coming.partitions)
        self._workshop = Workshop(old, open_bundle(old.bundle.path) if old.bundle.path else None)

    def run(self, source: Broker) -> int:
        """Move the rows of all old partitions, and begin the new group. Return how many rows."""
        leftover = self._read_leftover()
        descriptions = [write_description(self._workshop.format, p) for p in self._coming.partitions]
        leftover.difference_update((output.partition, output.key or b"") for output in descriptions)
        self._write(descriptions)
        commits: dict[int, Commit] = {}
        moved = 0
        asked = source.source()
        count = count_partitions(self._broker, self._old.topics.user_state, self._clock)
        try:
            for partition in range(count):
                restored = restore(
                    self._old, self._workshop, self._broker, asked, partition, count, self._clock,
                    lambda progress: self._told(progress.what, progress.done, progress.total),
                )  # fmt: skip
                if restored.commit is not None:
                    commits[partition] = self._check(restored.commit, partition)
                for rows in self._rows(restored):
                    leftover.difference_update((row.partition, row.key or b"") for row in rows)
                    self._write(rows)
                    moved += len(rows)
                self._told("moving rows", partition + 1, count)
        finally:
            asked.close()
        if not commits:
            remedy = "there is nothing to move: start the new group as it is"
            raise UsageError(
                "nothing was committed", place=f"group {self._old.kafka.group_id}", remedy=remedy
            )
        self._write([Output(USER_STATE, partition, key, None, []) for partition, key in sorted(leftover)])
        self._begin(commits)
        return moved

    def _read_leftover(self) -> set[tuple[int, bytes]]:
        """Return the rows that an earlier run left, which may be of users who are gone by now.

        Raises UsageError if somebody has committed there.
        """
        leftover: set[tuple[int, bytes]] = set()
        for batch in read_topic(self._broker, self._new.topics.user_state, self._clock):
            for key in batch.keys:
                if key == COMMIT_KEY:
                    remedy = "name a user_state topic that no group has used"
                    raise UsageError("holds commits already", place=batch.topic, remedy=remedy)
                leftover.add((batch.partition, key or b""))
        return leftover

    def _check(self, commit: Commit, partition: int) -> Commit:
        """Return the commit if it can be moved. Raises StateError."""
        model, place = self._workshop.model, f"{self._old.topics.events}-{partition}"
        ours = self._old.meaning, None if model is None else model.version
        remedy = "start the workers once more with this config, and stop them with SIGTERM"
        if commit.at.ringing:
            raise StateError("the last commit cut a storm of timers short", place=place, remedy=remedy)
        if (commit.terms.meaning, commit.terms.bundle) != ours:
            raise StateError("config or bundle changed since the last commit", place=place, remedy=remedy)
        return commit

    def _rows(self, restored: Restored) -> Iterator[list[Output]]:
        """Yield the rows of a partition, each for the new partition of its user."""
        table, format = restored.engine.table, self._workshop.format
        slots = table.slots().astype(np.int32)
        for first in range(0, len(slots), ROWS_MAX):
            chosen = slots[first : first + ROWS_MAX]
            users = [table.row_id(slot) for slot in chosen.tolist()]
            # A row of the new partition holds all of its records until now, of which there are none.
            values = format.encode(table, chosen, np.full(len(chosen), LIVE, np.uint8), 0)
            yield [
                Output(USER_STATE, partition_of(user, self._partitions), ROW_KEY + user, value, [])
                for user, value in zip(users, values, strict=True)
            ]

    def _write(self, rows: Sequence[Output]) -> None:
        for member in (self._leaving, self._coming, self._copying):
            member.check()
        if rows:
            self._job.commit(rows)

    def _begin(self, commits: dict[int, Commit]) -> None:
        """Make the first commit of the new group, and note how far the old topic was folded."""
        at = {p: commits[p].at.offset if p in commits else None for p in self._leaving.partitions}
        log = ranges(self._broker, self._old.topics.events, self._leaving.partitions, self._clock)
        folded = {p: CommittedOffset(log[p].start if n is None else n) for p, n in at.items()}
        events = ranges(self._broker, self._new.topics.events, self._coming.partitions, self._clock)
        journal = ranges(self._broker, self._new.topics.journal, self._coming.partitions, self._clock)
        model, clock = self._workshop.model, merge_clocks(list(commits.values()))
        terms = Terms(
            self._new.kafka.group_id,
            self._partitions,
            self._workshop.format.layout,
            self._old.meaning,
            None if model is None else model.version,
        )
        records, offsets = [], {}
        for partition in self._coming.partitions:
            here = Point(events[partition].start, 0, clock)
            commit = Commit(
                n=1, at=here, floor=here, timer=None, journal_start=journal[partition].end, terms=terms,
                emit_from_ms=min(commit.emit_from_ms for commit in commits.values()), catalogue=None,
                live=any(commit.live for commit in commits.values()), begun=None,
            )  # fmt: skip
            value = msgspec.json.encode(commit)
            records.append(Output(USER_STATE, partition, COMMIT_KEY, value, [("schema", SCHEMA)]))
            offsets[partition] = CommittedOffset(here.offset, write_metadata(1))
        self._leaving.check()
        self._job.commit(
            records,
            progress=[
                Progress(self._new.topics.events, offsets, self._coming.token()),
                Progress(self._old.topics.events, folded, self._copying.token()),
            ],
        )


def merge_clocks(commits: Sequence[Commit]) -> dict[str, int]:
    """Return the clock of the new partitions: event time is where the slowest of the old ones had it.

    So nobody's silence is decided sooner than it would have been. A partition without an event has no time.
    """
    clock = read_clock(new_clock())
    timed = [commit.at.clock for commit in commits if commit.at.clock["event_time_max"] != NEVER]
    if timed:
        for name in ("watermark", "event_time_max"):
            clock[name] = min(each[name] for each in timed)
    return clock
