"""What a user took raises itself: the weights of stream/repeats.py, learnt with the encoder.

    score_j = u · v_j + b_j + ln(1 + w_j · e_j)           e_j: how often, and how lately, the user took j

A memory of item vectors (models/recommender.py) says the same, blurred: in D dimensions whatever was taken
moves every other item too, and the more was taken the more. A ring of the last items says it exactly. Both
may be there; the encoder learns what the weights leave over.

Training starts from the law of a share: if one purchase adds `share` to the chance that an item of share p is
next, w = share / p. P positions, I items, N places of the ring, M pairs of a position and an item.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.heads import Raised
from stream import repeats as serving


class Repeats(nn.Module):
    def __init__(self, items: int, length: int, decay: float) -> None:
        """length: N, the items that are remembered; decay: what each later item leaves of one."""
        super().__init__()
        self.length, self.decay = length, decay
        self.log_weight = nn.Parameter(torch.zeros(items))

    def push(self, ring: Tensor, number: Tensor) -> Tensor:
        """Return the rings after one event each: ring [B, N], number [B, 1], below 1 for no known item."""
        return torch.where(number > 0, torch.cat([ring[:, 1:], number], 1), ring)

    def raised(self, recent: npt.NDArray[np.int32]) -> Raised:
        """Return what the items [P, N] of the positions raise, the oldest first, −1 for none.

        Pairs rise by position and item; gradients reach the weights.
        """
        row, place = np.nonzero(recent >= 0)
        items = len(self.log_weight)
        fade = self.decay ** np.arange(self.length)[::-1]
        pair, of = np.unique(row * items + recent[row, place], return_inverse=True)
        earned = torch.from_numpy(np.bincount(of, fade[place], len(pair)).astype(np.float32))
        position, item = torch.from_numpy(pair // items), torch.from_numpy(pair % items)
        return Raised(position, item, torch.log1p(self.log_weight[item].exp() * earned))

    def served(self) -> serving.Repeats:
        """Return what a bundle has of them."""
        weight = self.log_weight.detach().exp().numpy().astype(np.float32)
        return serving.Repeats(weight, self.decay, self.length)
