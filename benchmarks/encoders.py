"""What each encoder costs in serving: bytes of state a user, and µs of one core for the step of an event.

Items and encoders are 64 wide, the other settings are each encoder's own defaults; the weights are random, as
cost and parity do not depend on them.
Each bundle is made by the real export, so the last two columns are what
its proof found: the largest difference of user embeddings between the torch sequence and the torch steps, and
between the torch sequence and the bundle. The median of 200 runs counts.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from export.cli import BATCHES, time_steps
from export.random_bundle import proved_bundle
from models.encoders import ENCODERS

WIDTH = 64
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
            micros = [f"{value:.1f}" for value in time_steps(bundle).values()]
            apart = f"{parity.torch_steps:.0e}", f"{parity.onnx_steps:.0e}"
            table.add_row(kind, f"{size:,}", f"{4 * size:,}", *micros, *apart)
    Console().print(table)
