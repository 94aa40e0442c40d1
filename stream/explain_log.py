"""What one user's fate depends on in a log of many: the user's own records, and the watermark before each.

Users of a partition share nothing but the watermark, and that follows from the log alone:

    M[i] = max of event_time over the records 0 … i that passed decoding and guard
    W    = M − out_of_order_max

(A record that is too late lies below M, so that it need not be told apart.) Folding the user's records, with
the watermark moved before each, gives what folding the whole log gives. And it can be done again, with one
of the records left out: both of the user and of M. What the journal says takes effect in its place.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream.codec import Decoder
from stream.config import Config
from stream.core.events import NEVER, NO_GUARD, EventBatch
from stream.items import ItemTable
from stream.journal import Entry
from stream.records import RecordBatch

Times = npt.NDArray[np.int64]


class OwnEntry(NamedTuple):
    """An entry of the journal: it takes effect before the own record that comes next, and on it alone."""

    place: int  # decoded records of the log before it
    entry: Entry


class OwnRecord(NamedTuple):
    """A record of the user, as it stands in the log."""

    place: int  # among the decoded records of the log
    offset: int
    event_time_ms: int
    kind: str
    item: str | None
    records: RecordBatch  # itself alone


class UserLog(NamedTuple):
    """The user's records, and the event times of everyone's: NEVER where the guard holds a record back.

    entries: those of the journal, by the own record that they come before; the last list comes behind all.
    """

    own: list[OwnRecord]
    event_time_ms: Times
    out_of_order_max_ms: int
    next_offset: int
    entries: list[list[OwnEntry]]

    def watermarks(self, without: int | None = None) -> Watermarks:
        """Return the watermark before each record of the log.

        without: the place in `own` of a record that the log shall not have had.
        """
        times = self.event_time_ms
        if without is not None:
            times = times.copy()
            times[self.own[without].place] = NEVER
        return Watermarks(np.maximum.accumulate(times) if len(times) else times, self.out_of_order_max_ms)


class Watermarks(NamedTuple):
    """The latest event time up to each record, from which the watermark follows."""

    latest_ms: Times
    out_of_order_max_ms: int

    def before(self, place: int) -> int:
        """Return the watermark before the record at `place` among the decoded, NEVER before the first."""
        latest_ms = int(self.latest_ms[place - 1]) if place else NEVER
        return NEVER if latest_ms == NEVER else latest_ms - self.out_of_order_max_ms

    @property
    def end(self) -> int:
        """The watermark at the end of the log."""
        return self.before(len(self.latest_ms))


def read_user_log(
    user: bytes, batches: Iterable[RecordBatch], config: Config, entries: Sequence[Entry] = ()
) -> UserLog:
    """Decode a log and keep what the user's fate depends on; entries: those of the journal, in order."""
    items = ItemTable()
    decoder = Decoder(config.events.kinds, items, fields=config.events.fields)
    kinds = list(config.events.kinds)
    own: list[OwnRecord] = []
    times: list[Times] = []
    offsets: list[Times] = []
    count = next_offset = 0
    for records in batches:
        decoded = decoder.decode(records)
        events = decoded.events
        for i in _find_user(events, user):
            row, item = decoded.rows[i], int(events.item[i])
            own.append(
                OwnRecord(
                    place=count + i,
                    offset=records.offsets[row],
                    event_time_ms=int(events.event_time_ms[i]),
                    kind=kinds[events.kind[i]],
                    item=items.name(item) if item >= 0 else None,
                    records=records.slice(row, row + 1),
                )
            )
        times.append(_counted_times(events, config.time.future_max_ms))
        offsets.append(events.offset)
        count += events.size
        next_offset = records.offsets[-1] + 1
    joined = np.concatenate(times) if times else np.empty(0, np.int64)
    places = np.concatenate(offsets) if offsets else joined
    between = _sort_entries(own, entries, places)
    return UserLog(own, joined, config.time.out_of_order_max_ms, next_offset, between)


def _sort_entries(own: list[OwnRecord], entries: Sequence[Entry], offsets: Times) -> list[list[OwnEntry]]:
    """Return the entries before each own record, and those behind the last."""
    between: list[list[OwnEntry]] = [[] for _ in range(len(own) + 1)]
    own_offsets = [record.offset for record in own]
    for entry in entries:
        place = int(np.searchsorted(offsets, entry.offset))
        between[bisect_left(own_offsets, entry.offset)].append(OwnEntry(place, entry))
    return between


def _find_user(events: EventBatch, user: bytes) -> list[int]:
    """Return the events of the user, by comparing ids of the same length."""
    start = events.user_start
    likely = np.flatnonzero(np.diff(start) == len(user))
    if not len(likely):
        return []
    ids = events.user_bytes[start[likely][:, None] + np.arange(len(user))]
    same = (ids == np.frombuffer(user, np.uint8)).all(axis=1)
    return [int(i) for i in likely[same]]


def _counted_times(events: EventBatch, future_max_ms: int) -> Times:
    """Return event times as the watermark sees them: NEVER for a record that the guard holds back."""
    held = (events.record_time_ms != NO_GUARD) & (
        events.event_time_ms - future_max_ms > events.record_time_ms
    )
    return np.where(held, NEVER, events.event_time_ms)
