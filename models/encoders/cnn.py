"""Causal dilated convolutions with gates (WaveNet, van den Oord et al., 2016; for items NextItNet, Yuan et
al., 2019).

A layer with kernel k and dilation d sees its input at t, t − d, … t − (k − 1) d; before the first event that
input is zero, in a sequence as in a state. So a state that is all zeros needs no special case.

    state: per layer its last (k − 1) d inputs [(k − 1) d, width], oldest first · y [width]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encoders.stack import Stack
from models.encoders.window import push


@dataclass(frozen=True)
class CNNConfig:
    width: int = 64
    kernel: int = 3
    dilations: tuple[int, ...] = (1, 2, 4)  # a layer each
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.kernel < 2 or not self.dilations or min(self.dilations) < 1:
            raise ValueError("kernel must be 2 or more, and each layer's dilation 1 or more")


class CNN(Stack):
    def __init__(self, config: CNNConfig, input_size: int) -> None:
        layers = [Layer(config, dilation) for dilation in config.dilations]
        super().__init__(input_size, config.width, layers, dropout=config.dropout)

    def forward(self, x: Tensor, gap_log: Tensor) -> Tensor:
        return self.through(x)

    def step(self, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        rings, _ = self.split(state)
        return self.step_through(x, rings, [])


class Layer(nn.Module):
    """The convolution is a product with what it sees laid side by side: one way for a sequence and a step."""

    def __init__(self, config: CNNConfig, dilation: int) -> None:
        super().__init__()
        self.width, self.dilation = config.width, dilation
        self.reach = (config.kernel - 1) * dilation
        self.state_size = self.reach * config.width
        self.norm = nn.LayerNorm(config.width)
        self.mix = nn.Linear(config.kernel * config.width, 2 * config.width)
        self.leave = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        seen = nn.functional.pad(self.norm(x), (0, 0, self.reach, 0))  # [B, reach + T, width]
        starts = range(0, self.reach + 1, self.dilation)
        return self._answer(x, torch.cat([seen[:, i : i + x.shape[1]] for i in starts], -1))

    def step(self, x: Tensor, ring: Tensor) -> tuple[Tensor, Tensor]:
        normed = self.norm(x)
        kept = ring.view(-1, self.reach, self.width)
        seen = [*kept[:, :: self.dilation].unbind(1), normed]
        return self._answer(x, torch.cat(seen, -1)), push(kept, normed).flatten(1)

    def _answer(self, x: Tensor, seen: Tensor) -> Tensor:
        new, gate = self.mix(seen).chunk(2, -1)
        left: Tensor = x + self.dropout(self.leave(torch.tanh(new) * torch.sigmoid(gate)))
        return left
