"""How good the lists are while they are made: test, then learn.

Each event with an item is held against the list that its user was given last; only then a new list takes its
place (prequential evaluation: Gama, Sebastião and Rodrigues, 2013). So the figure needs no test set,
and it moves when a bundle is worse than the one before. It is for watching: nothing that is folded depends on
it, it starts anew with the worker, and users who share a place forget each other's lists.

B events, L lists, k items a list.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

PLACES: Final = 10
#: Users whose last list is remembered: 3 MB. With more users it is a sample of them.
USERS_MAX: Final = 65_536
NOBODY: Final = -1


class Verdict(NamedTuple):
    """What a batch of tests found: how many, how many items stood in the list, and the sum of their NDCG."""

    tests: int
    hits: int
    ndcg_sum: float


class LiveQuality:
    """The last list of up to USERS_MAX users of a partition, by slot, and the items ever listed."""

    def __init__(self, items: int) -> None:
        self._owner = np.full(USERS_MAX, NOBODY, np.int64)
        self._lists = np.full((USERS_MAX, PLACES), NOBODY, np.int32)
        self._listed = np.zeros(items, np.bool_)

    def test(self, slots: npt.NDArray[np.int32], items: npt.NDArray[np.int32]) -> Verdict:
        """Hold each event's item against its user's list of before the batch: slots[B], items[B]."""
        place = slots % USERS_MAX
        known = (self._owner[place] == slots) & (items >= 0)
        found = self._lists[place[known]] == items[known, None]  # [tests, PLACES]
        rank = found.argmax(axis=1)[found.any(axis=1)]
        return Verdict(int(known.sum()), len(rank), float((1.0 / np.log2(rank + 2)).sum()))

    def learn(self, slots: npt.NDArray[np.int32], lists: list[npt.NDArray[np.int32]]) -> None:
        """Remember each user's last list of the batch: slots[L], lists[L] of at most k items, best first."""
        for slot, items in zip(slots.tolist(), lists, strict=True):
            place = slot % USERS_MAX
            top = items[:PLACES]
            self._owner[place] = slot
            self._lists[place, : len(top)] = top
            self._lists[place, len(top) :] = NOBODY
        if lists:
            named = np.concatenate(lists)
            self._listed[named[named < len(self._listed)]] = True

    @property
    def coverage(self) -> float:
        """The share of the bundle's items that were in at least one list."""
        return float(self._listed.mean()) if len(self._listed) else 0.0
