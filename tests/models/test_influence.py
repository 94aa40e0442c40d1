"""Leaving each event out at once equals folding the rest anew, one by one; and the parts sum to the score."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from export.random_bundle import SMALL, random_model, random_near
from models import cli, influence
from models.dataset import Sequences, fold_events
from models.encoders import ENCODERS
from models.influence import Found, branching, leave_each_out, side_by_side, without_each
from models.influence_page import show
from models.recent import near_raises, repeat_raises
from models.recommender import Recommender, RecommenderConfig
from tests.models.clicks import CONFIG, HOUR_MS, ITEMS, START_MS, write_clicks

EVENTS = 40
ITEM_IDS = [f"item-{i}" for i in range(ITEMS)]
SESSION_GAP_MS = CONFIG.time.session_gap_ms
#: What the sequences tell of a fold without an event.
DERIVED = ["first", "late", "new_session", "gap_log", "events_log", "sessions_log"]
OWN = ["kind=view", "kind=buy", "hour_sin", "hour_cos", "weekday_sin", "value_log", "has_value"]
K = 5


class Folded(NamedTuple):
    """The events of two users, and the same without each of the first one's events."""

    data: Sequences
    without: list[Sequences]


def write_visits(seed: int = 5) -> list[str]:
    """Return events of a user who comes in visits, some of them late, and of one in between."""
    chance = random.Random(seed)
    lines, at = [], START_MS
    for n in range(EVENTS):
        at += int(chance.choice([0.01, 0.2, 3.0, 30.0]) * HOUR_MS * chance.uniform(0.5, 1.5))
        late = 2 * HOUR_MS if n % 7 == 3 else 0
        event = {
            "user_id": "anna",
            "event_type": chance.choice(["view", "buy"]),
            "event_time": at - late,
            "value": chance.uniform(1, 9),
        }
        if n % 9 != 4:
            event["item_id"] = chance.choice(ITEM_IDS)
        lines.append(json.dumps(event))
        if n % 3 == 0:
            lines.append(json.dumps(event | {"user_id": "ben", "event_time": at}))
    return lines


@pytest.fixture(scope="module")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Folded:
    path = tmp_path_factory.mktemp("visits") / "events.jsonl"
    lines = write_visits()

    def fold(kept: list[str]) -> Sequences:
        path.write_text("\n".join(kept))
        return fold_events(str(path), CONFIG, ITEM_IDS)

    anna = [i for i, line in enumerate(lines) if "anna" in line]
    return Folded(fold(lines), [fold(lines[:i] + lines[i + 1 :]) for i in anna])


def make_model(encoder: str, **options: Any) -> Recommender:
    given: dict[str, Any] = {
        "step_features": (*DERIVED, *OWN),
        "context_features": ("weekday_cos", "gap_log"),
        "memory_half_lives": (2.0, 20.0),
        "encoder_config": SMALL[encoder],
    }
    return random_model(
        RecommenderConfig(items=ITEMS, embedding_size=8, encoder=encoder, **(given | options))
    )


@torch.no_grad()
def score_all(model: Recommender, data: Sequences, user: str = "anna") -> np.ndarray:
    """Return the scores [I] after all events of a user, as plainly as can be."""
    vectors, bias, taken = model.items()
    one = slice(*data.start[(u := data.user.index(user)) : u + 2].tolist())
    features = torch.from_numpy(data.features[one])
    item = torch.from_numpy(data.item[one].astype(np.int64))
    query = model(taken[item][None], features[None, :, data.column(model.config.step_features)])[0, -1]
    if model.offset is not None:
        query = query + model.context(features[-1:, data.column(model.config.context_features)])[0]
    scores = vectors[:-1] @ query + bias
    if model.near is not None:
        scores = scores + near_raises(model.near, data.item[one][data.item[one] >= 0][None, -20:])[0]
    if model.repeats is not None:
        had = data.item[one][data.item[one] >= 0][None, -model.repeats.length :]
        scores = scores + repeat_raises(model.repeats, had)[0]
    if model.reranker is not None:
        scores = model.reranker(query.expand(len(bias), -1), vectors[:-1], scores[:, None])[:, 0]
    return scores.numpy()


def check_against_refolding(model: Recommender, folded: Folded, last: int = EVENTS) -> Found:
    found = leave_each_out(
        model, folded.data, 0, k=K, last=last, candidates=ITEMS, session_gap_ms=SESSION_GAP_MS
    )
    whole = score_all(model, folded.data)
    assert found.items.tolist() == np.argsort(-whole)[:K].tolist()
    np.testing.assert_allclose(found.scores, whole[found.items], atol=1e-5, rtol=0)
    np.testing.assert_allclose(found.parts.sum(1), found.scores, atol=1e-5, rtol=0)
    assert found.without.shape == found.lists.shape == (last, K)
    for m, data in enumerate(folded.without[EVENTS - last :]):
        scores = score_all(model, data)
        np.testing.assert_allclose(found.without[m], scores[found.items], atol=1e-5, rtol=0)
        assert found.lists[m].tolist() == np.argsort(-scores)[:K].tolist()
    return found


@pytest.mark.parametrize("way", [side_by_side, branching])
@pytest.mark.parametrize("encoder", sorted(ENCODERS))
def test_it_equals_folding_the_rest_anew(
    encoder: str, way: Any, folded: Folded, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(influence, "embed_each", way)
    found = check_against_refolding(make_model(encoder), folded)
    assert np.abs(found.without - found.scores).max() > 0.01


@pytest.mark.parametrize(
    "options",
    [
        {"similarity": "cosine", "rerank_hidden": 8},
        {"similarity": "euclid", "gap_buckets": 4, "context_features": ()},
        {"memory_half_lives": (), "step_features": (), "untied": True, "entrance": "norm"},
    ],
    ids=["cosine-reranked", "euclid", "bare"],
)
def test_whatever_else_the_model_has(options: dict[str, Any], folded: Folded) -> None:
    found = check_against_refolding(make_model("gru", **options), folded, last=20)
    assert (np.abs(found.parts[:, 5]).max() > 0) == ("rerank_hidden" in options)
    assert (np.abs(found.parts[:, 1]).max() > 0) == ("context_features" not in options)


def test_with_the_neighbours_of_the_last_items(folded: Folded) -> None:
    model = make_model("gru")
    model.near = random_near(ITEMS, 4)
    found = check_against_refolding(model, folded, last=25)
    assert found.parts[:, 3].max() > 0


def test_with_repeats_of_the_last_items(folded: Folded) -> None:
    found = check_against_refolding(make_model("gru", repeats=9, repeats_decay=0.8), folded, last=25)
    assert found.parts[:, 4].max() > 0


def test_features_of_the_one_before_are_as_the_fold_makes_them(folded: Folded) -> None:
    data = folded.data
    changed = without_each(data, 0, EVENTS, SESSION_GAP_MS)
    columns = data.column([*DERIVED, *OWN])
    for m, other in enumerate(folded.without):
        rest = np.delete(changed[m], m, 0)
        begin = other.start[other.user.index("anna")]
        assert np.array_equal(rest[:, columns], other.features[begin : begin + EVENTS - 1, columns])
    for name in DERIVED:  # each of them changes somewhere, so each is tried
        column = data.column([name])[0]
        moved = [m for m in range(EVENTS) if (changed[m] != data.features[:EVENTS])[:, column].any()]
        assert moved, name
    few = without_each(data, 0, 7, SESSION_GAP_MS)
    assert np.array_equal(few, changed[-7:, -7:])


def test_what_the_session_gap_decides_stays_without_it(folded: Folded) -> None:
    data = folded.data
    columns = data.column(["new_session", "sessions_log"])
    changed = without_each(data, 0, EVENTS)
    assert (changed[:, :, columns] == data.features[:EVENTS, columns]).all()


def test_an_event_that_the_sequence_lacks_keeps_its_gap(folded: Folded) -> None:
    """Sequences that were cleaned: the fold saw event 12, the sequence does not have it."""
    kept = np.arange(len(folded.data.item)) != 12
    data = folded.data.keep(kept)
    column = data.column(["gap_log"])[0]
    changed = without_each(data, 0, EVENTS)
    assert changed[11, 12, column] == data.features[12, column]
    assert without_each(folded.data, 0, EVENTS)[12, 13, column] > data.features[12, column]


def test_a_long_history_is_stepped_through(folded: Folded, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make_model("hstu")
    beside = leave_each_out(model, folded.data, 0)
    monkeypatch.setattr(influence, "SIDE_BY_SIDE_MAX", EVENTS - 1)
    monkeypatch.delattr(influence, "side_by_side")
    stepped = leave_each_out(model, folded.data, 0)
    np.testing.assert_allclose(stepped.without, beside.without, atol=1e-5, rtol=0)


def test_without_the_only_event_there_is_only_the_prior(folded: Folded) -> None:
    one = folded.data.keep(np.arange(len(folded.data.item)) == 0)
    found = leave_each_out(make_model("gru"), one, 0, k=K, session_gap_ms=SESSION_GAP_MS)
    np.testing.assert_allclose(found.without[0], found.parts[:, 2], atol=1e-5, rtol=0)
    assert leave_each_out(make_model("gru"), one, 0, last=0).without.shape == (0, 10)


RECIPE = """
encoder_config = { hidden = 8 }
embedding_size = 8
step_features = ["gap_log", "kind=view", "kind=buy"]
context_features = ["hour_sin"]
epochs = 3
learning_rate = 0.03
items_learning_rate = 0.03
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run, its events and its config."""
    at = tmp_path_factory.mktemp("explained")
    write_clicks(at / "clicks.jsonl", users=20, days=30)
    (at / "ebbtide.toml").write_text('[events]\nkinds = { view = "engagement", buy = "conversion" }\n')
    (at / "recipe.toml").write_text(RECIPE)
    ran = run(at, "fit", "--recipe", at / "recipe.toml", "--out", at / "run")
    assert ran.exit_code == 0, ran.output
    return at


def run(at: Path, *words: Any) -> Any:
    given = ["--input", at / "clicks.jsonl", "--config", at / "ebbtide.toml", "--threads", 1]
    return CliRunner().invoke(cli.app, [str(word) for word in [*words, *given]])


def test_the_command_says_it_in_json(place: Path) -> None:
    ran = run(place, "explain", place / "run", "--user", "user-2", "--k", 4, "--last", 6, "--json")
    assert ran.exit_code == 0, ran.output
    said = json.loads(ran.stdout)
    assert said["user_id"] == "user-2"
    assert len(said["items"]) == 4
    for item in said["items"]:
        parts = item["history"] + item["context"] + item["prior"] + item["reranked"]
        assert parts == pytest.approx(item["score"], abs=1e-5)
    assert sorted(each["back"] for each in said["influences"]) == [1, 2, 3, 4, 5, 6]
    listed = {item["item_id"] for item in said["items"]}
    for each in said["influences"]:
        assert each["raised"].keys() == listed
        assert set(each["brought"]) <= listed
        assert not listed.intersection(each["kept_out"])
        assert len(each["brought"]) == len(each["kept_out"])
    exchanged = [len(each["brought"]) for each in said["influences"]]
    assert exchanged == sorted(exchanged, reverse=True)


def test_the_command_says_it_on_a_page(place: Path) -> None:
    ran = run(place, "explain", place / "run", "--user", "user-2")
    assert ran.exit_code == 0, ran.output
    words = ("the list after", "history", "context", "prior", "What moved it", "each left out once", "item-")
    for word in words:
        assert word in ran.stdout
    assert "reranked" not in ran.stdout


def test_a_page_counts_what_it_leaves_out(
    folded: Folded, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    found = leave_each_out(make_model("gru"), folded.data, 0)
    show(influence.put_in_words(found, folded.data, 0))
    said = capsys.readouterr().out
    assert f"of the last {EVENTS} events" in said
    assert f"… and {EVENTS - 10} that moved it less" in said


def test_a_user_who_is_not_there_is_a_clear_error(place: Path) -> None:
    ran = run(place, "explain", place / "run", "--user", "nobody")
    assert ran.exit_code == 2
    assert "the data hold no event of this user" in ran.output


def test_a_run_without_lists_is_a_clear_error(place: Path) -> None:
    settings = ("--set", "next_item.weight=0.0", "--set", 'value={of="item"}')
    ran = run(place, "fit", "--recipe", place / "recipe.toml", "--out", place / "values", *settings)
    assert ran.exit_code == 0, ran.output
    ran = run(place, "explain", place / "values", "--user", "user-2")
    assert ran.exit_code == 2
    assert "the run makes no lists" in ran.output
