"""What happens to sequences before they are learnt from: cleaning, splitting, varying, batching."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.augment import count_stretches, cut, into_stretches, reorder, substitute, vary_items
from models.batches import Batch, count_batches, cut_batches, pad, pad_batch, whole
from models.clean import clean
from models.dataset import Sequences
from models.recipe import Augment, Cleaning, Validation, to_recipe
from models.targets import coming_values, find_silences, latest_times, next_values, read_values
from models.validate import hold_out, make_folds, roll_origin
from stream.errors import InputError, UsageError
from tests.models.clicks import fold_clicks
from tests.models.test_targets import sequences

DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    return fold_clicks(tmp_path_factory.mktemp("clicks"))


def events_of(data: Sequences) -> set[tuple[str, int, int]]:
    users = data.per_event(np.array(data.user))
    return set(zip(users.tolist(), data.time_ms.tolist(), data.item.tolist(), strict=True))


# ----------------------------------------------------------------------------------------------- cleaning


def test_each_rule_drops_its_own_and_says_how_many() -> None:
    made = sequences(
        [(1, 0, 3), (1, 0, 3), (2, 0, -1), (3, 0, 4), (4, 0, 3)],
        [(n, 0, 3) for n in range(9)],
        [(5, 0, 4), (DAY_MS, 0, 5)],
        [(5, 0, 3), (6, 0, 3), (6, 1, 3)],
    )
    rules = Cleaning(
        duplicates=True, missing=True, events_per_day_max=8, item_events_min=2, user_events_min=2
    )
    left, dropped = clean(made, rules)
    assert dropped == {"duplicates": 1, "missing": 1, "bots": 9, "rare_items": 2, "short_sequences": 1}
    assert left.user == ["u0", "u3"]
    assert left.start.tolist() == [0, 2, 5]
    assert left.item.tolist() == [3, 3, 3, 3, 3]


def test_support_is_asked_for_until_everything_has_it() -> None:
    """Item 5 lacks support; without it user 1 is too short; without user 1, item 4 lacks it."""
    made = sequences([(1, 0, 3), (2, 0, 3), (3, 0, 4)], [(1, 0, 4), (2, 0, 5)], [(1, 0, 3), (2, 0, 3)])
    left, dropped = clean(made, Cleaning(item_events_min=2, user_events_min=2))
    assert left.item.tolist() == [3, 3, 3, 3]
    assert dropped == {"rare_items": 2, "short_sequences": 1}


def test_nothing_left_is_an_error_that_says_why() -> None:
    with pytest.raises(InputError, match=r"left no event \(rare_items 2\)"):
        clean(sequences([(1, 0, 3), (2, 0, 4)]), Cleaning(item_events_min=5))


SPEND: dict[str, Any] = {"value": {"of": "user"}}


@pytest.mark.parametrize(
    ("head", "rules"),
    [
        ({"hazard": {}}, {"missing": True}),
        ({"hazard": {}}, {"item_events_min": 2}),
        (SPEND, {"missing": True}),
        (SPEND, {"item_events_min": 2}),
        (SPEND, {"duplicates": True}),
    ],
)
def test_no_event_is_dropped_that_ends_a_silence_or_is_spend(
    head: dict[str, Any], rules: dict[str, Any]
) -> None:
    (rule,) = rules
    with pytest.raises(UsageError, match=f"`cleaning.{rule}`.*leave it out"):
        to_recipe(head | {"cleaning": rules}, "recipe.toml")
    for fine in ({}, {"value": {"of": "item"}}):
        assert to_recipe(fine | {"cleaning": rules}, "recipe.toml")


def test_silences_stay_what_serving_sees_under_the_rules_that_go_with_the_hazard() -> None:
    rules: dict[str, Any] = {"duplicates": True, "events_per_day_max": 8, "user_events_min": 3}
    cleaning = to_recipe({"hazard": {}, "cleaning": rules}, "recipe.toml").cleaning
    made = sequences(
        [(1, 0, 3), (1, 0, 3), (2, 0, -1), (5, 0, 4), (4, 0, 3), (4, 0, 3)],
        [(n, 0, 3) for n in range(9)],
        [(5, 0, 4), (DAY_MS, 0, 5)],
    )
    left, dropped = clean(made, cleaning)
    assert dropped.keys() == {"duplicates", "bots", "short_sequences"}

    def silences(data: Sequences) -> dict[int, tuple[int, bool]]:
        """Return silence and whether it is censored, by the user's latest time."""
        found, latest = find_silences(data, DAY_MS), latest_times(data)
        mine = found.known & (data.per_event(np.array(data.user)) == "u0")
        columns = latest[mine].tolist(), found.silence_ms[mine].tolist(), found.censored[mine].tolist()
        return {at: (silence, censored) for at, silence, censored in zip(*columns, strict=True)}

    assert silences(left) == silences(made) == {1: (1, False), 2: (3, False), 5: (DAY_MS - 5, True)}


# ---------------------------------------------------------------------------------------------- splitting


@pytest.mark.parametrize("by", ["users", "time", "last"])
def test_what_is_held_out_is_not_learnt_from(data: Sequences, by: str) -> None:
    split = hold_out(data, Validation(by=by, share=0.3), seed=5)  # type: ignore[arg-type]
    assert split.judged is not None
    users = split.judged.per_event(np.array(split.judged.user))[split.wanted]
    columns = (split.judged.time_ms[split.wanted], split.judged.item[split.wanted])
    held = set(zip(users.tolist(), *(column.tolist() for column in columns), strict=True))
    learnt = events_of(split.learn)
    assert not held & learnt
    assert held | learnt == events_of(data)
    if by == "last":
        assert len(held) == data.users
    else:
        assert 0.15 < len(held) / len(data.item) < 0.45


def test_every_user_is_held_out_once(data: Sequences) -> None:
    held = [user for split in make_folds(data, 4, seed=1) for user in split.judged.user]  # type: ignore[union-attr]
    assert sorted(held) == sorted(data.user)


def test_the_origin_rolls_over_all_but_the_first_span(data: Sequences) -> None:
    splits = list(roll_origin(data, 3))
    for split in splits:
        assert split.judged is not None
        assert split.learn.time_ms.max() < split.learn_until_ms <= split.judged.time_ms[split.wanted].min()
        assert split.judged.time_ms.max() < split.judge_until_ms
        assert int(split.wanted.sum()) == pytest.approx(len(data.item) / 4, abs=3)
    assert splits[-1].judge_until_ms == data.time_ms.max() + 1


def test_a_split_that_leaves_nothing_is_refused(data: Sequences) -> None:
    with pytest.raises(UsageError, match="0 to judge by"):
        hold_out(data, Validation(by="users", share=0.0), seed=0)


# ----------------------------------------------------------------------------------- silences and values


def test_silences_last_until_the_next_event_that_is_not_late_or_are_censored() -> None:
    made = sequences([(10, 0, 1), (10, 0, 2), (14, 0, 3), (12, 0, 4), (30, 0, 5)], [(20, 0, 1)])
    silence_ms, censored, known = find_silences(made, 31)
    assert known.tolist() == [False, True, False, True, True, True]
    assert silence_ms[known].tolist() == [4, 16, 1, 11]
    assert censored[known].tolist() == [False, False, True, True]


def test_a_silence_that_ended_in_oblivion_is_known() -> None:
    made = sequences([(10, 0, 1)], [(50, 0, 1)])._replace(user=["same", "same"])
    silence_ms, censored, _ = find_silences(made, 60)
    assert (silence_ms.tolist(), censored.tolist()) == ([40, 10], [False, True])


def test_a_moment_knows_only_what_had_happened_by_then() -> None:
    made = sequences([(10, 0, 1), (50, 0, 1)])
    silence_ms, censored, _ = find_silences(made.before(50), 50)
    assert (silence_ms.tolist(), censored.tolist()) == ([40], [True])


def test_values_are_read_back_from_the_features(data: Sequences) -> None:
    values = read_values(data)
    np.testing.assert_allclose(values, 1.0 + data.item / 4, rtol=1e-5)
    everything = np.ones(len(values), np.bool_)
    after = next_values(data, everything)
    assert np.isnan(after[data.start[1:] - 1]).all()
    assert after[0] == np.float32(values[1])
    coming = coming_values(data, everything, 5 * DAY_MS, int(data.time_ms.max()) + 1)
    for i in range(0, len(values), 17):
        user = int(np.searchsorted(data.start, i, side="right")) - 1
        later = np.arange(i + 1, data.start[user + 1])
        within = later[data.time_ms[later] <= data.time_ms[i] + 5 * DAY_MS]
        if np.isnan(coming[i]):
            assert data.time_ms[i] + 5 * DAY_MS > data.time_ms.max()
        else:
            assert coming[i] == pytest.approx(values[within].sum(), rel=1e-4)


# ------------------------------------------------------------------------------------------------ varying


def test_nothing_is_varied_unless_asked(data: Sequences) -> None:
    chance = np.random.default_rng(0)
    assert vary_items(data, data.item, Augment(), chance) is data.item
    users = np.arange(data.users)
    histories = whole(data, users)
    batch = cut(histories, Augment(), 0, chance)
    assert batch.start.tolist() == data.start[:-1].tolist()
    assert batch.stop.tolist() == data.start[1:].tolist()
    latest = cut(histories, Augment(), 5, chance)
    assert (latest.stop == batch.stop).all()
    assert (latest.stop - latest.start).max() == 5


def test_a_stretch_lies_within_its_sequence_and_is_long_enough(data: Sequences) -> None:
    chance = np.random.default_rng(0)
    users = np.tile(np.arange(data.users), 30)
    length = data.start[users + 1] - data.start[users]
    for augment, longest in ((Augment(crop=1.0), 0), (Augment(length_min=3), 9), (Augment(crop=0.5), 8)):
        batch = cut(whole(data, users), augment, longest, chance)
        kept = batch.stop - batch.start
        assert (batch.start >= data.start[users]).all()
        assert (batch.stop <= data.start[users + 1]).all()
        if augment.length_min:
            assert set(kept[length >= 9].tolist()) == set(range(3, 10))
        elif not longest:
            assert (kept >= (length + 1) // 2).all()
            assert (kept[length > 10] < length[length > 10]).any()
        else:
            assert kept.max() == 8
        assert (batch.stop < data.start[users + 1]).any()


def test_every_event_of_a_long_history_is_in_one_stretch() -> None:
    length = np.array([0, 1, 9, 10, 11, 20, 21, 29, 30, 31, 1000])
    stop = np.cumsum(length)
    histories = Batch(np.arange(len(length)), stop - length, stop)
    chance, ends = np.random.default_rng(0), set()
    for _ in range(200):
        rows = into_stretches(histories, 10, chance)
        assert len(rows.users) == count_stretches(length, 10).sum()
        events = [np.arange(a, b) for a, b in zip(rows.start.tolist(), rows.stop.tolist(), strict=True)]
        assert np.concatenate(events).tolist() == list(range(stop[-1]))
        size, long = rows.stop - rows.start, (length > 10)[rows.users]
        assert size.max() == 10
        assert size[long].min() >= 1
        assert (size[~long] == length[~(length > 10)]).all()
        assert (rows.start >= histories.start[rows.users]).all()
        assert (rows.stop <= histories.stop[rows.users]).all()
        ends.add(int(size[rows.users == 10][0]))
    assert ends == set(range(1, 10)), "a history's first stretch ends anywhere"


def test_masking_hides_a_share(data: Sequences) -> None:
    varied = vary_items(data, data.item, Augment(mask=0.3), np.random.default_rng(0))
    assert (varied == -1).mean() == pytest.approx(0.3, abs=0.05)
    assert (varied[varied >= 0] == data.item[varied >= 0]).all()


def test_a_substitute_stands_next_to_the_item_somewhere(data: Sequences) -> None:
    varied = substitute(data, data.item, 0.5, np.random.default_rng(0))
    pairs = {(a, b) for a, b in zip(data.item[:-1].tolist(), data.item[1:].tolist(), strict=True)}
    changed = varied != data.item
    assert 0.3 < changed.mean() < 0.55
    for item, other in zip(data.item[changed].tolist(), varied[changed].tolist(), strict=True):
        assert (item, other) in pairs or (other, item) in pairs


def test_reordering_moves_items_within_their_sequence(data: Sequences) -> None:
    varied = reorder(data, data.item, 1.0, np.random.default_rng(0))
    assert (varied != data.item).any()
    for start, stop in zip(data.start[:-1].tolist(), data.start[1:].tolist(), strict=True):
        assert sorted(varied[start:stop]) == sorted(data.item[start:stop])
        assert (varied[start:stop] != data.item[start:stop]).sum() <= (stop - start) // 2


# ----------------------------------------------------------------------------------------------- batching


@pytest.mark.parametrize("size", [1, 3, 7, 100])
def test_every_sequence_is_in_one_batch(data: Sequences, size: int) -> None:
    length = data.start[1:] - data.start[:-1]
    batches = cut_batches(length, size, np.random.default_rng(0))
    assert sorted(np.concatenate(batches).tolist()) == list(range(data.users))
    assert max(map(len, batches)) <= size
    assert len(batches) == count_batches(data.users, size)


def test_padding_puts_each_event_at_its_step(data: Sequences) -> None:
    users = np.array([4, 0, 9])
    columns = data.column(["gap_log", "kind=buy"])
    item, features = pad_batch(data, whole(data, users, 6), columns)
    assert item.shape == (3, 6)
    for row, user in enumerate(users.tolist()):
        events = np.arange(max(data.start[user], data.start[user + 1] - 6), data.start[user + 1])
        assert item[row, : len(events)].tolist() == data.item[events].tolist()
        assert np.array_equal(features[row, : len(events)], data.features[events][:, columns])
        assert (item[row, len(events) :] == -1).all()
    assert pad(data, users, [])[0].shape[1] == (data.start[users + 1] - data.start[users]).max()


def test_a_fingerprint_tells_two_sets_of_sequences_apart(data: Sequences, tmp_path: Path) -> None:
    assert fold_clicks(tmp_path).fingerprint() == data.fingerprint()
    assert fold_clicks(tmp_path, seed=2).fingerprint() != data.fingerprint()
    other = data.item.copy()
    other[0] += 1
    assert data._replace(item=other).fingerprint() != data.fingerprint()
