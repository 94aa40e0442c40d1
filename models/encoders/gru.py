"""A gated recurrent unit (Cho et al., 2014), as GRU4Rec (Hidasi et al., 2016) uses it: one layer, small."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class GRUConfig:
    hidden: int = 64


class GRU(nn.Module):
    """State and output are the hidden row."""

    def __init__(self, config: GRUConfig, input_size: int) -> None:
        super().__init__()
        self.rnn = nn.GRU(input_size, config.hidden, batch_first=True)
        self.state_size = self.output_size = config.hidden

    def forward(self, x: Tensor, gap_log: Tensor) -> Tensor:
        return self.rnn(x)[0]  # type: ignore[no-any-return]  # [B, T, S]

    def step(self, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        weight_x, weight_state, bias_x, bias_state = self.rnn.all_weights[0]
        from_x = nn.functional.linear(x, weight_x, bias_x)  # [B, 3S]
        from_state = nn.functional.linear(state, weight_state, bias_state)  # [B, 3S]
        x_reset, x_keep, x_new = from_x.chunk(3, 1)
        s_reset, s_keep, s_new = from_state.chunk(3, 1)
        reset = torch.sigmoid(x_reset + s_reset)
        keep = torch.sigmoid(x_keep + s_keep)
        new = torch.tanh(x_new + reset * s_new)
        return new + keep * (state - new)  # [B, S]

    def read(self, state: Tensor) -> Tensor:
        return state
