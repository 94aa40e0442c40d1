"""The model that is trained: items, what a step takes in, an encoder, memories, and the query they make.

    x_t = relu(W [item_t, features_t]) or norm(…)      what a step takes in
    y_t = encoder(x_1 … x_t)                           any of models/encoders
    m_t = λ m_{t−1} + item_t                           memories: what the user took, fading, for each rate λ
    u_t = V y_t + Σ_λ A_λ m_t                          the user's embedding
    q_t = u_t + C context_t                            the query; scores are q · item + bias, and what the
                                                       last items add to themselves (models/repeats.py) or to
                                                       their neighbours, if a recipe says so

A memory lives in the space of the items, so what was taken often scores high again: repurchase needs no
learning by heart. It is a linear recurrence with fixed rates, so its state is one row an event updates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import msgspec
import torch
from torch import Tensor, nn

from models.encoders import ENCODERS, Encoder
from models.encoders.stack import Stack
from models.encoders.window import GAP_LOG_MAX, hats
from models.heads import Hazard, Value
from models.items.table import Items
from models.repeats import Repeats
from models.rerank import Reranker
from models.similarity import Kind, Similarity
from stream.co_occurrence import Near
from stream.item_features import ItemFeatures

#: The feature that says how long ago the user's last event was, ln(1 + seconds).
GAP = "gap_log"
#: Steps whose memories are one product.
_BLOCK = 256


@dataclass(frozen=True)
class RecommenderConfig:
    """Everything that shapes the weights; saved with them."""

    items: int  # I
    embedding_size: int  # D
    step_features: tuple[str, ...]
    context_features: tuple[str, ...] = ()
    words: dict[str, int] = field(
        default_factory=dict
    )  # features that are 1 + a word's place: how many words
    encoder: str = "gru"
    encoder_config: dict[str, Any] = field(default_factory=dict)
    memory_half_lives: tuple[float, ...] = ()  # in events
    repeats: int = 0  # items whose repeats raise them, 0: none
    repeats_decay: float = 1.0
    item_features: list[dict[str, Any]] | None = None  # fields of the item encoder
    id_dropout: float = 0.0
    gap_buckets: int = 0  # the time since the last event, in log buckets too
    similarity: Kind = "dot"
    untied: bool = False  # what goes in has vectors of its own
    entrance: Literal["relu", "norm", "straight"] = "relu"
    hazard_bins_ms: tuple[int, ...] = ()  # none: no hazard head
    rerank_hidden: int = 0  # 0: no reranker
    value: Literal["", "item", "user"] = ""  # what the value head tells, "": there is none
    value_mean: float = 0.0
    value_scale: float = 1.0
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
        self.similarity = Similarity(config.similarity)
        features = read_fields(config.item_features)
        self.items = Items(
            config.items, D, features, config.id_dropout, self.similarity, untied=config.untied
        )
        self.step_words = Words(config.step_features, config.words)
        self.enter = nn.Linear(D + self.step_words.width + config.gap_buckets, D)
        self.enter_norm = nn.LayerNorm(D) if config.entrance != "relu" else None
        self.encoder: Encoder = encoder_class(config_class(**config.encoder_config), D)
        self.leave = nn.Linear(self.encoder.output_size, D)
        self.recall = nn.ModuleList(nn.Linear(D, D, bias=False) for _ in config.memory_half_lives)
        self.rates = [0.5 ** (1.0 / half_life) for half_life in config.memory_half_lives]
        self.context_words = Words(config.context_features, config.words)
        self.offset = nn.Linear(self.context_words.width, D) if config.context_features else None
        bins_ms = config.hazard_bins_ms
        self.hazard = Hazard(self.encoder.output_size, bins_ms) if bins_ms else None
        self.reranker = Reranker(D, config.rerank_hidden) if config.rerank_hidden else None
        self.value = None
        if config.value:
            item_size = D if config.value == "item" else 0
            self.value = Value(self.encoder.output_size, item_size, config.value_mean, config.value_scale)
        self.repeats: Repeats | None = None
        if config.repeats:
            self.repeats = Repeats(config.items, config.repeats, config.repeats_decay)
        self.near: Near | None = None  # counted, not learnt (models/co_occurrence.py)
        self.dropout = nn.Dropout(config.dropout)
        if config.entrance == "straight":
            begin_straight(self.enter)
            inner = [self.encoder.enter] if isinstance(self.encoder, Stack) else []
            for linear in (*inner, self.leave):
                if linear.in_features == linear.out_features:
                    begin_straight(linear)
        for recall in self.recall:  # so that from the start what was taken scores high again
            assert isinstance(recall, nn.Linear)
            nn.init.eye_(recall.weight)

    @property
    def state_size(self) -> int:
        return self.encoder.state_size + len(self.recall) * self.config.embedding_size + self.config.repeats

    @property
    def item_size(self) -> int:
        """What a step takes in of an item: its row and, with repeats, its number, 1 + the row's."""
        return self.config.embedding_size + (self.repeats is not None)

    def step_rows(self, taken: Tensor) -> Tensor:
        """Return what steps take in of all items and of none: [I + 1, D] → [I + 1, E]."""
        if self.repeats is None:
            return taken
        number = torch.arange(1, len(taken) + 1, dtype=taken.dtype)
        number[-1] = 0.0
        return torch.cat([taken, number[:, None]], 1)

    def forward(self, item: Tensor, features: Tensor) -> Tensor:
        """Return the users' embeddings after each event: item [B, T, D], features [B, T, F] → [B, T, D]."""
        return self.outputs(item, features)[0]

    def outputs(self, item: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the users' embeddings [B, T, D], and what the encoder says [B, T, Y], for other heads.

        item [B, T, D], or what steps take in, [B, T, E]: numbers change no embedding.
        """
        item = self.dropout(item[..., : self.config.embedding_size])
        y = self.encoder(self.taken_in(item, features), self.gap_log(features))  # [B, T, Y]
        user = self.leave(self.dropout(y))  # [B, T, D]
        for rate, recall in zip(self.rates, self.recall, strict=True):
            user = user + recall(fade(rate, item))
        return self.similarity.user(user), y

    def step(self, state: Tensor, item: Tensor, features: Tensor) -> Tensor:
        """Return the states after one event each: state [B, S], item [B, E], features [B, F] → [B, S]."""
        row, *memories = self.parts(state)
        item, number = item[:, : self.config.embedding_size], item[:, self.config.embedding_size :]
        after = [self.encoder.step(row, self.taken_in(item, features), self.gap_log(features))]
        after += [rate * memory + item for rate, memory in zip(self.rates, memories, strict=True)]
        if self.repeats is not None:
            after.append(self.repeats.push(state[:, -self.repeats.length :], number))
        return torch.cat(after, 1)

    def read(self, state: Tensor) -> Tensor:
        """Return the users' embeddings: state [B, S] → [B, D]."""
        row, *memories = self.parts(state)
        user: Tensor = self.leave(self.encoder.read(row))
        for memory, recall in zip(memories, self.recall, strict=True):
            user = user + recall(memory)
        return self.similarity.user(user)

    def hazards(self, state: Tensor) -> Tensor:
        """Return the calibrated churn hazards: state [B, S] → [B, K]."""
        assert self.hazard is not None, "the model has no hazard head"
        hazards: Tensor = self.hazard(self.encoder.read(self.parts(state)[0]))
        return hazards

    def taken_in(self, item: Tensor, features: Tensor) -> Tensor:
        """Return what the encoder takes in: item [..., D], features [..., F] → [..., D]."""
        parts = [item, self.step_words(features)]
        if self.config.gap_buckets:
            parts.append(hats(self.gap_log(features), GAP_LOG_MAX, self.config.gap_buckets))
        entered: Tensor = self.enter(torch.cat(parts, -1))
        return torch.relu(entered) if self.enter_norm is None else self.enter_norm(entered)

    def gap_log(self, features: Tensor) -> Tensor:
        """Return the time since the last event, zeros if the model is not told: [..., F] → [...]."""
        if self.gap is None:
            return features.new_zeros(features.shape[:-1])
        return features[..., self.gap]

    def parts(self, state: Tensor) -> tuple[Tensor, ...]:
        """Return the encoder's row [B, …] and the memories [B, D]; a ring of repeats stands behind them."""
        sizes = [self.encoder.state_size] + [self.config.embedding_size] * len(self.recall)
        return torch.split(state[:, : sum(sizes)], sizes, 1)

    def context(self, features: Tensor) -> Tensor:
        """Return the context's offset to the query: features [B, Fc] → [B, D]."""
        assert self.offset is not None, "the model has no context features"
        offset: Tensor = self.offset(self.context_words(features))
        return offset


class Words(nn.Module):
    """Features with a column for each word, in place of one that tells the word's number."""

    def __init__(self, features: Sequence[str], words: Mapping[str, int]) -> None:
        """words: by feature, how many there are; others stay as they are."""
        super().__init__()
        self._plain = [i for i, name in enumerate(features) if name not in words]
        self._words = [(i, words[name]) for i, name in enumerate(features) if name in words]
        self.width = len(self._plain) + sum(count for _, count in self._words)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features [..., F] with their words apart, [..., width]; 0, an unknown one, has none."""
        if not self._words:
            return features
        parts = [features[..., self._plain]] if self._plain else []
        for place, count in self._words:
            number = torch.arange(1, count + 1, dtype=features.dtype)
            parts.append((features[..., place, None] == number).to(features.dtype))
        return torch.cat(parts, -1)


def read_fields(fields: list[dict[str, Any]] | None) -> ItemFeatures | None:
    return None if fields is None else msgspec.convert({"fields": fields}, ItemFeatures)


def begin_straight(linear: nn.Linear) -> None:
    """Let as many inputs as come out go through as they are, the first ones; what stands beside adds to them.

    Matrices of chance in a row learn slowly, and what a layer adds itself to should be the item.
    """
    with torch.no_grad():
        linear.weight[:, : linear.out_features] = torch.eye(linear.out_features)
        nn.init.zeros_(linear.bias)


def fade(rate: float, item: Tensor) -> Tensor:
    """Return the memories after each step: item [B, T, D] → Σ rate ** (t − s) · item_s over s ≤ t, [B, T, D].

    Block by block, a product within each and what the block before it left: a matrix of all pairs of steps
    would take gigabytes where histories are long.
    """
    steps = torch.arange(min(_BLOCK, item.shape[1]))
    age = steps[:, None] - steps
    within = torch.where(age >= 0, torch.tensor(rate) ** age.clamp(min=0), 0.0)
    left = torch.tensor(rate) ** (steps + 1)[:, None]
    blocks: list[Tensor] = []
    for part in torch.split(item, _BLOCK, 1):
        size = part.shape[1]
        memory = within[:size, :size] @ part
        blocks.append(memory + left[:size] * blocks[-1][:, -1:] if blocks else memory)
    return torch.cat(blocks, 1) if len(blocks) > 1 else blocks[0]
