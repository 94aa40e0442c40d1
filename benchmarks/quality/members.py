"""Trainings beside each other, one thread each, as many at once as there are processors.

A table trains its encoder once, or several times to join them (models/ensemble.py). With `--resume` a
training goes on from where an earlier call was killed, or takes over what it finished: checkpoints lie in
benchmarks/quality/out, named after recipe and data.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import torch

from benchmarks.quality.table import OUT
from models.checkpoint import Epoch
from models.dataset import Sequences
from models.ensemble import Ensemble, Model
from models.recipe import Recipe
from models.recommender import Recommender
from models.run import checkpoint_of, pack, unpack

CHECKPOINTS: Final = OUT / "checkpoints"

#: Trains the recipe, tells of each epoch, keeps a checkpoint if it is given one, and says how it went.
Training = Callable[[Recipe, Callable[[Epoch], None], Path | None], tuple[Recommender, list[Epoch]]]


class Trained(NamedTuple):
    model: Recommender
    epochs: int  # at which it was best
    minutes: float  # of CPU, and of the clock for epochs that an earlier call has trained


def train_all(
    training: Training, recipes: Sequence[Recipe], *, resume: Sequences | None = None
) -> list[Trained]:
    """Return the models of the recipes. `training` must be something that can be sent to another process.

    resume: what they learn from, if epochs that an earlier call has trained are to be kept.
    """
    one = partial(_train_one, training, resume=resume)
    if len(recipes) == 1:
        return [_unpacked(one(recipes[0]))]
    at_once = min(len(recipes), len(os.sched_getaffinity(0)))
    with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
        return [_unpacked(packed) for packed in pool.map(one, recipes)]


def join(trained: Sequence[Trained]) -> Model:
    """Return the ensemble of the models, or the one that there is."""
    models = [one.model for one in trained]
    return Ensemble(models) if len(models) > 1 else models[0]


def with_seeds(recipe: Recipe, members: int) -> list[Recipe]:
    """Return the recipe with as many seeds."""
    return [msgspec.structs.replace(recipe, seed=recipe.seed + n) for n in range(members)]


def say(recipe: Recipe, epoch: Epoch) -> None:
    """Print how an epoch went."""
    held = f", NDCG@10 {epoch.held['ndcg']:.4f}" if "ndcg" in epoch.held else ""
    who = f"{recipe.encoder}, seed {recipe.seed}"
    print(f"{who}, epoch {epoch.number}: loss {epoch.loss:.4f}{held}", flush=True)


def _train_one(
    training: Training, recipe: Recipe, *, resume: Sequences | None
) -> tuple[dict[str, Any], int, float]:
    """Train one model here; what is returned can be sent to another process."""
    torch.set_num_threads(1)
    checkpoint = checkpoint_of(CHECKPOINTS, recipe, resume, resume=True) if resume else None
    here: set[int] = set()

    def tell(epoch: Epoch) -> None:
        here.add(epoch.number)
        say(recipe, epoch)

    began = time.process_time()
    model, went = training(recipe, tell, checkpoint)
    seconds = time.process_time() - began + sum(epoch.seconds for epoch in went if epoch.number not in here)
    best = max(went, key=lambda epoch: epoch.held.get("ndcg", epoch.number))
    return pack(model), best.number, seconds / 60.0


def _unpacked(packed: tuple[dict[str, Any], int, float]) -> Trained:
    model = unpack(packed[0])
    assert isinstance(model, Recommender)
    return Trained(model.eval(), *packed[1:])
