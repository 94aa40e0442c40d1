"""What attention over a window shares: the ring of a user's last W events, and where they lie in it.

A ring is a stretch of the state, oldest event first; it is shifted by one place an event, so that a place
always means the same distance and the newest event is at the end. Distances are relative, to the event that
looks back: an absolute position would make what is kept in a ring wrong one event later.

    place of event s seen from event t:  W − 1 − (t − s)          in the window if it is 0 or more

In a sequence, events look back in blocks, each block at itself and at the W − 1 events before it, so that
time and memory grow with T · W and not with T² (as Longformer has it: Beltagy et al., 2020).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from models.encoders.stack import Stack

#: ln(1 + seconds) of 800 years: no gap is longer, and a second less than it is still a number.
GAP_LOG_MAX = 24.0
#: The last bucket of time begins where ln(1 + seconds) says 23 years.
AGE_LOG_MAX = 20.4


def push(ring: Tensor, row: Tensor) -> Tensor:
    """Put a row [..., N] at the end of the ring [..., W, N], dropping the oldest."""
    return torch.cat([ring[..., 1:, :], row[..., None, :]], -2)


def seconds(gap_log: Tensor) -> Tensor:
    """Return the gaps in seconds; `gap_log` is the core's feature ln(1 + seconds)."""
    return torch.expm1(gap_log.clamp(0.0, GAP_LOG_MAX))


class WindowConfig(Protocol):
    """What encoders with a window are told."""

    @property
    def width(self) -> int: ...
    @property
    def window(self) -> int: ...
    @property
    def time_buckets(self) -> int: ...
    @property
    def dropout(self) -> float: ...


class Blocks:
    """T events in N blocks of C, which look at K events each: C of their own, and those before them."""

    def __init__(self, steps: int, window: int) -> None:
        self.steps, self.count = steps, -(-steps // window)
        self.size = -(-steps // self.count)
        self._before = window - 1 if self.count > 1 else 0
        seen = torch.arange(self._before + self.size)  # [K]
        #: The place in an event's ring of those that its block looks at, i64 [C, K].
        self.place = window - 1 - (seen[self._before :, None] - seen)
        there = torch.arange(self.count)[:, None] * self.size + seen >= self._before  # [N, K]
        inside = (self.place >= 0) & (self.place < window)
        #: Which of them an event may look at, bool [N, C, K]: not what is too old, to come, or before all.
        self.allowed = inside & there[:, None]

    def own(self, x: Tensor, heads: int = 1) -> Tensor:
        """Return each block's own events: [B, T, F] → [B, N, heads, C, F / heads]."""
        return _split_heads(self._cut(x, 0), heads)

    def seen(self, x: Tensor, heads: int = 1) -> Tensor:
        """Return the events that each block looks at: [B, T, F] → [B, N, heads, K, F / heads]."""
        return _split_heads(self._cut(x, self._before), heads)

    def join(self, x: Tensor) -> Tensor:
        """Return the blocks as one sequence again: [B, N, heads, C, F / heads] → [B, T, F]."""
        return x.transpose(2, 3).flatten(3).flatten(1, 2)[:, : self.steps]

    def _cut(self, x: Tensor, before: int) -> Tensor:
        if self.count == 1:
            return x[:, None]
        padded = nn.functional.pad(x, (0, 0, before, self.count * self.size - self.steps))
        return padded.unfold(1, before + self.size, self.size).transpose(2, 3)


def ages(gap_log: Tensor, blocks: Blocks) -> Tensor:
    """Return how many seconds ago the events that a block looks at were: gap_log [B, T] → [B, N, C, K].

    0 for the future. In float64 within: years less years must still tell seconds, as the ring does.
    """
    time = seconds(gap_log).double().cumsum(1)[..., None]
    age = blocks.own(time) - blocks.seen(time).transpose(3, 4)  # [B, N, 1, C, K]
    return age[:, :, 0].clamp(min=0.0).float()


def grow_older(ring: Tensor, gap_log: Tensor) -> Tensor:
    """Return the ages in the ring [B, W] after one more event, `gap_log` [B] after the last."""
    return torch.cat([ring[:, 1:] + seconds(gap_log)[:, None], torch.zeros_like(ring[:, :1])], 1)


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """[B, N, K, F] → [B, N, heads, K, F / heads]."""
    return x.reshape(*x.shape[:3], heads, -1).transpose(2, 3)


class WindowStack(Stack):
    """Layers with `forward(x, blocks, age)`; with `time_buckets` they share a ring of ages."""

    def __init__(
        self, config: WindowConfig, input_size: int, layers: Iterable[nn.Module], *, beside: int = 0
    ) -> None:
        """beside: floats that the layers share before the ages."""
        self.window, self.timed = config.window, config.time_buckets > 0
        shared = beside + (config.window if self.timed else 0)
        super().__init__(input_size, config.width, layers, shared=shared, dropout=config.dropout)

    def forward(self, x: Tensor, gap_log: Tensor) -> Tensor:
        blocks = Blocks(x.shape[1], self.window)
        return self.through(x, blocks, ages(gap_log, blocks) if self.timed else None)


class PlaceBias(nn.Module):
    """A learned number for each place and head (Shaw et al., 2018; T5 without its buckets)."""

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, window))

    def forward(self, place: Tensor) -> Tensor:
        """Return the bias of the places: [C, K] → [heads, C, K]; outside of the window it means nothing."""
        return self.weight[:, place.clamp(0, self.weight.shape[1] - 1)]


class TimeBias(nn.Module):
    """A learned number for each bucket of log age and head, as HSTU has it.

    Between the middles of two buckets it is interpolated: with a jump there, rounding could throw the
    sequence and its steps into different buckets.
    """

    def __init__(self, heads: int, buckets: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(buckets, heads))

    def forward(self, age: Tensor) -> Tensor:
        """Return the bias of ages in seconds: [..., W] → [..., heads, W]."""
        share = hats(torch.log1p(age), AGE_LOG_MAX, self.weight.shape[0])
        return (share @ self.weight).movedim(-1, -2)


def hats(value: Tensor, value_max: float, buckets: int) -> Tensor:
    """Return each bucket's share in a value of 0 … value_max: [...] → [..., buckets], its sum is 1."""
    at = value.clamp(0.0, value_max) * ((buckets - 1) / value_max)
    return (1.0 - (at[..., None] - torch.arange(buckets, dtype=value.dtype)).abs()).clamp(min=0.0)
