"""A long short-term memory (Hochreiter and Schmidhuber, 1997), one layer: the GRU's older relative.

State: hidden [hidden] · cell [hidden]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class LSTMConfig:
    hidden: int = 64


class LSTM(nn.Module):
    """The output is the hidden row."""

    def __init__(self, config: LSTMConfig, input_size: int) -> None:
        super().__init__()
        self.rnn = nn.LSTM(input_size, config.hidden, batch_first=True)
        self.output_size = config.hidden
        self.state_size = 2 * config.hidden

    def forward(self, x: Tensor, gap_log: Tensor) -> Tensor:
        return self.rnn(x)[0]  # type: ignore[no-any-return]  # [B, T, Y]

    def step(self, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor:
        hidden, cell = state.chunk(2, 1)
        weight_x, weight_hidden, bias_x, bias_hidden = self.rnn.all_weights[0]
        gates = nn.functional.linear(x, weight_x, bias_x)
        gates = gates + nn.functional.linear(hidden, weight_hidden, bias_hidden)  # [B, 4 hidden]
        take, keep, new, show = gates.chunk(4, 1)
        cell = torch.sigmoid(keep) * cell + torch.sigmoid(take) * torch.tanh(new)
        return torch.cat([torch.sigmoid(show) * torch.tanh(cell), cell], 1)  # [B, S]

    def read(self, state: Tensor) -> Tensor:
        return state[:, : self.output_size]
