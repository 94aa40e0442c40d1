"""The items topic is followed, and one that is made later is found."""

from __future__ import annotations

import json
from pathlib import Path

from export.random_bundle import random_bundle
from stream.items_feed import ASK_EVERY_S
from stream.topics import plan
from tests.upkeep.rig import SETTINGS, Rig

ITEMS = [f"item-{i}" for i in range(40)]


def test_a_topic_that_is_made_later_is_followed(tmp_path: Path) -> None:
    rig = Rig(bundle=random_bundle(tmp_path / "bundle", list(SETTINGS["events"]["kinds"]), items=ITEMS))
    items = rig.config.topics.items
    del rig.broker._topics[items]
    rig.publish(20)
    worker = rig.work(leave=False)
    model = worker.workshop.model
    assert model is not None
    assert model.catalogue is None

    missing = {items: None}
    rig.client().admin().create(
        [topic for topic in plan(rig.config, missing, partitions=3) if topic.name == items]
    )
    rig.client().publisher().publish(items, [b"item-7"], [None])
    rig.turn_until(worker, lambda: model.catalogue == 1, step_ms=1_000.0 * ASK_EVERY_S / 10)
    rig.publish(60)
    rig.settle(worker)
    made = [json.loads(value or b"") for batch in rig.read_all("recommendations") for value in batch.values]
    before = [one["items"] for one in made if one["catalogue"] is None]
    after = [one["items"] for one in made if one["catalogue"] == 1]
    assert any(item["item_id"] == "item-7" for listed in before for item in listed)
    assert after
    assert all(item["item_id"] != "item-7" for listed in after for item in listed)
    worker.stop()
    worker.close()
