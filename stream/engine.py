"""One partition, from records to outputs: decode, fold, encode, score, emit.

`Partition.apply` is the whole of Ebbtide between a source and a sink: the worker, `replay`, `explain`,
`verify` and the tests all go through it. It yields slices: as much of the batch as one fold call took, with
what it asks to be produced. Between two slices the state is whole, so a commit may fall there.

Poison: what the core refuses is put back, the slice is halved until the bad record stands alone, and the rest
goes on. The bad record still moves the watermark, as that depends on the log alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np

from stream import emit
from stream.clock import Clock, SystemClock
from stream.codec import Decoded, Decoder
from stream.config import Config
from stream.core import fold as core
from stream.core.effects import ALERT, BY_TIMER, LIST, TRANSITION, Folded, allocate
from stream.core.events import ACCEPTED, DUPLICATE, FROM_FUTURE, NEVER, EventBatch
from stream.core.lifecycle import STATES, STATUSES
from stream.core.rules import HOUR_MS
from stream.core.table import UserTable
from stream.core.waves import run_waves
from stream.dead_letters import FROM_FUTURE as FROM_FUTURE_REASON
from stream.dead_letters import POISON, TOO_LATE, DeadLetter
from stream.items import ItemTable
from stream.model import Model, RankedList, Reads
from stream.records import Output, RecordBatch
from stream.semantics import make_rules
from stream.tested import Tested

#: An event is live if its time lies within an hour of its record's timestamp.
LIVE_WITHIN_MS: Final = HOUR_MS
#: Effects that a fold call has room for, beside those of its events' own.
EFFECTS_MIN: Final = 4096


class Tally:
    """What a run of slices did, so that it adds up: records in = accepted + duplicates + dead letters."""

    def __init__(self) -> None:
        self.accepted = 0
        self.duplicates = 0
        self.late = 0
        self.throttled = 0
        self.times_missing = 0
        self.dead_letters: Counter[str] = Counter()
        self.transitions: Counter[str] = Counter()
        self.alerts: Counter[str] = Counter()
        self.lists: Counter[str] = Counter()  # by policy
        self.seconds: dict[str, float] = defaultdict(float)  # by stage
        self.listed: set[int] = set()  # items of the lists

    @property
    def records_in(self) -> int:
        return self.accepted + self.duplicates + self.dead_letters.total()

    def count(self, effects: Any, lists: Sequence[RankedList]) -> None:
        """Count what is produced of EFFECT[E]."""
        changes, alerts, read = (effects[effects.what == what] for what in (TRANSITION, ALERT, LIST))
        for (before, to), n in Counter(
            zip(changes.before.tolist(), changes.to.tolist(), strict=True)
        ).items():
            self.transitions[f"{STATES[before]}>{STATES[to]}"] += n
        for status, n in Counter(alerts.status.tolist()).items():
            self.alerts[STATUSES[status]] += n
        for i in read.read.tolist():
            self.lists[lists[i].policy] += 1
            self.listed.update(lists[i].items)

    def add(self, other: Tally) -> None:
        for stage, seconds in other.seconds.items():
            self.seconds[stage] += seconds
        for name, value in vars(other).items():
            if isinstance(value, Counter | set):
                getattr(self, name).update(value)
            elif isinstance(value, int):
                setattr(self, name, getattr(self, name) + value)


class Slice(NamedTuple):
    """Part of a batch, applied. `next_offset` is the first record that is not part of it."""

    outputs: list[Output]
    next_offset: int
    tally: Tally


class Partition:
    """The users of one partition and everything that happens to them.

    `undo` keeps the way back that transactions and poison need; `snapshots` notes which rows are dirty. A
    partition of a file without a model can do without both.
    """

    def __init__(
        self,
        config: Config,
        decoder: Decoder,
        items: ItemTable,
        model: Model | None,
        *,
        topic: str,
        partition: int,
        undo: bool = True,
        snapshots: bool = False,
        clock: Clock | None = None,
    ) -> None:
        contexts = len(model.contexts) if model else 0
        hazard = model is not None and model.tells_risk
        self.rules = make_rules(config, model=model is not None, contexts=contexts, hazard=hazard)
        self.table = UserTable(self.rules, model.state_size if model else 0, undo=undo, snapshots=snapshots)
        self.topic, self.partition = topic, partition
        self.emit_from_ms = NEVER
        self.last_event_live = False  # the last event's time lay close to its record's timestamp
        #: Offsets of records from before `emit_from`: their effects, timers included, are not produced.
        self.silent: list[int] = []
        self.items, self.model = items, model
        self.tested: Tested | None = None  # for a worker's metrics: last lists against what came next
        self.emitter = emit.Emitter(topic, partition)
        self._decoder = decoder
        self._now_s = (clock or SystemClock()).monotonic_s
        self.timers_max = config.worker.timers_max
        #: A restore replays without outputs, and without states that a new bundle will begin anew.
        self.quiet, self.encoding = False, True
        self._features = len(model.feature_names) if model else 0
        self._events_max = 0
        self._folded = allocate(0, 0, 0)

    @property
    def watermark(self) -> int:
        """Event time up to which silence is decided, NEVER before the first event."""
        return int(self.table.clock[0].watermark)

    def apply(self, records: RecordBatch) -> Iterator[Slice]:
        """Apply the records, slice by slice, in offset order."""
        tally = Tally()
        with self.timed("decode", tally):
            decoded = self._decoder.decode(records)
        tally.times_missing = decoded.times_missing
        self._note_liveness(decoded.events)
        self._note_silence(records)
        writer = Writer(self, records, decoded, tally)
        start, stop = 0, decoded.events.size
        while start < stop or self.ringing:
            try:
                start = self._fold(decoded.events, start, stop, writer)
            except FloatingPointError:
                if stop - start > 1 or self.ringing:  # timers of the record before belong to its offset
                    stop = start + (stop - start) // 2
                    continue
                start = self._skip_poison(decoded.events, start, writer)
            yield writer.slice(start)
            if start >= stop:
                stop = decoded.events.size
        yield writer.slice(start)

    def _note_liveness(self, events: EventBatch) -> None:
        if events.size:
            age_ms = int(events.record_time_ms[-1]) - int(events.event_time_ms[-1])
            self.last_event_live = abs(age_ms) <= LIVE_WITHIN_MS

    def _note_silence(self, records: RecordBatch) -> None:
        emit_from_ms = self.emit_from_ms
        if emit_from_ms == NEVER:
            return
        timestamps = zip(records.offsets, records.timestamps_ms, strict=True)
        self.silent = [offset for offset, timestamp_ms in timestamps if timestamp_ms < emit_from_ms]

    def advance(self, offset: int, watermark: int) -> Iterator[Slice]:
        """Move the watermark before the record at `offset` without an event: an idle step."""
        decoded, writer = self._nothing()
        self.silent = []
        self._ring(decoded.events, offset, watermark, writer)
        yield writer.slice(0, offset)
        yield from self.ring_on(offset)

    def ring_on(self, offset: int) -> Iterator[Slice]:
        """Ring the timers that are still due; `offset` is that of the next record."""
        decoded, writer = self._nothing()
        while self.ringing:
            self._fold(decoded.events, 0, 0, writer)
            yield writer.slice(0, offset)

    def _nothing(self) -> tuple[Decoded, Writer]:
        records = RecordBatch(self.topic, self.partition, [], [], [], [], [])
        decoded = self._decoder.decode(records)
        return decoded, Writer(self, records, decoded, Tally())

    @property
    def ringing(self) -> bool:
        """Whether timers are still due at the offset applied last."""
        return bool(self.table.clock[0].ringing)

    def _fold(self, events: EventBatch, start: int, stop: int, writer: Writer) -> int:
        """Apply events from `start` on, encode and emit; return the first event that is still to do."""
        table = self.table
        savepoint = table.savepoint()
        part = events if stop == events.size else events.slice(0, stop)
        folded = self._room(events, stop)
        try:
            with self.timed("fold", writer.tally):
                reached = core.fold(
                    self.rules, part, table.users, table.undo, table.clock, folded, start, self.timers_max
                )
            self._finish(folded, writer, start, reached)
        except FloatingPointError:
            table.rollback(savepoint)
            raise
        return int(reached)

    def _ring(self, events: EventBatch, offset: int, watermark: int, writer: Writer) -> None:
        folded = self._room(events, 0)
        table = self.table
        core.advance(
            self.rules, table.users, table.undo, table.clock, folded, offset, watermark, self.timers_max
        )
        self._finish(folded, writer, 0, 0)

    def _skip_poison(self, events: EventBatch, i: int, writer: Writer) -> int:
        """Let the watermark pass event i, which the core refused, and bury it."""
        clock = self.table.clock[0]
        clock.event_time_max = max(int(clock.event_time_max), int(events.event_time_ms[i]))
        watermark = int(clock.event_time_max) - self.rules.out_of_order_max_ms
        self._ring(events, int(events.offset[i]), watermark, writer)
        writer.bury(i, POISON)
        return i + 1

    def _room(self, events: EventBatch, count: int) -> Folded:
        """Return empty buffers for `count` events, growing them and the table if need be."""
        self.table.reserve(count, len(events.user_bytes), self.timers_max)
        if count > self._events_max or not len(self._folded.effects):
            self._events_max = max(count, self._events_max)
            self._folded = allocate(self._events_max, self._events_max + EFFECTS_MIN, self._features)
        self._folded.n[0] = 0
        return self._folded

    def _finish(self, folded: Folded, writer: Writer, start: int, reached: int) -> None:
        """Encode, score and emit what a fold call asked for."""
        lists: list[RankedList] = []
        risks: emit.Risks | None = None
        if self.model is not None and self.encoding:
            with self.timed("encode", writer.tally):
                states, looked = run_waves(self.table.users, folded, self.model.step)
                if self.rules.model_risk:
                    self._set_risk(folded)
            if len(states) and not self.quiet:
                with self.timed("score", writer.tally):
                    lists = self.model.rank(self._reads(folded, states))
            if len(looked) and not self.quiet:
                risks = self._risks(folded, looked)
        if not self.quiet:
            with self.timed("emit", writer.tally):
                writer.write(folded, start, reached, lists, risks)

    def _risks(self, folded: Folded, states: Any) -> emit.Risks:
        """Let the hazard head say how large the risk is that each alert tells of."""
        assert self.model is not None
        effects = folded.effects[: folded.n[0].effects]
        silent_ms = effects.silent_ms[effects.what == ALERT]
        return emit.Risks(self.model.risk(states, silent_ms).tolist(), self.model.horizon_ms)

    def _set_risk(self, folded: Folded) -> None:
        """Let the hazard head say how long each of the stepped users may stay silent."""
        assert self.model is not None
        slots = np.unique(folded.step_slot[: folded.n[0].steps])
        if len(slots):
            after_ms = self.model.silence_allowed_ms(self.table.users.state[slots])
            self.table.reserve(0, 0, 0, timers=len(slots))
            core.set_risk(self.rules, self.table.users, slots, after_ms)

    @contextmanager
    def timed(self, stage: str, tally: Tally) -> Iterator[None]:
        started = self._now_s()
        yield
        tally.seconds[stage] += self._now_s() - started

    def _reads(self, folded: Folded, states: Any) -> Reads:
        reads = len(states)
        effects = folded.effects[: folded.n[0].effects]
        listed = effects[effects.what == LIST]
        return Reads(
            state=states,
            features=folded.features[folded.read_features[:reads]],
            lifecycle=listed.to.astype(np.int32),
            recent=folded.read_recent[:reads],
            converted=folded.read_converted[:reads],
        )


class Writer:
    """Turns statuses and effects into outputs, in the order of application, and keeps the tally."""

    def __init__(self, partition: Partition, records: RecordBatch, decoded: Decoded, tally: Tally) -> None:
        self._partition = partition
        self._records, self._decoded = records, decoded
        self._dead = decoded.dead
        self._dead_written = 0
        self._outputs: list[Output] = []
        self.tally = tally

    def slice(self, reached: int, offset: int | None = None) -> Slice:
        """Take what has been written since the last slice; `reached` is the next event to do."""
        rows, offsets = self._decoded.rows, self._records.offsets
        row = rows[reached] if reached < len(rows) else len(offsets)
        self._bury_before(row)
        if offset is None:
            offset = offsets[row] if row < len(offsets) else offsets[-1] + 1 if offsets else 0
        taken = Slice(self._outputs, offset, self.tally)
        self._outputs, self.tally = [], Tally()
        return taken

    def bury(self, event: int, reason: str) -> None:
        row = self._decoded.rows[event]
        self._bury_before(row)
        self._bury(DeadLetter(row, reason))

    def write(
        self, folded: Folded, start: int, reached: int, lists: list[RankedList], risks: emit.Risks | None
    ) -> None:
        status = folded.status[start:reached]
        self.tally.late += int(folded.n[0].late)
        self.tally.throttled += int(folded.n[0].throttled)
        self.tally.accepted += int((status == ACCEPTED).sum())
        self.tally.duplicates += int((status == DUPLICATE).sum())
        for i in np.flatnonzero(status > DUPLICATE).tolist():
            self.bury(start + i, FROM_FUTURE_REASON if status[i] == FROM_FUTURE else TOO_LATE)
        if folded.n[0].effects:
            self._write_effects(folded.effects[: folded.n[0].effects], lists, risks)

    def _write_effects(self, effects: Any, ranked: list[RankedList], risks: emit.Risks | None) -> None:
        partition, model = self._partition, self._partition.model
        if partition.silent:
            effects = effects[~np.isin(effects.offset, partition.silent)]
        lists = emit.NO_LISTS
        if model is not None and ranked:
            items = emit.encode_lists(partition.items, [(made.items, made.scores) for made in ranked])
            policies = [made.policy for made in ranked]
            lists = emit.Lists(policies, items, model.version, model.catalogue)
        self._outputs += partition.emitter.emit(effects, partition.table.users.ids, lists, risks)
        self.tally.count(effects, ranked)
        if partition.tested is not None and ranked:
            self._test(effects[effects.what == LIST], ranked, partition.tested)

    def _test(self, effects: Any, ranked: list[RankedList], tested: Tested) -> None:
        """Judge each user's last list by the event that asks for the next one."""
        table, items = self._partition.table, self._decoded.events.item
        columns = (effects[name].tolist() for name in ("event", "slot", "read"))
        for event, slot, read in zip(*columns, strict=True):
            user = table.row_id(slot)
            if event != BY_TIMER:
                tested.judge(user, int(items[event]))
            tested.learn(user, ranked[read].items)

    def _bury_before(self, row: int) -> None:
        dead = self._dead
        while self._dead_written < len(dead) and dead[self._dead_written].row < row:
            self._bury(dead[self._dead_written])
            self._dead_written += 1

    def _bury(self, dead: DeadLetter) -> None:
        self.tally.dead_letters[dead.reason] += 1
        self._outputs.append(self._partition.emitter.dead_letter(self._records, dead))
