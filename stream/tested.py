"""Test, then learn: every list is judged by what its user takes next, before it is replaced.

The last list of each of the users heard of most recently is kept, for metrics only: it belongs to no user's
state, and a restart begins anew. A list is tested once, by the first item that follows it.
"""

from __future__ import annotations

from collections import OrderedDict
from math import log2
from typing import Final

import numpy as np
import numpy.typing as npt

#: Users whose last list is kept; the one not heard of for longest goes first.
LISTS_MAX: Final = 100_000


class Tested:
    """Hit rate and NDCG at the length of the lists, as running sums."""

    def __init__(self, lists_max: int = LISTS_MAX) -> None:
        self._lists: OrderedDict[bytes, list[int]] = OrderedDict()
        self._lists_max = lists_max
        self.tests = self.hits = 0
        self.ndcg_sum = 0.0

    def judge(self, user: bytes, item: int) -> None:
        """Test the user's last list, if there is one, by the item taken now."""
        listed = self._lists.pop(user, None)
        if listed is None or item < 0:
            return
        self.tests += 1
        if item in listed:
            self.hits += 1
            self.ndcg_sum += 1.0 / log2(2 + listed.index(item))

    def learn(self, user: bytes, items: list[int]) -> None:
        """Keep the list that was made for the user."""
        self._lists[user] = items
        if len(self._lists) > self._lists_max:
            self._lists.popitem(last=False)

    def renumber_items(self, moved: npt.NDArray[np.int32]) -> None:
        """Take the items' new indices, i32[items before]."""
        for items in self._lists.values():
            items[:] = moved[items].tolist()

    def take(self) -> tuple[int, int, float]:
        """Return (tests, hits, sum of NDCG) since the last call."""
        taken = self.tests, self.hits, self.ndcg_sum
        self.tests = self.hits = 0
        self.ndcg_sum = 0.0
        return taken
