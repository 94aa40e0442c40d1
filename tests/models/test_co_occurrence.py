"""Co-occurrence beside a model: counted as the formula says, chosen by what is held out, kept, and served."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from export import cli as export_cli
from export.random_bundle import random_near
from models import cli
from models.baselines import Neighbours as Near0
from models.baselines import near_counts
from models.co_occurrence import STRENGTHS, count_near, fit_near
from models.dataset import Sequences
from models.ensemble import Ensemble, join_near
from models.ranking import ModelScorer, ask_last, rank
from models.recent import near_raises, recent_items
from models.recipe import CoOccurrence, Recipe, Validation, to_recipe
from models.run import load_run, pack, unpack
from models.sequences import from_lists
from models.train import fit, make_model
from models.validate import hold_out
from stream.bundle import open_bundle
from stream.co_occurrence import Near, check_near
from stream.errors import UsageError
from tests.models.clicks import write_clicks
from tests.models.served import check_evaluated, check_explained

SMALL: dict[str, Any] = {"embedding_size": 8, "encoder_config": {"hidden": 8}, "epochs": 2}


def lists_of(*lines: str) -> Sequences:
    return from_lists([f"u{n}" for n in range(len(lines))], [line.split() for line in lines])


def by_chance(users: int = 80, items: int = 25, seed: int = 0) -> Sequences:
    chance = np.random.default_rng(seed)
    lists = [[f"i{i}" for i in chance.integers(0, items, chance.integers(3, 30))] for _ in range(users)]
    return from_lists([f"u{n}" for n in range(users)], lists)


def dense_of(near: Near) -> np.ndarray:
    items = len(near.start) - 1
    weights = np.zeros((items, items))
    weights[np.repeat(np.arange(items), np.diff(near.start)), near.item] = near.weight
    return weights


def test_weights_are_those_of_the_formula_by_hand() -> None:
    data = lists_of("a b c", "a b")
    a, b, c = (data.item_ids.index(name) for name in "abc")
    taken = Counter("abcab")
    found = dense_of(count_near(data, CoOccurrence(reach=2, fade=0.5, back=0.25, power=0.4)))

    def weight(of: str, other: str, count: float) -> float:
        return float(count * taken[of] ** -0.5 * taken[other] ** -0.4)

    assert found[a, b] == pytest.approx(weight("a", "b", 2.0))
    assert found[b, a] == pytest.approx(weight("b", "a", 0.25 * 2.0))
    assert found[a, c] == pytest.approx(weight("a", "c", 0.5))
    assert found[c, a] == pytest.approx(weight("c", "a", 0.25 * 0.5))
    assert np.diag(found).tolist() == [0.0, 0.0, 0.0]


def test_weights_are_those_of_the_baseline() -> None:
    data = by_chance()
    how = Near0(reach=7, fade=0.7, back=0.3, power=0.2)
    asked = CoOccurrence(how.reach, how.fade, how.back, how.power, kept=1000)
    np.testing.assert_allclose(
        dense_of(count_near(data, asked)), near_counts(data, how).toarray(), rtol=1e-5, atol=1e-7
    )


def test_the_best_neighbours_are_kept() -> None:
    data = by_chance()
    everyone = dense_of(count_near(data, CoOccurrence(kept=1000)))
    near = count_near(data, CoOccurrence(kept=4))
    assert check_near(near, len(data.item_ids)) == ""
    few = dense_of(near)
    assert np.diff(near.start).tolist() == [4] * len(data.item_ids)
    for row, (all_of, kept) in enumerate(zip(everyone, few, strict=True)):
        best = np.lexsort((np.arange(len(all_of)), -all_of))[:4]
        assert np.flatnonzero(kept).tolist() == sorted(best.tolist()), row


def test_the_last_items_are_those_of_the_row() -> None:
    chance = np.random.default_rng(1)
    lines = [" ".join(f"i{i}" for i in chance.integers(0, 9, n)) for n in (1, 45, 20, 3)]
    data = lists_of(*lines)
    item = data.item.copy()
    item[chance.random(len(item)) < 0.2] = -1  # an event without an item
    data = data._replace(item=item)
    events = np.arange(len(item))
    found = recent_items(data, events)
    for user in range(data.users):
        for event in range(data.start[user], data.start[user + 1]):
            had = [i for i in item[data.start[user] : event + 1].tolist() if i >= 0][-20:]
            assert found[event].tolist() == [-1] * (20 - len(had)) + had
    nothing = data._replace(item=np.full_like(item, -1))
    assert (recent_items(nothing, events) == -1).all()


def test_a_models_scores_have_it_on_top() -> None:
    data = by_chance()
    model = make_model(data, Recipe(**SMALL), None)
    users = np.arange(6)
    before = ModelScorer(model).scores(data, users)
    model.near = count_near(data, CoOccurrence())._replace(strength=0.7)
    after = ModelScorer(model).scores(data, users)
    raised = near_raises(model.near, recent_items(data, data.start[users + 1] - 1)).numpy()
    assert (raised > 0).any()
    difference = after - before - raised
    # What is left is the same for all items of a user: the logarithm of the sum of shares.
    np.testing.assert_allclose(difference - difference[:, :1], 0.0, atol=1e-5)


def test_a_strength_is_chosen_where_neighbours_help_and_none_where_they_do_not() -> None:
    chance = np.random.default_rng(2)
    pairs = [(f"a{n}", f"b{n}") for n in range(40)]
    lists = [[name for p in chance.permutation(40)[:5] for name in pairs[p]] for _ in range(200)]
    data = from_lists([f"u{n}" for n in range(200)], lists)
    recipe = Recipe(**SMALL, validation=Validation(by="last"), co_occurrence=CoOccurrence())
    split = hold_out(data, recipe.validation, 0)
    model = make_model(data, recipe, None)
    fit(model, data, recipe)
    assert model.near is not None
    assert model.near.strength in STRENGTHS
    found = fit_near(model, split, recipe)
    assert found[model.near.strength] == max(found.values()) > found[0.0] + 0.3
    asked = ask_last(data)
    with_it = (rank(ModelScorer(model), asked, unseen=False).rank < 1).mean()
    model.near = None
    assert with_it > 0.9 > (rank(ModelScorer(model), asked, unseen=False).rank < 1).mean()
    # Neighbours that send everyone to the wrong item: nobody should listen to them.
    wrong = [[f"a{n}", f"b{(n + 7) % 40}"] for n in range(40)]
    strange = split._replace(learn=from_lists([f"w{n}" for n in range(40)], wrong, data.item_ids))
    found = fit_near(model, strange, recipe)
    assert model.near is None
    assert found[0.0] == max(found.values()) > min(found.values())


def test_judging_in_training_counts_it_too() -> None:
    from models.judge import judge
    from models.objective import Objective, learnt_items

    data = by_chance()
    recipe = Recipe(**SMALL, validation=Validation(by="last"))
    split = hold_out(data, recipe.validation, 0)
    model = make_model(data, recipe, None)
    assert split.judged is not None
    held = Objective(split.judged, recipe, learnt_items(split.learn, 1), split.wanted, split.judge_until_ms)
    found = fit_near(model, split, msgspec.structs.replace(recipe, co_occurrence=CoOccurrence()))
    for strength in (0.0, 0.2, 1.0):
        near = count_near(split.learn, CoOccurrence())._replace(strength=strength)
        model.near = near if strength else None
        assert judge(model, held, ndcg=True)["ndcg"] == pytest.approx(found[strength], abs=1e-6)


def test_a_named_strength_needs_nothing_held_out() -> None:
    data = by_chance()
    recipe = Recipe(**SMALL, co_occurrence=CoOccurrence(strength=0.3))
    model = make_model(data, recipe, None)
    fit(model, data, recipe)
    assert model.near is not None
    assert model.near.strength == 0.3
    with pytest.raises(UsageError, match="nothing is held out"):
        fit(model, data, Recipe(**SMALL, co_occurrence=CoOccurrence()))
    with pytest.raises(UsageError, match="leave one of them out"):
        to_recipe({"co_occurrence": {}, "rerank": {}}, "recipe")


def test_what_is_packed_is_unpacked() -> None:
    data = by_chance()
    members = [make_model(data, Recipe(**SMALL, seed=seed), None) for seed in (0, 1)]
    near = count_near(data, CoOccurrence())
    members[1].near = near._replace(strength=0.8)
    ensemble = Ensemble(members, [0.75, 0.25])
    assert ensemble.near is not None
    assert ensemble.near.strength == pytest.approx(0.2)
    for model in (*members, ensemble):
        again = unpack(pack(model)).near
        if model.near is None:
            assert again is None
            continue
        assert again is not None
        assert again[3:] == model.near[3:]
        assert all(np.array_equal(a, b) for a, b in zip(again[:3], model.near[:3], strict=True))
    older = pack(members[0])
    del older["near"]
    assert unpack(older).near is None


def test_members_may_differ_in_strength_only() -> None:
    near = random_near(30, 4)
    joined = join_near([near, None, near._replace(strength=1.5)], [0.5, 0.2, 0.3])
    assert joined is not None
    assert joined.strength == pytest.approx(0.5 * 0.5 + 0.3 * 1.5)
    assert join_near([None, None], [0.5, 0.5]) is None
    for other in (random_near(30, 4, seed=1), near._replace(decay=0.9)):
        with pytest.raises(UsageError, match="co-occurrence differently"):
            join_near([near, other], [0.5, 0.5])


CONFIG = '[events]\nkinds = { view = "engagement", buy = "conversion" }\nrecommend = ["view", "buy"]\n'
RECIPE = """
encoder_config = { hidden = 8 }
embedding_size = 8
step_features = ["gap_log"]
context_features = ["hour_sin"]
epochs = 2

[validation]
by = "last"
measure = "ndcg"

[co_occurrence]
kept = 5
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events, a run and its bundle."""
    at = tmp_path_factory.mktemp("near")
    write_clicks(at / "clicks.jsonl", users=40, days=40)
    (at / "ebbtide.toml").write_text(CONFIG)
    (at / "recipe.toml").write_text(RECIPE)
    ran = run(at, "fit", "--recipe", at / "recipe.toml", "--out", at / "run", "--threads", 1)
    assert "co-occurrence: strength" in ran.output
    ran = run(at, at / "run", at / "bundle", app=export_cli.app)
    return at


def run(at: Path, *words: Any, app: Any = cli.app) -> Any:
    given = ("--input", at / "clicks.jsonl", "--config", at / "ebbtide.toml")
    ran = CliRunner().invoke(app, [str(word) for word in (*words, *given)])
    assert ran.exit_code == 0, ran.output
    return ran


def test_the_bundle_has_the_neighbours_of_the_run(place: Path) -> None:
    trained, bundle = load_run(place / "run").model.near, open_bundle(place / "bundle")
    assert trained is not None
    assert bundle.near is not None
    assert bundle.manifest.co_occurrence is not None
    assert bundle.near[3:] == trained[3:]
    assert all(np.array_equal(a, b) for a, b in zip(bundle.near[:3], trained[:3], strict=True))


@pytest.mark.parametrize("user", ["user-2", "user-7"])
def test_what_is_served_is_what_was_trained(place: Path, user: str) -> None:
    said = json.loads(run(place, "explain", place / "run", "--user", user, "--json", "--last", 25).stdout)
    assert any(item["co_occurrence"] > 0 for item in said["items"])
    check_explained(place, user, said["items"])


def test_evaluate_lists_with_it(place: Path) -> None:
    check_evaluated(place, without="near")


def test_what_cannot_be_chosen_is_refused_before_training(monkeypatch: pytest.MonkeyPatch) -> None:
    data, trained = by_chance(), []
    monkeypatch.setattr("models.train.fit_stage", lambda *given: trained.append(given) or [])
    model = make_model(data, Recipe(**SMALL), None)
    with pytest.raises(UsageError, match="nothing is held out"):
        fit(model, data, Recipe(**SMALL, co_occurrence=CoOccurrence()))
    assert trained == []
    with pytest.raises(UsageError, match="makes none"):
        to_recipe({"co_occurrence": {}, "next_item": {"weight": 0.0}}, "recipe")


def test_nobody_to_ask_leaves_neighbours_out() -> None:
    data = by_chance()
    recipe = Recipe(**SMALL, validation=Validation(by="last"), co_occurrence=CoOccurrence(), sold_min=10_000)
    model = make_model(data, recipe, None)
    assert fit_near(model, hold_out(data, recipe.validation, 0), recipe) == {0.0: 0.0}
    assert model.near is None
