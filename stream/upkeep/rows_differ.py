"""Users of two partitions held against each other: all that a row holds, to the last bit.

Rows are compared as the snapshot writes them, which leaves out where a table keeps them and names items by
their ids. Only the encoder's state may differ by what another batching does to the last digits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

import numpy as np

from stream.config import Config
from stream.core.dirty import LIVE
from stream.core.persist import FRAME, FRAME_BYTES
from stream.engine import Partition
from stream.rows import read_rows
from stream.snapshot_format import SnapshotFormat

#: Encoder states, as scores, are equal within this.
STATE_TOLERANCE: Final = 1e-5


class RowDifference(NamedTuple):
    """One user who is not what the log says."""

    user_id: str
    what: str


def encode_users(partition: Partition, config: Config) -> dict[bytes, bytes]:
    """Return every user's row as a snapshot writes it, by user_id."""
    table = partition.table
    slots = table.slots().astype(np.int32)
    words = np.full(len(slots), LIVE, np.uint8)
    rows = SnapshotFormat(config, partition.items).encode(table, slots, words, 0)
    return {table.row_id(slot): row or b"" for slot, row in zip(slots.tolist(), rows, strict=True)}


def first_event_times(partition: Partition) -> dict[bytes, int]:
    """Return when each user's row began."""
    table = partition.table
    slots = table.slots()
    times = table.users.rows.first_event_time[slots].tolist()
    return {table.row_id(slot): time for slot, time in zip(slots.tolist(), times, strict=True)}


def differing_rows(
    found: Partition, expected: Partition, config: Config, only: frozenset[bytes] | None = None
) -> Iterator[RowDifference]:
    """Yield the users that differ, in the order of their ids; `only` these, if given."""
    ours, theirs = encode_users(found, config), encode_users(expected, config)
    users = sorted(ours.keys() | theirs.keys())
    for user in users if only is None else [user for user in users if user in only]:
        a, b = ours.get(user), theirs.get(user)
        if a is None or b is None:
            what = "has no row, and should have one" if a is None else "has a row, and should have none"
            yield RowDifference(user.decode(), what)
        elif a != b and (what := _describe(user, a, b, found, expected, config)):
            yield RowDifference(user.decode(), what)


def _describe(user: bytes, a: bytes, b: bytes, found: Partition, expected: Partition, config: Config) -> str:
    """Say what differs between two rows, in the words of users.jsonl; nothing if only the last digits do."""
    (row, state), (other, other_state) = _split(a), _split(b)
    if row == other:
        if len(state) == len(other_state) and np.allclose(state, other_state, rtol=0, atol=STATE_TOLERANCE):
            return ""
        return "the encoder's state differs"
    ours, theirs = _read(user, found, config), _read(user, expected, config)
    fields = [
        f"{name} is {value}, and should be {theirs[name]}"
        for name, value in ours.items()
        if value != theirs[name]
    ]
    return "; ".join(fields) or "what is remembered beside users.jsonl differs: event ids, rings or spans"


def _split(value: bytes) -> tuple[bytes, np.ndarray]:
    """Return a row without its state, and the state."""
    frame = np.frombuffer(value[:FRAME_BYTES], FRAME)[0]
    size = 4 * int(frame["state"])
    body = value[: len(value) - size] if size else value
    without = frame.copy()
    without["state"] = 0
    return without.tobytes() + body[FRAME_BYTES:], np.frombuffer(value[len(value) - size :], np.float32)


def _read(user: bytes, partition: Partition, config: Config) -> Mapping[str, object]:
    table = partition.table
    slot = next(slot for slot in table.slots().tolist() if table.row_id(slot) == user)
    row = next(read_rows(partition, config, partition.items, np.array([slot], np.int64), [user]))
    return {name: getattr(row, name) for name in row.__struct_fields__}
