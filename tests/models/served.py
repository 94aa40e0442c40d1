"""What a run says, held against what its bundle serves.

A place is a folder with clicks.jsonl, ebbtide.toml, run and bundle.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from models.evaluate import make_lists
from models.options import read_events
from models.run import load_run
from stream.config_load import load_config
from stream.demo.quality import Lists
from stream.replay import replay

PARTS = ("history", "context", "prior", "co_occurrence", "repeats", "reranked")


def serve(place: Path, name: str) -> list[dict[str, Any]]:
    """Return the lists of a replay that events asked for."""
    out = place / name
    replay(str(place / "clicks.jsonl"), out, load_config(place / "ebbtide.toml"), place / "bundle")
    lists = [json.loads(line) for line in (out / "recommendations.jsonl").read_text().splitlines()]
    return [given for given in lists if given["trigger"] == "event"]


def check_explained(place: Path, user: str, said: Sequence[dict[str, Any]]) -> None:
    """Fail unless the list that a run explains is the user's last one as served, and its parts its scores."""
    for item in said:
        assert sum(item[part] for part in PARTS) == pytest.approx(item["score"], abs=1e-4)
    served = [given["items"] for given in serve(place, f"out-{user}") if given["user_id"] == user][-1]
    assert [item["item_id"] for item in served] == [item["item_id"] for item in said]
    for item, other in zip(served, said, strict=True):
        assert item["score"] == pytest.approx(other["score"], abs=1e-3)


def check_evaluated(place: Path, *, without: str) -> None:
    """Fail unless `evaluate` lists as served, and otherwise without that attribute of the model."""
    run = load_run(place / "run")
    config = place / "ebbtide.toml"
    data = read_events(str(place / "clicks.jsonl"), config, run.item_ids, run.recipe.contexts)

    def lists() -> dict[str, Lists]:
        return make_lists(run.model, data, ["view", "buy"], 0).lists

    listed = lists()
    same = []
    for given in serve(place, "out-all"):
        mine = listed[given["user_id"]]
        at = mine.at_ms.index(given["event_time"])
        same.append(mine.items[at] == [item["item_id"] for item in given["items"]])
    assert len(same) > 500
    assert sum(same) >= len(same) - 5  # scores that are equal within rounding may change places
    setattr(run.model, without, None)
    assert any(a.items != b.items for a, b in zip(listed.values(), lists().values(), strict=True))
