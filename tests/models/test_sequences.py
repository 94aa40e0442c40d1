"""Files of item sequences, and the baselines and rankings that are made of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from models.baselines import Neighbours, Popularity, Recency, as_logs, near_counts
from models.ranking import Asked, ModelScorer, ask_last, rank
from models.recipe import Recipe
from models.sequences import (
    choose_users,
    from_lists,
    read_atomic,
    read_sequences,
    read_words,
    share_of_repeats,
    without_last,
)
from models.targets import read_values
from models.train import make_model
from stream.errors import InputError

LISTS = [["a", "b", "c"], ["b", "c"], ["a"], ["c", "a", "b", "c"]]
NAMES = ["u", "v", "w", "x"]


def test_one_user_a_line(tmp_path: Path) -> None:
    text = "".join(f"{user} {' '.join(items)}\n" for user, items in zip(NAMES, LISTS, strict=True))
    (tmp_path / "plain.txt").write_text(text + "\n")
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(text.encode()))
    plain = read_sequences(tmp_path / "plain.txt")
    assert plain.user == NAMES
    assert [plain.item_ids[i] for i in plain.item] == [item for items in LISTS for item in items]
    assert plain.start.tolist() == [0, 3, 5, 6, 10]
    assert read_sequences(tmp_path / "packed.txt.gz").fingerprint() == plain.fingerprint()


def test_a_bare_line_begins_with_an_item(tmp_path: Path) -> None:
    (tmp_path / "bare.txt").write_text("7 8\n9\n")
    data = read_sequences(tmp_path / "bare.txt", bare=True)
    assert (data.user, data.item_ids) == (["1", "2"], ["7", "8", "9"])


def test_a_user_without_items_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").write_text("u a\nv\n")
    with pytest.raises(InputError, match="user v"):
        read_sequences(tmp_path / "bad.txt")


def test_an_atomic_file_is_sorted_by_user_and_time(tmp_path: Path) -> None:
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    rows = "2\tx\t3\t50\n1\ty\t4\t20\n1\tx\t5\t10\n"
    (tmp_path / "d.inter").write_text(head + rows)
    data = read_atomic(tmp_path / "d.inter")
    assert data.user == ["1", "2"]
    assert [data.item_ids[i] for i in data.item] == ["x", "y", "x"]
    assert data.time_ms.tolist() == [10_000, 20_000, 50_000]
    assert read_values(data) == pytest.approx([5, 4, 3], rel=1e-6)
    with pytest.raises(InputError, match="timestamp"):
        read_atomic(b"user_id:token\titem_id:token\n")


def test_words_that_come_often_stand_in_front(tmp_path: Path) -> None:
    (tmp_path / "w.json").write_text('{"a": [3, 1, 1]}')
    assert read_words(tmp_path / "w.json") == {"a": {"words": ["1", "3"]}}


def test_leave_one_out_asks_for_the_last_of_who_has_two() -> None:
    data = from_lists(NAMES, LISTS)
    asked = ask_last(data)
    assert asked.known.user == ["u", "v", "x"]
    assert [data.item_ids[i] for i in asked.answer] == ["c", "c", "c"]
    before = ask_last(data, 1)
    assert before.known.user == ["u", "x"]
    assert [data.item_ids[i] for i in before.answer] == ["b", "b"]
    assert without_last(data, 2).user == ["u", "x"]


def test_repeats_and_choices() -> None:
    data = from_lists(NAMES, LISTS)
    assert share_of_repeats(data) == pytest.approx(0.1)
    chosen = choose_users(data, 2, 0)
    assert chosen.users == 2
    assert choose_users(data, 9, 0) is data


def test_neighbours_are_counted_by_distance() -> None:
    how = Neighbours(reach=2, fade=0.5, back=0.25, power=0.0)
    near = near_counts(from_lists(NAMES, LISTS), how).toarray()
    a, b, c = 0, 1, 2
    count = np.array([3.0, 3.0, 4.0])
    ahead = np.zeros((3, 3))
    for items in LISTS:
        numbers = ["abc".index(item) for item in items]
        for i, first in enumerate(numbers):
            for j in range(i + 1, min(i + 3, len(numbers))):
                ahead[first, numbers[j]] += 0.5 ** (j - i - 1)
    assert near == pytest.approx((ahead + 0.25 * ahead.T) / np.sqrt(count)[:, None])
    assert near[a, b] > near[a, c] > near[a, a]


def test_ranks_count_what_stands_before_and_half_of_equals() -> None:
    class Given:
        def scores(self, known: object, users: np.ndarray) -> np.ndarray:
            return np.array([[3.0, 2.0, 2.0, 1.0]], np.float32)[[0] * len(users)]

    data = from_lists(["u"], [["a"]], ["a", "b", "c", "d"])
    asked = Asked(data, np.array([2], np.int32))
    found = rank(Given(), asked, unseen=True, places=2)
    assert (found.rank[0], found.rank_unseen[0]) == (1.5, 0.5)
    assert set(found.lists[0].tolist()) == {1, 2}
    assert rank(Given(), asked, unseen=False, places=1).lists.tolist() == [[0]]


def test_recency_puts_the_latest_first_and_popularity_the_most_taken() -> None:
    data = from_lists(NAMES, LISTS)
    assert Recency(data, 0.4).scores(data, np.array([0]))[0].argsort()[::-1].tolist() == [2, 1, 0]
    assert Popularity(data).scores(data, np.array([0]))[0].argmax() == 2


def test_logs_of_shares_sum_to_one() -> None:
    share = np.array([0.25, 0.75], np.float32)
    earned = np.array([[2.0, 0.0], [0.0, 0.0]], np.float32)
    assert np.exp(as_logs(earned, share)).sum(1)[0] == pytest.approx(1.0)


def test_a_models_scores_are_those_of_its_sequence() -> None:
    chance = np.random.default_rng(0)
    lists = [[str(i) for i in chance.integers(0, 12, chance.integers(3, 7))] for _ in range(30)]
    data = from_lists([str(u) for u in range(30)], lists)
    model = make_model(data, Recipe(embedding_size=8, encoder_config={"hidden": 8}), None)
    scorer = ModelScorer(model)
    many, one = scorer.scores(data, np.arange(5)), scorer.scores(data, np.array([3]))
    assert many[3] == pytest.approx(one[0], abs=1e-5)
    assert np.exp(many).sum(1) == pytest.approx(np.ones(5), abs=1e-5)
