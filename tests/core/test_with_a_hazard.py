"""With a hazard head: what it says of each silence reaches the alerts, and may set who is at risk.

The bundle has random weights. What it should have said is computed from the sequences that training sees, by
torch, and with the survival function in its plainest form.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from export.random_bundle import feature_names, proved_bundle, random_model
from models.dataset import fold_events
from models.recommender import RecommenderConfig
from stream.bundle import Bundle
from stream.config import Config
from stream.config_load import parse_config
from stream.replay import replay
from tests.generators import clicks
from tests.generators_edges import storm, walk
from tests.generators_settings import HASTY
from tests.oracle_settings import HOUR, Json
from tests.programs import to_tree

BINS_MS = (2 * HOUR, 6 * HOUR, 24 * HOUR, 72 * HOUR)
HORIZON = 5 * HOUR
ITEMS = 8
KINDS = list(HASTY["kinds"])
MODEL = RecommenderConfig(
    items=ITEMS,
    embedding_size=8,
    encoder_config={"hidden": 16},
    hazard_bins_ms=BINS_MS,
    **feature_names(KINDS, {}),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundle") / "b"
    options: dict[str, Any] = {"hazard_bins_ms": BINS_MS, "encoder_config": {"hidden": 16}}
    return proved_bundle(folder, KINDS, items=ITEMS, memory_half_lives=(), **options)[0]


def config(risk: str, **worker: Any) -> Config:
    tree = to_tree(HASTY, **worker)
    tree["lifecycle"] |= {"risk": risk, "horizon": HORIZON, "risk_threshold": 0.35}
    return parse_config(tree)


def event(user: str, at: int, item: int = 0) -> bytes:
    return json.dumps(
        {"user_id": user, "event_type": KINDS[0], "event_time": START + at, "item_id": f"item-{item}"}
    ).encode()


START = 1_700_000_000_000
#: Ann falls silent, is found by the timers that Ben moves, comes back, and is forgotten.
TALE = [
    event("ann", 0, 1),
    event("ann", HOUR, 2),
    event("ann", 3 * HOUR, 3),
    event("ben", 20 * HOUR),
    event("ben", 60 * HOUR),
    event("ann", 61 * HOUR, 4),
    event("ben", 80 * HOUR),
    event("ben", 400 * HOUR),
]


def run(lines: list[bytes], folder: Path, bundle: Bundle, config: Config, name: str = "out") -> list[Json]:
    source = folder / "input.jsonl"
    source.write_bytes(b"\n".join(lines))
    replay(str(source), folder / name, config, bundle.path)
    return [json.loads(line) for line in (folder / name / "churn-alerts.jsonl").read_bytes().splitlines()]


def survival(hazard: list[float], t: int) -> float:
    """The plainest form: in a bin survival falls by (1 − h) to the share of the bin that has passed."""
    left, start, stop = 1.0, 0, 0
    for h, stop in zip(hazard, BINS_MS, strict=True):
        if t < stop:
            return left * (1 - h) ** ((t - start) / (stop - start))
        left *= 1 - h
        width, start = stop - start, stop
    return left * (1 - hazard[-1]) ** ((t - stop) / width)


def hazards_of(user: str, source: Path, config: Config) -> dict[int, list[float]]:
    """What torch says after each event of the user, by the event's time."""
    data = fold_events(str(source), config, [f"item-{i}" for i in range(ITEMS)])
    model = random_model(MODEL)
    found = {}
    for i in [i for i, name in enumerate(data.user) if name == user]:
        rows = slice(data.start[i], data.start[i + 1])
        features = data.features[rows][:, data.column(MODEL.step_features)]
        with torch.no_grad():
            items = model.items()[0][torch.from_numpy(data.item[rows]).long()]
            y = model.outputs(items[None], torch.from_numpy(features)[None])[1]
            said = model.hazard(y[0]) if model.hazard else torch.zeros(0)
        found |= dict(zip(data.time_ms[rows].tolist(), said.tolist(), strict=True))
    return found


def test_alerts_say_how_large_the_risk_is_and_how_far_it_looks(tmp_path: Path, bundle: Bundle) -> None:
    alerts = [row for row in run(TALE, tmp_path, bundle, config("rhythm")) if row["user_id"] == "ann"]
    assert [row["status"] for row in alerts] == [
        "opened", "escalated", "escalated", "resolved", "opened", "escalated", "escalated", "expired",
    ]  # fmt: skip
    said = hazards_of("ann", tmp_path / "input.jsonl", config("rhythm"))
    for row in alerts:
        last = max(time for time in said if time <= row["at"])
        silent = row["at"] - last
        expected = survival(said[last], silent + HORIZON) / survival(said[last], silent)
        assert row["risk"] == pytest.approx(expected, abs=2e-5), row
        assert row["horizon"] == HORIZON
    assert len({row["risk"] for row in alerts}) > 4


def test_the_hazard_head_sets_who_is_at_risk(tmp_path: Path, bundle: Bundle) -> None:
    chosen = config("model")
    (opened, *_) = run(TALE, tmp_path, bundle, chosen)
    assert (opened["user_id"], opened["status"]) == ("ann", "opened")
    said = hazards_of("ann", tmp_path / "input.jsonl", chosen)[START + 3 * HOUR]
    hours = range(1, HASTY["at_risk_max"] // HOUR + 1)
    stays = [survival(said, hour * HOUR + HORIZON) / survival(said, hour * HOUR) for hour in hours]
    first = next((hour for hour, stay in zip(hours, stays, strict=True) if stay >= 0.35), hours[-1])
    assert opened["at"] - opened["last_event_time"] == first * HOUR
    if first < hours[-1]:
        assert opened["risk"] >= 0.35


def test_a_bundle_without_the_head_says_nothing(tmp_path: Path) -> None:
    plain = proved_bundle(tmp_path / "plain", KINDS, items=ITEMS)[0]
    alerts = run(TALE, tmp_path, plain, config("rhythm"))
    assert alerts
    assert not any({"risk", "horizon"} & row.keys() for row in alerts)


@pytest.mark.parametrize("risk", ["rhythm", "model"])
def test_alerts_are_equal_to_the_last_digit_in_any_batches(risk: str, tmp_path: Path, bundle: Bundle) -> None:
    chance = random.Random(11)
    lines = [line for make in (walk, storm, clicks) for line in make(chance, HASTY, 150).records]
    first, *others = [
        run(lines, tmp_path, bundle, config(risk, batch_records_max=batch, timers_max=3), f"{batch}")
        for batch in (1, 7, 512)
    ]
    assert {row["status"] for row in first} >= {"opened", "resolved"}
    assert np.ptp([row["risk"] for row in first]) > 0
    for other in others:
        assert other == first
