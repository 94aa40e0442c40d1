"""Quality: the baselines against naive ones, the measures against figures worked out by hand."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest

from stream.demo.quality import (
    BUY_AGAIN,
    LISTED,
    POPULARITY,
    Lists,
    Popularity,
    answers,
    baskets_of,
    judge,
    measure,
)


def test_a_hit_at_rank_two_of_a_basket_of_one() -> None:
    assert judge(["a", "b"], frozenset({"b"})) == (1.0, pytest.approx(1 / math.log2(3)))


def test_a_basket_of_two_is_perfect_when_both_lead_the_list() -> None:
    assert judge(["b", "a", "c"], frozenset({"a", "b"})) == (1.0, 1.0)


def test_one_of_two_at_the_top_is_short_of_perfect() -> None:
    assert judge(["a", "c"], frozenset({"a", "b"})) == (1.0, pytest.approx(1 / (1 + 1 / math.log2(3))))


def test_more_items_than_places_can_still_be_perfect() -> None:
    items = [str(n) for n in range(12)]
    assert judge(items, frozenset(items)) == (1.0, pytest.approx(1.0))


def test_the_eleventh_place_counts_nothing() -> None:
    assert judge([*"abcdefghij", "k"], frozenset("k")) == (0.0, 0.0)


def test_popularity_equals_counting_anew_each_time() -> None:
    rng = random.Random(3)
    popularity, sold = Popularity(), Counter[str]()
    for _ in range(3000):
        item = str(int(rng.expovariate(0.05)))
        popularity.sell(item)
        sold[item] += 1
        best = sorted(sold.values(), reverse=True)[:10]
        assert [sold[other] for other in popularity.top] == best


def test_a_basket_is_judged_by_the_last_list_before_it() -> None:
    baskets = baskets_of([("u", 5, "x"), ("u", 10, "x"), ("u", 10, "y")])
    lists = {"u": Lists([3, 5, 10], [["early"], ["last"], ["its own"]])}
    ((_, first), (basket, second)) = answers(baskets, lists, test_from_ms=0)
    assert first is not None
    assert second is not None
    assert basket.items == {"x", "y"}
    assert first[LISTED] == ["early"]
    assert second[LISTED] == ["last"]


def test_baselines_know_what_came_before_the_basket_and_no_more() -> None:
    baskets = baskets_of([("u", 1, "a"), ("v", 2, "b"), ("v", 3, "b"), ("u", 4, "c")])
    *_, (_, given) = answers(baskets, {"u": Lists([0], [[]])}, test_from_ms=4)
    assert given is not None
    assert given[POPULARITY] == ["b", "a"]
    assert given[BUY_AGAIN] == ["a", "b"]


def test_what_was_bought_later_leads_among_equals() -> None:
    baskets = baskets_of([("u", 1, "a"), ("u", 2, "b"), ("u", 3, "c")])
    *_, (_, given) = answers(baskets, {"u": Lists([0], [[]])}, test_from_ms=3)
    assert given is not None
    assert given[BUY_AGAIN] == ["b", "a"]


def test_baskets_without_a_list_are_left_out_and_counted() -> None:
    quality = measure([("u", 1, "a"), ("v", 1, "a")], {"u": Lists([0], [["a"]])}, test_from_ms=0)
    assert (quality.baskets, quality.users, quality.without_list) == (1, 1, 1)
    assert quality.hit_rate[LISTED] == (1.0, 1.0, 1.0)


def test_a_list_of_the_same_second_is_no_list_before() -> None:
    quality = measure([("u", 1, "a")], {"u": Lists([1], [["a"]])}, test_from_ms=0)
    assert (quality.baskets, quality.without_list) == (0, 1)


def test_the_interval_covers_the_mean_and_narrows_with_more_households() -> None:
    def width(users: int) -> float:
        purchases = [(f"u{n}", 1, "a" if n % 2 else "b") for n in range(users)]
        lists = {f"u{n}": Lists([0], [["a"]]) for n in range(users)}
        value, low, high = measure(purchases, lists, test_from_ms=0).hit_rate[LISTED]
        assert value == 0.5
        assert low < value < high
        return high - low

    assert width(1600) == pytest.approx(width(100) / 4, rel=0.3)
