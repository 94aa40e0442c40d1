"""Cross-validation: each fold is judged by what its model can know."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from models.crossvalidate import cross_validate
from models.recipe import Recipe
from models.sequences import from_lists
from models.validate import by_users
from stream.errors import UsageError


@pytest.mark.parametrize("measure", ["loss", "ndcg"])
def test_a_fold_that_asks_about_no_known_item_is_named(measure: str) -> None:
    lists = [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"], ["a", "x", "y"]]
    data = from_lists([f"u{n}" for n in range(5)], lists)
    splits = [by_users(data, np.arange(5) == one) for one in (3, 4)]
    chosen: dict[str, Any] = {
        "embedding_size": 4,
        "encoder_config": {"hidden": 4},
        "epochs": 1,
        "validation": {"measure": measure},
    }
    recipe = msgspec.convert(chosen, Recipe)
    assert len(cross_validate(data, splits[:1], recipe, None)) == 1
    with pytest.raises(UsageError, match=r"fold 2: .*nothing .*known.*\n.*fewer folds"):
        cross_validate(data, splits, recipe, None)
