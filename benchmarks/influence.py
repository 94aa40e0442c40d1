"""What leaving out each of a user's last 50 events costs: one by one, and at once as `models.influence` does.

Items and encoders are 64 wide, with one memory; the weights are random. One by one means a pass through the
model for each shortened history. The features without each event are made beforehand, the same for both.
ms of one core, the median of RUNS.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from export.random_bundle import random_model
from models.encoders import ENCODERS
from models.influence import embed_each
from models.recommender import Recommender, RecommenderConfig

LAST = 50
HISTORIES = 50, 500
RUNS = 5


def run() -> None:
    torch.set_num_threads(1)
    table = Table(title=f"the last {LAST} events left out, ms")
    table.add_column("kind")
    for events in HISTORIES:
        for heading in (f"{events} events, one by one", "at once", "times faster"):
            table.add_column(heading, justify="right")
    for kind in ENCODERS:
        config = RecommenderConfig(
            items=1, embedding_size=64, step_features=("gap_log",), encoder=kind, memory_half_lives=(8.0,)
        )
        model = random_model(config)
        cells = []
        for events in HISTORIES:
            given = torch.randn(events, 64), torch.rand(events, 1), torch.rand(LAST, LAST, 1)
            slow, fast = (time_ms(way, model, *given) for way in (one_by_one, embed_each))
            cells += [f"{slow:.1f}", f"{fast:.1f}", f"{slow / fast:.1f}"]
        table.add_row(kind, *cells)
    Console().print(table)


def one_by_one(model: Recommender, rows: Tensor, features: Tensor, later: Tensor) -> Tensor:
    """Return what `embed_each` does, [R, D], by a pass for each event left out."""
    found = [model(rows[None], features[None])[:, -1]]
    before = len(rows) - len(later)
    for m, changed in enumerate(later):
        kept = torch.arange(len(rows)) != before + m
        given = torch.cat([features[:before], changed])
        found.append(model(rows[kept][None], given[kept][None])[:, -1])
    return torch.cat(found)


@torch.no_grad()
def time_ms(way: Callable[..., Tensor], *arguments: object) -> float:
    seconds = []
    for _ in range(RUNS + 1):  # the first warms up
        started = time.perf_counter()
        way(*arguments)
        seconds.append(time.perf_counter() - started)
    return sorted(seconds[1:])[RUNS // 2] * 1e3
