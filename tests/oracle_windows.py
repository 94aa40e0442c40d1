"""Windows of the oracle: the rings of DESIGN.md section 4, as dicts from bucket index to counts.

"cells h+1 … i are cleared" is, seen from the index, that what lies at or before i − n is gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

CELL_MAX = 65_535


class Ring:
    """n buckets of b milliseconds; only those in (head − n, head] are kept."""

    def __init__(self, bucket: int, buckets: int, offset: int, time: int) -> None:
        self.bucket = bucket
        self.buckets = buckets
        self.offset = offset
        self.head = self.index(time)
        self.counts: dict[int, Counter[str]] = {}
        self.spend: dict[int, float] = {}

    def index(self, time: int) -> int:
        return (time + self.offset) // self.bucket

    def add(self, time: int, kind: str, spend: float | None) -> None:
        i = self.index(time)
        if i > self.head:
            self.head = i
            self.counts = {j: counts for j, counts in self.counts.items() if j > i - self.buckets}
            self.spend = {j: spent for j, spent in self.spend.items() if j > i - self.buckets}
        if i > self.head - self.buckets:
            counts = self.counts.setdefault(i, Counter())
            counts[kind] = min(counts[kind] + 1, CELL_MAX)
            if spend is not None:
                self.spend[i] = self.spend.get(i, 0.0) + spend

    def count(self, time: int, buckets: int, kind: str) -> int:
        """The window of `buckets` read at `time`."""
        return sum(self.counts[i][kind] for i in self._span(time, buckets) if i in self.counts)

    def spent(self, time: int, buckets: int) -> float:
        """The window's spend: "a window sums oldest bucket first"."""
        total = 0.0
        for i in self._span(time, buckets):
            total += self.spend.get(i, 0.0)
        return total

    def days(self, time: int, buckets: int, kinds: Collection[str]) -> int:
        """How many of the window's buckets count any of the kinds."""
        return sum(
            any(self.counts[i][kind] for kind in kinds) for i in self._span(time, buckets) if i in self.counts
        )

    def _span(self, time: int, buckets: int) -> list[int]:
        i = self.index(time)
        return [j for j in range(i - buckets + 1, i + 1) if self.head - self.buckets < j <= self.head]
