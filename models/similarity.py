"""Similarities, laid out so that a score is one product and a bias, q · v + b, as the scorer computes it.

    dot      u · v
    cosine   e^s û · v̂                 with a learned temperature e^−s; the table holds v̂, the head e^s û
    euclid   −½ ‖u − v‖²               = u · v − ½‖v‖² − ½‖u‖², whose last part is the same for all items

A context's offset is added to the query after that, so it speaks to v̂ under cosine.
"""

from __future__ import annotations

from math import log
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

Kind = Literal["dot", "cosine", "euclid"]

#: e^s at the start, and the most: beyond it the loss follows rounding (CLIP, Radford et al., 2021).
SCALE_START: Final = 16.0
SCALE_MAX: Final = 100.0


class Similarity(nn.Module):
    def __init__(self, kind: Kind) -> None:
        super().__init__()
        self.kind = kind
        self.log_scale = nn.Parameter(torch.tensor(log(SCALE_START))) if kind == "cosine" else None

    def user(self, embedding: Tensor) -> Tensor:
        """Return the query's part that the user gives: [..., D] → [..., D]."""
        if self.log_scale is None:
            return embedding
        return normalize(embedding, dim=-1) * self.log_scale.clamp(max=log(SCALE_MAX)).exp()

    def items(self, vectors: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rows of the table and their biases: [I, D], [I] → [I, D], [I]."""
        if self.kind == "cosine":
            return normalize(vectors, dim=-1), bias
        if self.kind == "euclid":
            return vectors, bias - 0.5 * (vectors * vectors).sum(-1)
        return vectors, bias
