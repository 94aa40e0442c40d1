"""Late items: encoded from their attributes, listed, withdrawn and excluded under their own names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from export.random_bundle import random_bundle
from stream.bundle import Bundle
from stream.candidates import Candidates
from stream.catalogue import apply_items, apply_items_file
from stream.config import Config
from stream.config_load import load_config
from stream.core.lifecycle import STATES
from stream.errors import InputError
from stream.item_encoder import ItemEncoder
from stream.items import ItemTable
from stream.model import Model, RankedList, Reads
from stream.wire import Item

ITEMS = 12
COLOURS = ["red", "blue", "green"]
ATTRIBUTES = [{"colour": COLOURS[i % 3], "price": float(i), "title": f"thing {i}"} for i in range(ITEMS)]

CONFIG = """
[events]
kinds = { view = "engagement", buy = "conversion" }
recommend = ["view"]
[policies.default]
k = 20
[policies.loyal]
k = 5
exclude = "seen"
[policies.at_risk]
k = 5
diversity = 0.5
[policies.new]
k = 20
popularity = 1.0
[policies.churned]
k = 20
min_similarity = -1e9
exclude = "seen"
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("catalogue") / "b"
    return random_bundle(folder, ["view", "buy"], items=ITEMS, attributes=ATTRIBUTES, rerank_hidden=8)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return load_config(path)


class Shop:
    """A model and its item table; before the catalogue speaks, events have named three unknown items."""

    def __init__(self, bundle: Bundle, config: Config) -> None:
        self.items = ItemTable(bundle.item_ids)
        self.model = Model(bundle, config, self.items)
        for name in ("stranger", "late-2", "other stranger"):
            self.items.intern(name)

    def apply(self, *changes: tuple[str, dict[str, Any] | None]) -> None:
        apply_items(self.model, self.items, [Item(name, attributes) for name, attributes in changes])

    def rank(self, lifecycle: str, recent: list[str] | None = None) -> RankedList:
        random = np.random.default_rng(0)
        seen = np.full((1, 20), -1, np.int32)
        if recent:
            seen[0, : len(recent)] = [self.items.find(name) for name in recent]
        reads = Reads(
            state=random.standard_normal((1, self.model.state_size)).astype(np.float32),
            features=random.standard_normal((1, len(self.model.feature_names))).astype(np.float32),
            lifecycle=np.array([STATES.index(lifecycle)], np.int32),
            recent=seen,
            converted=np.zeros((1, 20), bool),
        )
        return self.model.rank(reads)[0]

    def listed(self, lifecycle: str = "retained", recent: list[str] | None = None) -> dict[str, float]:
        ranked = self.rank(lifecycle, recent)
        names = [self.items.name(item) for item in ranked.items]
        assert len(set(names)) == len(names)
        return dict(zip(names, ranked.scores, strict=True))


@pytest.fixture
def shop(bundle: Bundle, config: Config) -> Shop:
    return Shop(bundle, config)


LATE = {"colour": "red", "price": 3.0, "title": "a thing that came late"}


def test_a_late_item_is_listed_by_its_own_name(shop: Shop) -> None:
    before = shop.listed()
    assert len(before) == ITEMS
    shop.apply(("late-1", LATE), ("late-2", LATE | {"colour": "blue"}))
    after = shop.listed()
    assert after.keys() - before.keys() == {"late-1", "late-2"}
    assert {name: after[name] for name in before} == before


def test_an_item_that_only_events_name_is_never_listed(shop: Shop) -> None:
    shop.apply(("late-1", LATE))
    assert "stranger" not in shop.listed()
    assert "late-2" not in shop.listed()


def test_equal_attributes_give_equal_scores_and_others_do_not(shop: Shop) -> None:
    shop.apply(("late-1", LATE), ("late-2", LATE), ("late-3", LATE | {"colour": "green"}))
    listed = shop.listed()
    assert listed["late-1"] == listed["late-2"] != listed["late-3"]


def test_one_by_one_or_all_at_once_is_the_same(bundle: Bundle, config: Config) -> None:
    changes = [(f"late-{i}", LATE | {"price": float(i)}) for i in range(1, 80)]
    together, apart = Shop(bundle, config), Shop(bundle, config)
    together.apply(*changes)
    for change in changes:
        apart.apply(change)
    assert together.listed() == apart.listed()


@pytest.mark.parametrize("lifecycle", ["loyal", "churned"])
def test_a_recent_late_item_is_excluded_and_nothing_in_its_stead(shop: Shop, lifecycle: str) -> None:
    shop.apply(("late-1", LATE), ("late-2", LATE), ("late-3", LATE))
    all_of_them = shop.listed(lifecycle)
    recent = ["late-2", "stranger", "item-3"]
    left = shop.listed(lifecycle, recent)
    assert not left.keys() & set(recent)
    every = shop.listed("retained")
    expected = sorted(every.keys() - set(recent), key=lambda name: -every[name])[: len(all_of_them)]
    assert set(left) == set(expected[: len(left)])


def test_withdrawn_items_of_both_sorts_come_back_with_attributes(shop: Shop) -> None:
    shop.apply(("late-1", LATE))
    full = shop.listed()
    shop.apply(("late-1", None), ("item-4", None), ("never heard of", None))
    assert full.keys() - shop.listed().keys() == {"late-1", "item-4"}
    shop.apply(("late-1", LATE), ("item-4", {}))
    assert shop.listed() == full


def test_the_last_word_in_a_batch_counts(shop: Shop) -> None:
    shop.apply(("late-1", LATE), ("late-1", None), ("late-3", None), ("late-3", LATE))
    assert "late-1" not in shop.listed()
    assert "late-3" in shop.listed()


def test_new_attributes_move_a_late_item_and_no_other(shop: Shop) -> None:
    shop.apply(("late-1", LATE), ("late-2", LATE))
    before = shop.listed()
    shop.apply(("late-3", LATE), ("late-1", LATE | {"colour": "green"}))
    after = shop.listed()
    assert after["late-1"] != before["late-1"]
    assert {n: s for n, s in after.items() if n not in ("late-1", "late-3")} == {
        n: s for n, s in before.items() if n != "late-1"
    }
    assert after["late-3"] == before["late-2"]
    shop.apply(("late-4", LATE | {"colour": "green"}))
    assert shop.listed()["late-4"] == after["late-1"]


def test_what_the_bundle_knows_of_its_own_items_stays(shop: Shop) -> None:
    before = shop.listed()
    shop.apply(("item-4", LATE))
    assert shop.listed() == before


@pytest.mark.parametrize("lifecycle", ["new", "at_risk"])
def test_every_policy_can_list_late_items(shop: Shop, lifecycle: str) -> None:
    shop.apply(*[(f"late-{i}", LATE | {"price": float(i)}) for i in range(40)])
    assert any(name.startswith("late-") for name in shop.listed(lifecycle))


def test_without_an_item_encoder_late_items_wait(bundle: Bundle, config: Config) -> None:
    shop = Shop(bundle, config)
    shop.model.item_encoder = None
    before = shop.listed()
    shop.apply(("late-1", LATE), ("item-1", None))
    assert before.keys() - shop.listed().keys() == {"item-1"}


def test_a_file_of_items_says_which_line_is_wrong(shop: Shop, tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "late-1", "attributes": {"colour": "red", "picture": [1, 2.5]}}\n')
    apply_items_file(shop.model, shop.items, path)
    assert "late-1" in shop.listed()
    assert shop.model.catalogue == 1
    path.write_text('{"item_id": "a", "attributes": {}}\n{"item_id": ""}\n')
    with pytest.raises(InputError, match="line 2"):
        apply_items_file(shop.model, shop.items, path)


def test_a_late_item_is_scored_by_its_row_and_bias(bundle: Bundle) -> None:
    encoder, candidates = ItemEncoder(bundle), Candidates(bundle)
    vectors, bias = encoder.encode([LATE, {}, LATE | {"price": 9.0}])
    assert candidates.add([ITEMS + 7, ITEMS + 2, ITEMS + 30], vectors, bias) == 3
    query = np.random.default_rng(1).standard_normal((3, vectors.shape[1])).astype(np.float32)
    np.testing.assert_allclose(
        candidates.scorer.scores(query)[:, ITEMS:], query @ vectors.T + bias, atol=1e-5
    )
    asked = np.array([[0, ITEMS - 1, ITEMS, ITEMS + 2, ITEMS + 7, ITEMS + 30, ITEMS + 31, -1]], np.int32)
    assert candidates.rows(asked).tolist() == [[0, 11, -1, 13, 12, 14, -1, -1]]
    assert candidates.items(np.array([0, 12, 13, 14])).tolist() == [0, 19, 14, 42]


def test_there_is_room_for_so_many_and_the_rest_is_left_out(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.candidates.LATE_MAX", 2)
    candidates = Candidates(bundle)
    vectors, bias = ItemEncoder(bundle).encode([LATE] * 3)
    assert candidates.add([20, 21, 22], vectors, bias) == 2
    assert candidates.add([21, 22], vectors[:2], bias[:2]) == 1
    assert candidates.rows(np.array([20, 21, 22], np.int32)).tolist() == [12, 13, -1]


def test_the_reranker_orders_the_best_and_only_those(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.apply(("late-1", LATE))
    ranked = shop.rank("retained")
    assert ranked.scores == sorted(ranked.scores, reverse=True)
    reranker = shop.model._reranker
    assert reranker is not None
    monkeypatch.setattr(shop.model, "_reranker", None)
    plain = shop.rank("retained")
    assert sorted(plain.items) == sorted(ranked.items)
    assert plain.scores != ranked.scores
    monkeypatch.setattr(shop.model, "_reranker", reranker)
    monkeypatch.setattr(reranker, "candidates", 5)
    best_five = shop.rank("loyal")
    assert set(best_five.items) == set(plain.items[:5])
