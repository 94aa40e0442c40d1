"""A recipe: every choice of a training run, in one TOML file that is kept with the run.

Whoever has the recipe, the data and the seed can train the same model again.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec

from stream.errors import UsageError


class Repurchase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Items begin as codes that let a memory say what was bought before (models/repurchase.py)."""

    share: float = 0.004  # what one purchase adds to an item's chance of being the next
    sold_min: int = 20  # items sold less often begin without a code
    strength: float = 0.6


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times are in epochs over the users, sizes in floats, lengths in events."""

    # the model
    encoder: str = "gru"
    encoder_config: dict[str, Any] = {}
    embedding_size: int = 64
    memory_half_lives: list[float] = []
    step_features: list[str] = []
    context_features: list[str] = []
    attributes: list[str] = []  # of the items; "*" for all that tell anything
    text: list[str] = []  # attributes to be read as text
    attributes_scale: float = 1.0  # of the item encoder's weights at the start: little beside the codes
    dropout: float = 0.0
    id_dropout: float = 0.0
    repurchase: Repurchase | None = None
    # what is asked for
    target_kinds: list[str] = []  # none: all
    horizon: int = 1  # groups of events (baskets) that are right
    horizon_decay: float = 1.0
    sold_min: int = 1  # items seen less often are no targets
    # how it is learnt
    seed: int = 0
    epochs: int = 10
    users_per_batch: int = 64
    learning_rate: float = 1e-3
    items_learning_rate: float = 1e-3
    bias_learning_rate: float = 0.0
    warm_up: float = 0.2  # of all steps
    weight_decay: float = 0.0
    gradient_norm_max: float = 5.0


def read_recipe(path: Path, settings: list[str]) -> Recipe:
    """Read a recipe and let `settings` ("key=value", in TOML) override it. Raises UsageError."""
    try:
        tree = tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(str(error), place=str(path), remedy="models/recipes has examples") from error
    for setting in settings:
        key, _, value = setting.partition("=")
        try:
            *tables, key = key.strip().split(".")
            place = tree
            for table in tables:
                place = place.setdefault(table, {})
            place[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError as error:
            raise UsageError(
                f"--set {setting}: {error}", remedy='write it as in TOML: encoder="gru"'
            ) from error
    try:
        return msgspec.convert(tree, Recipe)
    except msgspec.ValidationError as error:
        raise UsageError(str(error), place=str(path)) from error
