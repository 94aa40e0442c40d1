"""Co-occurrence in serving: what the last items raise, against the formula, and the search with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.random_bundle import random_bundle, random_near
from stream.bundle import Bundle, open_bundle
from stream.co_occurrence import NEAR_ITEM, NEAR_TYPES, Near, check_near
from stream.config_load import parse_config
from stream.errors import BundleError
from stream.items import ItemTable
from stream.model import Model, Reads
from stream.scorer import Scorer
from tests.shell.searching import check_search

ITEMS = 5_000  # three blocks


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("near") / "bundle"
    return random_bundle(folder, ["view"], items=ITEMS, neighbours=40, seed=5)


def near_of(bundle: Bundle) -> Near:
    assert bundle.near is not None
    return bundle.near


def recent_of(rows: int, items: int = ITEMS, seed: int = 3) -> np.ndarray:
    """Return last items, some rows short, some items unknown."""
    random = np.random.default_rng(seed)
    recent = random.integers(items + 50, size=(rows, 20)).astype(np.int32)
    recent[np.arange(20) >= random.integers(21, size=rows)[:, None]] = -1
    return recent


def by_formula(near: Near, recent: np.ndarray) -> np.ndarray:
    """Return the raises [B, I], a loop for each symbol of the formula."""
    items = len(near.start) - 1
    raised = np.zeros((len(recent), items))
    for b, row in enumerate(recent.tolist()):
        earned = np.zeros(items)
        for n, item in enumerate(reversed([item for item in row if item >= 0])):
            if item < items:
                pairs = slice(near.start[item], near.start[item + 1])
                earned[near.item[pairs]] += near.decay**n * near.weight[pairs].astype(np.float64)
        if earned.any():
            raised[b] = near.strength * np.log(1 + items * earned / earned.sum())
    return raised


def dense(near: Near, recent: np.ndarray, rows: int = ITEMS) -> np.ndarray:
    out = np.zeros((len(recent), rows), np.float32)
    near.raises(recent).add_to(out)
    return out


def test_the_raises_are_those_of_the_formula(bundle: Bundle) -> None:
    near, recent = near_of(bundle), recent_of(70)
    expected = by_formula(near, recent)
    assert (recent >= ITEMS).any()
    assert (recent < 0).all(1).any()
    assert (expected > 0).any()
    np.testing.assert_allclose(dense(near, recent), expected, rtol=1e-6, atol=1e-7)


def test_nobody_raises_nothing() -> None:
    near = random_near(10, 3)
    assert len(near.raises(np.full((2, 20), -1, np.int32)).item) == 0
    assert len(near.raises(np.empty((0, 20), np.int32)).item) == 0
    assert near.raises(np.full((1, 20), 10, np.int32)).start.tolist() == [0, 0]


def test_an_items_place_in_the_row_is_only_its_age() -> None:
    near = random_near(200, 5)
    row = np.array([[3, 7, 11]], np.int32)
    padded = np.full((1, 20), -1, np.int32)
    padded[0, 4:7] = row
    assert np.array_equal(dense(near, row, 200), dense(near, padded, 200))
    assert not np.array_equal(dense(near, row, 200), dense(near, row[:, ::-1].copy(), 200))


def test_the_search_finds_what_adding_up_everything_finds(bundle: Bundle) -> None:
    check_search(Scorer(bundle), near_of(bundle).raises(recent_of(150)))


def test_what_is_excluded_is_not_raised_into_a_list(bundle: Bundle) -> None:
    scorer, near, recent = Scorer(bundle), near_of(bundle), recent_of(40)
    query = np.random.default_rng(2).standard_normal((40, 8)).astype(np.float32)
    _, items = scorer.top(query, 5, raises=near.raises(recent))
    _, others = scorer.top(query, 5, raises=near.raises(recent), exclude=items)
    for barred, listed in zip(items.tolist(), others.tolist(), strict=True):
        assert not set(barred) & set(listed)


def test_a_row_has_the_same_bits_in_any_batch(bundle: Bundle) -> None:
    scorer, near, recent = Scorer(bundle), near_of(bundle), recent_of(130)
    query = np.random.default_rng(2).standard_normal((130, 8)).astype(np.float32)
    scores, items = scorer.top(query, 10, raises=near.raises(recent))
    for rows in (1, 2, 63, 64, 65, 129):
        some_scores, some_items = scorer.top(query[-rows:], 10, raises=near.raises(recent[-rows:]))
        assert np.array_equal(some_scores, scores[-rows:]), f"{rows} rows"
        assert np.array_equal(some_items, items[-rows:]), f"{rows} rows"


def test_late_items_stand_beside_raised_ones(bundle: Bundle) -> None:
    near, recent = near_of(bundle), recent_of(5)
    late = np.full((3, 8), 0.5, np.float32)
    scorer = Scorer(bundle).with_tail(late, np.full(3, 50.0, np.float32))
    query = np.zeros((5, 8), np.float32)
    _, items = scorer.top(query, 4, raises=near.raises(recent))
    assert (items[:, :3] == [ITEMS, ITEMS + 1, ITEMS + 2]).all()
    assert np.array_equal(items[:, 3], (scorer.bias[:ITEMS] + dense(near, recent)).argmax(1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"start": np.zeros(4, np.int64)}, "rise from 0"),
        ({"item": np.array([0, 3], np.int32)}, "items below 3"),
        ({"item": np.array([1, 1], np.int32)}, "twice"),
        ({"weight": np.array([1.0, 0.0], np.float32)}, "above 0 for each pair"),
        ({"weight": np.array([1.0, np.nan], np.float32)}, "above 0 for each pair"),
        ({"decay": 0.0}, "decay above 0"),
        ({"strength": -1.0}, "strength above 0"),
    ],
)
def test_neighbours_that_make_no_sense_are_refused(change: dict[str, object], said: str) -> None:
    good = Near(
        np.array([0, 2, 2, 2]), np.array([1, 2], np.int32), np.array([1.0, 2.0], np.float32), 0.5, 0.5
    )
    assert check_near(good, 3) == ""
    assert said in check_near(good._replace(**change), 3)  # type: ignore[arg-type]


def test_a_bundle_with_a_part_of_the_neighbours_is_refused(tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "bundle", ["view"], items=20, neighbours=3)
    assert set(NEAR_TYPES) < set(bundle.manifest.files)
    (tmp_path / "bundle" / NEAR_ITEM).unlink()
    with pytest.raises(BundleError, match=NEAR_ITEM):
        open_bundle(tmp_path / "bundle")


def test_thresholds_leave_it_where_it_is(bundle: Bundle) -> None:
    """With thresholds the products are made apart; limits that rule nothing out must change nothing."""
    lists = []
    for limits in ({}, {"min_similarity": -1e6, "min_context": -1e6}):
        policy = {"k": 10, "exclude": "seen", "popularity": 0.2, **limits}
        config = parse_config({"events": {"kinds": {"view": "engagement"}}, "policies": {"default": policy}})
        model = Model(bundle, config, ItemTable(bundle.item_ids))
        random = np.random.default_rng(7)
        reads = Reads(
            random.standard_normal((80, model.state_size)).astype(np.float32),
            random.standard_normal((80, len(model.feature_names))).astype(np.float32),
            np.ones(80, np.int32),
            recent_of(80),
            np.zeros((80, 20), np.bool_),
        )
        lists.append(model.rank(reads))
    for one, other in zip(*lists, strict=True):
        assert one.items == other.items
        assert one.scores == pytest.approx(other.scores, abs=1e-4)
    without = Model(bundle._replace(near=None), config, ItemTable(bundle.item_ids)).rank(reads)
    assert any(one.items != other.items for one, other in zip(without, lists[0], strict=True))
