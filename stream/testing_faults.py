"""What can go wrong between a worker and its broker, and a plan that makes it happen.

A plan is drawn from one seed. The in-memory broker asks it at every point of every call; it answers yes with
the rate of that fault, or at an occurrence that was named beforehand, and counts what it did. Rates may be
left out, as most of them should be: a run that mixes every fault rarely gets deep into one (swarm testing;
Groce et al., ISSTA 2012).
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

#: Every fault by name. A point is where it may strike: the call, as `sink.commit`.
FAULTS: Final[Mapping[str, str]] = {
    "crash_before": "the process dies as a call begins: nothing of it reaches the broker",
    "crash_after": "the process dies as a call returns: the broker has done it, nobody heard",
    "refused": "a call fails with RetriableError and has done nothing",
    "delivery_failed": "a record is not stored; the transaction can only be aborted",
    "offsets_refused": "the group's coordinator refuses the offsets; the transaction can only be aborted",
    "expired": "the broker times the open transaction out: aborted, and its producer fenced",
    "commit_slow": "a commit takes seconds",
    "answer_lost": "a commit or an abort is done, but the caller is told that it timed out",
    "end_delayed": "the caller is told that it timed out, and the end of the transaction arrives later",
    "marker_late": "a transaction's end is seen in one partition later than in the others",
    "offsets_late": "a transaction's end is seen by the group later: its offsets stay pending",
    "expelled": "the group gives up a member that is alive",
    "fetch_empty": "a poll or read returns nothing, although there is something",
    "fetch_short": "a poll or read returns fewer records than it could",
    "fetch_mixed": "a poll goes through the partitions in another order, with a few records of each",
}

#: A process that is not answered waits at most this long before it asks again, so what is late is no later.
DELAY_MS_MAX: Final = 20_000.0


class Crash(BaseException):
    """The process is dead. No `except Exception` stops this, as nothing stops a SIGKILL."""


class FaultPlan:
    """Decides, from a seed, which faults strike.

    rates: probability a time of asking, by the fault's name; those not named never strike by chance.
    at: occurrences to strike for certain: {("crash_after", "sink.commit"): 3} is the third commit.
    delays_ms: the first delays, before others are drawn.
    """

    def __init__(
        self,
        seed: int = 0,
        rates: Mapping[str, float] | None = None,
        at: Mapping[tuple[str, str], int] | None = None,
        delays_ms: Sequence[float] = (),
    ) -> None:
        self._chance = random.Random(seed)
        self._rates = dict(rates or {})
        self._at = dict(at or {})
        self._delays_ms = list(reversed(delays_ms))
        if unknown := (self._rates.keys() | {fault for fault, _ in self._at}) - FAULTS.keys():
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
        self._asked: Counter[tuple[str, str]] = Counter()
        #: What has struck: (fault, point) → times.
        self.counts: Counter[tuple[str, str]] = Counter()

    def strikes(self, fault: str, point: str) -> bool:
        """Decide whether a fault strikes here and now, and count it if it does."""
        hit = False
        if self._at:
            key = fault, point
            self._asked[key] += 1
            hit = self._at.get(key) == self._asked[key]
        if not hit and (rate := self._rates.get(fault)):
            hit = self._chance.random() < rate
        if hit:
            self.counts[fault, point] += 1
        return hit

    def delay_ms(self) -> float:
        """Draw how late something is: mostly a little, sometimes far beyond every timeout."""
        if self._delays_ms:
            return self._delays_ms.pop()
        return DELAY_MS_MAX * self._chance.random() ** 4

    def below(self, limit: int) -> int:
        """Draw a number in [0, limit)."""
        return self._chance.randrange(limit)

    def shuffle(self, items: list[int]) -> None:
        """Put items into another order, in place."""
        self._chance.shuffle(items)

    def heal(self) -> None:
        """No fault strikes any more. What is already late still arrives."""
        self._rates.clear()
        self._at.clear()

    def totals(self) -> dict[str, int]:
        """Return how often each fault struck, those that never did included."""
        totals = dict.fromkeys(FAULTS, 0)
        for (fault, _), count in self.counts.items():
            totals[fault] += count
        return totals
