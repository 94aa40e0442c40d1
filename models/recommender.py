"""The model that is trained: items, what a step takes in, an encoder, memories, and the query they make.

    x_t = W [item_t, features_t]                       what a step takes in
    y_t = encoder(x_1 … x_t)                           any of models/encoders
    m_t = λ m_{t−1} + item_t                           memories: what the user took, fading, for each rate λ
    u_t = V y_t + Σ_λ A_λ m_t                          the user's embedding
    q_t = u_t + C context_t                            the query; scores are q · item + bias

A memory lives in the space of the items, so what was taken often scores high again: repurchase needs no
learning by heart. It is a linear recurrence with fixed rates, so its state is one row an event updates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.encoders import ENCODERS, Encoder

#: The feature that says how long ago the user's last event was, ln(1 + seconds).
GAP = "gap_log"


@dataclass(frozen=True)
class RecommenderConfig:
    """Everything that shapes the weights; saved with them."""

    items: int  # I
    embedding_size: int  # D
    step_features: tuple[str, ...]
    context_features: tuple[str, ...] = ()
    encoder: str = "gru"
    encoder_config: dict[str, Any] = field(default_factory=dict)
    memory_half_lives: tuple[float, ...] = ()  # in events
    dropout: float = 0.0

    def asdict(self) -> dict[str, Any]:
        return asdict(self)


class Recommender(nn.Module):
    """Sequences in training, steps in serving; the state is the encoder's row, then the memories."""

    def __init__(self, config: RecommenderConfig) -> None:
        super().__init__()
        self.config = config
        D = config.embedding_size
        self.gap = config.step_features.index(GAP) if GAP in config.step_features else None
        config_class, encoder_class = ENCODERS[config.encoder]
        self.items = nn.Embedding(config.items + 1, D)  # the last row is "no item"
        self.item_bias = nn.Parameter(torch.zeros(config.items))
        nn.init.normal_(self.items.weight, std=D**-0.5)
        self.enter = nn.Linear(D + len(config.step_features), D)
        self.encoder: Encoder = encoder_class(config_class(**config.encoder_config), D)
        self.leave = nn.Linear(self.encoder.output_size, D)
        self.recall = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in config.memory_half_lives)
        self.rates = [0.5 ** (1.0 / half_life) for half_life in config.memory_half_lives]
        self.offset = nn.Linear(len(config.context_features), D) if config.context_features else None
        self.dropout = nn.Dropout(config.dropout)

    @property
    def state_size(self) -> int:
        return self.encoder.state_size + len(self.recall) * self.config.embedding_size

    def forward(self, item: Tensor, features: Tensor) -> Tensor:
        """Return the users' embeddings after each event: item [B, T, D], features [B, T, F] → [B, T, D]."""
        item = self.dropout(item)
        x = torch.relu(self.enter(torch.cat([item, features], -1)))  # [B, T, D]
        user: Tensor = self.leave(self.dropout(self.encoder(x, self.gap_log(features))))  # [B, T, D]
        for rate, recall in zip(self.rates, self.recall, strict=True):
            user = user + recall(fade(rate, item.shape[1]) @ item)
        return user

    def step(self, state: Tensor, item: Tensor, features: Tensor) -> Tensor:
        """Return the states after one event each: state [B, S], item [B, D], features [B, F] → [B, S]."""
        row, *memories = self.parts(state)
        x = torch.relu(self.enter(torch.cat([item, features], -1)))  # [B, D]
        after = [self.encoder.step(row, x, self.gap_log(features))]
        after += [rate * memory + item for rate, memory in zip(self.rates, memories, strict=True)]
        return torch.cat(after, 1)

    def read(self, state: Tensor) -> Tensor:
        """Return the users' embeddings: state [B, S] → [B, D]."""
        row, *memories = self.parts(state)
        user: Tensor = self.leave(self.encoder.read(row))
        for memory, recall in zip(memories, self.recall, strict=True):
            user = user + recall(memory)
        return user

    def gap_log(self, features: Tensor) -> Tensor:
        """Return the time since the last event, zeros if the model is not told: [..., F] → [...]."""
        if self.gap is None:
            return features.new_zeros(features.shape[:-1])
        return features[..., self.gap]

    def parts(self, state: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's row [B, …] and the memories [B, D]."""
        sizes = [self.encoder.state_size] + [self.config.embedding_size] * len(self.recall)
        return torch.split(state, sizes, 1)

    def context(self, features: Tensor) -> Tensor:
        """Return the context's offset to the query: features [B, Fc] → [B, D]."""
        assert self.offset is not None, "the model has no context features"
        offset: Tensor = self.offset(features)
        return offset


def fade(rate: float, steps: int) -> Tensor:
    """Return the matrix [T, T] that turns items into memories: rate ** (t − s) for s ≤ t, else 0."""
    age = torch.arange(steps)[:, None] - torch.arange(steps)
    return torch.where(age >= 0, torch.tensor(rate) ** age.clamp(min=0), 0.0)
