"""A learned similarity that ranks the best candidates anew: it may see what no product can.

    score' = score + network([u, v, u ⊙ v, |u − v|])

The interaction is what makes it personal: of [u, v] alone a linear layer gives every user the same order. At
the start the network says zero, so the candidates keep their order until training has learned better.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Reranker(nn.Module):
    def __init__(self, embedding_size: int, hidden: int = 64) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(4 * embedding_size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.judge = nn.Linear(hidden, 1)
        nn.init.zeros_(self.judge.weight)
        nn.init.zeros_(self.judge.bias)

    def forward(self, user: Tensor, item: Tensor, score: Tensor) -> Tensor:
        """Return the new scores: user [..., D] (the query), item [..., D], score [..., 1] → [..., 1]."""
        seen = torch.cat([user, item, user * item, (user - item).abs()], -1)
        judged: Tensor = self.judge(self.network(seen))
        return score + judged
