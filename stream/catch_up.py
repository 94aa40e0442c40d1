"""Catching up: the log and the journal from the floor to the commit, folded without outputs.

Rows that were written at the last commits are ahead of the floor; the fold lets pass them by what they hold
already. At the end the table is what it was when the commit was made, to the bit, and the clock is compared:
if it is not the one of the record, the log is not the one that was folded.

A commit may have cut a storm of timers short. Then the last record or entry rings what comes before the next
timer of the commit record, and no further.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from stream.commits import Commit, next_timer, read_clock, set_clock
from stream.core import catching_up
from stream.core.effects import Folded, allocate
from stream.core.users import NO_DEADLINE, NO_SLOT, find_all
from stream.engine import EFFECTS_MIN, Partition, Slice
from stream.errors import StateError
from stream.journal import Entry, ModelChange, apply_entry
from stream.records import RecordBatch
from stream.renew import renew_states


class CatchUp:
    """Brings a partition whose rows are loaded from the floor of a commit to the commit.

    entries: those of the journal between the two. encoding: whether the states are of the partition's model;
    if not they all begin anew. exact: whether the log was folded under the same meaning of the config before,
    so that it must lead to the clock of the commit. `take` each batch of the log from the floor's offset to
    the commit's, then `finish`.
    """

    def __init__(
        self,
        partition: Partition,
        commit: Commit,
        entries: Sequence[Entry],
        *,
        encoding: bool,
        exact: bool = True,
        place: str,
    ) -> None:
        self._partition, self._commit, self._place = partition, commit, place
        self._entries, self._encoding, self._exact = list(entries), encoding, exact
        #: The last change of the model, as `Terms.model_since` counts.
        self.model_since = commit.terms.model_since
        self._storm_offset = commit.at.clock["offset"] if commit.at.ringing else None
        self._complete = False
        table = partition.table
        set_clock(table.clock, commit.floor.clock)
        table.reserve(0, 0, 0, timers=len(table))
        catching_up.wind_up(table.users)
        catching_up.forget_states(table.users, commit.terms.model_since)
        if encoding:
            renew_states(partition, commit.terms.model_since)
        partition.quiet = True
        self._encode_or_not()

    def take(self, records: RecordBatch) -> None:
        """Fold the next records of the log, and the entries before each of them.

        Behind a record whose storm was cut short there are none but dead letters: the storm comes first.
        """
        while records.offsets and not self._complete:
            i = bisect_left(records.offsets, self._next_cut())
            self._fold(records.slice(0, i))
            records = records.slice(i, len(records.offsets))
            if not records.offsets:
                return
            self._take_entries(records.offsets[0])
            if records.offsets[0] == self._storm_offset:
                self._apply_last(self._partition.apply(records.slice(0, 1)))
                self._complete = True
                return

    def _next_cut(self) -> float:
        """Return the offset up to which nothing comes between the records."""
        cuts = [float("inf") if self._storm_offset is None else self._storm_offset]
        return min(cuts + [entry.offset for entry in self._entries[:1]])

    def finish(self) -> None:
        """The log is read up to the commit: take the last entries, end the storm, and compare.

        Raises StateError if this is not where the commit was made.
        """
        partition, at = self._partition, self._commit.at
        self._take_entries(at.offset)
        if at.ringing:
            self._ring_before()
        partition.quiet, partition.encoding = False, True
        table = partition.table
        if self._exact:
            self._compare()
            set_clock(table.clock, at.clock)
        elif at.clock["offset"] == int(table.clock[0].offset):  # the outputs' numbers go on
            counts = {name: at.clock[name] for name in ("transitions", "alerts", "lists")}
            set_clock(table.clock, {**read_clock(table.clock), **counts})
        catching_up.bury(table.users, table.clock)
        if not self._encoding:
            catching_up.forget_states(table.users, NO_DEADLINE)

    def _fold(self, records: RecordBatch) -> None:
        if records.offsets:
            self._drain(self._partition.apply(records))

    def _take_entries(self, offset: int) -> None:
        while self._entries and self._entries[0].offset <= offset:
            entry = self._entries.pop(0)
            slices = apply_entry(self._partition, entry)
            if isinstance(entry, ModelChange):
                self.model_since = int(self._partition.table.clock[0].applied) + 1
            # An entry leaves the next offset as it is, which tells its storm from that of a record.
            if not self._entries and self._storm_offset == entry.offset == self._commit.at.offset:
                self._apply_last(slices)
            else:
                self._drain(slices)
            self._encode_or_not()

    def _encode_or_not(self) -> None:
        """States that a change of the model will begin anew need not be encoded, and could not."""
        changing = any(isinstance(entry, ModelChange) for entry in self._entries)
        self._partition.encoding = self._encoding and not changing

    def _drain(self, slices: Iterator[Slice]) -> None:
        for _ in slices:
            self._partition.table.commit()

    def _apply_last(self, slices: Iterator[Slice]) -> None:
        """Apply the record or entry whose storm was cut short, and let none of its timers ring yet."""
        timers_max, self._partition.timers_max = self._partition.timers_max, 0
        self._drain(islice(slices, 1))
        self._partition.timers_max = timers_max
        self._storm_offset = None

    def _ring_before(self) -> None:
        partition, timer = self._partition, self._commit.timer
        table = partition.table
        slot = NO_SLOT if timer is None else find_slot(partition, timer.user_id.encode())
        if timer is not None and slot == NO_SLOT:
            raise self._mismatch("the user whose timer is next is not there")
        buffers = self._buffers()
        reached = False
        while not reached:
            buffers.n[0] = 0
            table.reserve(0, 0, partition.timers_max)
            reached = catching_up.ring_before(
                partition.rules,
                table.users,
                table.undo,
                table.clock,
                buffers,
                slot,
                0 if timer is None else timer.deadline,
                partition.timers_max,
            )
            table.commit()

    def _buffers(self) -> Folded:
        model = self._partition.model
        return allocate(0, EFFECTS_MIN, len(model.feature_names) if model else 0)

    def _compare(self) -> None:
        """Compare the clock, and the next timer of a storm; the outputs' numbers alone are not replayed."""
        ours, theirs = read_clock(self._partition.table.clock), self._commit.at.clock
        for name in ("applied", "offset", "event_time_max", "watermark"):
            if ours[name] != theirs[name]:
                raise self._mismatch(f"{name} is {ours[name]} after the replay, and was {theirs[name]}")
        if self._commit.at.ringing and next_timer(self._partition) != self._commit.timer:
            raise self._mismatch("another timer is next than was at the commit")

    def _mismatch(self, what: str) -> StateError:
        return StateError(
            f"the log does not lead to commit {self._commit.n}: {what}",
            place=self._place,
            remedy="see whether the topic was made anew, or the log or the journal lost records",
        )


def find_slot(partition: Partition, user: bytes) -> int:
    """Return the slot of a user, or NO_SLOT."""
    slots = np.zeros(1, np.int32)
    edges = np.array([0, len(user)], np.int64)
    find_all(partition.table.users, np.frombuffer(user, np.uint8), edges, slots)
    return int(slots[0])
