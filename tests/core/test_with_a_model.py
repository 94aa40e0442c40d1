"""With a model: users, transitions and alerts are what they are without, and every list that is due is there.

The lists themselves are held to each other over the sizes of batch: ids in the same order wherever scores
differ by more than 1e-5, and scores within that.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from export.random_bundle import random_bundle
from stream.config_load import parse_config
from stream.replay import replay
from tests.compare import assert_equal
from tests.generators import Stream, clicks
from tests.generators_edges import storm, walk
from tests.generators_settings import HASTY
from tests.oracle_settings import Json
from tests.oracles import Oracle
from tests.programs import read_outputs, to_tree

TOLERANCE = 1e-5
BATCHES = (1, 7, 256, 4096)

#: What an alert is when everyone's timers find a user: the moment of a win-back.
FINDS = ("opened", "escalated")

RANDOM = random.Random(7)
STREAM = Stream([line for make in (walk, storm, clicks) for line in make(RANDOM, HASTY, 250).records])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle") / "b"
    random_bundle(folder, list(HASTY["kinds"]), items=30)  # of the 40 that the streams name
    return folder


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    oracle = Oracle(HASTY)
    for line in STREAM.records:
        oracle.record(line)
    return oracle


@pytest.fixture(scope="module")
def outs(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of outputs, one for each size of batch."""
    folder: Path = tmp_path_factory.mktemp("outs")
    (folder / "input.jsonl").write_bytes(STREAM.data)
    policies = {"policies": {"at_risk": {}}}
    for batch in BATCHES:
        tree = to_tree(HASTY, batch_records_max=batch, timers_max=3) | policies
        replay(str(folder / "input.jsonl"), folder / f"{batch}", parse_config(tree), bundle)
    return [folder / f"{batch}" for batch in BATCHES]


def lists_of(out: Path) -> list[Json]:
    return [json.loads(line) for line in (out / "recommendations.jsonl").read_bytes().splitlines()]


def test_a_model_changes_nothing_for_the_user(outs: list[Path], oracle: Oracle) -> None:
    for out in outs:
        assert_equal(oracle.result(), read_outputs(out), STREAM.records, HASTY)


def test_every_list_that_is_due_is_there(outs: list[Path], oracle: Oracle) -> None:
    """§ 4: "Kinds in `recommend` trigger one each"; "Reaching at_risk under a win-back policy" one too."""
    lists = lists_of(outs[0])
    found = [alert for alert in oracle.alerts if alert["stage"] == "at_risk" and alert["status"] in FINDS]
    won_back = [(row["rec_id"], row["event_time"]) for row in lists if row["trigger"] == "lifecycle"]
    assert won_back == [(alert["alert_id"], alert["at"]) for alert in found]
    by_event = [row["rec_id"] for row in lists if row["trigger"] == "event"]
    views = [offset for offset in oracle.applied if b'"view"' in STREAM.records[offset]]
    assert by_event == [f"file-0-{offset}" for offset in views]
    assert {len(row["items"]) for row in lists} == {10}


def test_lists_do_not_depend_on_the_batches(outs: list[Path]) -> None:
    first, *others = map(lists_of, outs)
    for other in others:
        for one, two in zip(first, other, strict=True):
            assert {**one, "items": []} == {**two, "items": []}
            assert_same_ranks(one["items"], two["items"])


def assert_same_ranks(one: list[Json], other: list[Json]) -> None:
    for place, (a, b) in enumerate(zip(one, other, strict=True)):
        assert abs(a["score"] - b["score"]) <= TOLERANCE
        if a["item_id"] != b["item_id"]:
            near = {item["item_id"] for item in one if abs(item["score"] - a["score"]) <= TOLERANCE}
            assert b["item_id"] in near or place == len(one) - 1
