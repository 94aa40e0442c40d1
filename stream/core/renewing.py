"""What a row still knows of its user's past events, as steps that another encoder can take.

A row keeps its last 20 items, in order, and which of them were conversions; not their times or values. A step
is made of each: the item, the kind that such an event most likely was, and the user's other features as they
are now. U slots, F features.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from stream.core.compiled import kernel
from stream.core.events import NEVER
from stream.core.features import Moment, write_features
from stream.core.rules import RECENT_ITEMS, Rules
from stream.core.users import Users

Ints = npt.NDArray[np.int32]


@kernel
def write_kept(
    rules: Rules,
    users: Users,
    slots: Ints,
    place: int,
    engagement: int,
    conversion: int,
    items: Ints,
    features: npt.NDArray[np.float32],
) -> int:
    """Write the kept event number `place`, oldest first, of each slot that has so many; return how many have.

    slots [U] must come with the most kept events first. items [U], features [U, F] are written.
    """
    written = 0
    for i in range(len(slots)):
        row = users.rows[slots[i]]
        held = min(row.recent_count, RECENT_ITEMS)
        if held <= place:
            break
        at = (row.recent_count - held + place) % RECENT_ITEMS
        items[i] = users.recent[slots[i], at]
        converted = (row.recent_converted >> np.uint32(at)) & np.uint32(1) != 0
        kind = conversion if converted else engagement
        t = row.last_event_time
        first = place == 0 and row.recent_count <= RECENT_ITEMS
        moment = Moment(t, t, kind, np.nan, 0, first, False, False)
        write_features(rules, users, slots[i], moment, rules.unknown_context, features[i])
        written += 1
    return written


@kernel
def find_kept(users: Users, applied: int, slots: Ints, held: Ints) -> int:
    """Write the live slots that lack record or entry `applied`, and what each kept; return the count."""
    n = 0
    for slot in range(users.counts[0].slots):
        row = users.rows[slot]
        if row.live and users.marks[slot].through < applied and row.last_event_time != NEVER:
            slots[n] = slot
            held[n] = min(row.recent_count, RECENT_ITEMS)
            n += 1
    return n
