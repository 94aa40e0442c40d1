"""Pointwise attention over the last W events (HSTU: Zhai et al., "Actions speak louder than words", 2024).

    u, v, q, k = SiLU(W norm(x))
    a_ts = SiLU(q_t · k_s + place bias + time bias) / W           no softmax: how much, not only which share
    x' = x + W' (norm(Σ_s a_ts v_s) ⊙ u)

No softmax means that a place without an event needs no mask: its value is zero. The window is that of
training, as in `transformer`.

    state: per layer a ring of keys and values [2, heads, W, width / heads] · with time, a ring of ages [W] ·
           y [width]
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import silu

from models.encoders.stack import Stack
from models.encoders.window import PlaceBias, TimeBias, ages, grow_older, places, push


@dataclass(frozen=True)
class HSTUConfig:
    width: int = 64
    layers: int = 2
    heads: int = 2
    window: int = 32  # W
    time_buckets: int = 16  # 0: places only
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.time_buckets == 1:
            raise ValueError("one time bucket tells nothing: take 2 or more, or 0 for places only")


class HSTU(Stack):
    def __init__(self, config: HSTUConfig, input_size: int) -> None:
        self.window, self.timed = config.window, config.time_buckets > 0
        layers = [Layer(config) for _ in range(config.layers)]
        shared = config.window if self.timed else 0
        super().__init__(input_size, config.width, layers, shared=shared, dropout=config.dropout)

    def forward(self, x: Tensor, gap_log: Tensor) -> Tensor:
        place = places(x.shape[1], self.window)
        allowed = (place >= 0) & (place < self.window)  # [T, T]
        return self.through(x, place, allowed, ages(gap_log) if self.timed else None)

    def step(self, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        rings, age = self.split(state)
        if self.timed:
            age = grow_older(age, gap_log)  # [B, W]
        return self.step_through(x, rings, [age], age)


class Layer(nn.Module):
    def __init__(self, config: HSTUConfig) -> None:
        super().__init__()
        self.heads, self.size, self.window = config.heads, config.width // config.heads, config.window
        self.state_size = 2 * config.width * config.window
        self.norm = nn.LayerNorm(config.width)
        self.ask = nn.Linear(config.width, 4 * config.width)
        self.place_bias = PlaceBias(config.heads, config.window)
        self.time_bias = TimeBias(config.heads, config.time_buckets) if config.time_buckets else None
        self.gathered = nn.LayerNorm(config.width)
        self.answer = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, place: Tensor, allowed: Tensor, age: Tensor | None) -> Tensor:
        B, T, _ = x.shape
        asked = silu(self.ask(self.norm(x))).view(B, T, 4, self.heads, self.size)
        key, value, query, gate = asked.permute(2, 0, 3, 1, 4)  # [B, heads, T, size] each
        score = query @ key.transpose(2, 3) + self.place_bias(place)
        if self.time_bias is not None:
            score = score + self.time_bias(age).transpose(1, 2)
        weight = silu(score).masked_fill(~allowed, 0.0) / self.window  # [B, heads, T, T]
        gathered = (weight @ value).transpose(1, 2).reshape(B, T, -1)
        return self._leave(x, gathered, gate.transpose(1, 2).reshape(B, T, -1))

    def step(self, x: Tensor, ring: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        asked = silu(self.ask(self.norm(x))).view(-1, 4, self.heads, self.size)
        kept = push(ring.view(-1, 2, self.heads, self.window, self.size), asked[:, :2])
        key, value = kept[:, 0], kept[:, 1]  # [B, heads, W, size] each
        score = (key @ asked[:, 2, :, :, None])[..., 0] + self.place_bias.weight
        if self.time_bias is not None:
            score = score + self.time_bias(age)
        weight = silu(score) / self.window  # [B, heads, W]
        gathered = (weight[:, :, None] @ value).flatten(1)  # [B, width]
        return self._leave(x, gathered, asked[:, 3].flatten(1)), kept.flatten(1)

    def _leave(self, x: Tensor, gathered: Tensor, gate: Tensor) -> Tensor:
        left: Tensor = x + self.dropout(self.answer(self.gathered(gathered) * gate))
        return left
