"""Healing: what a worker does by itself about a live partition whose log goes on while its fold stands.

    first   the partition is sought anew at the record that it waits for, and resumed
    then    if it still stands after another `stall_after`, the worker leaves the group and joins it anew,
            with another consumer

A commit that stands needs none of it: it has a minute, then its producer is replaced (`flight.py`). Neither
does anything while the broker is away, or while intake pauses. After that, or when the worker itself was
held up (by a first run's compiler, by a sleeping machine), it blames no partition for one more `stall_after`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from stream.broker import Source
from stream.clock import Clock
from stream.log import log
from stream.observe import Observer
from stream.phases import Phase
from stream.share import Share
from stream.watchdog import APPLIED


class Remedy(Enum):
    SEEK = "seek"
    REJOIN = "rejoin"


class Sought(NamedTuple):
    """A partition that was sought anew: where it stood, and when."""

    offset: int
    at_s: float


class Healer:
    """Chooses remedies, the milder one first."""

    def __init__(self, stall_after_ms: int, observer: Observer, clock: Clock) -> None:
        self._again_s = stall_after_ms / 1000.0
        self._observer, self._clock = observer, clock
        self._sought: dict[int, Sought] = {}
        self._looked_s = clock.monotonic_s()
        self._back_s = -self._again_s

    def heal(self, shares: Mapping[int, Share], source: Source) -> bool:
        """Seek anew what stands for the first time; return whether the group is to be joined anew.

        Asked once a turn, but for turns in which nothing can be moved.
        """
        if self._looked_away():
            return False
        standing = {
            stall.partition: stall.offset
            for stall in self._observer.watchdog.stalls()
            if stall.stage == APPLIED
            and (share := shares.get(stall.partition)) is not None
            and share.phase is Phase.LIVE
        }
        now_s, before = self._clock.monotonic_s(), self._sought
        self._sought = {p: at for p, at in before.items() if standing.get(p) == at.offset}
        for partition, offset in standing.items():
            if partition not in self._sought:
                self._sought[partition] = Sought(offset, now_s)
                self._note(Remedy.SEEK, partition, offset)
                source.seek(partition, shares[partition].next_offset)
                source.resume([partition])
            elif now_s - self._sought[partition].at_s >= self._again_s:
                self._sought = {}
                self._note(Remedy.REJOIN, partition, offset)
                return True
        return False

    def _looked_away(self) -> bool:
        """Whether nobody asked for half of `stall_after`, and that ended less than `stall_after` ago."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s >= self._again_s / 2:
            self._back_s = now_s
        self._looked_s = now_s
        return now_s - self._back_s < self._again_s

    def _note(self, remedy: Remedy, partition: int, offset: int) -> None:
        log.warning("partition %d stands at %d: the worker tries to %s", partition, offset, remedy.value)
        self._observer.metrics.healed(remedy.value)
