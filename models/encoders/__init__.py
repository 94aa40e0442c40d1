"""User encoders: one interface, and the table of those there are.

An encoder reads a row x per event and keeps a state of S floats per user, zeros before the first event:

    forward(x [B, T, H]) → y [B, T, Y]            whole sequences from the zero state, in training
    step(state [B, S], x [B, H]) → state [B, S]   one event, in serving
    read(state [B, S]) → y [B, Y]                 what the state says

and promises that stepping equals the sequence: forward(x)[:, t] = read(step(… step(0, x[:, 0]) …, x[:, t])).
The export proves it for each bundle. Step and read must be plain tensor code that ONNX can hold, without
branches on data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from torch import Tensor

from models.encoders.gru import GRU, GRUConfig


class Encoder(Protocol):
    """What the recommender asks of an encoder (a torch module)."""

    state_size: int  # S
    output_size: int  # Y

    def __call__(self, x: Tensor) -> Tensor: ...

    def step(self, state: Tensor, x: Tensor) -> Tensor: ...

    def read(self, state: Tensor) -> Tensor: ...


#: kind → its config's class, and the module made from (config, H).
ENCODERS: Final[dict[str, tuple[type[Any], Callable[[Any, int], Encoder]]]] = {
    "gru": (GRUConfig, GRU),
}
