"""The scorer against the naive product and sort, and its promise about bits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.random_bundle import random_bundle
from stream.bundle import Bundle
from stream.scorer import ROWS, Scorer, keep_best, may_improve

ITEMS = 5_000  # three blocks


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("scorer") / "bundle"
    return random_bundle(folder, ["view"], items=ITEMS, precision="float16", seed=5)


@pytest.fixture(scope="module")
def scorer(bundle: Bundle) -> Scorer:
    return Scorer(bundle)


def queries(rows: int, width: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def test_top_k_is_that_of_the_full_scores(scorer: Scorer) -> None:
    query = queries(150, 8)
    scores, items = scorer.top(query, 10)
    full = scorer.scores(query)
    expected = np.argsort(-full, axis=1, kind="stable")[:, :10]
    assert np.array_equal(items, expected)
    assert np.array_equal(scores, np.take_along_axis(full, expected, axis=1))


def test_full_scores_are_the_product_and_the_bias(bundle: Bundle, scorer: Scorer) -> None:
    query = queries(70, 8)
    expected = query.astype(np.float64) @ bundle.items.T.astype(np.float64) + bundle.item_bias
    np.testing.assert_allclose(scorer.scores(query), expected, atol=1e-5)


def test_a_row_has_the_same_bits_in_any_batch(scorer: Scorer) -> None:
    query = queries(255, 8)
    scores, items = scorer.top(query, 10)
    for rows in range(1, 256):
        some_scores, some_items = scorer.top(query[-rows:], 10)
        assert np.array_equal(some_scores, scores[-rows:]), f"{rows} rows"
        assert np.array_equal(some_items, items[-rows:]), f"{rows} rows"


def test_equal_scores_give_the_lower_index_first(scorer: Scorer) -> None:
    bias = -scorer.bias
    zeros = np.zeros((ROWS + 1, 8), np.float32)
    scores, items = scorer.top(zeros, 4, extra_bias=bias)
    assert (scores == 0.0).all()
    assert (items == [0, 1, 2, 3]).all()


def test_extra_bias_moves_items_and_minus_infinity_withdraws_them(scorer: Scorer) -> None:
    query = queries(9, 8)
    best = scorer.top(query, 1)[1][:, 0]
    bias = np.zeros(ITEMS, np.float32)
    bias[best] = -np.inf
    bias[17] = 1e6
    _, items = scorer.top(query, 10, extra_bias=bias)
    assert (items[:, 0] == 17).all()
    assert not np.isin(items, best[best != 17]).any()


def test_excluded_items_make_room_for_the_next(scorer: Scorer) -> None:
    query = queries(100, 8)
    _, items = scorer.top(query, 12)
    exclude = items[:, [4, 0]].copy()
    exclude[3] = -1
    _, left = scorer.top(query, 10, exclude=exclude)
    for row in range(100):
        expected = [item for item in items[row] if item not in exclude[row]][:10]
        assert left[row].tolist() == expected


def test_too_few_items_leave_the_rest_of_the_row_empty(scorer: Scorer) -> None:
    bias = np.full(ITEMS, -np.inf, np.float32)
    bias[[7, 4_999]] = 0.0
    scores, items = scorer.top(queries(2, 8), 4, extra_bias=bias)
    assert sorted(items[0, :2]) == [7, 4_999]
    assert (items[:, 2:] == -1).all()
    assert np.isneginf(scores[:, 2:]).all()


def test_k_may_be_larger_than_the_catalogue(scorer: Scorer) -> None:
    _, items = scorer.top(queries(1, 8), ITEMS + 5)
    assert sorted(items[0, :ITEMS]) == list(range(ITEMS))
    assert (items[0, ITEMS:] == -1).all()


@pytest.mark.parametrize("added", [1, 50, 3_000])
def test_a_tail_is_searched_like_the_rest(bundle: Bundle, scorer: Scorer, added: int) -> None:
    vectors, bias = queries(added, 8, seed=3) * 3, queries(added, 1, seed=4)[:, 0]
    longer = scorer.with_tail(vectors[: added // 2], bias[: added // 2])
    longer = longer.with_tail(vectors[added // 2 :], bias[added // 2 :])
    query = queries(80, 8)
    every = np.concatenate([bundle.items, vectors]), np.concatenate([bundle.item_bias, bias])
    expected = query.astype(np.float64) @ every[0].T.astype(np.float64) + every[1]
    assert longer.items == ITEMS + added
    np.testing.assert_allclose(longer.scores(query), expected, atol=1e-4)
    best = np.argsort(-longer.scores(query), axis=1, kind="stable")[:, :10]
    assert np.array_equal(longer.top(query, 10)[1], best)
    assert scorer.items == ITEMS
    assert scorer.scores(query).shape == (80, ITEMS)


def test_no_rows_give_no_rows(scorer: Scorer) -> None:
    scores, items = scorer.top(np.empty((0, 8), np.float32), 10)
    assert scores.shape == items.shape == (0, 10)


def test_blocks_without_a_chance_are_left_out_and_change_nothing(
    bundle: Bundle, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    bias = np.linspace(0.0, -40.0, ITEMS, dtype=np.float32)
    query = queries(200, 8)
    looked_at: list[int] = []

    def noted(product: np.ndarray, *rest: np.ndarray) -> None:
        looked_at.append(len(product))
        keep_best(product, *rest)

    monkeypatch.setattr("stream.scorer.keep_best", noted)
    sorted_anew = Scorer(bundle._replace(item_bias=bias))
    scores, items = sorted_anew.top(query, 10)
    full = sorted_anew.scores(query)
    expected = np.argsort(-full, axis=1, kind="stable")[:, :10]
    assert np.array_equal(items, expected)
    assert np.array_equal(scores, np.take_along_axis(full, expected, axis=1))
    chunks = -(-len(query) // ROWS)
    assert chunks <= len(looked_at) < chunks * 3


def test_a_bound_counts_length_and_bias_and_leaves_room_for_rounding() -> None:
    best = np.array([[5.0, 4.0]], np.float32)
    one = np.ones(1, np.float32)
    assert may_improve(one, 2.0, 2.0, best)  # just as high: an item with a lower index could be there
    assert may_improve(one, 2.0, 2.0 - 1e-4, best)
    assert not may_improve(one, 2.0, 1.99, best)
    assert not may_improve(one, 1.99, 2.0, best)
    assert may_improve(one, 0.0, -np.inf, np.full((1, 2), -np.inf, np.float32))
