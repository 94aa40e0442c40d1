"""The recipes that are shipped: each can be read, and those for item sequences learn."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from models.metrics import hit_rate
from models.ranking import ModelScorer, ask_last, rank
from models.recipe import read_recipe
from models.sequences import from_lists
from models.train import fit, make_model
from models.tune import read_space
from stream.config_load import parse_config, preset_names
from stream.errors import UsageError
from stream.semantics import name_features

RECIPES = Path("models/recipes")


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.toml")), ids=lambda file: file.stem)
def test_every_recipe_that_is_shipped_can_be_read(file: Path) -> None:
    if file.stem == "search":
        assert read_space(file)
    else:
        assert read_recipe(file, []).epochs > 0


@pytest.mark.parametrize("preset", preset_names())
def test_the_recipe_to_begin_with_fits_the_config_of_every_preset(preset: str) -> None:
    config, recipe = parse_config({"preset": preset}), read_recipe(RECIPES / "events.toml", [])
    asked = {*recipe.step_features, *recipe.context_features}
    assert asked <= set(name_features(config, []))
    assert not [name for name in asked for kind in config.events.kinds if kind in re.split("[=/]", name)]
    assert not recipe.target_kinds


def test_the_road_begins_with_the_recipe_that_fits_every_config() -> None:
    road = Path("docs/models.md").read_text().partition("## The road")[2].partition("\n## ")[0]
    assert re.findall(r"--recipe (models/\S+)", road) == ["models/recipes/events.toml"]


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


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            'hazard={bins=["7d", "1d", "30d"]}',
            r"`bins` must be durations that rise: 7d, 1d, 30d - at `\$\.hazard`",
        ),
        ('hazard={bins=["1d", "24h"]}', "`bins` must be durations that rise"),
        ('hazard={bins=["soon", "1d"]}', "`bins` must be durations that rise: soon, 1d"),
        ("hazard={bins=[0, 86_400_000]}", "`bins` must be durations that rise"),
        ("horizon_decay=0.0", r"Expected `float` > 0.*\$\.horizon_decay"),
    ],
)
def test_what_only_the_export_or_nothing_would_refuse_is_refused_when_it_is_read(
    setting: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / "recipe.toml").touch()
    with pytest.raises(UsageError, match=f"recipe.toml: .*{said}"):
        read_recipe(tmp_path / "recipe.toml", [setting])
    rising = read_recipe(tmp_path / "recipe.toml", ['hazard={bins=[3_600_000, "1d"]}', "horizon_decay=0.5"])
    assert rising.hazard is not None
