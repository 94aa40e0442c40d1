"""One user explained: the state, how it came about, and which past events moved the last list.

The user's records are folded by the very partition that serves (`stream/engine.py`), with the watermark that
everyone's records gave it (`stream/explain_log.py`). Then each event is left out once: the rest is folded
again from there and the list made again. What differs is what that event did to the list, exactly, through
windows, lifecycle, encoder, policy and all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from stream.bundle import open_bundle
from stream.config import Config
from stream.core.events import NEVER
from stream.engine import Partition, Slice
from stream.errors import UsageError
from stream.explain_log import OwnRecord, UserLog, Watermarks, read_user_log
from stream.items import ItemTable
from stream.journal import apply_entry
from stream.replay import open_partition, read_records
from stream.rows import read_rows
from stream.shares import Share, listening, share_out
from stream.wire import (
    CHURN_ALERTS,
    LIFECYCLE,
    RECOMMENDATIONS,
    ChurnAlert,
    Recommendation,
    Transition,
    UserRow,
)

#: Events left out, one at a time, unless the caller wants more: the last ones before the list.
LEFT_OUT_DEFAULT: Final = 50

#: A score moves in the fifth digit by rounding alone.
SCORE_EPSILON: Final = 1e-5


class Change(msgspec.Struct, kw_only=True):
    """What leaving one event out does to a list."""

    event_time: int
    event_type: str
    item_id: str | None
    #: Items that the list has because of the event, and those that it has not.
    brought: list[str]
    kept_out: list[str]
    #: By how much the event raised the score of each item that is scored either way.
    raised: dict[str, float]
    #: Without the event there would be no list at all.
    made_the_list: bool = False

    @property
    def weight(self) -> tuple[bool, int, float]:
        """The most telling first: made the list, exchanged items, moved scores."""
        shift = sum(map(abs, self.raised.values())) / max(1, len(self.raised))
        return self.made_the_list, len(self.brought) + len(self.kept_out), shift

    @property
    def moved(self) -> bool:
        """Whether leaving the event out changes anything."""
        return self.made_the_list or bool(self.brought or self.kept_out) or self.weight[2] > SCORE_EPSILON


class Influence(Change, kw_only=True):
    """What leaving one event of the log out does to the last list."""

    offset: int


class Explanation(msgspec.Struct):
    """One user, as of the end of the log."""

    user_id: str
    records: dict[str, int]  # accepted, duplicates, and dead letters by reason
    watermark: int | None
    user: UserRow | None  # none for someone forgotten, or who was only ever contacted
    transitions: list[Transition]
    alerts: list[ChurnAlert]
    last_list: Recommendation | None
    left_out: int  # how many events were left out, one at a time
    moved_by: list[Influence]  # those that moved the last list, the most telling first
    shares: list[Share] = []  # what the scores of the last list are made of

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self)).decode()


def explain_user(
    user: str,
    input: str,
    config: Config,
    bundle: Path | None,
    *,
    now_ms: int | None = None,
    items: Path | None = None,
    left_out_max: int = LEFT_OUT_DEFAULT,
) -> Explanation:
    """Explain a user from the file `input` (`.gz`, or `-` for standard input).

    Raises UsageError if the file has no event of the user, InputError if it cannot be read, BundleError if
    the bundle is damaged.
    """
    model = open_bundle(bundle) if bundle else None
    batches = read_records(input, config.worker.batch_records_max, now_ms)
    log = read_user_log(user.encode(errors="surrogateescape"), batches, config)
    if not log.own:
        remedy = "check the id's spelling, and with `ebbtide replay` whether its records became dead letters"
        raise UsageError("no event of this user", place=input, remedy=remedy)
    partition, table = open_partition(config, model, items)
    return Explainer(user, log, partition, table, config).explain(left_out_max)


class Explainer:
    """Folds one user's log, and folds it again with records left out."""

    def __init__(
        self, user: str, log: UserLog, partition: Partition, items: ItemTable, config: Config
    ) -> None:
        self._user, self._log = user, log
        self._partition, self._items, self._config = partition, items, config

    def explain(self, left_out_max: int) -> Explanation:
        """Fold the log once for what is, and once more for what would have been."""
        table = self._partition.table
        start = table.savepoint()
        model = self._partition.model
        with listening(model) as heard:
            explanation = self._fold()
        last = explanation.last_list
        if last is not None and model is not None:
            explanation.shares = share_out(model, heard, [item.item_id for item in last.items])
        if last is not None:
            table.rollback(start)
            explanation.moved_by = self._leave_out(last, left_out_max, explanation)
        return explanation

    def _fold(self) -> Explanation:
        explanation = Explanation(
            user_id=self._user, records={}, watermark=None, user=None, transitions=[], alerts=[],
            last_list=None, left_out=0, moved_by=[],
        )  # fmt: skip
        for part in self._walk(0, self._log.watermarks()):
            tally = part.tally
            counted = {"accepted": tally.accepted, "duplicates": tally.duplicates, **tally.dead_letters}
            for name, count in counted.items():
                explanation.records[name] = explanation.records.get(name, 0) + count
            for output in part.outputs:
                if output.topic == LIFECYCLE:
                    explanation.transitions.append(msgspec.json.decode(output.value or b"", type=Transition))
                elif output.topic == CHURN_ALERTS:
                    explanation.alerts.append(msgspec.json.decode(output.value or b"", type=ChurnAlert))
                elif output.topic == RECOMMENDATIONS:
                    explanation.last_list = _decode_list(output.value)
        explanation.user = self._read_row()
        watermark = self._partition.watermark
        explanation.watermark = None if watermark == NEVER else watermark
        return explanation

    def _walk(
        self, start: int, watermarks: Watermarks, stop: int | None = None, *, without: int | None = None
    ) -> Iterator[Slice]:
        """Apply own records from `start` on, up to `stop` or, without it, to the end of the log.

        without: an own record that is left out; what the journal says before it is not.
        """
        own = self._log.own
        if without is not None:
            yield from self._take_entries(without, watermarks)
        for j in range(start, len(own) if stop is None else stop):
            yield from self._take_entries(j, watermarks)
            yield from self._advance(own[j].offset, watermarks.before(own[j].place))
            yield from self._partition.apply(own[j].records)
        if stop is None:
            yield from self._take_entries(len(own), watermarks)
            yield from self._advance(self._log.next_offset, watermarks.end)

    def _take_entries(self, j: int, watermarks: Watermarks) -> Iterator[Slice]:
        """Let the journal's entries before own record j take effect."""
        for place, entry in self._log.entries[j]:
            yield from self._advance(entry.offset, watermarks.before(place))
            yield from apply_entry(self._partition, entry)

    def _advance(self, offset: int, watermark: int) -> Iterator[Slice]:
        if watermark > self._partition.watermark:
            yield from self._partition.advance(offset, watermark)

    def _read_row(self) -> UserRow | None:
        slots = np.asarray(self._partition.table.slots())
        rows = read_rows(self._partition, self._config, self._items, slots, [self._user.encode()])
        return next(rows, None) if len(slots) else None

    def _leave_out(self, last: Recommendation, most: int, explanation: Explanation) -> list[Influence]:
        """Leave each of the last events before the list out, and compare the lists."""
        own, table = self._log.own, self._partition.table
        source = self._partition.emitter.source
        trigger = next((j for j, record in enumerate(own) if last.rec_id == source(record.offset)), None)
        # A win-back has no record: everything may have led to it, and the log is walked to its end.
        stop = None if trigger is None else trigger + 1
        candidates = range(len(own) if trigger is None else trigger)[-most:] if most else range(0)
        explanation.left_out = len(candidates)
        watermarks = self._log.watermarks()
        found = []
        done = 0
        for j in candidates:
            self._hush(self._walk(done, watermarks, j))
            done = j
            savepoint = table.savepoint()
            without = self._log.watermarks(without=j)
            if trigger is None:
                rest = self._walk(j + 1, without, stop, without=j)
            else:  # nobody reads the lists before the one that is compared
                self._hush(self._walk(j + 1, without, trigger, without=j))
                rest = self._walk(trigger, without, stop)
            other = None
            for part in rest:
                for output in part.outputs:
                    if output.topic == RECOMMENDATIONS:
                        made = _decode_list(output.value)
                        if trigger is None or made.rec_id == last.rec_id:
                            other = made
            table.rollback(savepoint)
            found.append(compare(own[j], last, other))
        return sorted((influence for influence in found if influence.moved), key=_weight, reverse=True)

    def _hush(self, slices: Iterator[Slice]) -> None:
        """Apply without making lists or outputs: they change nothing in the table."""
        self._partition.quiet = True
        try:
            for _ in slices:
                pass
        finally:
            self._partition.quiet = False


def compare(record: OwnRecord, last: Recommendation, other: Recommendation | None) -> Influence:
    """Say what a record did to a list, given the list without it."""
    ours = {item.item_id: item.score for item in last.items}
    theirs = {} if other is None else {item.item_id: item.score for item in other.items}
    return Influence(
        offset=record.offset,
        event_time=record.event_time_ms,
        event_type=record.kind,
        item_id=record.item,
        brought=[item for item in ours if item not in theirs] if other else [],
        kept_out=[item for item in theirs if item not in ours],
        raised={item: score - theirs[item] for item, score in ours.items() if item in theirs},
        made_the_list=other is None,
    )


def _weight(influence: Influence) -> tuple[bool, int, float]:
    return influence.weight


def _decode_list(value: bytes | None) -> Recommendation:
    return msgspec.json.decode(value or b"", type=Recommendation)
