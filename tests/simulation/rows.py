"""Users compared column by column: everything that a row holds, and nothing of where it is held.

Slots, places of ids and indices of items differ between two partitions that hold the same users; what lies
beyond the counters of a ring of ids or items is left over from someone else. All else must be equal, floats
bit by bit.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from stream.core.rules import DEDUP_IDS, RECENT_ITEMS
from stream.core.users import ROW
from stream.engine import Partition

#: Where a row's id lies is the table's own business.
SCALARS: Final = tuple(name for name in ROW.names or () if name != "id_start")


def read_columns(partition: Partition) -> dict[str, Any]:
    """Return the users of a partition as columns, in the order of their ids."""
    table = partition.table
    ids = [table.row_id(slot) for slot in table.slots().tolist()]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    slots = table.slots()[order]
    users = table.users
    rows = users.rows[slots]
    columns: dict[str, Any] = {"id": [ids[i] for i in order]}
    columns.update({name: rows[name] for name in SCALARS if name != "recent_converted"})
    columns.update({name: getattr(users, name)[slots] for name in ("heads", "cells", "spend", "state")})
    seen_held = np.arange(DEDUP_IDS) < rows.seen_count[:, None]
    columns["seen"] = np.where(seen_held, users.seen[slots], np.uint64(0))
    held = np.arange(RECENT_ITEMS) < rows.recent_count[:, None]
    names = np.array([*partition.items.names, ""], object)
    columns["recent"] = names[np.where(held, users.recent[slots], -1)]
    bits = (rows.recent_converted[:, None] >> np.arange(RECENT_ITEMS, dtype=np.uint32)) & 1
    columns["recent_converted"] = np.where(held, bits, 0)
    return columns


def compare(found: Partition, expected: Partition) -> str:
    """Return what differs first between the users of two partitions, or nothing."""
    ours, theirs = read_columns(found), read_columns(expected)
    if ours["id"] != theirs["id"]:
        missing = [user for user in theirs["id"] if user not in ours["id"]]
        unknown = [user for user in ours["id"] if user not in theirs["id"]]
        return f"users missing: {missing}, users that should not be: {unknown}"
    for name, column in theirs.items():
        if name != "id" and not equal(ours[name], column):
            row = next(i for i in range(len(column)) if not equal(ours[name][i], column[i]))
            return f"user {theirs['id'][row]!r}, {name}: {ours[name][row]} instead of {column[row]}"
    clock, other = found.table.clock[0], expected.table.clock[0]
    for name in ("applied", "watermark", "event_time_max", "ringing"):
        if clock[name] != other[name]:
            return f"{name}: {clock[name]} instead of {other[name]}"
    return ""


def equal(a: Any, b: Any) -> bool:
    """Equal bit by bit, so that NaN equals itself and 0.0 does not equal -0.0."""
    a, b = np.ascontiguousarray(a), np.ascontiguousarray(b)
    if a.dtype == object:
        return bool((a == b).all())
    return bool(a.tobytes() == b.tobytes())
