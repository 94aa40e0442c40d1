"""Reading users: windows, spend and active days of many slots at once, for files, tools and snapshots."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream.core import windows
from stream.core.compiled import kernel
from stream.core.rules import RECENT_ITEMS, Rules
from stream.core.table import UserTable
from stream.core.users import Users


class Readings(NamedTuple):
    """U users, N windows, K kinds, M windows over the day ring."""

    counts: npt.NDArray[np.int64]  # [U, N, K]
    spend: npt.NDArray[np.float64]  # [U, M]
    active_days: npt.NDArray[np.int64]  # [U]


def read_users(table: UserTable, slots: npt.NDArray[np.int64]) -> Readings:
    """Read the users in `slots`, each as of its own last_event_time."""
    rules = table.rules
    day_windows = int((rules.window_ring == rules.day_ring).sum())
    readings = Readings(
        np.zeros((len(slots), len(rules.window_ring), len(rules.roles)), np.int64),
        np.zeros((len(slots), day_windows), np.float64),
        np.zeros(len(slots), np.int64),
    )
    read_slots(rules, table.users, slots, readings)
    return readings


@kernel
def read_slots(rules: Rules, users: Users, slots: npt.NDArray[np.int64], out: Readings) -> None:
    for i in range(len(slots)):
        slot = slots[i]
        t = users.rows[slot].last_event_time
        heads, cells = users.heads[slot], users.cells[slot]
        day_window = 0
        for window in range(len(rules.window_ring)):
            windows.count_window(rules, heads, cells, window, t, out.counts[i, window])
            if rules.window_ring[window] == rules.day_ring:
                out.spend[i, day_window] = windows.sum_spend(rules, heads, users.spend[slot], window, t)
                day_window += 1
        out.active_days[i] = windows.count_active_days(rules, heads, cells, t)


def recent_items(table: UserTable, slot: int) -> list[int]:
    """Return the user's remembered items, oldest first, at most 20."""
    count = int(table.users.rows[slot].recent_count)
    held = min(count, RECENT_ITEMS)
    return [int(table.users.recent[slot, (count - held + j) % RECENT_ITEMS]) for j in range(held)]
