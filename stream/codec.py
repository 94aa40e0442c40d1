"""Decoding: the bytes of a batch of records to columns of events, and the rest to dead letters.

Each record is read by one call of a compiled JSON parser into a struct that already knows types, ranges and
the vocabulary; what the parser cannot tell (UTF-8 in skipped fields, levels, the text of a time, the key) is
tested for the whole batch at once. Whatever any of these refuses goes to `stream.strict`, which finds the
reason, or accepts it after all. So the fast path need not know why, but must accept nothing that `Strict`
refuses: a property that the tests hold it to.

Owns nothing but the item table's growth: equal records give equal events, and a refused record leaves no
trace but its dead letter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple, TypeVar, cast

import msgspec
import numpy as np
import numpy.typing as npt

from stream.core.events import USER_ID_BYTES_MAX, EventBatch
from stream.core.hashing import fnv1a_all
from stream.dead_letters import LEVELS_MAX, RECORD_BYTES_MAX, DeadLetter, Refusal
from stream.errors import InvariantError
from stream.items import ItemTable
from stream.records import RecordBatch
from stream.scan import NOT_ASCII, suspects
from stream.strict import Strict, is_event_time
from stream.times import UNREADABLE, parse_times
from stream.wire import Event, Scalar, event_type

#: The topic of records that are lines of a file: no key is tested, and event_time is required.
FILE: Final = "file"

#: Whatever the parser throws at a record only means: ask the slow path.
_REFUSALS: Final = (msgspec.MsgspecError, ValueError, RecursionError)

#: Holds the place of a record that the fast path refused; never leaves this module.
_NO_EVENT: Final = Event(user_id="", event_type="")

_NO_NUMBERS: Final = (str, type(None))

_FLOAT32_MAX: Final = float(np.finfo(np.float32).max)

Mask = npt.NDArray[np.bool_]
Times = npt.NDArray[np.int64]
T = TypeVar("T")


class Decoded(NamedTuple):
    """What became of the records of a batch: B events, and dead letters for all the others, in row order."""

    events: EventBatch
    rows: list[int]  # [B] the event's row in the record batch
    dead: list[DeadLetter]
    times_missing: int  # events that took their record's timestamp, having none
    session_id: list[str | None]  # [B]
    rec_id: list[str | None]  # [B]
    position: list[int | None]  # [B]


class Pieces(NamedTuple):
    """Strings as bytes laid end to end: the i-th is data[start[i]:start[i + 1]]."""

    data: bytes
    start: Times  # [B + 1]

    @property
    def array(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self.data, np.uint8)

    def split(self) -> list[bytes]:
        return [self.data[a:b] for a, b in pairwise(self.start.tolist())]


class Decoder:
    """Decodes the records of the events topic under one config.

    kinds: the vocabulary in the order of the kinds' indices (a dict kind → role will do).
    fields: contract name → name in the producers' records, where they differ.
    context: the context entries that the bundle names, in the order of the columns. An entry with a
    vocabulary becomes 1 + the string's place in it, any other the number itself (true is 1); 0 is unknown.

    Raises ValueError for no kinds, and for a mapping that is none.
    """

    def __init__(
        self,
        kinds: Iterable[str],
        items: ItemTable,
        *,
        fields: Mapping[str, str] | None = None,
        context: Sequence[str] = (),
        vocabularies: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        names = dict(fields or {})
        self._kind_of = {kind: i for i, kind in enumerate(kinds)}
        if not self._kind_of:
            raise ValueError("a decoder needs a vocabulary of at least one kind")
        self._items = items
        self._decode = msgspec.json.Decoder(event_type(tuple(self._kind_of), names)).decode
        self._strict = Strict(tuple(self._kind_of), names)
        self._codes = {
            name: {word: 1.0 + i for i, word in enumerate((vocabularies or {}).get(name, ()))}
            for name in context
        }

    def decode(self, batch: RecordBatch) -> Decoded:
        """Decode a batch; its rows are the accepted events' and the dead letters', each once."""
        rows, events, dead = self._read(batch)
        users = join_strings([event.user_id for event in events])
        times = self._times(batch, rows, events)
        refused = self._refused(batch, rows, users, times)
        if refused.any():
            dead += [self._bury(batch, rows[i]) for i in np.flatnonzero(refused).tolist()]
            dead.sort()
            kept = np.flatnonzero(~refused)
            rows, events, times = _pick(rows, kept), _pick(events, kept), times[kept]
            users = join_strings([event.user_id for event in events])
        return Decoded(
            events=self._columns(batch, rows, events, users, times),
            rows=rows,
            dead=dead,
            times_missing=sum([event.event_time is None for event in events]),
            session_id=[event.session_id for event in events],
            rec_id=[event.rec_id for event in events],
            position=[event.position for event in events],
        )

    def _read(self, batch: RecordBatch) -> tuple[list[int], list[Event], list[DeadLetter]]:
        """Parse every record, the fast way where it may be trusted, else the slow one."""
        decode = self._decode
        events: list[Event] = []
        append = events.append
        refused: list[int] = []
        for value in _trusted(batch.values):
            try:
                append(decode(value))
            except _REFUSALS:
                refused.append(len(events))
                append(_NO_EVENT)
        dead: list[DeadLetter] = []
        for row in refused:
            read = self._read_strictly(batch, row)
            if isinstance(read, Refusal):
                dead.append(DeadLetter(row, *read))
            else:
                events[row] = read
        if not dead:
            return list(range(len(events))), events, dead
        rows = [row for row, event in enumerate(events) if event is not _NO_EVENT]
        return rows, _pick(events, rows), dead

    def _read_strictly(self, batch: RecordBatch, row: int) -> Event | Refusal:
        return self._strict.read(
            batch.values[row],
            batch.keys[row],
            timestamp_ms=batch.timestamps_ms[row],
            in_file=batch.topic == FILE,
        )

    def _bury(self, batch: RecordBatch, row: int) -> DeadLetter:
        """Find the reason for a record that the tests on the whole batch refused."""
        read = self._read_strictly(batch, row)
        if not isinstance(read, Refusal):
            raise InvariantError(
                "the fast decoder refused a record as a whole that the strict one accepts",
                place=f"{batch.topic} partition {batch.partition} offset {batch.offsets[row]}",
                remedy="report it with the record; nothing of this batch was applied",
            )
        return DeadLetter(row, *read)

    def _times(self, batch: RecordBatch, rows: list[int], events: list[Event]) -> Times:
        """Return the event times, i64[B]; UNREADABLE where there is none to be had."""
        times: list[Any] = [event.event_time for event in events]
        types = set(map(type, times))
        if types == {int}:
            return np.array(times, np.int64)
        texts = times if types == {str} else [time if type(time) is str else "" for time in times]
        pieces = join_strings(texts)
        parsed: Times = parse_times(pieces.array, pieces.start)
        if types == {str}:
            return parsed
        for i, time in enumerate(times):
            if type(time) is int:
                parsed[i] = time
            elif time is None:
                timestamp_ms = batch.timestamps_ms[rows[i]]
                usable = batch.topic != FILE and is_event_time(timestamp_ms)
                parsed[i] = timestamp_ms if usable else UNREADABLE
        return parsed

    def _refused(self, batch: RecordBatch, rows: list[int], users: Pieces, times: Times) -> Mask:
        """Test at once what the parser could not: times, the bytes of the user_id, the key; bool[B]."""
        refused: Mask = (times == UNREADABLE) | (np.diff(users.start) > USER_ID_BYTES_MAX)
        if batch.topic != FILE:
            keys = batch.keys if len(rows) == len(batch.keys) else _pick(batch.keys, rows)
            refused |= _differ(keys, users)
        return refused

    def _columns(
        self, batch: RecordBatch, rows: list[int], events: list[Event], users: Pieces, times: Times
    ) -> EventBatch:
        whole = len(rows) == len(batch.offsets)
        kind_of = self._kind_of
        ids = join_strings([event.event_id or "" for event in events])
        return EventBatch(
            offset=np.array(batch.offsets if whole else _pick(batch.offsets, rows), np.int64),
            record_time_ms=np.array(
                batch.timestamps_ms if whole else _pick(batch.timestamps_ms, rows), np.int64
            ),
            event_time_ms=times,
            kind=np.array([kind_of[event.event_type] for event in events], np.uint8),
            user_bytes=users.array,
            user_start=users.start,
            item=self._items.intern_all([event.item_id for event in events]),
            event_id=fnv1a_all(ids.array, ids.start),
            value=np.array([event.value for event in events], np.float64),
            context=self._context(events),
        )

    def _context(self, events: list[Event]) -> npt.NDArray[np.float32]:
        """Return the columns that the bundle names, f32[B, C]."""
        columns = np.zeros((len(events), len(self._codes)), np.float64)
        if not self._codes:
            return columns.astype(np.float32)
        contexts = [event.context or {} for event in events]
        for column, (name, codes) in enumerate(self._codes.items()):
            if codes:
                words = cast("dict[Scalar, float]", codes)
                columns[:, column] = [words.get(context.get(name), 0.0) for context in contexts]
            else:
                entries = [context.get(name) for context in contexts]
                columns[:, column] = [0.0 if type(entry) in _NO_NUMBERS else entry for entry in entries]
        return np.clip(columns, -_FLOAT32_MAX, _FLOAT32_MAX).astype(np.float32)


def join_strings(strings: list[str]) -> Pieces:
    """Lay strings end to end as UTF-8."""
    text = "".join(strings)
    if text.isascii():
        data, lengths = text.encode(), map(len, strings)
    else:
        pieces = [string.encode() for string in strings]
        data, lengths = b"".join(pieces), map(len, pieces)
    return Pieces(data, _starts(lengths, len(strings)))


def _starts(lengths: Iterable[int], count: int) -> Times:
    start = np.zeros(count + 1, np.int64)
    np.cumsum(np.fromiter(lengths, np.int64, count), out=start[1:])
    return start


def _trusted(values: Sequence[bytes | None]) -> Sequence[bytes]:
    """Return the records with no bytes in place of those that the parser must not be trusted with."""
    present = [value or b"" for value in values] if None in values else cast("Sequence[bytes]", values)
    start = _starts(map(len, present), len(present))
    flags = suspects(np.frombuffer(b"".join(present), np.uint8), start, LEVELS_MAX)
    flagged = np.flatnonzero((flags != 0) | (np.diff(start) > RECORD_BYTES_MAX)).tolist()
    if not flagged:
        return present
    trusted = list(present)
    for row in flagged:
        value = present[row]
        if flags[row] != NOT_ASCII or len(value) > RECORD_BYTES_MAX or not _is_utf8(value):
            trusted[row] = b""
    return trusted


def _is_utf8(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _differ(keys: Sequence[bytes | None], users: Pieces) -> Mask:
    """Return where the key is not the user's id, bool[B]. Mostly the answer is nowhere, found in one go."""
    if None not in keys:
        present = cast("Sequence[bytes]", keys)
        if b"".join(present) == users.data and np.array_equal(
            _starts(map(len, present), len(present)), users.start
        ):
            return np.zeros(len(keys), np.bool_)
    return np.array([key != user for key, user in zip(keys, users.split(), strict=True)], np.bool_)


def _pick(column: Sequence[T], rows: Iterable[int]) -> list[T]:
    return [column[row] for row in rows]
