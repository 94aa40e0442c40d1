"""Events as columns: what the codec hands to the fold, and what the fold says of each.

One `EventBatch` is a run of decoded records of one partition in offset order. Array letters:
B events of the batch, C context entries that the bundle names. The batch is read-only to the core.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

# Roles of an event kind. `CONTACT` is something done to the user: an impression, a campaign.
ENGAGEMENT: Final = 0
CONVERSION: Final = 1
CONTACT: Final = 2
ROLES: Final = ("engagement", "conversion", "contact")

KINDS_MAX: Final = 16
USER_ID_BYTES_MAX: Final = 128

#: Record time of a record that has none (a file without `--now`): the guard never holds it back.
NO_GUARD: Final = np.iinfo(np.int64).max

#: "No time yet": before the first event of a partition or a user.
NEVER: Final = np.iinfo(np.int64).min

NO_ITEM: Final = -1

# What the fold decided about an event.
ACCEPTED: Final = 0
DUPLICATE: Final = 1
FROM_FUTURE: Final = 2
TOO_LATE: Final = 3


class EventBatch(NamedTuple):
    """Decoded events of one partition in offset order, as columns.

    user_bytes holds the users' ids one after the other; event i's id is
    `user_bytes[user_start[i]:user_start[i + 1]]`.
    """

    offset: npt.NDArray[np.int64]  # [B] offset of the record, of a file its line number
    record_time_ms: npt.NDArray[np.int64]  # [B] the broker's timestamp, or NO_GUARD
    event_time_ms: npt.NDArray[np.int64]  # [B]
    kind: npt.NDArray[np.uint8]  # [B] index into the configured vocabulary
    user_bytes: npt.NDArray[np.uint8]  # [sum of lengths]
    user_start: npt.NDArray[np.int64]  # [B + 1]
    item: npt.NDArray[np.int32]  # [B] index into the item table, or NO_ITEM
    event_id: npt.NDArray[np.uint64]  # [B] FNV-1a 64 of the event_id, 0 = none
    value: npt.NDArray[np.float64]  # [B] NaN = none
    context: npt.NDArray[np.float32]  # [B, C] codes and numbers of the context entries in the bundle

    @property
    def size(self) -> int:
        return len(self.offset)

    def user_id(self, i: int) -> bytes:
        return self.user_bytes[self.user_start[i] : self.user_start[i + 1]].tobytes()

    def slice(self, start: int, stop: int) -> EventBatch:
        """Events start .. stop - 1 as a batch of their own (views, no copy)."""
        return EventBatch(
            self.offset[start:stop],
            self.record_time_ms[start:stop],
            self.event_time_ms[start:stop],
            self.kind[start:stop],
            self.user_bytes,
            self.user_start[start : stop + 1],
            self.item[start:stop],
            self.event_id[start:stop],
            self.value[start:stop],
            self.context[start:stop],
        )
