"""Measures against figures made by hand and against definitions written out."""

from __future__ import annotations

import numpy as np
import pytest

from models import metrics

RANKS = np.array([0.0, 2.0, 9.0, 10.0])


def test_measures_of_ranks_are_those_of_the_definitions() -> None:
    assert metrics.hit_rate(RANKS).tolist() == [1, 1, 1, 0]
    assert metrics.ndcg(RANKS) == pytest.approx([1.0, 0.5, 1 / np.log2(11), 0.0])
    assert metrics.reciprocal_rank(RANKS) == pytest.approx([1, 1 / 3, 1 / 10, 1 / 11])
    assert metrics.reciprocal_rank(RANKS, 10)[3] == 0.0
    assert metrics.precision(RANKS)[0] == pytest.approx(0.1)


def test_lists_of_few_items_cover_little_and_are_unequal() -> None:
    same, all_of_them = np.array([[0, 1], [0, 1]]), np.array([[0, 1], [2, 3]])
    assert metrics.coverage(same, 4) == 0.5
    assert metrics.gini(all_of_them, 4) == pytest.approx(0.0)
    assert metrics.gini(same, 4) == pytest.approx(0.5)


def test_rare_items_are_novel() -> None:
    assert metrics.novelty(np.array([[0, 1]]), np.array([4, 2, 2])) == pytest.approx((1 + 2) / 2)


def test_an_empty_place_is_no_item() -> None:
    lists, full = np.array([[0, 1, 2], [1, 0, -1], [2, -1, -1]]), np.array([[0, 1, 2, 1, 0, 2]])
    sold = np.array([1, 4, 27])
    assert metrics.novelty(lists, sold) == pytest.approx(metrics.novelty(full, sold))
    vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    first = 1 - np.mean([0.0, 0.5**0.5, 0.5**0.5])
    assert metrics.diversity(lists, vectors) == pytest.approx((first + 1) / 2), "one item has no pair"


def test_lists_without_a_pair_are_not_diverse() -> None:
    assert metrics.diversity(np.array([[0], [1]]), np.eye(2)) == 0.0
    assert metrics.diversity(np.array([[0, -1]]), np.eye(2)) == 0.0


def test_diversity_is_the_mean_over_pairs() -> None:
    vectors = np.random.default_rng(0).normal(size=(6, 3))
    lists = np.array([[0, 1, 2], [3, 4, 5]])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = [1 - unit[row[a]] @ unit[row[b]] for row in lists for a in range(3) for b in range(a)]
    assert metrics.diversity(lists, vectors) == pytest.approx(np.mean(pairs))


def test_errors_of_numbers() -> None:
    said, true = np.array([1.0, 2.0]), np.array([2.0, 5.0])
    assert metrics.mae(said, true) == 2.0
    assert metrics.rmse(said, true) == pytest.approx(np.sqrt(5.0))


@pytest.mark.parametrize("values", [4, 1000])
def test_auc_is_the_share_of_pairs_in_order(values: int) -> None:
    chance = np.random.default_rng(values)
    score, true = chance.integers(0, values, 60), chance.random(60) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in score[true] for b in score[~true]]
    assert metrics.auc(score, true) == pytest.approx(np.mean(pairs))


def test_auc_without_both_outcomes_is_unknown() -> None:
    assert np.isnan(metrics.auc(np.ones(3), np.ones(3)))


@pytest.mark.parametrize("values", [4, 1000])
def test_average_precision_takes_equal_scores_together(values: int) -> None:
    chance = np.random.default_rng(values)
    score, true = chance.integers(0, values, 60), chance.random(60) < 0.4
    total, found_before = 0.0, 0
    for threshold in sorted(set(score.tolist()), reverse=True):
        shown = score >= threshold
        found = int(true[shown].sum())
        total += found / shown.sum() * (found - found_before)
        found_before = found
    assert metrics.pr_auc(score, true) == pytest.approx(total / true.sum())


def test_brier_and_reliability() -> None:
    p, true = np.array([0.1, 0.9, 0.2, 0.8]), np.array([0, 1, 1, 1])
    assert metrics.brier(p, true) == pytest.approx((0.01 + 0.01 + 0.64 + 0.04) / 4)
    low, high = metrics.reliability(p, true, 2)
    assert (low.said, low.true, low.events) == (pytest.approx(0.15), 0.5, 2)
    assert (high.said, high.true) == (pytest.approx(0.85), 1.0)


def test_equal_probabilities_are_one_bin_whatever_their_order() -> None:
    true = np.array([1] * 50 + [0] * 50)
    assert metrics.reliability(np.full(100, 0.5), true) == [metrics.Bin(0.5, 0.5, 100)]
    p = np.concatenate([np.full(35, 0.1), np.linspace(0.2, 0.9, 65)])
    found = metrics.reliability(p, true)
    assert (found[0].said, found[0].events) == (pytest.approx(0.1), 35)
    assert sum(part.events for part in found) == 100
    assert all(part.events == 10 for part in found[2:])
    order = np.random.default_rng(0).permutation(100)
    assert [tuple(part) for part in metrics.reliability(p[order], true[order])] == [
        pytest.approx(tuple(part)) for part in found
    ]


@pytest.mark.parametrize("events", [3, 10, 25, 104])
def test_bins_of_different_probabilities_hold_equally_many(events: int) -> None:
    found = metrics.reliability(np.linspace(0.0, 1.0, events), np.zeros(events))
    sizes = [part.events for part in found]
    assert sum(sizes) == events
    assert len(sizes) == min(10, events)
    assert max(sizes) - min(sizes) <= 1
    assert [part.said for part in found] == sorted(part.said for part in found)


def test_a_bootstrap_is_about_two_standard_errors_wide() -> None:
    values = np.random.default_rng(5).normal(size=400)
    found = metrics.bootstrap((values,), seed=1)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert metrics.difference(values + 1.0, values).low == pytest.approx(1.0)
