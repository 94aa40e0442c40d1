"""User encoders: one interface, and the table of those there are.

An encoder reads a row x per event and the time since the user's last one, gap_log = ln(1 + seconds), which
the attention over time needs by itself. It keeps a state of S floats per user, zeros before the first event:

    forward(x [B, T, H], gap_log [B, T]) → y [B, T, Y]          whole sequences from zeros, in training
    step(state [B, S], x [B, H], gap_log [B]) → state [B, S]    one event, in serving
    read(state [B, S]) → y [B, Y]                               what the state says

and promises that stepping equals the sequence: forward(x)[:, t] = read(step(… step(0, x[:, 0]) …, x[:, t])).
The export proves it for each bundle. Step and read must be plain tensor code that ONNX can hold, without
branches on data.

    kind           remembers                                    grows with
    gru, lstm      what its gates keep                          hidden
    lru            everything, fading at learned rates          layers · memory
    cnn            the last 1 + Σ (kernel − 1) · dilation       that · width
    transformer    the last 1 + layers · (window − 1),          layers · window · width
                   and what a GRU before them keeps             + recurrent
    hstu           the last 1 + layers · (window − 1)           layers · window · width
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from torch import Tensor

from models.encoders.cnn import CNN, CNNConfig
from models.encoders.gru import GRU, GRUConfig
from models.encoders.hstu import HSTU, HSTUConfig
from models.encoders.lru import LRU, LRUConfig
from models.encoders.lstm import LSTM, LSTMConfig
from models.encoders.transformer import Transformer, TransformerConfig


class Encoder(Protocol):
    """What the recommender asks of an encoder (a torch module)."""

    state_size: int  # S
    output_size: int  # Y

    def __call__(self, x: Tensor, gap_log: Tensor) -> Tensor: ...

    def step(self, state: Tensor, x: Tensor, gap_log: Tensor) -> Tensor: ...

    def read(self, state: Tensor) -> Tensor: ...


#: kind → its config's class, and the module made from (config, H).
ENCODERS: Final[dict[str, tuple[type[Any], Callable[[Any, int], Encoder]]]] = {
    "gru": (GRUConfig, GRU),
    "lstm": (LSTMConfig, LSTM),
    "lru": (LRUConfig, LRU),
    "cnn": (CNNConfig, CNN),
    "transformer": (TransformerConfig, Transformer),
    "hstu": (HSTUConfig, HSTU),
}
