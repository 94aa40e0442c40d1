"""A small bundle with random weights, made by the real export: for tests and for trying things out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from export.parity import prove
from export.write import Contents, write_bundle
from models.recommender import Recommender, RecommenderConfig
from stream.bundle import Bundle

OOV_ROWS = 16


def random_bundle(
    path: Path,
    kinds: Sequence[str],
    contexts: dict[str, list[str]] | None = None,
    items: int | Sequence[str] = 200,
    *,
    encoder: str = "gru",
    hidden: int = 16,
    embedding_size: int = 8,
    memory_half_lives: Sequence[float] = (5.0,),
    half: bool = False,
    seed: int = 0,
) -> Bundle:
    """Write a bundle to `path` and open it.

    kinds: event kinds. contexts: names of context entries with their words. items: their ids, or how many.
    """
    contexts = contexts or {}
    item_ids = [f"item-{i}" for i in range(items)] if isinstance(items, int) else list(items)
    random = np.random.default_rng(seed)
    torch.manual_seed(seed)
    config = RecommenderConfig(
        items=len(item_ids),
        embedding_size=embedding_size,
        step_features=(*(f"kind={kind}" for kind in kinds), "gap_log", "hour_sin", "hour_cos", "value_log"),
        context_features=("weekday_sin", "weekday_cos", *(f"context.{name}" for name in contexts)),
        encoder=encoder,
        encoder_config={"hidden": hidden},
        memory_half_lives=tuple(memory_half_lives),
    )
    model = Recommender(config).eval()
    table = model.items.weight.detach().numpy()
    if half:
        table = table.astype(np.float16).astype(np.float32)
    contents = Contents(
        model=model,
        item_ids=item_ids,
        items=table[:-1],
        item_bias=(0.1 * random.standard_normal(len(item_ids))).astype(np.float32),
        item_prior=np.log(random.dirichlet(np.ones(len(item_ids)))).clip(-20.0).astype(np.float32),
        oov=random.standard_normal((OOV_ROWS + 1, embedding_size)).astype(np.float32),
        kinds=kinds,
        vocabularies=contexts,
        half=half,
    )

    def check(bundle: Bundle) -> None:
        prove(model, bundle, seed=seed)

    return write_bundle(Path(path), contents, check)
