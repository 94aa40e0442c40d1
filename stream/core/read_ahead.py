"""Finding the users of a batch's events, one by one and ahead of their turn.

One event after the other would wait for its user's memory, which in a table larger than the caches is most
of its time. So the fold reads ahead what the next events will read.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from stream.core.compiled import kernel, leaf
from stream.core.events import EventBatch
from stream.core.hashing import fnv1a
from stream.core.users import NO_SLOT, Users, find

#: Events whose users are read ahead: their rows stay in a core's second cache until their turn comes.
WARM_EVENTS: Final = 128
CACHE_LINE_BYTES: Final = 64


@leaf
def hash_user(batch: EventBatch, i: int) -> np.uint64:
    return fnv1a(batch.user_bytes, batch.user_start[i], batch.user_start[i + 1])


@leaf
def find_user(batch: EventBatch, users: Users, i: int) -> int:
    return find(users, batch.user_bytes, batch.user_start[i], batch.user_start[i + 1], hash_user(batch, i))


@kernel
def read_ahead(batch: EventBatch, users: Users, start: int, stop: int) -> int:
    """Read what the next events will read of their users, so that memory fetches it for all of them at once.

    One event after the other would wait for its user's memory, which in a table larger than the caches is
    most of its time. Here no read waits for another user's: first the index, then the rows it names, then
    the whole of the users found. The sum of what was read says nothing, but keeps the reads in the program.
    """
    sum_ = 0
    mask = np.uint64(len(users.lookup) - 1)
    for i in range(start, stop):
        sum_ += users.lookup[np.int64(hash_user(batch, i) & mask)]
    for i in range(start, stop):
        slot = users.lookup[np.int64(hash_user(batch, i) & mask)]
        if slot != NO_SLOT:
            sum_ += users.memory[slot, 0]
    for i in range(start, stop):
        slot = find_user(batch, users, i)
        if slot != NO_SLOT:
            for at in range(0, users.memory.shape[1], CACHE_LINE_BYTES):
                sum_ += users.memory[slot, at]
    return sum_
