"""Targets against a naive reading of what they are: the items of the next baskets, weighed by distance."""

from __future__ import annotations

import numpy as np
import pytest

from models.batches import Batch
from models.dataset import Sequences
from models.targets import group_events, had_before, latest_times, make_targets, shuffle_groups


def sequences(*users: list[tuple[int, int, int]]) -> Sequences:
    """Make sequences of (time, kind, item)."""
    events = [event for user in users for event in user]
    return Sequences(
        start=np.cumsum([0, *map(len, users)]),
        user=[f"u{i}" for i in range(len(users))],
        item=np.array([item for _, _, item in events], np.int32),
        kind=np.array([kind for _, kind, _ in events], np.uint8),
        time_ms=np.array([time for time, _, _ in events], np.int64),
        features=np.zeros((len(events), 1), np.float32),
        feature_names=["first"],
        kinds=["buy", "look"],
        item_ids=[f"i{i}" for i in range(20)],
    )


DATA = sequences(
    [(1, 0, 3), (1, 0, 4), (5, 0, 5), (5, 1, -1), (9, 0, 6), (9, 0, 6)],
    [(9, 0, 7)],
    [(9, 0, 8), (10, 0, 9)],
)
BOUGHT = (DATA.item >= 0) & (DATA.kind == 0)


def as_dict(horizon: int, decay: float, users: list[int]) -> dict[tuple[int, int], dict[int, float]]:
    targets = make_targets(DATA, group_events(DATA), np.array(users), BOUGHT, horizon, decay)
    found: dict[tuple[int, int], dict[int, float]] = {}
    for position, item, weight in zip(targets.position, targets.item, targets.weight, strict=True):
        place = int(targets.row[position]), int(targets.step[position])
        row = found.setdefault(place, {})
        row[int(item)] = row.get(int(item), 0.0) + float(weight)
    return found


def test_events_of_one_user_instant_and_kind_are_a_group() -> None:
    groups = group_events(DATA)
    assert groups.start.tolist() == [0, 2, 3, 4, 6, 7, 8, 9]
    assert groups.first.tolist() == [0, 4, 5, 7]
    assert groups.of_event.tolist() == [0, 0, 1, 2, 3, 3, 4, 5, 6]


def test_after_a_group_the_next_one_is_right() -> None:
    assert as_dict(1, 1.0, [0, 2]) == {(0, 1): {5: 1.0}, (0, 3): {6: 1.0}, (1, 0): {9: 1.0}}


def test_groups_further_off_weigh_less_and_the_weights_sum_to_one() -> None:
    found = as_dict(9, 0.5, [2, 0])
    assert found[0, 0] == {9: 1.0}
    first = {5: 1.0, 6: 2 * 0.25}
    assert found[1, 1] == pytest.approx({item: w / sum(first.values()) for item, w in first.items()})


def test_what_a_user_had_before_a_position_does_not_hold_what_is_right_there() -> None:
    before = [(1, 0, 9)]
    data = sequences(before, [(1, 0, 3), (2, 0, 4), (3, 1, -1), (4, 0, 3), (5, 0, 6), (5, 0, 4)])
    batch = Batch(np.array([1]), np.array([2]), np.array([7]))
    targets = make_targets(data, group_events(data), np.array([1]), data.item >= 0, 1, 1.0, batch)
    assert targets.item.tolist() == [3, 6, 4]  # after the look, and after the second of item 3
    position, item = had_before(data, batch, targets)
    assert list(zip(position.tolist(), item.tolist(), strict=True)) == [(0, 4), (1, 3), (1, 3)]


def test_a_user_of_one_group_asks_for_nothing() -> None:
    targets = make_targets(DATA, group_events(DATA), np.array([1]), BOUGHT, 1, 1.0)
    assert len(targets.row) == len(targets.item) == 0


def test_shuffling_keeps_every_group_together() -> None:
    groups, random = group_events(DATA), np.random.default_rng(1)
    seen = set()
    for _ in range(20):
        items = shuffle_groups(DATA, groups, random)
        seen.add(tuple(items[:2].tolist()))
        assert sorted(items[:2]) == [3, 4]
        assert items[2:].tolist() == DATA.item[2:].tolist()
    assert seen == {(3, 4), (4, 3)}


def test_one_event_of_a_far_year_leaves_the_times_of_all_others_as_they_are() -> None:
    users, far_ms, day_ms = 50_000, 253_402_300_799_999, 86_400_000  # 31 December 9999
    data = sequences(*[[(1_700_000_000_000, 0, 1)] * 3] * users)
    data.time_ms[1::3] += day_ms
    data.time_ms[1] = far_ms
    latest = latest_times(data)
    assert latest[:3].tolist() == [1_700_000_000_000, far_ms, far_ms]
    assert (latest[3:] == np.maximum.accumulate(data.time_ms[3:].reshape(-1, 3), 1).ravel()).all()
