"""What encoders of several layers share: into their width, through the layers, and a norm at the end.

The norm stands before each part of a layer and once behind the last (Xiong et al., 2020). The state is each
layer's own part, then what all layers use, then the output y, which the head reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class Stack(nn.Module):
    """Layers with `state_size`, `forward(x, *beside)` and `step(x, part, *beside) → (x, part)`."""

    def __init__(
        self,
        input_size: int,
        width: int,
        layers: Iterable[nn.Module],
        *,
        shared: int = 0,
        dropout: float = 0.0,
    ) -> None:
        """shared: floats of the state that all layers use."""
        super().__init__()
        self.enter = nn.Linear(input_size, width)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.output_size = width
        parts: list[Any] = list(self.layers)
        self.sizes = [*(layer.state_size for layer in parts), shared, width]
        self.state_size = sum(self.sizes)

    def through(self, x: Tensor, *beside: Any) -> Tensor:
        """Take sequences through the layers: x [B, T, H] → y [B, T, width]."""
        x = self.dropout(self.enter(x))
        for layer in self.layers:
            x = layer(x, *beside)
        y: Tensor = self.norm(x)
        return y

    def split(self, state: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the layers' parts of the state [B, S], and what they share."""
        *parts, shared, _ = torch.split(state, self.sizes, 1)
        return parts, shared

    def step_through(
        self, x: Tensor, parts: Sequence[Tensor], shared: Sequence[Tensor], *beside: Any
    ) -> Tensor:
        """Take one event x [B, H] through the layers, and return the state after it [B, S].

        shared: what the layers share, as it is after the event.
        """
        x = self.enter(x)
        after = []
        layers: list[Any] = list(self.layers)
        for layer, part in zip(layers, parts, strict=True):
            x, part = layer.step(x, part, *beside)
            after.append(part)
        return torch.cat([*after, *shared, self.norm(x)], 1)

    def read(self, state: Tensor) -> Tensor:
        return state[:, -self.output_size :]
