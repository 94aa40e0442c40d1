"""The training loop: it learns, stops, goes on after a kill, and each head gets its own part of the loss."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from export.random_bundle import random_model
from models import evaluate
from models.batches import pad, whole
from models.checkpoint import Epoch
from models.dataset import Sequences
from models.judge import gains_of, judge, read_silences, read_values, walk
from models.objective import Objective, learnt_items
from models.ranking import ModelScorer
from models.recipe import Recipe
from models.recommender import Recommender
from models.run import describe
from models.train import count_epochs, count_sales, fit, log_share, make_config, make_model, make_optimizer
from models.validate import end_of, hold_out
from stream.errors import UsageError
from tests.models.clicks import fold_clicks

BASE: dict[str, Any] = {
    "encoder_config": {"hidden": 16},
    "embedding_size": 16,
    "step_features": ["gap_log", "kind=view", "kind=buy"],
    "epochs": 30,
    "users_per_batch": 16,
    "learning_rate": 0.01,
    "items_learning_rate": 0.01,
}
HELD: dict[str, Any] = {"validation": {"by": "users", "share": 0.3, "measure": "loss"}}


def recipe(**keys: Any) -> Recipe:
    return msgspec.convert(BASE | keys, Recipe)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    return fold_clicks(tmp_path_factory.mktemp("clicks"))


def train(data: Sequences, chosen: Recipe) -> tuple[Recommender, Objective, list[Any]]:
    """Train, and return the model, the question about what was held out, and the history."""
    model = make_model(data, chosen, None)
    split = hold_out(data, chosen.validation, chosen.seed)
    history = fit(model, data, chosen, split=split)
    assert split.judged is not None
    learnt = learnt_items(split.learn, chosen.sold_min)
    return model, Objective(split.judged, chosen, learnt, split.wanted, split.judge_until_ms), history


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"next_item": {"kind": "sampled", "negatives": 8}},
        {"next_item": {"kind": "gbce", "negatives": 8}},
        {"similarity": "cosine", "schedule": "cosine", "weight_decay": 0.01, "l1": 1e-5},
        {
            "encoder": "transformer",
            "encoder_config": {"width": 16, "window": 8},
            "schedule": "constant",
            "untied": True,
            "entrance": "norm",
        },
        {
            "encoder": "transformer",
            "encoder_config": {"width": 16, "window": 8, "recurrent": 8, "dropout": 0.1},
            "entrance": "straight",
        },
        {"augment": {"crop": 0.3, "mask": 0.1, "substitute": 0.1, "reorder": 0.1, "length_min": 4}},
        {"augment": {"stretches": "all"}, "length_max": 8},
    ],
    ids=["softmax", "sampled", "gbce", "cosine", "transformer", "over a gru", "augmented", "in stretches"],
)
def test_it_learns_which_item_comes_next(data: Sequences, keys: dict[str, Any]) -> None:
    model, held, history = train(data, recipe(**HELD, **keys))
    assert history[-1].loss < history[0].loss
    assert judge(model, held, ndcg=True)["ndcg"] > 0.75  # at random it is 0.39


@pytest.mark.parametrize("stretches", ["one", "all"])
def test_the_schedule_ends_with_the_training(
    data: Sequences, stretches: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Any] = []

    def make(*given: Any) -> Any:
        made.extend((given[2], make_optimizer(*given)[1]))
        return made[1].optimizer, made[1]

    monkeypatch.setattr("models.train.make_optimizer", make)
    chosen = recipe(**HELD, augment={"stretches": stretches}, length_max=5, epochs=3)
    train(data, chosen)
    steps, schedule = made
    assert schedule.last_epoch == steps
    once = chosen.epochs * -(-hold_out(data, chosen.validation, 0).learn.users // chosen.users_per_batch)
    assert steps > 3 * once if stretches == "all" else steps == once


@torch.no_grad()
def test_an_item_begins_straight_through_what_is_as_wide_as_it(data: Sequences) -> None:
    begun = {}
    for entrance in ("norm", "straight"):
        chosen = recipe(encoder="transformer", encoder_config={"width": 16}, entrance=entrance)
        begun[entrance] = make_model(data, chosen, None)
    model, mixed = begun["straight"], begun["norm"]
    item, features = torch.randn(5, 16), torch.zeros(5, 3)
    normed = torch.nn.functional.layer_norm(item, (16,))
    torch.testing.assert_close(model.taken_in(item, features), normed)
    torch.testing.assert_close(model.encoder.enter(normed), normed)  # type: ignore[attr-defined]
    torch.testing.assert_close(model.leave(normed), normed)
    assert not torch.allclose(mixed.taken_in(item, features), normed, atol=0.1)
    assert torch.equal(model.enter.weight[:, 16:], mixed.enter.weight[:, 16:]), "features add as they would"
    narrow = [make_model(data, recipe(encoder_config={"hidden": 8}, entrance=one), None) for one in begun]
    assert torch.equal(narrow[0].leave.weight, narrow[1].leave.weight), "what is not as wide begins as ever"


@torch.no_grad()
def test_whoever_reads_a_model_lets_items_go_in_by_their_input_embeddings(data: Sequences) -> None:
    config = make_config(data, recipe(untied=True), None)
    model, users = random_model(config), np.arange(20)
    model.items.own_bias.zero_()  # so that lists follow from what went in
    rows, last = model.items(), []
    for one in users:
        state = torch.zeros(1, model.state_size)
        item, features = pad(data, users[one : one + 1], config.step_features)
        for t in range(item.shape[1]):
            state = model.step(state, rows.taken[item[:, t]], features[:, t])
        last.append(model.read(state)[0])
    user = torch.stack(last)
    scores = user @ rows.scored[:-1].T
    assert not rows.tied
    said = ModelScorer(model).scores(data, users)
    np.testing.assert_allclose(said, scores.log_softmax(1).numpy(), atol=1e-4)
    wanted = np.ones(len(data.item), np.bool_)
    asked = Objective(data, recipe(untied=True), learnt_items(data, 1), wanted, end_of(data))
    seen = asked.look(model, whole(data, users), data.item)
    ends = data.start[users + 1] - 1
    at = seen.batch.at(ends, users)
    torch.testing.assert_close(seen.user[at], user, atol=1e-4, rtol=0)
    best = evaluate._best(model, data, users, data.per_event(np.arange(data.users)), ends, 0)
    assert best == scores.topk(10, 1).indices.tolist()


def test_context_moves_the_query(data: Sequences) -> None:
    """With an encoder that sees nothing, only the context can tell the kind of the last item."""
    blind = {"step_features": [], "encoder": "cnn", "encoder_config": {"width": 4, "dilations": [1]}}
    keys = HELD | blind | {"items_learning_rate": 0.01, "dropout": 0.9}
    without, with_it = (
        judge(*train(data, recipe(**keys, context_features=names))[:2])["next_item"]
        for names in ([], ["kind=buy", "hour_sin"])
    )
    assert with_it < without - 0.02


def test_the_hazard_learns_who_comes_daily_and_is_calibrated(data: Sequences) -> None:
    hazard = {"bins": ["36h", "6d", "14d"], "horizon": "6d"}
    chosen = recipe(**HELD | {"hazard": hazard, "epochs": 60, "learning_rate": 0.03})
    model, held, _ = train(data, chosen)
    assert model.hazard is not None
    assert not torch.equal(model.hazard.slope, torch.ones(3))
    silent = read_silences(model, held)
    of_daily = torch.from_numpy(comes_daily(held.data)[silent.event])
    soon = model.hazard(silent.y)[:, 0]
    assert soon[of_daily].mean() > 0.7
    assert soon[~of_daily].mean() < 0.35


def test_values_of_items_are_learned(data: Sequences) -> None:
    model, held, _ = train(data, recipe(**HELD, value={"of": "item", "loss": "mse"}))
    _, said, true = read_values(model, held)
    assert np.abs(said - true).mean() < 0.3 * np.abs(true - true.mean()).mean()


def test_spend_to_come_is_learned(data: Sequences) -> None:
    chosen = recipe(
        **HELD,
        value={"of": "user", "horizon": "14d", "loss": "mae"},
        next_item={"weight": 0.0},
        epochs=40,
        learning_rate=0.03,
    )
    model, held, _ = train(data, chosen)
    event, said, true = read_values(model, held)
    daily = comes_daily(held.data)[event]
    assert np.median(said[daily]) == pytest.approx(np.median(true[daily]), rel=0.2)
    assert np.median(said[daily]) > 3 * np.median(said[~daily])


def test_the_reranker_is_trained_beside_the_list(data: Sequences) -> None:
    chosen = recipe(**HELD, rerank={"hidden": 16, "candidates": 6, "positions": 64})
    model, held, _ = train(data, chosen)
    assert model.reranker is not None
    assert model.reranker.judge.weight.abs().sum() > 0
    assert judge(model, held)["rerank"] < 1.2  # of 7 at random it is 1.9


def test_it_stops_early_and_keeps_the_best(data: Sequences) -> None:
    keys = {"by": "users", "share": 0.3, "measure": "ndcg", "patience": 2}
    chosen = recipe(validation=keys, epochs=60, learning_rate=0.1, items_learning_rate=0.1)
    model, held, history = train(data, chosen)
    said = [epoch.held["ndcg"] for epoch in history]
    assert len(history) < 60
    assert int(np.argmax(said)) == len(history) - 3
    assert judge(model, held, ndcg=True)["ndcg"] == pytest.approx(max(said), abs=1e-6)


def test_everyones_last_event_says_nothing_of_silences(data: Sequences) -> None:
    with pytest.raises(UsageError, match="hold out users or time"):
        make_model(data, recipe(validation={"by": "last"}, hazard={}), None)


def comes_daily(data: Sequences) -> Any:
    """Say of each event [N] whether its user is one of the daily ones."""
    return data.per_event(np.array([int(user.split("-")[1]) % 2 == 0 for user in data.user]))


STAGES: list[dict[str, Any]] = [
    {"set": {"next_item.weight": 0.0, "epochs": 4}},
    {"set": {"hazard.weight": 0.0, "epochs": 3}, "freeze": ["encoder", "enter", "hazard", "items"]},
]


def test_a_stage_keeps_what_is_frozen_and_learns_the_rest(data: Sequences) -> None:
    chosen = recipe(
        **HELD | {"hazard": {"calibrate": False}, "stages": STAGES, "weight_decay": 0.1, "l1": 1e-4}
    )
    model = make_model(data, chosen, None)
    seen: list[dict[str, Any]] = []

    def look(epoch: Epoch) -> None:
        seen.append({name: value.clone() for name, value in model.state_dict().items()})

    history = fit(model, data, chosen, look)
    assert [epoch.number for epoch in history] == list(range(1, 8))
    assert count_epochs(chosen) == 7
    assert history[3].held["hazard"] < history[0].held["hazard"]
    assert history[6].held["next_item"] < history[4].held["next_item"]
    end = model.state_dict()
    best = min(range(4), key=lambda i: history[i].held["loss"])
    for name, value in seen[best].items():
        frozen = name.startswith(("encoder.", "enter.", "hazard.", "items."))
        assert torch.equal(value, end[name]) == frozen, name


def test_a_part_that_is_none_cannot_be_frozen(data: Sequences) -> None:
    chosen = recipe(stages=[{"freeze": ["encodr"]}])
    with pytest.raises(UsageError, match="no such part of the model: encodr"):
        fit(make_model(data, chosen, None), data, chosen)


PLAIN = recipe(
    **HELD,
    epochs=6,
    dropout=0.2,
    hazard={},
    next_item={"kind": "sampled"},
    augment={"mask": 0.1},
    stages=[{"set": {"epochs": 3}}, {"set": {"epochs": 3, "hazard.weight": 0.0}, "freeze": ["hazard"]}],
)

#: A process that is killed by the system in the middle of its fifth epoch's report, in the second stage.
DIES = """
import os, signal, sys
from pathlib import Path
import torch
from models.train import fit, make_model
from tests.models.clicks import fold_clicks
from tests.models.test_training import PLAIN
torch.set_num_threads(1)
folder = Path(sys.argv[1])
data = fold_clicks(folder)
def die(epoch):
    if epoch.number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
fit(make_model(data, PLAIN, None), data, PLAIN, die, checkpoint=folder / "c.pt")
"""


def test_a_run_that_was_killed_goes_on_to_the_same_model(tmp_path: Path) -> None:
    ran = subprocess.run([sys.executable, "-c", DIES, str(tmp_path)], capture_output=True, text=True)
    assert ran.returncode == -9, ran.stderr
    data = fold_clicks(tmp_path)
    whole, resumed = make_model(data, PLAIN, None), make_model(data, PLAIN, None)
    history = fit(whole, data, PLAIN)
    seen: list[int] = []
    again = fit(resumed, data, PLAIN, lambda epoch: seen.append(epoch.number), checkpoint=tmp_path / "c.pt")
    assert seen == [6]
    assert [(epoch.loss, epoch.held) for epoch in again] == [(epoch.loss, epoch.held) for epoch in history]
    for name, weight in whole.state_dict().items():
        assert torch.equal(weight, resumed.state_dict()[name]), name


def test_an_item_that_must_do_with_its_attributes_begins_as_a_usual_one(data: Sequences) -> None:
    chosen = recipe(attributes=["end"], attributes_scale=0.01)
    described = describe(
        data.item_ids, {name: {"end": "ab"[i % 2]} for i, name in enumerate(data.item_ids)}, chosen
    )
    model = make_model(data, chosen, described)
    shares = torch.from_numpy(log_share(count_sales(data)))
    with torch.no_grad():
        bias = model.items()[1]
    torch.testing.assert_close(bias, shares, atol=0.01, rtol=0)
    torch.testing.assert_close(
        bias - model.items.own_bias, shares.mean().expand(len(shares)), atol=0.01, rtol=0
    )


def test_weight_decay_spares_biases_and_the_scale(data: Sequences) -> None:
    chosen = recipe(similarity="cosine", weight_decay=0.1, bias_learning_rate=1e-3)
    model = make_model(data, chosen, None)
    optimizer, _ = make_optimizer(model, chosen, 10)
    decayed = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    assert decayed == {id(p) for p in model.parameters() if p.dim() > 1}


def test_what_the_user_had_does_not_compete_in_the_loss_if_it_is_unseen_items_that_are_asked_for(
    data: Sequences,
) -> None:
    chosen = recipe(epochs=2, next_item={"unseen": True}, **HELD)
    model, asked, _ = train(data, chosen)
    with torch.no_grad():
        for seen in walk(model, asked):
            targets = asked.targets(seen.batch)
            query = asked.query(model, seen, targets)
            scores = (query @ seen.vectors[:-1].T + seen.bias)[:, asked.learnt.items]
            losses = []
            for place, (row, step) in enumerate(zip(targets.row, targets.step, strict=True)):
                start = asked.data.start[seen.batch.users[row]]
                mine = targets.position == place
                had = asked.data.item[start : seen.batch.start[row] + step + 1]
                out = np.setdiff1d(had[had >= 0], targets.item[mine])
                gone = np.isin(asked.learnt.items.numpy(), out)
                left = scores[place].masked_fill(torch.from_numpy(gone), -torch.inf).log_softmax(0)
                right = asked.learnt.place[torch.from_numpy(targets.item[mine])]
                losses.append(-(left[right] * torch.from_numpy(targets.weight[mine])).sum())
            found = asked.losses(model, seen)["next_item"]
            torch.testing.assert_close(found, torch.stack(losses).mean())


def test_only_the_full_softmax_leaves_out_what_the_user_had() -> None:
    with pytest.raises(msgspec.ValidationError, match="unseen"):
        recipe(next_item={"kind": "gbce", "unseen": True})


def test_what_is_watched_may_leave_out_what_the_user_had(data: Sequences) -> None:
    chosen = recipe(**HELD)
    model, asked, _ = train(data, chosen)
    for seen in walk(model, asked):
        targets = asked.targets(seen.batch)
        query = asked.query(model, seen, targets)
        scores = query @ seen.vectors[:-1].T + seen.bias
        found = gains_of(query, seen, targets, asked.data)
        for place, (row, step) in enumerate(zip(targets.row, targets.step, strict=True)):
            start = seen.batch.start[row]
            right = targets.item[targets.position == place]
            had = set(asked.data.item[start : start + step + 1].tolist()) - {-1}
            left = [i for i in range(scores.shape[1]) if i not in had or i in right]
            if len(right) == 1:
                rank = sum(bool(scores[place, i] > scores[place, right[0]]) for i in left)
                assert found[place].item() == pytest.approx(1 / np.log2(rank + 2) if rank < 10 else 0.0)


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
@pytest.mark.parametrize("warm_up", [0.0, 0.2, 1.0])
def test_a_training_may_be_as_short_as_a_few_steps(data: Sequences, schedule: str, warm_up: float) -> None:
    for steps in range(1, 12):
        chosen = recipe(schedule=schedule, warm_up=warm_up)
        optimizer, scheduler = make_optimizer(make_model(data, chosen, None), chosen, steps)
        rates = []
        for _ in range(steps):
            optimizer.step()
            rates.append(scheduler.get_last_lr()[0])
            scheduler.step()
        assert all(0.0 < rate <= 0.01 for rate in rates)
