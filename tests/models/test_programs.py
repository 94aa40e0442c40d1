"""The programs from end to end: events, a run, its judgement, a bundle, and what serving says with it."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from export import cli as export_cli
from models import cli
from models.dataset import fold_events
from models.sources import fold_topic
from stream.broker import Identity, Topic
from stream.bundle import open_bundle
from stream.config_load import load_config
from stream.errors import InputError
from stream.replay import replay
from stream.testing import MemoryBroker, MemoryClient
from tests.models.clicks import HOUR_MS, write_clicks

CONFIG = """
[events]
kinds = { view = "engagement", buy = "conversion" }
recommend = ["view", "buy"]
[lifecycle]
risk = "model"
horizon = "6d"
risk_threshold = 0.6
at_risk_min = "2d"
at_risk_default = "9d"
at_risk_max = "10d"
dormant_after = "14d"
churned_after = "28d"
"""
RECIPE = """
encoder_config = { hidden = 16 }
embedding_size = 16
step_features = ["gap_log", "kind=view", "kind=buy"]
context_features = ["hour_sin", "context.device"]
contexts = { device = ["phone", "desk"] }
epochs = 40
users_per_batch = 16
learning_rate = 0.03
items_learning_rate = 0.03
hazard = { bins = ["36h", "4d", "8d", "12d", "20d", "40d"], horizon = "6d" }
value = { of = "item" }
rerank = { hidden = 8, candidates = 10 }
cleaning = { duplicates = true }
validation = { by = "users", share = 0.25 }
"""
UNTIL = "2023-12-20T00:00:00Z"


class Workplace:
    """A folder with events, a config and a recipe."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_clicks(folder / "clicks.jsonl", users=150, days=60)
        (folder / "ebbtide.toml").write_text(CONFIG)
        (folder / "recipe.toml").write_text(RECIPE)
        items = [json.dumps({"item_id": f"item-{i}", "attributes": {}}) for i in range(12)]
        (folder / "items.jsonl").write_text("\n".join(items))

    def run(self, *arguments: Any, app: Any = cli.app, data: bool = True) -> Any:
        at = self.folder
        given = ["--input", at / "clicks.jsonl", "--config", at / "ebbtide.toml"] if data else []
        return CliRunner().invoke(app, [str(argument) for argument in [*arguments, *given]])

    def fit(self, out: str, *arguments: Any) -> Any:
        at = self.folder
        fixed = (
            "--recipe",
            at / "recipe.toml",
            "--out",
            at / out,
            "--items",
            at / "items.jsonl",
            "--threads",
            1,
        )
        return self.run("fit", *fixed, *arguments)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    made = Workplace(tmp_path_factory.mktemp("place"))
    ran = made.fit("run", "--until", UNTIL)
    assert ran.exit_code == 0, ran.output
    return made


def test_a_run_folder_says_all_that_a_second_person_needs(place: Workplace) -> None:
    folder = place.folder / "run"
    assert {path.name for path in folder.iterdir()} >= {
        "recipe.json", "record.json", "items.json", "model.pt", "learning-curve.svg",
    }  # fmt: skip
    assert not list(folder.glob("checkpoint*"))
    record = json.loads((folder / "record.json").read_text())
    assert len(record["history"]) == len(record["loss"]) == 40
    assert record["history"][0]["held"].keys() == {"next_item", "hazard", "value", "rerank", "loss"}
    assert record["environment"].keys() >= {"torch", "python", "threads", "cpu"}
    again = place.run(
        "fit", "--recipe", folder / "recipe.json", "--items", place.folder / "items.jsonl",
        "--until", UNTIL, "--out", place.folder / "again", "--threads", 1,
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    other = json.loads((place.folder / "again" / "record.json").read_text())
    assert other["loss"] == record["loss"]
    assert other["fingerprint"] == record["fingerprint"]


def test_evaluate_judges_lists_risks_and_values(place: Workplace) -> None:
    ran = place.run("evaluate", place.folder / "run", "--from", UNTIL, "--threads", 1)
    assert ran.exit_code == 0, ran.output
    metrics = json.loads((place.folder / "run" / "record.json").read_text())["metrics"]
    assert metrics["next_basket"]["hit_rate_at_10"]["ebbtide"][0] > 0.9
    states = metrics["next_basket"]["by_lifecycle"]
    assert sum(found["baskets"] for found in states.values()) == metrics["next_basket"]["baskets"]
    assert len(states) >= 2
    assert metrics["risk"]["auc"][0] > metrics["risk"]["auc_recency"][0]
    assert metrics["risk"]["brier"] < metrics["risk"]["brier_base_rate"]
    value, mean = (metrics["value"][name]["MAE"] for name in ("value head", "mean in training"))
    assert value < mean
    at_ten, whole = ("mrr", "precision", "recall"), ("coverage", "gini", "novelty", "diversity")
    for measure in (*(f"{name}_at_10" for name in at_ten), *whole):
        found = metrics["next_basket"][measure]
        assert found.keys() == {"ebbtide", "popularity", "buy again", "recency", "item-kNN"}, measure
    rivals = {"value head", "mean in training", "user's own mean so far", "item's mean in training"}
    assert metrics["value"].keys() == {"from"} | rivals
    for name in ("lists", "lists-by-state", "risk", "reliability", "lead-time", "values"):
        assert f"plot: {place.folder / 'run' / name}.svg" in ran.output
        assert (place.folder / "run" / f"{name}.svg").read_text().startswith("<?xml")
    assert "by the user's state" in ran.output


def test_the_bundle_serves_risk_and_reranked_lists(place: Workplace) -> None:
    out = place.folder / "bundle"
    ran = place.run(place.folder / "run", out, app=export_cli.app)
    assert ran.exit_code == 0, ran.output
    manifest = open_bundle(out).manifest
    assert manifest.hazard is not None
    assert manifest.hazard.bins_ms == [hours * HOUR_MS for hours in (36, 96, 192, 288, 480, 960)]
    assert manifest.hazard.horizon_ms == 144 * HOUR_MS
    assert manifest.rerank_max == 10
    assert manifest.vocabularies == {"device": ["phone", "desk"]}
    replayed = place.folder / "out"
    replay(str(place.folder / "clicks.jsonl"), replayed, load_config(place.folder / "ebbtide.toml"), out)
    alerts = [json.loads(line) for line in (replayed / "churn-alerts.jsonl").read_text().splitlines()]
    opened = [alert for alert in alerts if alert["status"] == "opened"]
    assert {alert["horizon"] for alert in alerts} == {144 * HOUR_MS}
    waited = [(alert["at"] - alert["last_event_time"]) // HOUR_MS for alert in opened]
    assert len(set(waited)) > 5
    for alert, hours in zip(opened, waited, strict=True):
        assert hours == 240 or 0.6 <= alert["risk"] <= 1  # at_risk_max calls everyone
    lists = (replayed / "recommendations.jsonl").read_text().splitlines()
    assert len(json.loads(lists[-1])["items"]) == 10


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_what_fewer_bits_cost_is_measured(place: Workplace, precision: str) -> None:
    out = place.folder / precision
    ran = place.run(place.folder / "run", out, "--precision", precision, app=export_cli.app)
    assert ran.exit_code == 0, ran.output
    loss = open_bundle(out).manifest.metrics["compression"]
    assert loss["precision"] == precision
    assert loss["positions"] > 100
    assert loss["ndcg_before"] > 0.5
    assert loss["ndcg_after"] == pytest.approx(loss["ndcg_before"], abs=0.02)
    assert 0.9 < loss["items_kept"] <= 1.0
    assert "items of the lists that stay" in ran.output


@pytest.mark.parametrize("how", ["--folds", "--rolling"])
def test_a_recipe_is_cross_validated_before_the_last_fit(place: Workplace, how: str) -> None:
    ran = place.fit("cv" + how, how, 2, "--set", "epochs=4", "--set", 'validation.by="none"')
    assert ran.exit_code == 0, ran.output
    record = json.loads((place.folder / ("cv" + how) / "record.json").read_text())
    found = record["metrics"]["cross_validation"]
    assert found["folds"] == 2
    assert found["figures"]["ndcg"]["mean"] > 0.3
    assert len(record["loss"]) == found["epochs"]


def test_folds_of_one_are_refused(place: Workplace) -> None:
    ran = place.fit("cv", "--folds", 1)
    assert ran.exit_code == 2
    assert "holds out everyone" in ran.output


def test_a_tuning_goes_on_where_it_was_and_keeps_to_its_data(place: Workplace) -> None:
    at = place.folder
    (at / "space.toml").write_text(
        "learning_rate = { low = 1e-3, high = 0.1, log = true }\n"
        "encoder_config.hidden = { low = 4, high = 16, step = 4 }\n"
        'similarity = ["dot", "cosine"]\n'
    )
    fixed = (
        "--space",
        at / "space.toml",
        "--out",
        at / "study",
        "--recipe",
        at / "recipe.toml",
        "--threads",
        1,
    )
    small = ("--set", "epochs=3", "--set", "rerank={weight=0.0}")
    first = place.run("tune", *fixed, *small, "--trials", 2)
    assert first.exit_code == 0, first.output
    second = place.run("tune", *fixed, *small, "--trials", 3)
    assert second.exit_code == 0, second.output
    assert "the best of 3 trials" in second.output
    assert [f"trial {n}:" in second.output for n in range(3)] == [False, False, True]
    best = json.loads((at / "study" / "best.json").read_text())
    assert best["similarity"] in ("dot", "cosine")
    assert best["epochs"] == 3
    other = place.run("tune", *fixed, *small, "--trials", 4, "--until", UNTIL)
    assert other.exit_code == 2
    assert "belongs to other data" in other.output


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["validation.by='none'"], "nothing is held out"),
        (["epochs='many'"], "Expected `int`"),
        (["encodr='gru'"], "unknown field `encodr`"),
        (["encoder='grou'"], "Invalid enum value 'grou'"),
        (["target_kinds=['sale']"], "no such kind: sale"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_a_sentence(
    place: Workplace, settings: list[str], said: str
) -> None:
    at = place.folder
    (at / "space.toml").write_text("dropout = [0.1, 0.2]\n")
    chosen = [word for setting in settings for word in ("--set", setting)]
    fixed = ("--space", at / "space.toml", "--out", at / "other", "--recipe", at / "recipe.toml")
    ran = place.run("tune", *fixed, *chosen, "--trials", 2)
    assert ran.exit_code == 2
    assert said in ran.output.partition("error: ")[2]
    assert "Traceback" not in ran.output
    assert "give it more trials" not in ran.output


def test_a_space_that_cannot_be_is_refused_before_the_first_trial(place: Workplace) -> None:
    at = place.folder
    (at / "wrong.toml").write_text('encodr = ["gru", "lru"]\n')
    fixed = ("--space", at / "wrong.toml", "--out", at / "never", "--recipe", at / "recipe.toml")
    ran = place.run("tune", *fixed)
    assert ran.exit_code == 2
    assert "unknown field `encodr`" in ran.output
    assert "trial 0" not in ran.output


def test_events_come_from_a_file_or_a_topic(place: Workplace) -> None:
    ran = place.fit("no", "--kafka", "localhost:1")
    assert ran.exit_code == 2
    assert "either --input or --kafka" in ran.output


def test_a_topic_gives_the_sequences_that_its_file_gives(place: Workplace) -> None:
    lines = (place.folder / "clicks.jsonl").read_bytes().splitlines()
    keys = [json.loads(line)["user_id"].encode() for line in lines]
    broker = MemoryClient(MemoryBroker(), Identity("g", "t", {"events": "clicks"}))
    broker.admin().create([Topic("clicks", 3)])
    publisher = broker.publisher()
    stamps = [json.loads(line)["event_time"] for line in lines]
    partitions = [zlib.crc32(key) % 3 for key in keys]
    publisher.publish("clicks", keys, lines, partitions=partitions, timestamps_ms=stamps)
    publisher.flush()
    config = load_config(place.folder / "ebbtide.toml")
    items = [f"item-{i}" for i in range(12)]
    read = fold_topic(broker, "clicks", config, items)
    filed = fold_events(str(place.folder / "clicks.jsonl"), config, items)
    assert sorted(read.user) == sorted(filed.user)
    for user in filed.user:
        one, other = (
            slice(*data.start[(i := data.user.index(user)) : i + 2].tolist()) for data in (read, filed)
        )
        assert np.array_equal(read.features[one], filed.features[other])
        assert np.array_equal(read.item[one], filed.item[other])
    with pytest.raises(InputError, match="no such topic"):
        fold_topic(broker, "cliks", config)


@pytest.mark.parametrize("form", ["sequences", "bare", "atomic"])
def test_files_of_sequences_train_without_a_config(form: str, tmp_path: Path) -> None:
    lines = {
        "sequences": [f"u{n} " + " ".join(f"i{(n + k) % 7}" for k in range(6)) for n in range(20)],
        "bare": [" ".join(f"i{(n + k) % 7}" for k in range(6)) for n in range(20)],
        "atomic": ["user_id:token\titem_id:token\trating:float\ttimestamp:float"]
        + [f"u{n}\ti{(n + k) % 7}\t3\t{1000 * k}" for n in range(20) for k in range(6)],
    }[form]
    (tmp_path / "data.txt").write_text("\n".join(lines))
    (tmp_path / "recipe.toml").write_text(
        'embedding_size = 8\nencoder_config = { hidden = 8 }\nepochs = 2\nvalidation = { by = "last" }\n'
    )
    given = ("--input", tmp_path / "data.txt", "--format", form, "--threads", 1)

    def run(*words: Any) -> Any:
        return CliRunner().invoke(cli.app, [str(word) for word in [*words, *given]])

    fixed = ("fit", "--recipe", tmp_path / "recipe.toml", "--out", tmp_path / "run")
    ran = run(*fixed)
    assert ran.exit_code == 0, ran.output
    record = json.loads((tmp_path / "run" / "record.json").read_text())
    assert (record["users"], record["events"]) == (20, 120)
    assert len(record["history"]) == 2
    refused = run("evaluate", tmp_path / "run", "--last")
    assert refused.exit_code == 2
    assert "trained on everyone's last event" in refused.output
    ran = run(*fixed, "--overwrite", "--last", "--set", "epochs=40", "--set", "learning_rate=0.03")
    assert ran.exit_code == 0, ran.output
    ran = run("evaluate", tmp_path / "run", "--last")
    assert ran.exit_code == 0, ran.output
    found = json.loads((tmp_path / "run" / "record.json").read_text())["metrics"]["leave_one_out"]
    assert found["gru, all items"]["users"] == 20
    assert found["gru, all items"]["ndcg5"] > found["popularity, all items"]["ndcg5"] + 0.2
    assert found["gru, unseen only"]["hr5"] == 1.0  # of seven items five were had
    assert found["gru, all items"]["recall10"] == found["gru, all items"]["hr10"] == 1.0
    for name in ("recency", "item-kNN", "BPR", "ALS"):
        assert found[f"{name}, all items"]["ndcg10_low"] <= found[f"{name}, all items"]["ndcg10"]
    assert (tmp_path / "run" / "leave-one-out.svg").read_text().startswith("<?xml")
    ran = run("evaluate", tmp_path / "run", "--last", "--no-baselines")
    assert ran.exit_code == 0, ran.output
    assert "BPR" not in ran.output
