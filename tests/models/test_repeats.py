"""Repeats beside a model: raised as the formula says, learnt with the encoder, and served as trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export import cli as export_cli
from models import cli
from models.dataset import Sequences
from models.ensemble import Ensemble
from models.heads import Raised, softmax_loss
from models.ranking import ModelScorer
from models.recent import recent_items, repeat_raises
from models.recipe import Recipe, Repeats, Validation, to_recipe
from models.run import load_run, pack, unpack
from models.sequences import from_lists
from models.train import count_sales, fit, make_model
from stream.bundle import open_bundle
from stream.errors import UsageError
from tests.models.clicks import write_clicks
from tests.models.served import check_evaluated, check_explained

SMALL: dict[str, Any] = {"embedding_size": 8, "encoder_config": {"hidden": 8}, "epochs": 2}
ASKED = Repeats(length=5, decay=0.7, share=0.05)


def by_chance(users: int = 80, items: int = 25, seed: int = 0) -> Sequences:
    chance = np.random.default_rng(seed)
    lists = [[f"i{i}" for i in chance.integers(0, items, chance.integers(3, 30))] for _ in range(users)]
    return from_lists([f"u{n}" for n in range(users)], lists)


def of_habit(users: int = 150, items: int = 40, seed: int = 0) -> Sequences:
    """Return users who take their own three items over and over, in an order of chance."""
    chance = np.random.default_rng(seed)
    lists = [[f"i{i}" for i in chance.choice(chance.integers(0, items, 3), 30)] for _ in range(users)]
    return from_lists([f"u{n}" for n in range(users)], lists)


def test_raises_in_training_are_those_of_the_formula_and_those_that_are_served() -> None:
    data = by_chance()
    model = make_model(data, Recipe(**SMALL, repeats=ASKED), None)
    assert model.repeats is not None
    share = (count_sales(data) + 0.5) / (count_sales(data) + 0.5).sum()
    events = np.arange(len(data.item))
    recent = recent_items(data, events, ASKED.length)
    raised = model.repeats.raised(recent)
    expected = np.zeros((len(events), len(data.item_ids)))
    for event, row in enumerate(recent.tolist()):
        for n, item in enumerate(reversed(row)):
            if item >= 0:
                expected[event, item] += ASKED.decay**n
    expected = np.log1p(ASKED.share / share * expected)
    found = np.zeros_like(expected)
    found[raised.position, raised.item] = raised.value.detach()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(repeat_raises(model.repeats, recent), expected, rtol=1e-5, atol=1e-6)
    pairs = (raised.position * len(data.item_ids) + raised.item).tolist()
    assert pairs == sorted(set(pairs))
    assert len(model.repeats.raised(np.full((3, 5), -1, np.int32)).value) == 0


def test_a_softmax_with_raises_has_the_loss_and_the_gradients_of_the_whole() -> None:
    torch.manual_seed(5)
    positions, items = 150, 40  # more positions than are scored at once
    shapes = ((positions, 6), (items, 6), (items,), (positions, items))
    parts = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    query, rows, bias, higher = parts
    there = torch.rand(positions, items) < 0.2
    there[70:140] = False  # a part of the positions without any
    gone = torch.rand(positions, items) < 0.2
    position, target = torch.randint(positions, (300,)), torch.randint(items, (300,))
    gone[position, target] = False
    weight = torch.rand(300, dtype=torch.float64)
    scores = (query @ rows.T + bias + higher * there).masked_fill(gone, -torch.inf)
    plain = -(scores.log_softmax(1)[position, target] * weight).sum()
    raised = Raised(*torch.nonzero(there).T, higher[there])
    found = softmax_loss(query, position, target, weight, rows, bias, torch.nonzero(gone).T, raised)
    torch.testing.assert_close(found, plain)
    for one, other in zip(
        torch.autograd.grad(2 * found, parts), torch.autograd.grad(2 * plain, parts), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_only_learnt_items_compete_with_what_they_are_raised_by() -> None:
    raised = Raised(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 3]), torch.tensor([0.5, 0.6, 0.7]))
    found = raised.among(torch.tensor([0, -1, 1, 2]))
    assert [part.tolist() for part in found[:2]] == [[0, 2], [2, 2]]
    values = found.at(torch.tensor([2, 1, 0]), torch.tensor([2, 2, 0]), 3)
    assert values.tolist() == pytest.approx([0.7, 0.0, 0.0])


def test_habits_are_learnt() -> None:
    data = of_habit()
    gains = []
    for asked in (None, Repeats(length=20, decay=1.0, share=0.01, learning_rate=0.1)):
        validation = Validation(by="last", measure="ndcg")
        recipe = Recipe(**{**SMALL, "epochs": 8}, repeats=asked, validation=validation)
        model = make_model(data, recipe, None)
        began = None if model.repeats is None else model.repeats.log_weight.clone()
        gains.append(fit(model, data, recipe)[-1].held["ndcg"])
    assert model.repeats is not None
    assert began is not None
    assert (model.repeats.log_weight > began).float().mean() > 0.9
    assert gains[1] > gains[0] + 0.1


def test_a_models_scores_have_it_on_top() -> None:
    data, users = by_chance(), np.arange(6)
    model = make_model(data, Recipe(**SMALL, repeats=ASKED), None)
    after = ModelScorer(model).scores(data, users)
    raised = repeat_raises(model.repeats, recent_items(data, data.start[users + 1] - 1, 5)).numpy()
    model.repeats = None
    difference = after - ModelScorer(model).scores(data, users) - raised
    assert (raised > 0).any()
    np.testing.assert_allclose(difference - difference[:, :1], 0.0, atol=1e-5)


def test_a_rate_of_nothing_leaves_the_weights() -> None:
    data = by_chance()
    recipe = Recipe(**SMALL, repeats=Repeats(length=5, learning_rate=0.0))
    model = make_model(data, recipe, None)
    assert model.repeats is not None
    before = model.repeats.log_weight.clone()
    fit(model, data, recipe)
    assert torch.equal(model.repeats.log_weight, before)


def test_what_is_packed_is_unpacked_and_joined_with_none() -> None:
    model = make_model(by_chance(), Recipe(**SMALL, repeats=ASKED), None)
    again = unpack(pack(model))
    assert model.repeats is not None
    assert again.repeats is not None
    assert again.state_size == model.state_size
    for one, other in zip(again.repeats.served(), model.repeats.served(), strict=True):
        assert np.array_equal(one, other)
    with pytest.raises(UsageError, match="without `repeats`"):
        Ensemble([model, model])


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({"co_occurrence": {}}, "stand alone"),
        ({"rerank": {}}, "stand alone"),
        ({"next_item": {"kind": "gbce"}}, "softmax"),
        ({"next_item": {"weight": 0.0}}, "softmax"),
        ({"next_item": {"unseen": True}}, "takes it out"),
        ({"validation": {"unseen": True}}, "takes it out"),
        ({"repeats": {"length": 0}}, ">= 1"),
    ],
)
def test_what_does_not_go_together_is_refused(beside: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        to_recipe({"repeats": {}} | beside, "recipe")


CONFIG = '[events]\nkinds = { view = "engagement", buy = "conversion" }\nrecommend = ["view", "buy"]\n'
RECIPE = """
encoder_config = { hidden = 8 }
embedding_size = 8
memory_half_lives = [10.0]
step_features = ["gap_log"]
context_features = ["hour_sin"]
epochs = 2

[repeats]
length = 7
decay = 0.9
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with events, a run and its bundle."""
    at = tmp_path_factory.mktemp("repeats")
    write_clicks(at / "clicks.jsonl", users=40, days=40)
    (at / "ebbtide.toml").write_text(CONFIG)
    (at / "recipe.toml").write_text(RECIPE)
    run(at, "fit", "--recipe", at / "recipe.toml", "--out", at / "run", "--threads", 1)
    said = run(at, at / "run", at / "bundle", app=export_cli.app).output
    assert "of the last 7 items" in said
    return at


def run(at: Path, *words: Any, app: Any = cli.app) -> Any:
    given = ("--input", at / "clicks.jsonl", "--config", at / "ebbtide.toml")
    ran = CliRunner().invoke(app, [str(word) for word in (*words, *given)])
    assert ran.exit_code == 0, ran.output
    return ran


def test_the_bundle_has_the_weights_of_the_run(place: Path) -> None:
    trained, bundle = load_run(place / "run").model, open_bundle(place / "bundle")
    assert trained.repeats is not None
    assert bundle.repeats is not None
    assert np.array_equal(bundle.repeats.weight, trained.repeats.served().weight)
    assert bundle.repeats[1:] == (0.9, 7)
    assert bundle.manifest.state_size == 8 + 8 + 7
    assert bundle.manifest.item_size == 8 + 1


@pytest.mark.parametrize("user", ["user-2", "user-7"])
def test_what_is_served_is_what_was_trained(place: Path, user: str) -> None:
    said = json.loads(run(place, "explain", place / "run", "--user", user, "--json", "--last", 25).stdout)
    assert any(item["repeats"] > 0 for item in said["items"])
    check_explained(place, user, said["items"])


def test_evaluate_lists_with_it(place: Path) -> None:
    check_evaluated(place, without="repeats")
