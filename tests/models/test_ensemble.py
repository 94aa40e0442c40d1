"""Several models as one: the scores are the weighted sum, in sequences, in steps, and in the bundle."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from export import cli as export_cli
from export.random_bundle import SMALL, random_model
from models import cli
from models.ensemble import Ensemble
from models.items.fit import fit_features
from models.recommender import Recommender, RecommenderConfig
from models.run import load_run
from stream.bundle import open_bundle
from stream.config_load import load_config
from stream.errors import UsageError
from stream.replay import replay
from tests.models.clicks import write_clicks

ITEMS = 9
DAY_MS = 86_400_000
ATTRIBUTES = [{"brand": "abc"[i % 3], "price": 1.0 + i} for i in range(ITEMS)]


def member(encoder: str, features: Sequence[str], seed: int, **options: Any) -> Recommender:
    config = RecommenderConfig(
        items=ITEMS,
        embedding_size=4 + seed,
        encoder=encoder,
        encoder_config=SMALL[encoder],
        step_features=tuple(features),
        **options,
    )
    return random_model(config, seed)


def two_members() -> list[Recommender]:
    """Return members of different sizes that see different features, one of them a context."""
    return [
        member("gru", ["gap_log", "value_log"], 1, memory_half_lives=(2.0,), similarity="cosine"),
        member(
            "transformer",
            ["kind=buy", "gap_log"],
            2,
            context_features=("hour_sin", "hour_cos"),
            untied=True,
            entrance="norm",
        ),
    ]


@torch.no_grad()
def scores(model: Any, features: dict[str, torch.Tensor], items: torch.Tensor) -> torch.Tensor:
    """Return the scores [B, I] after sequences of items [B, T], each feature [B, T] by its name."""
    vectors, bias, taken = model.items()
    config = model.config

    def chosen(names: Sequence[str]) -> torch.Tensor:
        return torch.stack([features[name] for name in names], -1)

    query = model(taken[items], chosen(config.step_features))[:, -1]
    if model.offset is not None:
        query = query + model.context(chosen(config.context_features)[:, -1])
    return query @ vectors[:-1].T + bias


@pytest.fixture
def asked() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    torch.manual_seed(5)
    names = ("gap_log", "value_log", "kind=buy", "hour_sin", "hour_cos")
    return {name: torch.rand(3, 20) for name in names}, torch.randint(0, ITEMS + 1, (3, 20))


def test_a_score_is_the_weighted_sum_of_the_members_scores(asked: Any) -> None:
    members = two_members()
    together = scores(Ensemble(members, [0.3, 1.7]), *asked)
    apart = 0.3 * scores(members[0], *asked) + 1.7 * scores(members[1], *asked)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_without_weights_the_members_count_alike(asked: Any) -> None:
    members = two_members()
    together = scores(Ensemble(members), *asked)
    apart = sum(scores(member, *asked) for member in members) / 2
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-5)


def test_stepping_equals_the_sequence(asked: Any) -> None:
    model = Ensemble(two_members(), [0.3, 1.7]).eval()
    given, items = asked
    features = torch.stack([given[name] for name in model.config.step_features], -1)
    with torch.no_grad():
        taken = model.items().taken
        state = torch.zeros(3, model.state_size)
        users = []
        for t in range(20):
            state = model.step(state, taken[items[:, t]], features[:, t])
            users.append(model.read(state))
        torch.testing.assert_close(torch.stack(users, 1), model(taken[items], features))


def test_the_churn_head_is_that_of_the_first_member_that_has_one() -> None:
    bins = (DAY_MS, 7 * DAY_MS)
    plain = member("gru", ["gap_log"], 1)
    leads = member("lru", ["gap_log"], 2, hazard_bins_ms=bins)
    other = member("gru", ["gap_log"], 3, hazard_bins_ms=(DAY_MS,))
    model = Ensemble([plain, leads, other]).eval()
    state = torch.randn(5, model.state_size)
    own = state[:, plain.state_size : plain.state_size + leads.state_size]
    assert model.config.hazard_bins_ms == bins
    with torch.no_grad():
        assert torch.equal(model.hazards(state), leads.hazards(own))
        item, features = torch.randn(2, 6, model.config.embedding_size), torch.randn(2, 6, 1)
        said = model.outputs(item, features)[1]
        assert torch.equal(said, leads.outputs(item[..., 5:11], features)[1])


def test_a_late_item_is_late_for_every_member() -> None:
    features = fit_features(ATTRIBUTES)
    fields = features.to_builtins()
    members = [member(kind, [], n, item_features=fields) for n, kind in enumerate(("gru", "lru"), 1)]
    codes, floats = (torch.from_numpy(part) for part in features.encode(ATTRIBUTES))
    with torch.no_grad():
        rows, bias = Ensemble(members, [0.25, 0.75]).items.late(codes, floats)
        one, other = (member.items.late(codes, floats) for member in members)
    assert torch.equal(rows, torch.cat([one[0], other[0]], 1))
    torch.testing.assert_close(bias, 0.25 * one[1] + 0.75 * other[1])


def test_members_that_do_not_fit_are_refused() -> None:
    gru, lru = member("gru", [], 1), member("lru", [], 2)
    with pytest.raises(UsageError, match="1 weights for 2 members"):
        Ensemble([gru, lru], [1.0])
    with pytest.raises(UsageError, match="above 0"):
        Ensemble([gru, lru], [1.0, 0.0])
    with pytest.raises(UsageError, match="reranker"):
        Ensemble([gru, member("gru", [], 3, rerank_hidden=4)])
    described = member("gru", [], 4, item_features=fit_features(ATTRIBUTES).to_builtins())
    with pytest.raises(UsageError, match="different attributes"):
        Ensemble([gru, described])


# ------------------------------------------------------------------------------------------ the program

CONFIG = '[events]\nkinds = { view = "engagement", buy = "conversion" }\nrecommend = ["view", "buy"]\n'
RECIPE = """
encoder_config = { hidden = 16 }
embedding_size = 16
step_features = ["gap_log", "kind=view"]
epochs = 12
users_per_batch = 16
learning_rate = 0.03
items_learning_rate = 0.03
"""
USER = "user-4"
UNTIL = "2023-12-20T00:00:00Z"
OTHER = (
    'encoder="transformer"', "encoder_config={width=16,layers=1,window=8}",
    'step_features=["kind=buy","gap_log"]', 'context_features=["hour_sin"]', "embedding_size=12",
    'hazard={bins=["4d","12d"],horizon="6d"}', "untied=true", 'entrance="norm"',
    "co_occurrence={strength=0.5}",
)  # fmt: skip


class Place:
    """A folder with events, and two runs that learnt from them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_clicks(folder / "clicks.jsonl", users=60, days=60)
        (folder / "ebbtide.toml").write_text(CONFIG)
        (folder / "recipe.toml").write_text(RECIPE)
        self.fit("one", "--until", UNTIL)
        self.fit("two", "--until", UNTIL, "--seed", 1, *(w for s in OTHER for w in ("--set", s)))

    def run(self, *words: Any, app: Any = cli.app, data: bool = True) -> Any:
        given = ("--input", self.folder / "clicks.jsonl", "--config", self.folder / "ebbtide.toml")
        return CliRunner().invoke(app, [str(word) for word in (*words, *(given if data else ()))])

    def fit(self, name: str, *words: Any) -> None:
        ran = self.run(
            "fit",
            "--recipe",
            self.folder / "recipe.toml",
            "--out",
            self.folder / name,
            "--threads",
            1,
            *words,
        )
        assert ran.exit_code == 0, ran.output

    def explain(self) -> Any:
        """Return what the joined run says of the user's list, after all events."""
        ran = self.run("explain", self.folder / "joined", "--user", USER, "--json")
        assert ran.exit_code == 0, ran.output
        return json.loads(ran.stdout)

    def join(self, *names: str, words: Sequence[Any] = (), out: str = "joined") -> Any:
        folders = [self.folder / name for name in names]
        return self.run("join", *folders, "--out", self.folder / out, *words, data=False)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    made = Place(tmp_path_factory.mktemp("place"))
    ran = made.join("one", "two", words=("--weight", 0.4, "--weight", 0.6))
    assert ran.exit_code == 0, ran.output
    return made


def test_a_finished_run_is_not_joined_away(place: Place) -> None:
    before = (place.folder / "joined" / "record.json").read_bytes()
    again = place.join("one", "two")
    assert again.exit_code != 0
    assert "a finished run is there already" in again.output
    own = place.join("joined", "two", words=("--overwrite",))
    assert own.exit_code != 0
    assert "is one of the runs to join" in own.output
    assert (place.folder / "joined" / "record.json").read_bytes() == before
    assert place.join("one", "two", words=("--weight", 0.4, "--weight", 0.6, "--overwrite")).exit_code == 0


def test_join_says_what_an_ensemble_is_made_of(place: Place) -> None:
    record = json.loads((place.folder / "joined" / "record.json").read_text())
    assert [(m["run"], m["weight"]) for m in record["members"]] == [("one", 0.4), ("two", 0.6)]
    assert [m["recipe"]["encoder"] for m in record["members"]] == ["gru", "transformer"]
    loaded = load_run(place.folder / "joined")
    assert loaded.model.weights == [0.4, 0.6]
    assert loaded.model.config.step_features == ("gap_log", "kind=view", "kind=buy")


def test_an_ensemble_is_judged_and_explained_as_any_run(place: Place) -> None:
    folder = place.folder / "joined"
    ran = place.run("evaluate", folder, "--from", UNTIL, "--threads", 1)
    assert ran.exit_code == 0, ran.output
    metrics = json.loads((folder / "record.json").read_text())["metrics"]
    assert metrics["next_basket"]["hit_rate_at_10"]["ebbtide"][0] > 0.9
    assert 0.0 < metrics["risk"]["brier"] < 1.0
    explained = place.explain()
    assert explained["events"] > 5
    first = explained["items"][0]
    parts = sum(first[name] for name in ("history", "context", "prior", "co_occurrence", "reranked"))
    assert parts == pytest.approx(first["score"], abs=1e-4)
    assert first["context"] != 0.0


def test_its_bundle_is_proved_and_serves_its_scores(place: Place) -> None:
    out = place.folder / "bundle"
    ran = place.run(place.folder / "joined", out, app=export_cli.app)
    assert ran.exit_code == 0, ran.output
    bundle = open_bundle(out)
    assert bundle.manifest.encoder["kind"] == "gru+transformer"
    assert bundle.manifest.embedding_size == 28
    assert bundle.manifest.hazard is not None
    apart = (bundle.step_items != bundle.items).any(0)
    assert (apart == ([False] * 16 + [True] * 12)).all()  # the second member's items go in by their own
    replayed = place.folder / "out"
    replay(str(place.folder / "clicks.jsonl"), replayed, load_config(place.folder / "ebbtide.toml"), out)
    lists = [json.loads(line) for line in (replayed / "recommendations.jsonl").read_text().splitlines()]
    served = [given["items"] for given in lists if given["user_id"] == USER and given["trigger"] == "event"]
    expected = place.explain()["items"]
    assert [item["item_id"] for item in served[-1]] == [item["item_id"] for item in expected]
    for item, other in zip(served[-1], expected, strict=True):
        assert item["score"] == pytest.approx(other["score"], abs=1e-3)


def test_runs_that_do_not_belong_together_are_refused(place: Place) -> None:
    place.fit("later", "--until", "2023-12-28T00:00:00Z", "--set", "epochs=1")
    for names, said in (
        (("one", "later"), "learnt from different sequences, span"),
        (("one", "joined"), "is an ensemble already"),
        (("one",), "one run is no ensemble"),
    ):
        ran = place.join(*names, out="other")
        assert ran.exit_code == 2
        assert said in " ".join(ran.output.split())
