"""The recipes that are shipped: each can be read, and those for item sequences learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.metrics import hit_rate
from models.ranking import ModelScorer, ask_last, rank
from models.recipe import read_recipe
from models.sequences import from_lists
from models.train import fit, make_model
from models.tune import read_space

RECIPES = Path("models/recipes")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_recipe_that_is_shipped_can_be_read(file: Path) -> None:
    if file.stem == "search":
        assert read_space(file)
    else:
        assert read_recipe(file, []).epochs > 0


@pytest.mark.parametrize("name", ["sequences", "long_sequences", "ordered_sequences", "attention_over_a_gru"])
def test_recipes_for_sequences_learn_what_follows(name: str) -> None:
    """Everyone takes item n + 1 after item n, from somewhere in a circle of 40."""
    starts = np.random.default_rng(0).integers(0, 40, 96)
    lists = [[f"item-{(start + n) % 40}" for n in range(12)] for start in starts.tolist()]
    data = from_lists([f"user-{n}" for n in range(len(lists))], lists)
    recipe = read_recipe(RECIPES / f"{name}.toml", ["epochs=6", "users_per_batch=8"])
    model = make_model(data, recipe, None)
    assert len(fit(model, data, recipe)) == 6
    found = rank(ModelScorer(model), ask_last(data), unseen=recipe.next_item.unseen).chosen
    assert hit_rate(found).mean() > 0.8
