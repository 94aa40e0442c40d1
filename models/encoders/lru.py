"""Linear recurrent units (Orvieto et al., "Resurrecting recurrent neural networks", 2023; for items LRURec,
Yue et al., 2024).

    h_t = λ ⊙ h_{t−1} + γ ⊙ B x_t           λ complex, |λ| < 1;  γ = √(1 − |λ|²) keeps h at x's size
    y_t = gate(Re(C h_t)) + x_t

The recurrence is linear, so a sequence is computed in log₂ T passes and a step is a few products: long memory
for a small state. A complex number is a pair of reals, as ONNX has none.

    state: per layer h [2, memory] · y [width]
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from models.encoders.stack import Stack


@dataclass(frozen=True)
class LRUConfig:
    width: int = 64
    memory: int = 64  # complex numbers a layer
    layers: int = 2
    fade_min: float = 0.4  # |λ| at the start lies between these two
    fade_max: float = 0.99
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.fade_min < self.fade_max < 1.0:
            raise ValueError("0 < fade_min < fade_max < 1 must hold")


class LRU(Stack):
    def __init__(self, config: LRUConfig, input_size: int) -> None:
        layers = [Layer(config) for _ in range(config.layers)]
        super().__init__(input_size, config.width, layers, dropout=config.dropout)

    def forward(self, x: Tensor, gap_log: Tensor) -> Tensor:
        return self.through(x)

    def step(self, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        memories, _ = self.split(state)
        return self.step_through(x, memories, [])


class Layer(nn.Module):
    """The recurrence between two norms, then a gated part that thinks about each event alone."""

    def __init__(self, config: LRUConfig) -> None:
        super().__init__()
        N, width = config.memory, config.width
        self.state_size = 2 * N
        # Uniform on the ring between the two radii, so that memories of all lengths are there at the start.
        radius = (config.fade_min**2 + torch.rand(N) * (config.fade_max**2 - config.fade_min**2)).sqrt()
        self.fade = nn.Parameter((-radius.log()).log())  # |λ| = exp(−exp(fade)) cannot leave (0, 1)
        self.turn = nn.Parameter(torch.rand(N) * (pi / 10))
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, 2 * N, bias=False)
        self.recall = nn.Linear(2 * N, width)
        self.think = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GLU(-1))
        self.leave = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        factor = self._factor()
        memory = self._written(x)  # [B, T, 2, N]
        distance = 1
        while distance < x.shape[1]:
            # Each row now holds the last `distance` events; the row that far back holds as many before them.
            memory = memory + multiply(factor, pad(memory[:, :-distance], (0, 0, 0, 0, distance, 0)))
            factor = multiply(factor, factor)
            distance *= 2
        return self._leave(x, memory)

    def step(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        after = multiply(self._factor(), memory.view(-1, 2, len(self.fade))) + self._written(x)
        return self._leave(x, after), after.flatten(1)

    def _factor(self) -> Tensor:
        """Return λ, [2, N]: its real and its imaginary part."""
        radius = torch.exp(-torch.exp(self.fade))
        return torch.stack([radius * torch.cos(self.turn), radius * torch.sin(self.turn)])

    def _written(self, x: Tensor) -> Tensor:
        """Return what the events write, [..., 2, N]."""
        gain = (1.0 - torch.exp(-2.0 * torch.exp(self.fade))).sqrt()
        written: Tensor = self.write(self.norm(x)).unflatten(-1, (2, -1)) * gain
        return written

    def _leave(self, x: Tensor, memory: Tensor) -> Tensor:
        x = x + self.dropout(self.recall(memory.flatten(-2)))
        left: Tensor = x + self.dropout(self.leave(self.think(x)))
        return left


def multiply(a: Tensor, b: Tensor) -> Tensor:
    """Return the complex product of pairs of reals, [..., 2, N]."""
    a_real, a_imaginary = a.unbind(-2)
    b_real, b_imaginary = b.unbind(-2)
    real = a_real * b_real - a_imaginary * b_imaginary
    return torch.stack([real, a_real * b_imaginary + a_imaginary * b_real], -2)
