"""Test-then-learn: each list is tested by what came after it, and by nothing else."""

from __future__ import annotations

import math

import numpy as np

from stream.live_quality import USERS_MAX, LiveQuality, Verdict


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int32)


def test_a_user_without_a_list_is_no_test() -> None:
    assert LiveQuality(10).test(ints(3), ints(5)) == Verdict(0, 0, 0.0)


def test_an_event_without_an_item_is_no_test() -> None:
    quality = LiveQuality(10)
    quality.learn(ints(3), [ints(5)])
    assert quality.test(ints(3), ints(-1)) == Verdict(0, 0, 0.0)


def test_a_hit_counts_by_its_rank() -> None:
    quality = LiveQuality(10)
    quality.learn(ints(3), [ints(7, 5)])
    assert quality.test(ints(3, 3, 3), ints(7, 5, 1)) == Verdict(3, 2, 1.0 + 1 / math.log2(3))


def test_the_last_list_of_a_batch_holds() -> None:
    quality = LiveQuality(10)
    quality.learn(ints(3, 3), [ints(1, 2, 3), ints(4)])
    assert quality.test(ints(3, 3), ints(4, 2)).hits == 1


def test_items_beyond_the_tenth_place_are_misses() -> None:
    quality = LiveQuality(20)
    quality.learn(ints(0), [ints(*range(12))])
    assert quality.test(ints(0, 0), ints(9, 10)).hits == 1


def test_users_who_share_a_place_do_not_answer_for_each_other() -> None:
    quality = LiveQuality(10)
    quality.learn(ints(1), [ints(5)])
    quality.learn(ints(1 + USERS_MAX), [ints(5)])
    assert quality.test(ints(1), ints(5)).tests == 0


def test_coverage_is_the_share_of_the_bundles_items_ever_listed() -> None:
    quality = LiveQuality(4)
    assert quality.coverage == 0.0
    quality.learn(ints(1, 2), [ints(0, 1), ints(1, 9)])  # item 9 came after the bundle
    assert quality.coverage == 0.5
