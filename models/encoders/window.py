"""What attention over a window shares: the ring of a user's last W events, and where they lie in it.

A ring is a stretch of the state, oldest event first; it is shifted by one place an event, so that a place
always means the same distance and the newest event is at the end. Distances are relative, to the event that
looks back: an absolute position would make what is kept in a ring wrong one event later.

    place of event s seen from event t:  W − 1 − (t − s)          in the window if it is 0 or more
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

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


def places(steps: int, window: int) -> Tensor:
    """Return the place in t's ring of each event s, i64 [T, T]: negative if too old, ≥ W if in the future."""
    at = torch.arange(steps)
    return window - 1 - (at[:, None] - at)


def ages(gap_log: Tensor) -> Tensor:
    """Return how many seconds event s lies before event t: gap_log [B, T] → [B, T, T], 0 for the future.

    In float64 within: years less years must still tell seconds, as the ring does.
    """
    time = seconds(gap_log).double().cumsum(1)
    return (time[:, :, None] - time[:, None, :]).clamp(min=0.0).float()


def grow_older(ring: Tensor, gap_log: Tensor) -> Tensor:
    """Return the ages in the ring [B, W] after one more event, `gap_log` [B] after the last."""
    return torch.cat([ring[:, 1:] + seconds(gap_log)[:, None], torch.zeros_like(ring[:, :1])], 1)


class PlaceBias(nn.Module):
    """A learned number for each place and head (Shaw et al., 2018; T5 without its buckets)."""

    def __init__(self, heads: int, window: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(heads, window))

    def forward(self, place: Tensor) -> Tensor:
        """Return the bias of the places: [T, T] → [heads, T, T]; outside of the window it means nothing."""
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
