"""How good the lists were on baskets that the encoder never saw.

The question of a shop: of what this household buys next, how much was in the list it was last given? A
basket is a household's purchases of one second (the till's). It is judged if it lies in the test span and
the household had a list before it; its items are held against the first ten of that list, nothing excluded.
Two baselines answer the same baskets with all that was known at that moment, the span's own past included:

- popularity: the ten products sold most often so far;
- buy again: the ten that this household bought most often so far, the later bought first among equals,
  filled up with popularity.

HR@10 is the share of baskets with at least one item in the list. NDCG@10 is DCG over the ten places, a gain
of 1 for each item of the basket, by the DCG of the best list that a basket of that size allows (Järvelin and
Kekäläinen, 2002). Intervals are 95 % percentile bootstraps over households, because the baskets of one
household resemble each other.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

PLACES: Final = 10
RESAMPLES: Final = 1000
#: The encoder is trained on January to September; October begins with the shop day, 05:00 UTC.
TEST_FROM_MS: Final = 1_506_834_000_000

LISTED: Final = "ebbtide"
POPULARITY: Final = "popularity"
BUY_AGAIN: Final = "buy again"
RIVALS: Final = (LISTED, POPULARITY, BUY_AGAIN)

DISCOUNT: Final = 1.0 / np.log2(np.arange(2, PLACES + 2))  # [10]
BEST_DCG: Final = np.cumsum(DISCOUNT)  # [10] by items found at the top


class Basket(NamedTuple):
    at_ms: int
    user: str
    items: frozenset[str]


class Lists(NamedTuple):
    """One user's lists in the order of time."""

    at_ms: list[int]
    items: list[Sequence[str]]


class Estimate(NamedTuple):
    value: float
    low: float
    high: float


class Quality(NamedTuple):
    """HR@10 and NDCG@10 of each rival, over the same `baskets` of `users`; NaN if there are none."""

    baskets: int
    users: int
    without_list: int  # baskets of the span whose household had no list yet
    hit_rate: Mapping[str, Estimate]
    ndcg: Mapping[str, Estimate]


class Popularity:
    """The items sold most often so far. A count only grows by one, so only the item that grew can move up."""

    def __init__(self) -> None:
        self._sold: Counter[str] = Counter()
        self.top: list[str] = []

    def sell(self, item: str) -> None:
        sold = self._sold
        sold[item] += 1
        if item not in self.top:
            if len(self.top) == PLACES and sold[item] <= sold[self.top[-1]]:
                return
            self.top = [*self.top[: PLACES - 1], item]
        self.top.sort(key=lambda other: -sold[other])  # stable: who came first stays first among equals


class Bought:
    """What one household bought so far, how often and how lately."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()
        self._last: dict[str, int] = {}

    def buy(self, item: str, nth: int) -> None:
        self._times[item] += 1
        self._last[item] = nth

    def again(self, popular: Sequence[str]) -> list[str]:
        own = sorted(self._times, key=lambda item: (-self._times[item], -self._last[item]))[:PLACES]
        return (own + [item for item in popular if item not in self._times])[:PLACES]


def baskets_of(purchases: Iterable[tuple[str, int, str]]) -> list[Basket]:
    """Gather (user, at_ms, item) into baskets, in the order in which each began."""
    found: dict[tuple[int, str], set[str]] = defaultdict(set)
    for user, at_ms, item in purchases:
        found[at_ms, user].add(item)
    return [Basket(at_ms, user, frozenset(items)) for (at_ms, user), items in found.items()]


def judge(items: Sequence[str], basket: frozenset[str]) -> tuple[float, float]:
    """Return (hit, NDCG) of the first ten items of a list against a basket."""
    found = np.array([item in basket for item in items[:PLACES]])
    if not found.any():
        return 0.0, 0.0
    return 1.0, float(DISCOUNT[: len(found)][found].sum() / BEST_DCG[min(len(basket), PLACES) - 1])


def answers(
    baskets: Sequence[Basket], lists: Mapping[str, Lists], test_from_ms: int
) -> Iterator[tuple[Basket, dict[str, Sequence[str]] | None]]:
    """Yield each basket of the span with every rival's list as it stood before; None if there was no list."""
    popularity, bought = Popularity(), defaultdict[str, Bought](Bought)
    for nth, basket in enumerate(baskets):
        if basket.at_ms >= test_from_ms:
            theirs = lists.get(basket.user)
            before = bisect_left(theirs.at_ms, basket.at_ms) if theirs else 0
            if theirs is None or before == 0:
                yield basket, None
            else:
                again = bought[basket.user].again(popularity.top)
                yield (
                    basket,
                    {
                        LISTED: theirs.items[before - 1],
                        POPULARITY: popularity.top,
                        BUY_AGAIN: again,
                    },
                )
        for item in sorted(basket.items):
            popularity.sell(item)
            bought[basket.user].buy(item, nth)


def measure(
    purchases: Iterable[tuple[str, int, str]],
    lists: Mapping[str, Lists],
    test_from_ms: int = TEST_FROM_MS,
) -> Quality:
    """Judge every basket from `test_from_ms` on. Purchases come in time order as (user, at_ms, item)."""
    users: dict[str, int] = {}
    whose: list[int] = []  # of each judged basket
    judged: list[tuple[tuple[float, float], ...]] = []  # of each judged basket, by rival
    without_list = 0
    for basket, given in answers(baskets_of(purchases), lists, test_from_ms):
        if given is None:
            without_list += 1
            continue
        whose.append(users.setdefault(basket.user, len(users)))
        judged.append(tuple(judge(given[rival], basket.items) for rival in RIVALS))
    if not judged:
        unknown = dict.fromkeys(RIVALS, Estimate(np.nan, np.nan, np.nan))
        return Quality(0, 0, without_list, unknown, unknown)
    values = np.array(judged)  # [baskets, rivals, (hit, NDCG)]
    bootstrap = Bootstrap(np.array(whose, np.int64), len(users))
    hit_rate, ndcg = (
        {rival: bootstrap.estimate(values[:, r, measured]) for r, rival in enumerate(RIVALS)}
        for measured in (0, 1)
    )
    return Quality(len(judged), len(users), without_list, hit_rate, ndcg)


class Bootstrap:
    """Resamples of households, U of them; a household drawn twice brings its baskets twice."""

    def __init__(self, whose: npt.NDArray[np.int64], users: int) -> None:
        self._whose, self._users = whose, users
        rng = np.random.default_rng(2017)
        self._draws = rng.multinomial(users, np.full(users, 1 / users), RESAMPLES)  # [RESAMPLES, U]

    def estimate(self, values: npt.NDArray[np.float64]) -> Estimate:
        """Return the mean of the baskets' values with its 95 % interval."""
        sums = np.bincount(self._whose, values, self._users)  # [U]
        sizes = np.bincount(self._whose, minlength=self._users)  # [U]
        low, high = np.percentile((self._draws @ sums) / (self._draws @ sizes), (2.5, 97.5))
        return Estimate(float(values.mean()), float(low), float(high))
