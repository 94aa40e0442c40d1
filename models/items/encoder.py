"""The item encoder: each field of an item becomes a vector, and a gate says how much each of them counts.

    p_f = reader_f(codes, floats)                            a vector for each field
    g_f = present_f · sigmoid(a_f · p_f + b_f)               its gate; 0 if the item has no such attribute
    s   = Σ g_f p_f / (Σ g_f + ε)
    v   = s + W₂ relu(W₁ s)                                  the item's vector
    b   = w · v + c                                          how popular such items are

Gates let an item without a picture be what its title says, and a telling brand outvote a vague category
(gated multimodal units, Arevalo et al., 2017). B items, D the size of a vector.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from stream.item_features import Category, Field, ItemFeatures, Number, Text, Vector

#: What the gates' sum is never below, so that an item without attributes becomes zeros.
_EPSILON = 1e-6


class Reader(Protocol):
    """A module for one field: its columns → vectors [B, D] and whether there is a value [B, 1]."""

    def __call__(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]: ...


class ItemEncoder(nn.Module):
    def __init__(self, features: ItemFeatures, embedding_size: int) -> None:
        super().__init__()
        D = embedding_size
        self.features = features
        self.readers = nn.ModuleList(make_reader(field, D) for field in features.fields)
        self.gates = nn.ModuleList(nn.Linear(D, 1) for _ in features.fields)
        self.think = nn.Sequential(nn.Linear(D, 2 * D), nn.ReLU(), nn.Linear(2 * D, D))
        self.bias = nn.Linear(D, 1)

    def forward(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        """Return the items' vectors [B, D] and biases [B, 1]: codes i64 [B, C], floats [B, F]."""
        total, weights = None, None
        code = number = 0
        for field, reader, gate in zip(self.features.fields, self.readers, self.gates, strict=True):
            part, present = reader(
                codes[:, code : code + field.codes], floats[:, number : number + field.floats]
            )
            code += field.codes
            number += field.floats
            weight = torch.sigmoid(gate(part)) * present  # [B, 1]
            total = weight * part if total is None else total + weight * part
            weights = weight if weights is None else weights + weight
        assert total is not None, "an item encoder reads one field or more"
        assert weights is not None
        said = total / (weights + _EPSILON)
        vector = said + self.think(said)
        return vector, self.bias(vector)


def make_reader(field: Field, embedding_size: int) -> nn.Module:
    """Return the module for one field."""
    match field:
        case Category():
            return Bag(len(field.values), embedding_size)
        case Number():
            return Figure(embedding_size)
        case Text():
            return Letters(field.buckets, embedding_size)
        case Vector():
            return Dense(field.size, embedding_size)
    raise TypeError(f"no reader for {field}")


class Bag(nn.Module):
    """The mean of the words' embeddings."""

    def __init__(self, words: int, embedding_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words + 1, embedding_size, padding_idx=0)
        nn.init.normal_(self.embedding.weight[1:], std=embedding_size**-0.5)

    def forward(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        count = (codes > 0).sum(1, keepdim=True).to(torch.float32)
        mean = self.embedding(codes).sum(1) / count.clamp(min=1.0)
        return mean, count.clamp(max=1.0)


class Figure(nn.Module):
    """A number through a small network, as its meaning is seldom a straight line."""

    def __init__(self, embedding_size: int) -> None:
        super().__init__()
        self.think = nn.Sequential(
            nn.Linear(1, embedding_size), nn.Tanh(), nn.Linear(embedding_size, embedding_size)
        )

    def forward(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        return self.think(floats[:, :1]), floats[:, 1:]


class Letters(nn.Module):
    """Runs of letters through one convolution of three, and of each feature the strongest (Kim, 2014)."""

    WIDTH = 16
    SPAN = 3

    def __init__(self, buckets: int, embedding_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(buckets + 1, self.WIDTH, padding_idx=0)
        self.mix = nn.Linear(self.SPAN * self.WIDTH, embedding_size)
        self.leave = nn.Linear(embedding_size, embedding_size)

    def forward(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        there = (codes > 0).to(torch.float32)  # [B, L]
        runs = nn.functional.pad(self.embedding(codes), (0, 0, self.SPAN // 2, self.SPAN // 2))
        seen = torch.cat([runs[:, i : i + codes.shape[1]] for i in range(self.SPAN)], -1)
        found = torch.relu(self.mix(seen)) * there[..., None]  # [B, L, D]
        return self.leave(found.amax(1)), there[:, :1]


class Dense(nn.Module):
    """A given vector, turned into our space."""

    def __init__(self, size: int, embedding_size: int) -> None:
        super().__init__()
        self.turn = nn.Linear(size, embedding_size)

    def forward(self, codes: Tensor, floats: Tensor) -> tuple[Tensor, Tensor]:
        return self.turn(floats[:, :-1]), floats[:, -1:]
