"""Leave-one-out as `evaluate --last` has it: figures made by hand, and baselines that know what was known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import metrics, rivals
from models.dataset import Sequences
from models.judge_last import by_state, figures_of, judge_last, of_new, over_users
from models.ranking import Asked, Ranked, Scorer, ask_last, rank
from models.sequences import from_lists, without_last
from stream.errors import UsageError
from tests.models.clicks import fold_clicks
from tests.models.test_evaluate import fit_until, recipe

ITEMS = [f"i{n}" for n in range(15)]


def rings(last: str) -> Sequences:
    """Return walks around twelve items, of 30 users, each with `last` at the end."""
    lists = [[f"i{(u + n) % 12}" for n in range(6)] + [last] for u in range(30)]
    return from_lists([f"u{u}" for u in range(30)], lists, ITEMS)


def test_figures_of_a_row_are_those_made_by_hand() -> None:
    known = from_lists(["a", "b", "c", "d"], [["i0"]] * 4, ITEMS)
    lists = np.array([[0, 1, 2], [0, 1, 2], [0, 2, 1], [1, 0, 2]])
    ranks = np.array([0.0, 2.0, 9.0, 10.0])
    vectors = np.zeros((15, 2))
    vectors[:3] = [[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]
    found = figures_of(Ranked(ranks, ranks, lists, False), known, vectors, np.ones(15))
    assert found["users"] == 4
    assert found["precision10"] == pytest.approx(0.075)  # three tenths of ten places each
    assert found["recall10"] == found["hr10"] == pytest.approx(0.75)
    assert found["ndcg10"] == pytest.approx((1 + 0.5 + 1 / np.log2(11)) / 4, abs=1e-5)
    assert found["diversity"] == pytest.approx((1 + 1 + 2) / 3, abs=1e-5)
    assert found["ndcg10_low"] < found["ndcg10"] < found["ndcg10_high"]


def test_an_interval_is_that_of_the_users_and_not_of_their_sequences() -> None:
    values, two = np.array([1.0, 0.0, 1.0, 0.0]), np.array([4, 4, 7, 7])
    assert over_users(values, two) == (0.5, 0.5, 0.5)  # whoever is drawn, half of his are right
    assert over_users(values, np.arange(4))[1:] == (0.0, 1.0)
    uneven = over_users(np.array([1.0, 1.0, 0.0]), np.array([0, 0, 1]))
    assert uneven == (pytest.approx(2 / 3), 0.0, 1.0)  # a mean of sequences, as the figure itself
    every = np.linspace(0, 1, 40)
    assert over_users(every, np.arange(40)) == pytest.approx(metrics.bootstrap((every,)))


def test_baselines_know_nothing_of_the_last_item(monkeypatch: pytest.MonkeyPatch) -> None:
    data, other = rings("i13"), rings("i14")
    run = fit_until(data, None, recipe())
    learnt: list[Sequences] = []

    def watched(seed: int) -> tuple[dict[str, rivals.Maker], list[str]]:
        makers, notes = rivals.everyone(seed)

        def watch(make: rivals.Maker) -> rivals.Maker:
            def made(data: Sequences) -> Scorer:
                learnt.append(data)
                return make(data)

            return made

        return {name: watch(make) for name, make in makers.items()}, notes

    monkeypatch.setattr("models.judge_last.everyone", watched)
    found, again = judge_last(run, data), judge_last(run, other)
    assert {given.fingerprint() for given in learnt} == {without_last(data).fingerprint()}
    assert len(learnt) == 10
    names = {name.partition(", ")[0] for name in found.rows}
    assert names == {"gru", "popularity", "recency", "item-kNN", "BPR", "ALS"}
    for name, row in found.rows.items():
        same = ("coverage", "gini", "novelty", "diversity")
        assert {key: row[key] for key in same} == {key: again.rows[name][key] for key in same}, name
    assert found.rows["popularity, all items"]["hr10"] == 0.0  # nobody had i13 before
    assert found.states == {}


def test_neighbours_find_what_follows_in_a_ring() -> None:
    lists = [[f"i{(u + n) % 12}" for n in range(7)] for u in range(30)]
    data = from_lists([f"u{u}" for u in range(30)], lists, ITEMS)
    rows = judge_last(fit_until(data, None, recipe()), data).rows
    best = rows["item-kNN, unseen only"]["ndcg10"]
    assert best > rows["popularity, unseen only"]["ndcg10"] + 0.2
    assert rows["recency, all items"]["hr10"] > rows["recency, unseen only"]["hr10"] - 1.0


def test_without_baselines_popularity_alone_stands_beside_the_model() -> None:
    told: list[str] = []
    data = rings("i13")
    found = judge_last(fit_until(data, None, recipe()), data, baselines=False, tell=told.append)
    assert told == ["gru", "popularity"]
    assert list(found.rows) == [f"{name}, {of}" for name in told for of in ("all items", "unseen only")]


@pytest.mark.parametrize(
    ("missing", "left", "said"),
    [
        ({"implicit"}, ["popularity", "recency", "item-kNN"], ["BPR and ALS are left out"]),
        (
            {"implicit", "scipy"},
            ["popularity"],
            ["recency and item-kNN are left out", "BPR and ALS are left"],
        ),
    ],
)
def test_what_is_not_installed_is_left_out_and_said(
    missing: set[str], left: list[str], said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rivals, "find_spec", lambda name: None if name in missing else name)
    makers, notes = rivals.everyone(0)
    assert list(makers) == left
    assert all(note.startswith(words) for note, words in zip(notes, said, strict=True))


def test_the_model_is_judged_by_lifecycle_state_too(tmp_path: Path) -> None:
    data = fold_clicks(tmp_path)
    found = judge_last(fit_until(data, None, recipe()), data, baselines=False)
    assert len(found.states) >= 3
    for words in ("all items", "unseen only"):
        whole = found.rows[f"gru, {words}"]
        parts = [row for name, row in found.states.items() if name.endswith(words)]
        assert sum(row["users"] for row in parts) == whole["users"]
        for measure in ("hr10", "ndcg10", "mrr"):
            mean = sum(row["users"] * row[measure] for row in parts) / whole["users"]
            assert mean == pytest.approx(whole[measure], abs=1e-4)
    assert all(row["ndcg10_low"] <= row["ndcg10"] <= row["ndcg10_high"] for row in found.states.values())


def test_a_state_is_that_before_the_last_event() -> None:
    known = from_lists(["a", "b"], [["x", "y"], ["x"]])
    states = np.array([[1, 0], [0, 1], [1, 0]], np.float32)  # a was new, then active; b is new
    names = ["lifecycle=new", "lifecycle=active"]
    known = known._replace(features=states, feature_names=names)
    ranked = Ranked(np.array([0.0, 20.0]), np.array([0.0, 1.0]), np.zeros((2, 1)), False)
    assert {state: row["hr10"] for state, row in by_state(ranked, known).items()} == {"active": 1, "new": 0}
    assert by_state(ranked._replace(unseen=True), known)["new"]["hr10"] == 1.0


def test_who_had_the_last_item_before_is_not_asked_what_is_new() -> None:
    lists = [["i1", "i2", "i3"], ["i3", "i4", "i3"], ["i2", "i1", "i5"]]
    data = from_lists(["a", "b", "c"], lists, ITEMS)
    some = of_new(ask_last(data))
    assert (some.known.user, some.answer.tolist()) == (["a", "c"], [3, 5])
    rows = judge_last(fit_until(data, None, recipe()), data).rows
    assert (rows["recency, all items"]["users"], rows["recency, unseen only"]["users"]) == (3, 2)
    again = from_lists(["a", "b"], [["i1", "i2", "i1"], ["i3", "i4", "i3"]], ITEMS)
    rows = judge_last(fit_until(again, None, recipe()), again, baselines=False).rows
    assert list(rows) == ["gru, all items", "popularity, all items"]


def test_lists_are_of_all_items_unless_of_unseen_ones() -> None:
    class Given:
        def scores(self, known: object, users: np.ndarray) -> np.ndarray:
            return np.array([[3.0, 2.0, 1.0, 0.0]], np.float32)[[0] * len(users)]

    asked = Asked(from_lists(["u"], [["a", "b"]], ["a", "b", "c", "d"]), np.array([2], np.int32))
    found: Any = {unseen: rank(Given(), asked, unseen=unseen, places=2).lists for unseen in (False, True)}
    assert {unseen: lists.tolist() for unseen, lists in found.items()} == {False: [[0, 1]], True: [[2, 3]]}


def test_data_in_which_nobody_has_a_last_item_are_refused() -> None:
    data = rings("i13")
    item = np.where(data.item == 13, -1, data.item).astype(np.int32)
    with pytest.raises(UsageError, match="nobody's last event has an item"):
        judge_last(fit_until(data, None, recipe()), data._replace(item=item))
