"""Lists of baskets: measures made by hand, and baselines that know what the model's list knew."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.baselines import Recency
from models.dataset import Sequences
from models.evaluate import make_lists
from models.judge_run import judge_lists
from models.list_quality import Held, add_baselines, hold, judge_held, known_at, list_best
from models.ranking import Scorer
from models.train import make_model
from stream.demo.quality import BUY_AGAIN, LISTED, POPULARITY, measure
from tests.models.clicks import fold_clicks
from tests.models.test_evaluate import fit_until, recipe, views


def test_measures_of_lists_are_those_made_by_hand() -> None:
    ten = [3, 0, 5, *range(6, 13)]
    short = [7, *[-1] * 9]
    held = Held(
        user=np.array([0, 1]),
        event=np.array([0, 1]),
        size=np.array([2, 4]),
        right=np.array([0, 5, 20 + 1, 20 + 2, 20 + 7, 20 + 19]),  # 0, 5 and 1, 2, 7, 19 of 20 items
        lists={"ten": np.array([ten, ten]), "short": np.array([short, short]), "none": np.full((2, 10), -1)},
    )
    vectors = np.ones((20, 2))
    vectors[3] = -1.0
    judged = judge_held(held, 20, np.full(20, 2.0), vectors)
    assert (judged.baskets, judged.users) == (2, 2)
    ten_found, short_found, none = (judged.rivals[name] for name in ("ten", "short", "none"))
    assert ten_found.hit_rate.value == 1.0
    assert ten_found.mrr == pytest.approx((1 / 2 + 1 / 5) / 2)  # 0 is second, 7 fifth
    assert ten_found.precision == pytest.approx((2 + 1) / 20)
    assert ten_found.recall == pytest.approx((2 / 2 + 1 / 4) / 2)
    ideal = 1 + 1 / np.log2(3)
    first = (1 / np.log2(3) + 1 / np.log2(4)) / ideal
    second = 1 / np.log2(6) / (ideal + 1 / np.log2(4) + 1 / np.log2(5))
    assert ten_found.ndcg.value == pytest.approx((first + second) / 2)
    assert ten_found.coverage == 0.5
    assert ten_found.gini == pytest.approx(0.5)
    assert ten_found.novelty == pytest.approx(np.log2(20))
    assert ten_found.diversity == pytest.approx(2 * 9 / 45)  # nine of the pairs are opposite
    assert (short_found.hit_rate.value, short_found.mrr, short_found.precision) == (0.5, 0.5, 0.05)
    assert (short_found.recall, short_found.coverage, short_found.diversity) == (0.125, 0.05, 0.0)
    assert (none.hit_rate.value, none.mrr, none.recall, none.coverage) == (0.0, 0.0, 0.0, 0.0)
    assert np.isnan([none.gini, none.novelty]).all()


def test_hits_and_gains_are_those_of_the_demo(tmp_path: Path) -> None:
    data = fold_clicks(tmp_path)
    made = make_lists(make_model(data, recipe(), None), data, ["view", "buy"], 0)
    from_ms = int(np.quantile(data.time_ms, 0.6))
    expected = measure(made.purchases, made.lists, from_ms)
    found = judge_held(hold(made, data, from_ms), 12, np.ones(12), np.eye(12))
    assert (found.baskets, found.users) == (expected.baskets, expected.users)
    for rival in (LISTED, POPULARITY, BUY_AGAIN):
        assert found.rivals[rival].hit_rate == pytest.approx(expected.hit_rate[rival])
        assert found.rivals[rival].ndcg == pytest.approx(expected.ndcg[rival])


def test_baselines_know_what_was_known_when_the_list_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    data = views([0, 100, 200, 300, 400], 12)._replace(item=np.array([4, 7, 4, 2, 9], np.int32))
    learnt: list[Sequences] = []
    known: list[list[int]] = []

    class Spy:
        def __init__(self, data: Sequences) -> None:
            learnt.append(data)

        def scores(self, given: Sequences, users: np.ndarray) -> np.ndarray:
            bounds = zip(given.start[:-1].tolist(), given.start[1:].tolist(), strict=True)
            known.extend(given.item[start:stop].tolist() for start, stop in bounds)
            return np.zeros((len(users), 12), np.float32)

    def spies() -> tuple[dict[str, type[Scorer]], list[str]]:
        return {"spy": Spy}, ["a note"]

    monkeypatch.setattr("models.list_quality.own_and_near", spies)
    held = hold(make_lists(make_model(data, recipe(), None), data, ["view"], 0), data, 200)
    assert add_baselines(held, data, ["view"], 200) == ["a note"]
    assert [given.item.tolist() for given in learnt] == [[4, 7]]
    assert known == [[4, 7], [4, 7, 4], [4, 7, 4, 2]]  # baskets of 200, 300 and 400
    assert (held.lists["spy"] >= 0).all()


def test_recency_lists_the_own_items_latest_first_and_only_of_what_is_bought() -> None:
    data = views([0, 100, 200, 300, 400], 12)._replace(item=np.array([4, 7, 5, -1, 9], np.int32))
    kept = (data.item >= 0) & (data.item != 7)  # as if 7 had been looked at
    lists = list_best(Recency(data.before(100)), data, kept, np.array([2, 3, 4]))
    assert lists[:, :3].tolist() == [[5, 4, lists[0, 2]], [5, 4, lists[1, 2]], [9, 5, 4]]
    assert known_at(data, np.zeros(5, np.bool_), np.array([3])).start.tolist() == [0, 0]


def test_a_catalogue_of_three_leaves_places_empty() -> None:
    data = views([0, 100, 200, 300], 3)
    held = hold(make_lists(make_model(data, recipe(), None), data, ["view"], 0), data, 100)
    add_baselines(held, data, ["view"], 100)
    assert held.lists.keys() == {LISTED, POPULARITY, BUY_AGAIN, "recency", "item-kNN"}
    assert all((rows[:, 3:] == -1).all() for rows in held.lists.values())
    assert {tuple(sorted(row)) for row in held.lists["item-kNN"][:, :3].tolist()} == {(0, 1, 2)}


def test_a_span_without_baskets_has_no_quality(tmp_path: Path) -> None:
    data = fold_clicks(tmp_path)
    (tmp_path / "e.toml").write_text(
        '[events]\nkinds = { view = "engagement", buy = "conversion" }\nrecommend = ["buy"]\n'
    )
    run = fit_until(data, None, recipe())
    quality, states, figures, _ = judge_lists(run, data, tmp_path / "e.toml", 10**15)
    assert (quality.baskets, states) == (0, {})
    assert np.isnan([found.mrr for found in quality.rivals.values()]).all()
    assert np.isnan(figures["hit_rate_at_10"]["item-kNN"]).all()
