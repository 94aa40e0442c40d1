"""The journal: what entered the fold and is not in the event log, each with the place where it took effect.

    idle     event time went on in a partition that was silent
    rules    the meaning of the config changed: every deadline is set anew, what is due rings
    model    another bundle encodes: states begin anew
    erase    a user was removed

One topic, partition = input partition. An entry at `offset` X takes effect after record X − 1 and before
record X; several at one offset in their order. It is produced in the transaction of its outputs, so it is
there if and only if they are. `n` counts a partition's entries from 0: the commit record says how many of
them its state holds, as nobody knows an offset in the journal before its transaction ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
from msgspec import Struct

from stream.core import catching_up
from stream.engine import Partition, Slice
from stream.records import Output
from stream.renew import renew_states
from stream.stored import decode_stored

JOURNAL: Final = "journal"
SCHEMA: Final = b"journal/1"


class Idle(Struct, frozen=True, tag_field="entry", tag="idle"):
    """The watermark moves without an event."""

    offset: int
    watermark: int
    n: int = -1


class RulesChange(Struct, frozen=True, tag_field="entry", tag="rules"):
    """From here on another meaning of the config holds (`Config.meaning`)."""

    offset: int
    before: str
    after: str
    n: int = -1


class ModelChange(Struct, frozen=True, tag_field="entry", tag="model"):
    """From here on another bundle encodes; None is no model."""

    offset: int
    before: str | None
    after: str | None
    n: int = -1


class Erase(Struct, frozen=True, tag_field="entry", tag="erase"):
    """The user is removed. Events that come later make a new row."""

    offset: int
    user_id: str
    n: int = -1


Entry = Idle | RulesChange | ModelChange | Erase

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Entry).decode


def write_entry(entry: Entry, partition: int) -> Output:
    return Output(JOURNAL, partition, None, _encode(entry), [("schema", SCHEMA)])


def read_entry(value: bytes | None, *, place: str) -> Entry:
    """Return the entry. Raises StateError, naming `place`, if it is none that this version knows."""
    entry: Entry = decode_stored(_decode, value, "a journal entry", place=place)
    return entry


def apply_entry(partition: Partition, entry: Entry) -> Iterator[Slice]:
    """Let the entry take effect, on the rows that do not hold it yet; yield what is to be produced.

    The timers of what came before must have rung.
    """
    if isinstance(entry, Idle):
        yield from partition.advance(entry.offset, entry.watermark)
        return
    table = partition.table
    if isinstance(entry, RulesChange):
        table.reserve(len(table), 0, 0, timers=len(table))
        catching_up.change_rules(partition.rules, table.users, table.undo, table.clock, entry.offset)
    elif isinstance(entry, ModelChange):
        catching_up.change_model(table.users, table.clock, entry.offset)
        renew_states(partition, int(table.clock[0].applied))
    else:
        table.reserve(1, 0, 0)
        user = np.frombuffer(entry.user_id.encode(), np.uint8)
        catching_up.erase(table.users, table.undo, table.clock, entry.offset, user)
    yield from partition.ring_on(entry.offset)
