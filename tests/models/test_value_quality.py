"""What stands beside a value head: means that know what was known, against means made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from models.dataset import Sequences
from models.objective import Objective, learnt_items
from models.sequences import make_sequences
from models.validate import end_of
from models.value_quality import guess_values, item_means, own_means, passed
from tests.models.test_evaluate import recipe

OWN, ITEM, MEAN = "user's own mean so far", "item's mean in training", "mean in training"


def rated() -> Sequences:
    """a rates x, y, x, none with 1, 3, 5, 7; b rates y, z with 2, 4."""
    return make_sequences(
        np.array([0, 4, 6]),
        ["a", "b"],
        np.array([0, 1, 0, -1, 1, 2], np.int32),
        np.array([0, 10, 20, 30, 5, 25], np.int64),
        ["x", "y", "z"],
        np.array([1.0, 3.0, 5.0, 7.0, 2.0, 4.0]),
    )


def ask(data: Sequences, of: str) -> Objective:
    chosen = recipe(value={"of": of, "horizon": "10ms"})
    return Objective(data, chosen, learnt_items(data, 0), np.ones(len(data.item), np.bool_), end_of(data))


def test_rivals_of_ratings_know_what_came_before() -> None:
    asked = ask(rated(), "item")
    assert asked.recipe.value is not None
    event = np.array([0, 1, 2, 4])
    found = guess_values(asked, asked.recipe.value, event, 9.0, until_ms=20)
    assert found[MEAN].tolist() == [9.0] * 4
    assert found[OWN] == pytest.approx([1.0, 2.0, 3.0, 2.0], rel=1e-5)
    # In training x was rated 1, y 3 and 2, z never; the last of a is no item.
    assert found[ITEM] == pytest.approx([2.5, 1.0, 9.0, 9.0], rel=1e-5)


def test_rivals_of_spend_know_the_horizons_that_have_passed() -> None:
    data = rated()
    asked = ask(data, "user")
    assert asked.recipe.value is not None
    assert passed(data, 10).tolist() == [0, 0, 1, 2, 0, 1]
    values = asked.values.astype(np.float64)  # 3, 5, 7 and none; none yet of b
    found = guess_values(asked, asked.recipe.value, np.arange(6), 9.0, until_ms=20)
    assert found.keys() == {MEAN, OWN}
    assert found[OWN][[0, 1]].tolist() == [9.0, 9.0]
    assert found[OWN][[2, 3]] == pytest.approx([values[0], values[:2].mean()])


def test_means_leave_out_what_is_no_number() -> None:
    data = rated()
    values = np.array([np.nan, 4.0, np.nan, 6.0, np.nan, np.nan])
    assert own_means(data, values, np.array([1, 2, 3, 4, 1, 2]), 9.0).tolist() == [9, 4, 4, 5, 9, 9]
    assert item_means(data, values, 9.0).tolist() == [9.0, 4.0, 9.0, 9.0]
