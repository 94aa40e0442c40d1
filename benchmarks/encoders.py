"""What each encoder costs in serving: bytes of state a user, and µs of one core for the step of an event.

Items and encoders are 64 wide, the other settings are each encoder's own defaults; the weights are random, as
cost and parity do not depend on them. Each bundle is made by the real export, so the last two columns are
what its proof found: the largest difference of user embeddings between the torch sequence and the torch
steps, and between the torch sequence and the bundle. The step is timed as serving calls it, item rows and
features included; the median of RUNS counts.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from export.random_bundle import proved_bundle
from models.encoders import ENCODERS
from stream.bundle import Bundle
from stream.encoder import Encoder

WIDTH = 64
BATCHES = 1, 64, 512
RUNS = 200
KINDS = ["view", "cart", "purchase"]


def run() -> None:
    table = Table(title="encoders, 64 wide")
    for heading in ("kind", "state, floats", "bytes", *(f"µs at {n}" for n in BATCHES), "torch", "bundle"):
        table.add_column(heading, justify="left" if heading == "kind" else "right")
    with tempfile.TemporaryDirectory() as folder:
        for kind in ENCODERS:
            bundle, parity = proved_bundle(
                Path(folder) / kind, KINDS, items=1_000, encoder=kind, encoder_config={},
                embedding_size=WIDTH, memory_half_lives=(), context_features=(),
            )  # fmt: skip
            size = bundle.manifest.state_size
            micros = [f"{time_step(bundle, batch):.1f}" for batch in BATCHES]
            apart = f"{parity.torch_steps:.0e}", f"{parity.onnx_steps:.0e}"
            table.add_row(kind, f"{size:,}", f"{4 * size:,}", *micros, *apart)
    Console().print(table)


def time_step(bundle: Bundle, batch: int) -> float:
    """Return the µs of an event when `batch` users are stepped at once."""
    names = bundle.manifest.step_features
    encoder = Encoder(bundle, names, bundle.item_ids)
    random = np.random.default_rng(0)
    state = np.zeros((batch, encoder.state_size), np.float32)
    item = random.integers(bundle.manifest.items, size=batch).astype(np.int32)
    features = random.random((batch, len(names))).astype(np.float32)
    seconds = []
    for _ in range(RUNS):
        started = time.perf_counter()
        encoder.step(state, item, features)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds)) / batch * 1e6
