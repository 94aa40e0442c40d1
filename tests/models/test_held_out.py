"""What is held out stays unseen, and is judged as serving would list it, whoever the users are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models import cli
from models.batches import whole
from models.checkpoint import Epoch
from models.dataset import Sequences
from models.evaluate import make_lists
from models.judge import gains_of, judge
from models.objective import Objective, Seen, learnt_items
from models.ranking import Asked, ModelScorer, ask_last, rank
from models.recipe import Recipe, Validation, read_recipe
from models.run import load_run
from models.sequences import from_lists, read_sequences
from models.targets import Targets
from models.train import count_sales, fit, log_share, make_model
from models.validate import hold_out, make_folds
from stream.errors import UsageError
from tests.models.clicks import fold_clicks

SMALL: dict[str, Any] = {
    "encoder_config": {"hidden": 8},
    "embedding_size": 8,
    "step_features": ["gap_log"],
    "epochs": 2,
    "users_per_batch": 16,
}


def recipe(**keys: Any) -> Recipe:
    return msgspec.convert(SMALL | keys, Recipe)


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    return fold_clicks(tmp_path_factory.mktemp("clicks"))


def test_a_model_begins_with_nothing_of_what_is_held_out(tmp_path: Path) -> None:
    """Everyone's last item is z, which one had before."""
    lines = [" ".join([f"u{u}", *(f"i{(u + n) % 9}" for n in range(6)), "z"]) for u in range(60)]
    lines.append("one z i1 i2 z")
    (tmp_path / "s.txt").write_text("\n".join(lines))
    (tmp_path / "r.toml").write_text(
        'encoder_config = { hidden = 8 }\nembedding_size = 8\nepochs = 1\n[validation]\nby = "last"\n'
    )
    words = [
        "fit", "--recipe", tmp_path / "r.toml", "--input", tmp_path / "s.txt", "--format", "sequences",
        "--out", tmp_path / "run", "--threads", 1,
    ]  # fmt: skip
    ran = CliRunner().invoke(cli.app, list(map(str, words)))
    assert ran.exit_code == 0, ran.output
    data, run = read_sequences(tmp_path / "s.txt"), load_run(tmp_path / "run")
    learn = hold_out(data, Validation(by="last"), 0).learn
    assert run.item_ids == data.item_ids
    bias = run.model.items.own_bias.detach().numpy()
    assert bias == pytest.approx(log_share(count_sales(learn)))
    assert bias.argmin() == data.item_ids.index("z")
    held = json.loads((tmp_path / "run" / "record.json").read_text())["history"][0]["held"]
    clean = fit(make_model(learn, run.recipe, None), data, run.recipe)
    assert held["loss"] == pytest.approx(clean[0].held["loss"])


def test_scores_that_are_no_numbers_rank_last() -> None:
    class Given:
        def scores(self, known: object, users: np.ndarray) -> np.ndarray:
            return np.array([[1.0, 2.0, np.nan, 0.0]], np.float32)[[0] * len(users)]

    data = from_lists(["u", "v"], [["a"], ["a"]], ["a", "b", "c", "d"])
    found = rank(Given(), Asked(data, np.array([1, 2], np.int32)), unseen=False)
    assert found.rank.tolist() == [
        1.0,
        4.0,
    ]  # what is no number stands before b


@pytest.mark.parametrize(("score", "gain"), [(np.nan, 0.0), (0.0, 1 / np.log2(2 + 19 / 2))])
def test_equal_scores_and_no_numbers_earn_what_chance_would_or_nothing(score: float, gain: float) -> None:
    data = from_lists(["u"], [["0", "1"]], [str(n) for n in range(20)])
    seen = Seen(whole(data, np.arange(1)), torch.ones(21, 4), torch.zeros(20), torch.ones(1, 2, 4), None)  # type: ignore[arg-type]
    one = np.zeros(1, np.int64)
    targets = Targets(one, one, one, np.array([7]), np.ones(1, np.float32))
    assert gains_of(torch.full((1, 4), score), seen, targets).item() == pytest.approx(gain)


def test_a_loss_that_is_no_number_ends_the_training_in_a_sentence(clicks: Sequences) -> None:
    chosen = recipe()
    model = make_model(clicks, chosen, None)
    with torch.no_grad():
        model.items.own.weight[0] = torch.nan
    with pytest.raises(UsageError, match="the loss is nan"):
        fit(model, clicks, chosen)


def test_the_best_epoch_is_not_one_without_a_number(tmp_path: Path) -> None:
    from models.checkpoint import Progress

    chosen = recipe(validation={"by": "users"})
    model = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    progress = Progress(model, optimizer, schedule, chosen.validation, None)  # type: ignore[arg-type]
    for number, (weight, loss) in enumerate(((1.0, np.nan), (2.0, 5.0), (3.0, np.nan)), 1):
        torch.nn.init.constant_(model.weight, weight)
        progress.note(Epoch(number, 0.0, 0.0, {"loss": loss}))
    progress.restore_best()
    assert model.weight.item() == 2.0


@pytest.mark.parametrize("rerank", [None, {"hidden": 8, "candidates": 12}])
def test_a_last_item_is_ranked_by_the_list_that_serving_makes(
    clicks: Sequences, rerank: dict[str, int] | None
) -> None:
    chosen = recipe(context_features=["hour_sin", "hour_cos"], rerank=rerank, epochs=1)
    model = make_model(clicks, chosen, None)
    fit(model, clicks, chosen)
    with torch.no_grad():
        for parameter in model.offset.parameters():  # type: ignore[union-attr]
            parameter.copy_(torch.randn_like(parameter))
    candidates = 12 if rerank else 0
    made = make_lists(model, clicks, ["view", "buy"], candidates)
    scores = ModelScorer(model, candidates=candidates).scores(clicks, np.arange(clicks.users))
    best = [[clicks.item_ids[i] for i in row] for row in np.argsort(-scores, 1)[:, :10].tolist()]
    assert best == [made.lists[user].items[-1] for user in clicks.user]
    plain = model.context(torch.zeros(1, 2))
    assert plain.abs().max() > 0


@pytest.mark.parametrize(
    "head", [{"hazard": {"bins": ["1d", "9d"], "horizon": "2d"}}, {"value": {"of": "user"}}]
)
def test_heads_that_learn_from_silence_do_not_go_without_last_events(
    head: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_bytes(msgspec.json.encode(SMALL | head))
    (tmp_path / "s.txt").write_text("u a b c\nv a c b\n")
    words = [
        "fit", "--recipe", tmp_path / "r.json", "--input", tmp_path / "s.txt", "--format", "sequences",
        "--last", "--out", tmp_path / "run",
    ]  # fmt: skip
    ran = CliRunner().invoke(cli.app, list(map(str, words)))
    assert ran.exit_code != 0
    assert "silences that were none" in ran.output
    data = from_lists(["u", "v"], [["a", "b"], ["b", "a"]])
    with pytest.raises(UsageError, match="silences that were none"):
        make_model(data, read_recipe(tmp_path / "r.json", ['validation.by="last"']), None)


def test_every_sequence_of_a_user_who_came_back_is_asked_about() -> None:
    lists = [["x", "y", "z"], ["p", "q"], ["s", "t", "w"], ["k"]]
    data = from_lists(["a", "b", "a", "b"], lists)
    asked = ask_last(data)
    assert asked.known.user == ["a", "b", "a"]
    assert [data.item_ids[i] for i in asked.answer] == ["z", "q", "w"]
    without = data._replace(item=np.where(np.arange(len(data.item)) == 4, -1, data.item).astype(np.int32))
    asked = ask_last(without)
    assert asked.known.user == ["a", "a"]
    assert [data.item_ids[i] for i in asked.answer] == ["z", "w"]


def test_a_user_who_came_back_stands_on_one_side() -> None:
    users = [f"u{n % 40}" for n in range(80)]
    data = from_lists(users, [["a", "b"]] * 80)
    splits = [*make_folds(data, 4, 0), hold_out(data, Validation(by="users", share=0.3), 0)]
    for split in splits:
        assert split.judged is not None
        assert not set(split.learn.user) & set(split.judged.user)
        assert split.learn.users + split.judged.users == 80
    assert [split.judged.users for split in splits[:4] if split.judged] == [20] * 4


def test_what_is_judged_with_equal_scores_is_chance(clicks: Sequences) -> None:
    chosen = recipe(validation={"by": "users", "measure": "ndcg"})
    model = make_model(clicks, chosen, None)
    with torch.no_grad():
        for parameter in model.items.parameters():
            parameter.zero_()
    everything = np.ones(len(clicks.item), np.bool_)
    said = judge(model, Objective(clicks, chosen, learnt_items(clicks, 0), everything, 2**62), ndcg=True)
    assert said["ndcg"] == pytest.approx(1 / np.log2(2 + 11 / 2), rel=1e-3)  # 12 items
