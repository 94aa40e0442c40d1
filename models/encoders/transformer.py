"""Attention over the last W events (Vaswani et al., 2017; for items SASRec, Kang and McAuley, 2018).

Causal, with a sliding window, in training too: event t attends to events t − W + 1 … t of the layer below,
and so does a step. L layers reach back L (W − 1) events. Places are relative and learned; with
`time_buckets` the age of an event counts as well.

With `recurrent` an event enters with what led up to it, as a GRU has it: attention finds what the last events
were, and the order in which they came is the GRU's (R-Transformer has the two the same way round: Wang et
al., 2019).

    x_t ← x_t + W h_t,  h_t = GRU(h_{t−1}, x_t)

    state: with recurrence, h [recurrent] · per layer a ring of keys and values [2, heads, W, width / heads] ·
           number of events in the ring · with time, a ring of ages [W] · y [width]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.encoders.gru import GRU, GRUConfig
from models.encoders.window import Blocks, PlaceBias, TimeBias, WindowStack, grow_older, push


@dataclass(frozen=True)
class TransformerConfig:
    width: int = 64
    layers: int = 2
    heads: int = 2
    window: int = 32  # W
    time_buckets: int = 0  # 0: places only
    recurrent: int = 0  # hidden units of a GRU before the layers, 0: none
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width {self.width} must be a multiple of heads {self.heads}")


class Transformer(WindowStack):
    def __init__(self, config: TransformerConfig, input_size: int) -> None:
        layers: list[nn.Module] = [Recurrent(config)] if config.recurrent else []
        layers += [Layer(config) for _ in range(config.layers)]
        super().__init__(config, input_size, layers, beside=1)

    def step(self, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        parts, shared = self.split(state)
        filled = (shared[:, :1] + 1.0).clamp(max=float(self.window))  # [B, 1]
        allowed = torch.arange(self.window) >= self.window - filled  # [B, W]
        age = grow_older(shared[:, 1:], gap_log) if self.timed else shared[:, 1:]  # [B, W or 0]
        return self.step_through(x, parts, [filled, age], allowed, age)


class Recurrent(nn.Module):
    """The layer before attention: what led up to an event, added to it."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.gru = GRU(GRUConfig(config.recurrent), config.width)
        self.leave = nn.Linear(config.recurrent, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.state_size = config.recurrent

    def forward(self, x: Tensor, blocks: Blocks, age: Tensor | None) -> Tensor:
        led: Tensor = x + self.leave(self.dropout(self.gru.rnn(x)[0]))
        return led

    def step(self, x: Tensor, hidden: Tensor, allowed: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.gru.step(hidden, x, age)
        return x + self.leave(hidden), hidden


class Layer(nn.Module):
    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.heads, self.size, self.window = config.heads, config.width // config.heads, config.window
        self.state_size = 2 * config.width * config.window
        self.norm = nn.LayerNorm(config.width)
        self.ask = nn.Linear(config.width, 3 * config.width)
        self.answer = nn.Linear(config.width, config.width)
        self.place_bias = PlaceBias(config.heads, config.window)
        self.time_bias = TimeBias(config.heads, config.time_buckets) if config.time_buckets else None
        self.think = nn.Sequential(
            nn.LayerNorm(config.width),
            nn.Linear(config.width, 4 * config.width),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(4 * config.width, config.width),
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, blocks: Blocks, age: Tensor | None) -> Tensor:
        query, key, value = self.ask(self.norm(x)).chunk(3, 2)
        query = blocks.own(query * self.size**-0.5, self.heads)  # [B, N, heads, C, size]
        key, value = (blocks.seen(part, self.heads) for part in (key, value))
        score = query @ key.transpose(3, 4) + self.place_bias(blocks.place)  # [B, N, heads, C, K]
        if self.time_bias is not None:
            score = score + self.time_bias(age).transpose(2, 3)
        weight = score.masked_fill(~blocks.allowed[:, None], -torch.inf).softmax(-1)
        return self._leave(x, blocks.join(self.dropout(weight) @ value))

    def step(self, x: Tensor, ring: Tensor, allowed: Tensor, age: Tensor) -> tuple[Tensor, Tensor]:
        asked = self.ask(self.norm(x)).view(-1, 3, self.heads, self.size)
        kept = push(ring.view(-1, 2, self.heads, self.window, self.size), asked[:, 1:])
        key, value = kept[:, 0], kept[:, 1]  # [B, heads, W, size] each
        score = (key @ asked[:, 0, :, :, None])[..., 0] * self.size**-0.5 + self.place_bias.weight
        if self.time_bias is not None:
            score = score + self.time_bias(age)
        weight = score.masked_fill(~allowed[:, None], -torch.inf).softmax(-1)  # [B, heads, W]
        answer = (weight[:, :, None] @ value).flatten(1)  # [B, width]
        return self._leave(x, answer), kept.flatten(1)

    def _leave(self, x: Tensor, answer: Tensor) -> Tensor:
        x = x + self.dropout(self.answer(answer))
        left: Tensor = x + self.dropout(self.think(x))
        return left
