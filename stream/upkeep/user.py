"""One user of a running group: as committed now, or as of an offset of the log.

now    the row is restored from the user_state topic and the log behind it, as a worker would; what led to
       it is folded again if the log still reaches back to where the group began, else read from the
       output topics as far as those reach
at     the user's own records up to an offset are folded, with everyone's watermark (`explain_log.py`)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import msgspec
import numpy as np

from stream.broker import Broker
from stream.bundle import open_bundle
from stream.clock import Clock
from stream.commits import Commit
from stream.config import Config
from stream.core.events import NEVER
from stream.errors import UsageError
from stream.explain import LEFT_OUT_DEFAULT, Explainer, Explanation
from stream.explain_log import read_user_log
from stream.journal import Entry, RulesChange
from stream.partitioner import partition_of
from stream.records import RecordBatch
from stream.rows import read_rows
from stream.upkeep.catalogue_now import load_catalogue
from stream.upkeep.journal_read import read_entries
from stream.upkeep.logs import count_partitions, ranges, read_log
from stream.upkeep.restored import Restored, restore
from stream.wire import CHURN_ALERTS, LIFECYCLE, RECOMMENDATIONS, ChurnAlert, Recommendation, Transition
from stream.workshop import Workshop

T = TypeVar("T")

#: The output topics that say what happened to a user, with what their records are.
_TOLD: Final[dict[str, Any]] = {
    LIFECYCLE: Transition,
    CHURN_ALERTS: ChurnAlert,
    RECOMMENDATIONS: Recommendation,
}


class Look(msgspec.Struct):
    """What is known of a user: where, as of which offset, and what is to be said about its origin."""

    user_id: str
    partition: int
    offset: int  # the next record that is not in it
    committed: bool  # the row is the committed one; else it is folded from the log
    notes: list[str]
    explanation: Explanation

    def to_json(self) -> str:
        return msgspec.json.format(msgspec.json.encode(self)).decode()


class Looker:
    """Looks up one user. Raises UsageError if nothing is known of the user, StateError as a restore would."""

    def __init__(self, config: Config, broker: Broker, user: str, clock: Clock) -> None:
        self._config, self._broker, self._clock, self._user = config, broker, clock, user
        self._topic = config.topics.events
        self._count = count_partitions(broker, self._topic, clock)
        self._id = user.encode(errors="surrogateescape")
        self.partition = partition_of(self._id, self._count)
        self._workshop = Workshop(config, open_bundle(config.bundle.path) if config.bundle.path else None)
        load_catalogue(config, broker, self._workshop, clock)

    def look(self, at: int | None = None, left_out_max: int = LEFT_OUT_DEFAULT) -> Look:
        """Look at the user as committed now, or as of an offset; leave so many events out to see why."""
        restored = self._restore()
        commit = restored.commit
        if commit is None:
            remedy = "start a worker, or fold a file with `ebbtide explain`"
            raise UsageError("nothing was committed yet", place=self._place, remedy=remedy)
        log = ranges(self._broker, self._topic, self._numbers, self._clock)[self.partition]
        whole = commit.begun is not None and log.start <= commit.begun
        if at is not None:
            return self._rebuild(at, commit, log.end, whole, left_out_max)
        look = self._look_now(restored, commit)
        if whole:
            self._add_fold(look, commit, left_out_max)
        else:
            self._add_outputs(look, log.start)
        if look.explanation.user is None and not look.explanation.transitions:
            remedy = "check the id's spelling; `ebbtide dlq list` says whether records became dead letters"
            raise UsageError("no such user", place=self._place, remedy=remedy)
        return look

    @property
    def _place(self) -> str:
        return f"{self._topic}-{self.partition}"

    @property
    def _numbers(self) -> range:
        return range(self.partition, self.partition + 1)

    def _restore(self) -> Restored:
        source = self._broker.source()
        try:
            return restore(
                self._config, self._workshop, self._broker, source, self.partition, self._count, self._clock
            )
        finally:
            source.close()

    # ------------------------------------------------------------------------------------- as it is now

    def _look_now(self, restored: Restored, commit: Commit) -> Look:
        engine = restored.engine
        table, watermark = engine.table, engine.watermark
        slots = [slot for slot in table.slots().tolist() if table.row_id(slot) == self._id]
        rows = read_rows(engine, self._config, engine.items, np.array(slots, np.int64), [self._id])
        explanation = Explanation(
            user_id=self._user, records={}, watermark=None if watermark == NEVER else watermark,
            user=next(rows, None) if slots else None, transitions=[], alerts=[], last_list=None, left_out=0,
            moved_by=[],
        )  # fmt: skip
        return Look(self._user, self.partition, commit.at.offset, True, [], explanation)

    def _add_fold(self, look: Look, commit: Commit, left_out_max: int) -> None:
        """Add how the row came about: the log folded again up to the commit."""
        entries = read_entries(self._broker, self._config, self.partition, commit.at.entries, self._clock)
        folded = self._fold(commit, look.offset, entries, left_out_max)
        changed = max((entry.offset for entry in entries if isinstance(entry, RulesChange)), default=None)
        if folded is None:
            return
        if changed is not None:
            look.notes.append(
                f"rules changed at offset {changed}: what was before is shown by the present ones"
            )
        elif folded.user != look.explanation.user:
            look.notes.append("the log folded again gives another row: `ebbtide verify` says what differs")
        look.explanation = msgspec.structs.replace(folded, user=look.explanation.user)

    def _add_outputs(self, look: Look, log_start: int) -> None:
        """Add what the output topics still say."""
        look.notes.append(
            f"the log begins at offset {log_start}, and no longer where the group began: transitions, alerts "
            "and the last list are those that the output topics keep; what moved the list cannot be told"
        )
        explanation = look.explanation
        told = {role: list(self._read_outputs(role)) for role in _TOLD}
        explanation.transitions, explanation.alerts = told[LIFECYCLE], told[CHURN_ALERTS]
        explanation.last_list = next(reversed(told[RECOMMENDATIONS]), None)

    def _read_outputs(self, role: str) -> Iterator[Any]:
        topic = getattr(self._config.topics, role)
        decode = msgspec.json.Decoder(_TOLD[role]).decode
        kept = ranges(self._broker, topic, self._numbers, self._clock)[self.partition]
        for batch in read_log(self._broker, topic, self.partition, kept.start, kept.end, self._clock):
            for key, value in zip(batch.keys, batch.values, strict=True):
                if key == self._id:
                    yield decode(value or b"")

    # --------------------------------------------------------------------------------- as of an offset

    def _rebuild(self, at: int, commit: Commit, end: int, whole: bool, left_out_max: int) -> Look:
        if not whole or commit.begun is None:
            what = "the log no longer reaches back to where the group began: no earlier state can be rebuilt"
            raise UsageError(what, place=self._place, remedy="without --at the committed state is shown")
        if not commit.begun <= at <= end:
            what = f"there is no offset {at} in what the group has read"
            remedy = f"offsets from {commit.begun} to {end} can be named"
            raise UsageError(what, place=self._place, remedy=remedy)
        entries = read_entries(self._broker, self._config, self.partition, commit.at.entries, self._clock)
        explanation = self._fold(commit, at, [e for e in entries if e.offset <= at], left_out_max)
        if explanation is None:
            raise UsageError("no record of this user before that offset", place=self._place)
        return Look(self._user, self.partition, at, False, [], explanation)

    def _fold(self, commit: Commit, at: int, entries: list[Entry], left_out_max: int) -> Explanation | None:
        """Fold the user's records up to an offset; None if there are none."""
        log = read_user_log(self._id, self._read_events(commit.begun or 0, at), self._config, entries)
        if not log.own:
            return None
        engine = self._workshop.partition(self._topic, self.partition, undo=True, snapshots=False)
        return Explainer(self._user, log, engine, engine.items, self._config).explain(left_out_max)

    def _read_events(self, start: int, end: int) -> Iterator[RecordBatch]:
        return read_log(self._broker, self._topic, self.partition, start, end, self._clock)
