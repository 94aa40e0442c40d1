"""Memories of a whole history at once are those of its steps, and cost no more than the history does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from export.random_bundle import random_model
from models.recommender import Recommender, RecommenderConfig


def recommender() -> Recommender:
    config = RecommenderConfig(
        items=3,
        embedding_size=4,
        step_features=("gap_log",),
        encoder_config={"hidden": 4},
        memory_half_lives=(3.0, 400.0),
    )
    return random_model(config)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 7, 256, 257, 700])
def test_memories_of_a_history_are_those_of_its_steps(steps: int) -> None:
    model = recommender()
    item, features = torch.randn(2, steps, 4), torch.zeros(2, steps, 1)
    state, users = torch.zeros(2, model.state_size), []
    for t in range(steps):
        state = model.step(state, item[:, t], features[:, t])
        users.append(model.read(state))
    torch.testing.assert_close(model(item, features), torch.stack(users, 1), atol=1e-4, rtol=1e-4)


def test_a_history_twice_as_long_takes_twice_the_memory() -> None:
    """Of all that the gradient needs, the largest array is one of the steps, not one of pairs of steps."""
    model, largest = recommender(), {}

    def note(kept: Tensor) -> Tensor:
        largest[steps] = max(largest.get(steps, 0), kept.numel())
        return kept

    for steps in (2000, 4000):
        item = torch.randn(1, steps, 4, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
            model(item, torch.zeros(1, steps, 1)).sum().backward()
        assert item.grad is not None
        assert item.grad.isfinite().all()
    assert largest[4000] <= 2 * largest[2000]
    assert largest[4000] < 300_000
