"""Users as rows of `users.jsonl`: sorted by user_id, each as of the user's own last_event_time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from stream.config import Config
from stream.core.lifecycle import STATES
from stream.core.reading import read_users, recent_items
from stream.core.users import NO_DEADLINE
from stream.emit import make_alert_id
from stream.engine import Partition
from stream.items import ItemTable
from stream.wire import UserRow

_BLOCK: Final = 8192


def user_rows(partition: Partition, config: Config, items: ItemTable) -> Iterator[bytes]:
    """Yield the partition's users as lines of JSON, in the order of their ids as bytes."""
    table = partition.table
    slots = table.slots()
    ids = [table.row_id(slot) for slot in slots.tolist()]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    for first in range(0, len(order), _BLOCK):
        block = order[first : first + _BLOCK]
        for row in read_rows(partition, config, items, slots[block], [ids[i] for i in block]):
            yield msgspec.json.encode(row) + b"\n"


def read_rows(
    partition: Partition, config: Config, items: ItemTable, slots: npt.NDArray[np.int64], ids: list[bytes]
) -> Iterator[UserRow]:
    """Yield the users in `slots` as rows."""
    table = partition.table
    readings = read_users(table, slots)
    kinds, windows = list(config.events.kinds), config.windows.windows
    day_windows = [name for name, window in windows.items() if window.ring == config.windows.day_ring]
    columns = zip(
        slots.tolist(),
        ids,
        readings.counts.tolist(),
        readings.spend.tolist(),
        readings.active_days.tolist(),
        strict=True,
    )
    for slot, user_id, counts, spend, active_days in columns:
        row = table.users.rows[slot]
        deadline = int(row.deadline)
        yield UserRow(
            user_id=user_id.decode(),
            lifecycle=STATES[row.lifecycle],  # type: ignore[arg-type]
            first_event_time=int(row.first_event_time),
            last_event_time=int(row.last_event_time),
            events=int(row.events),
            sessions=int(row.sessions),
            conversions=int(row.conversions),
            orders=int(row.orders),
            gaps=int(row.gaps),
            gap_mean=float(row.gap_mean),
            active_days=active_days,
            deadline=None if deadline == NO_DEADLINE else deadline,
            windows={
                name: dict(zip(kinds, window, strict=True))
                for name, window in zip(windows, counts, strict=True)
            },
            spend=dict(zip(day_windows, spend, strict=True)),
            recent_items=[items.name(item) for item in recent_items(table, slot)],
            alert=make_alert_id(user_id, int(row.alert_event_time)) if row.alert_open else None,
        )
