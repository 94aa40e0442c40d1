"""A new bundle's states come from what each row kept, in a restore as in the life that saw the change."""

from __future__ import annotations

import json
import random
from typing import Any

import numpy as np
import pytest

from export.random_bundle import random_bundle
from stream.bundle import Bundle
from stream.core.users import NO_DEADLINE
from stream.engine import Partition
from stream.renew import renew_states
from tests.lives import Life, World, take_photo
from tests.shell.test_restore import HOUR, T0, make_config

KINDS = ["view", "buy", "mail"]
#: The last one is silent from the change on: no row of theirs is ever written with the new states.
USERS = ("ann", "ben", "cleo", "dan")
#: What a kept event still knows for certain, so that it steps as the event itself did.
CERTAIN: dict[str, Any] = {"step_features": ("kind=view", "kind=buy"), "context_features": ()}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Two bundles whose items overlap, in another order."""
    folder = tmp_path_factory.mktemp("bundles")
    items = [f"item-{i}" for i in range(12)]
    return [
        random_bundle(folder / "old", KINDS, items=items[:8], seed=1, **CERTAIN),
        random_bundle(
            folder / "new", KINDS, items=items[::-1][:9], encoder="cnn", repeats=15, seed=2, **CERTAIN
        ),
    ]


def publish(world: World, count: int, seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(count):
        world.clock.advance(1)
        user = chance.choice(USERS if seed == 1 else USERS[:3])
        at = T0 + seed * HOUR + int(world.clock.monotonic_s()) * 60_000
        event = {"user_id": user, "event_type": chance.choice(KINDS), "event_time": at,
                 "item_id": f"item-{chance.randrange(12)}"}  # fmt: skip
        world.publish([user.encode()], [json.dumps(event).encode()], [at])


def drain(life: Life) -> None:
    while life.work(100):
        pass


def states(partition: Partition) -> dict[str, np.ndarray]:
    table = partition.table
    return {table.row_id(slot).decode(): table.users.state[slot].copy() for slot in table.slots().tolist()}


def stepped(partition: Partition, lines: list[bytes | None], user: str, last: int) -> np.ndarray:
    """The plainest form: step through the user's last items, one by one."""
    model = partition.model
    assert model is not None
    events = [event for event in map(json.loads, filter(None, lines)) if event["user_id"] == user]
    state = np.zeros((1, model.state_size), np.float32)
    for event in [event for event in events if event["event_type"] != "mail"][-last:]:
        features = np.zeros((1, len(model.feature_names)), np.float32)
        features[0, model.feature_names.index(f"kind={event['event_type']}")] = 1.0
        item = np.array([partition.items.intern(event["item_id"])], np.int32)
        state = model.step(state, item, features)
    return state[0]


def test_states_are_rebuilt_from_the_last_twenty_items(bundles: list[Bundle]) -> None:
    world = World(make_config(worker={"events_per_5min_max": 10_000}), bundles[0])
    publish(world, 90, seed=1)
    life = Life(world)
    drain(life)
    lines = world.read("events").values
    for user, state in states(life.partition).items():
        events = sum(json.loads(line)["user_id"] == user for line in lines if line)
        np.testing.assert_allclose(state, stepped(life.partition, lines, user, events), atol=1e-5)
    life.partition.table.users.state[:] = 0.0
    assert renew_states(life.partition, NO_DEADLINE) == len(states(life.partition)) >= 3
    for user, state in states(life.partition).items():
        np.testing.assert_allclose(state, stepped(life.partition, lines, user, 20), atol=1e-5)


@pytest.mark.parametrize("rows_max", [1, 100])
def test_a_restore_rebuilds_what_the_change_rebuilt(bundles: list[Bundle], rows_max: int) -> None:
    """Rows written before the change, after it or not at all come to the same states after a death."""
    world = World(make_config(worker={"events_per_5min_max": 10_000}), bundles[0])
    publish(world, 60, seed=1)
    life = Life(world)
    drain(life)
    life.commit(100)
    publish(world, 7, seed=2)
    drain(life)
    life.commit(0)
    life.kill()
    world.bundle = bundles[1]
    life = Life(world)
    drain(life)
    lines = world.read("events").values
    for user, state in states(life.partition).items():
        np.testing.assert_allclose(state, stepped(life.partition, lines, user, 20), atol=1e-5)
    life.commit(rows_max)
    for seed in (3, 4):
        publish(world, 5, seed)
        drain(life)
        life.commit(rows_max)
    photo = life.photo
    life.kill()
    again = Life(world)
    assert take_photo(again.partition, again.format) == photo
    for user, state in states(life.partition).items():
        np.testing.assert_array_equal(state, states(again.partition)[user])
        assert state.any()


def test_an_aborted_change_is_made_again(bundles: list[Bundle]) -> None:
    world = World(make_config(worker={"events_per_5min_max": 10_000}), bundles[0])
    publish(world, 40, seed=1)
    life = Life(world)
    drain(life)
    life.commit(100)
    life.kill()
    world.bundle = bundles[1]
    life = Life(world)
    publish(world, 5, seed=2)
    drain(life)
    expected = states(life.partition)
    life.abort()
    drain(life)
    for user, state in states(life.partition).items():
        np.testing.assert_array_equal(state, expected[user])
