"""Producers that are lost again and again: somebody else uses the same transactional id.

One loss is a fault of the moment, and is answered with a new producer, which fences whoever has the id. If
that is another worker, of this group or of one whose ids happen to be the same, it does likewise, and both
would restore for ever and commit nothing. One of them has to stop and say so.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from stream.errors import FencedError, StateError
from stream.log import log

#: So many losses within so long are no fault of a broker: a call that times out takes ten seconds to.
LOSSES_MAX: Final = 20
WITHIN_S: Final = 60.0


class Losses:
    """When a worker's producers were lost."""

    def __init__(self, place: str) -> None:
        """place: whose producers, as errors name it."""
        self._place = place
        self._lost_s: deque[float] = deque(maxlen=LOSSES_MAX)

    def note(self, error: FencedError, now_s: float) -> None:
        """A producer was lost; every partition is restored. Raises StateError if it happens all the time."""
        log.warning("producer lost, restoring all partitions: %s", error.what)
        self._lost_s.append(now_s)
        if len(self._lost_s) == LOSSES_MAX and now_s - self._lost_s[0] < WITHIN_S:
            raise StateError(
                f"{LOSSES_MAX} producers were lost within a minute: another process uses their "
                f"transactional id ({error.what})",
                place=self._place,
                remedy="give each worker an EBBTIDE_INSTANCE of its own, and each group an id that is "
                "not the beginning of another's",
            )
