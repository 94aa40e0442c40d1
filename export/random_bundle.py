"""A small bundle with random weights, made by the real export: for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from export.parity import Parity, prove
from export.write import Contents, Precision, compress, expand, write_bundle
from models.items.fit import fit_features
from models.items.table import ItemRows
from models.recommender import Recommender, RecommenderConfig
from stream.bundle import Bundle
from stream.co_occurrence import Near

OOV_ROWS: Final = 16
DAY_MS: Final = 86_400_000

#: Encoders small enough for tests, that lack nothing of the large ones: several layers, heads and buckets.
SMALL: Final[dict[str, dict[str, Any]]] = {
    "gru": {"hidden": 16},
    "lstm": {"hidden": 16},
    "lru": {"width": 16, "memory": 8},
    "cnn": {"width": 16, "kernel": 3, "dilations": (1, 2)},
    "transformer": {"width": 16, "window": 6, "time_buckets": 5},
    "hstu": {"width": 16, "window": 6, "time_buckets": 5},
}


def random_bundle(
    path: Path,
    kinds: Sequence[str],
    contexts: dict[str, list[str]] | None = None,
    items: int | Sequence[str] = 200,
    **options: Any,
) -> Bundle:
    """Write a bundle to `path` and open it; see `proved_bundle`."""
    return proved_bundle(path, kinds, contexts, items, **options)[0]


def proved_bundle(
    path: Path,
    kinds: Sequence[str],
    contexts: dict[str, list[str]] | None = None,
    items: int | Sequence[str] = 200,
    *,
    encoder: str = "gru",
    encoder_config: dict[str, Any] | None = None,
    embedding_size: int = 8,
    memory_half_lives: Sequence[float] = (5.0,),
    attributes: Sequence[Mapping[str, Any]] = (),
    precision: Precision = "float32",
    neighbours: int = 0,
    seed: int = 0,
    **options: Any,
) -> tuple[Bundle, Parity]:
    """Write a bundle to `path`, open it, and return what its proof found.

    kinds: event kinds. contexts: names of context entries with their words. items: their ids, or how many.
    attributes: of each item, for an item encoder. neighbours: of each item. options: of the model's config.
    """
    contexts, random = contexts or {}, np.random.default_rng(seed)
    item_ids = [f"item-{i}" for i in range(items)] if isinstance(items, int) else list(items)
    features = fit_features(attributes) if attributes else None
    config = RecommenderConfig(
        items=len(item_ids),
        embedding_size=embedding_size,
        encoder=encoder,
        encoder_config=SMALL[encoder] if encoder_config is None else encoder_config,
        memory_half_lives=tuple(memory_half_lives),
        item_features=features.to_builtins() if features else None,
        **(feature_names(kinds, contexts) | options),
    )
    model = random_model(config, seed)
    if features:
        model.items.describe(*features.encode(attributes))
    rows = ItemRows(*(part.detach() for part in model.items()))
    contents = Contents(
        model=model,
        item_ids=item_ids,
        items=expand("items", compress("items", rows.scored[:-1].numpy(), precision)),
        step_items=None if rows.tied else rows.taken[:-1].numpy(),
        item_bias=rows.bias.numpy(),
        item_prior=np.log(random.dirichlet(np.ones(len(item_ids)))).clip(-20.0).astype(np.float32),
        oov=random_oov(random, embedding_size, model.item_size),
        kinds=kinds,
        vocabularies=contexts,
        similarity=config.similarity,
        precision=precision,
        hazard_horizon_ms=30 * DAY_MS if config.hazard_bins_ms else 0,
        near=random_near(len(item_ids), neighbours, seed) if neighbours else None,
    )
    proved: list[Parity] = []
    bundle = write_bundle(Path(path), contents, lambda bundle: proved.append(prove(model, bundle, seed=seed)))
    return bundle, proved[0]


def feature_names(kinds: Sequence[str], contexts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the features that a bundle takes unless it is told otherwise."""
    moment = ("gap_log", "hour_sin", "hour_cos", "value_log")
    return {
        "step_features": (*(f"kind={kind}" for kind in kinds), *moment),
        "context_features": ("weekday_sin", "weekday_cos", *(f"context.{name}" for name in contexts)),
        "words": {f"context.{name}": len(words) for name, words in contexts.items() if words},
    }


def random_oov(random: np.random.Generator, embedding_size: int, item_size: int) -> npt.NDArray[np.float32]:
    """Return rows of unknown items [OOV_ROWS + 1, item_size]; they have no number."""
    rows = np.zeros((OOV_ROWS + 1, item_size), np.float32)
    rows[:, :embedding_size] = random.standard_normal((len(rows), embedding_size))
    return rows


def random_near(items: int, neighbours: int, seed: int = 0) -> Near:
    """Return so many neighbours of each item, or fewer where chance draws one twice."""
    random = np.random.default_rng([seed, 2])
    drawn = [np.unique(random.integers(items, size=neighbours)) for _ in range(items)]
    start = np.cumsum([0, *map(len, drawn)])
    item = np.concatenate(drawn).astype(np.int32)
    weight = random.uniform(0.01, 1.0, len(item)).astype(np.float32)
    return Near(start, item, weight, decay=0.7, strength=0.5)


def random_model(config: RecommenderConfig, seed: int = 0) -> Recommender:
    """Return a model in which no parameter is zero, as many are at first: zeros hide what they add to."""
    torch.manual_seed(seed)
    model = Recommender(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
    return model
