"""Every encoder on one data set: quality, bytes a user, µs an event, minutes of training.

Sizes are alike: 64 floats wide, two layers where there are layers, of which a recurrence is one. The time of
an event is that of one step of 64 users in torch, one thread; `python -m benchmarks encoders` times the
exported steps.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import torch

from benchmarks.quality.leave_one_out import Data, fit_size, load_recipe, make_trial, name_of, train
from benchmarks.quality.members import say
from benchmarks.quality.table import DRAWN, Result, Row, Stopwatch, finish
from models import metrics
from models.encoders import ENCODERS as CLASSES
from models.encoders.stack import Stack
from models.ensemble import Model
from models.ranking import ModelScorer, rank

ENCODERS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("gru", {"hidden": 64}),
    ("lstm", {"hidden": 64}),
    ("cnn", {"width": 64, "dilations": [1, 2, 4]}),
    ("lru", {"width": 64, "memory": 32}),
    ("transformer", {"width": 64, "window": 32, "dropout": 0.2}),
    ("transformer", {"width": 64, "window": 32, "dropout": 0.2, "layers": 1, "recurrent": 64}),
    ("hstu", {"width": 64, "window": 32, "dropout": 0.2}),
]
#: Points by which the names stand above theirs in the plot, which lie close together.
ABOVE: Final = (-14, 6, -14, 6, -14, 18, 6)
COLUMNS: Final = ["HR@10", "NDCG@10", "bytes a user", "µs an event", "training minutes"]
#: Users that step together while the time is taken, and how often.
BATCH, STEPS = 64, 50


def run(data: Data, settings: list[str], command: str) -> None:
    watch = Stopwatch()
    torch.set_num_threads(1)
    rows = [Row(name, "published", dict(figures)) for name, figures in data.published.items()]
    plain = load_recipe(data, settings)
    trial = make_trial(data.sequences, plain.seed)
    for kind, config in ENCODERS:
        adds = issubclass(CLASSES[kind][1], Stack)  # layers that add to what comes in are entered straight
        entrance = "straight" if adds else plain.entrance
        recipe = msgspec.structs.replace(plain, encoder=kind, encoder_config=config, entrance=entrance)
        recipe = fit_size(recipe, trial.train, settings)
        before = watch.minutes
        model, _ = train(trial, data.words, data.sequences.item_ids, recipe, partial(say, recipe))
        minutes = watch.minutes - before
        ranked = rank(ModelScorer(model, recipe.length_max), trial.test, unseen=trial.unseen)
        figures: dict[str, float | str] = {
            "HR@10": float(metrics.hit_rate(ranked.chosen).mean()),
            "NDCG@10": float(metrics.ndcg(ranked.chosen).mean()),
            "bytes a user": f"{4 * model.state_size:,}",
            "µs an event": f"{time_step(model):.1f}",
            "training minutes": f"{minutes:.1f}",
        }
        rows.append(Row(name_of(recipe), "ours", figures))
        print(name_of(recipe), figures, flush=True)
    taken_out = "items that a user had taken out" if trial.unseen else "nothing taken out"
    result = Result(
        f"encoders-{data.name}",
        f"Every encoder on {data.title}",
        f"Leave-one-out, {trial.test.known.users:,} users, all {len(data.sequences.item_ids):,} items ranked,"
        f" {taken_out}; no blend.",
        COLUMNS,
        rows,
        command,
        plain.seed,
        watch.minutes,
    )
    finish(result, drawn="NDCG@10")
    draw_frontier(result)


@torch.no_grad()
def time_step(model: Model) -> float:
    """Return the CPU time of a step, in µs an event."""
    state = torch.zeros(BATCH, model.state_size)
    item = torch.randn(BATCH, model.item_size)
    features = torch.zeros(BATCH, len(model.config.step_features))
    times = []
    for _ in range(STEPS):
        began = time.process_time()
        state = model.step(state, item, features)
        times.append(time.process_time() - began)
    return float(np.median(times)) * 1e6 / BATCH


def draw_frontier(result: Result) -> None:
    """Draw NDCG@10 over what a worker pays for an encoder: memory a user, time an event."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    figure, panels = pyplot.subplots(1, 2, figsize=(9, 4), sharey=True)
    ours = [row for row in result.rows if row.source == "ours"]
    published = sorted(
        (float(row.figures["NDCG@10"]), row.name) for row in result.rows if row.source != "ours"
    )
    for axes, column in zip(panels, ("bytes a user", "µs an event"), strict=True):
        axes.set_xscale("log")
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(column)
        axes.margins(x=0.2)
        for place, row in enumerate(ours):
            cost = float(str(row.figures[column]).replace(",", ""))
            gain = float(row.figures["NDCG@10"])
            side = "right" if len(row.name) > 5 else "left"  # long names stand before their point
            axes.scatter(cost, gain, color="tab:orange")
            axes.annotate(
                row.name, (cost, gain), textcoords="offset points", xytext=(0, ABOVE[place]), ha=side
            )
        for place, (gain, name) in enumerate(published):
            axes.axhline(gain, color="0.8", linewidth=1, zorder=0)
            edge = ("left", 0.01) if place % 2 else ("right", 0.99)
            where = {"ha": edge[0], "va": "bottom", "transform": axes.get_yaxis_transform()}
            axes.text(edge[1], gain, name, color="0.5", fontsize=7, **where)
    panels[0].set_ylabel("NDCG@10")
    figure.suptitle(result.title)
    figure.tight_layout()
    DRAWN.mkdir(exist_ok=True)
    figure.savefig(DRAWN / f"{result.name}.svg", metadata={"Date": None})
    pyplot.close(figure)
