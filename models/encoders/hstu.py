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

from models.encoders.window import Blocks, PlaceBias, TimeBias, WindowStack, grow_older, push


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


class HSTU(WindowStack):
    def __init__(self, config: HSTUConfig, input_size: int) -> None:
        layers = [Layer(config) for _ in range(config.layers)]
        super().__init__(config, input_size, layers)

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

    def forward(self, x: Tensor, blocks: Blocks, age: Tensor | None) -> Tensor:
        key, value, query, gate = silu(self.ask(self.norm(x))).chunk(4, 2)
        query = blocks.own(query, self.heads)  # [B, N, heads, C, size]
        key, value = (blocks.seen(part, self.heads) for part in (key, value))
        score = query @ key.transpose(3, 4) + self.place_bias(blocks.place)  # [B, N, heads, C, K]
        if self.time_bias is not None:
            score = score + self.time_bias(age).transpose(2, 3)
        weight = silu(score).masked_fill(~blocks.allowed[:, None], 0.0) / self.window
        return self._leave(x, blocks.join(weight @ value), gate)

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
