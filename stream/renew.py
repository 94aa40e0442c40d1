"""A new bundle's states: rebuilt from the events that each user's row has kept.

The states of another encoder mean nothing to the new one, and the log may no longer hold what made them. So
the new encoder steps through the last items of each user (`stream/core/renewing.py`), from zeros. It is a
function of the row alone: whoever loads a row from before the change comes to the same state.
`python -m benchmarks migration` measures what that is worth beside the full history.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream.core import renewing
from stream.core.events import CONVERSION, ENGAGEMENT
from stream.core.rules import RECENT_ITEMS, Rules
from stream.engine import Partition

#: Users whose states are rebuilt together.
_BLOCK: Final = 4096


def renew_states(partition: Partition, applied: int) -> int:
    """Rebuild the states, which are zeros, of the rows that do not hold record or entry `applied`.

    Returns how many. A user whose state would not be finite keeps zeros.
    """
    model, users = partition.model, partition.table.users
    if model is None:
        return 0
    count = int(users.counts[0].slots)
    slots, held = np.zeros(count, np.int32), np.zeros(count, np.int32)
    found = renewing.find_kept(users, applied, slots, held)
    order = np.argsort(-held[:found], kind="stable")
    slots = slots[order]
    engagement, conversion = kinds_of(partition.rules)
    for first in range(0, found, _BLOCK):
        block = slots[first : first + _BLOCK]
        items = np.zeros(len(block), np.int32)
        features = np.zeros((len(block), len(model.feature_names)), np.float32)
        state = np.zeros((len(block), model.state_size), np.float32)
        for place in range(RECENT_ITEMS):
            n = renewing.write_kept(
                partition.rules, users, block, place, engagement, conversion, items, features
            )
            if n == 0:
                break
            state[:n] = model.step(state[:n], items[:n], features[:n])
        state[~np.isfinite(state).all(axis=1)] = 0.0
        users.state[block] = state
    return found


def kinds_of(rules: Rules) -> tuple[int, int]:
    """Return the kinds that engagements and conversions are taken for: the first that recommends, or is one.

    A row keeps whether an item was a conversion, not which kind it came with.
    """
    chosen = []
    for role in (ENGAGEMENT, CONVERSION):
        of_role = np.flatnonzero(rules.roles == role)
        listed = of_role[rules.recommend[of_role]]
        chosen.append(int((*listed.tolist(), *of_role.tolist(), -1)[0]))
    return chosen[0], chosen[1]
