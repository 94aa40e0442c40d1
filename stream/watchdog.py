"""The progress watchdog: fetched, applied and committed offsets of each partition, and which of them stands.

A stage stalls when it is behind the one before it and has not moved for `stall_after`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from stream.clock import Clock

FETCHED: Final = 0
APPLIED: Final = 1
COMMITTED: Final = 2
STAGES: Final = ("fetched", "applied", "committed")


class Stall(NamedTuple):
    """A stage of a partition that makes no progress."""

    partition: int
    stage: int
    offset: int
    ahead: int  # the offset of the stage before
    seconds: float

    def __str__(self) -> str:
        return (
            f"partition {self.partition}: {STAGES[self.stage]} stands at {self.offset} for "
            f"{self.seconds:.0f} s, {STAGES[self.stage - 1]} is at {self.ahead}"
        )


class Watchdog:
    """Notes when each stage of each partition last moved."""

    def __init__(self, stall_after_ms: int, clock: Clock) -> None:
        self._stall_after_s = stall_after_ms / 1000.0
        self._clock = clock
        self._offsets: dict[int, list[int]] = {}
        self._moved_s: dict[int, list[float]] = {}

    def fetched(self, partition: int, offset: int) -> None:
        """The log is known to reach `offset`."""
        self._move(partition, FETCHED, offset)

    def applied(self, partition: int, offset: int) -> None:
        self._move(partition, FETCHED, max(offset, self._offsets.get(partition, [0, 0, 0])[FETCHED]))
        self._move(partition, APPLIED, offset)

    def committed(self, partition: int, offset: int) -> None:
        self._move(partition, COMMITTED, offset)

    def dropped(self, partition: int) -> None:
        self._offsets.pop(partition, None)
        self._moved_s.pop(partition, None)

    def stalls(self) -> list[Stall]:
        """Return each stage that stands although the one before it is ahead."""
        now_s = self._clock.monotonic_s()
        return [
            Stall(partition, stage, offsets[stage], offsets[stage - 1], still_s)
            for partition, offsets in self._offsets.items()
            for stage in (APPLIED, COMMITTED)
            if offsets[stage] < offsets[stage - 1]
            and (still_s := now_s - self._moved_s[partition][stage]) >= self._stall_after_s
        ]

    def _move(self, partition: int, stage: int, offset: int) -> None:
        now_s = self._clock.monotonic_s()
        offsets = self._offsets.setdefault(partition, [0, 0, 0])
        moved_s = self._moved_s.setdefault(partition, [now_s, now_s, now_s])
        if offset == offsets[stage]:
            return
        if stage < COMMITTED and offsets[stage + 1] == offsets[stage]:
            moved_s[stage + 1] = now_s  # only now has it something to do
        offsets[stage] = offset
        moved_s[stage] = now_s
