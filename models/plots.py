"""Plots of a run, as SVG: how the loss fell, whether a risk of p means p, and bars for a table of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.checkpoint import Epoch

#: A value with the ends of its interval, or alone.
Bar = tuple[float, float, float] | float


def plot_learning_curve(path: Path, history: Sequence[Epoch], title: str) -> None:
    """Draw training loss by epoch and, on an axis of its own, what was measured on what is held out."""
    figure, axes = _open(title)
    epochs = [epoch.number for epoch in history]
    lines = axes.plot(epochs, [epoch.loss for epoch in history], color="tab:blue", label="training loss")
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    held = [epoch.held for epoch in history]
    if all("loss" in said for said in held) and held:
        values = [said["loss"] for said in held]
        lines += axes.plot(epochs, values, color="tab:orange", label="loss on what is held out")
    if all("ndcg" in said for said in held) and held:
        beside = axes.twinx()
        values = [said["ndcg"] for said in held]
        lines += beside.plot(epochs, values, color="tab:green", label="NDCG@10 on what is held out")
        beside.set_ylabel("NDCG@10")
    axes.legend(lines, [line.get_label() for line in lines])
    _save(figure, path)


def plot_reliability(path: Path, bins: Sequence[tuple[float, float, int]], title: str) -> None:
    """Draw for bins of equally many users the risk that they were given, and the share that stayed away."""
    figure, axes = _open(title)
    axes.plot([0, 1], [0, 1], color="0.7", linestyle="--", label="as it should be")
    axes.plot([said for said, _, _ in bins], [true for _, true, _ in bins], "o-", label="the model")
    axes.set_xlabel("risk")
    axes.set_ylabel("share that stayed away")
    axes.legend()
    _save(figure, path)


def plot_bars(path: Path, series: Mapping[str, Mapping[str, Bar]], label: str, title: str) -> None:
    """Draw bars, a row each: of one series the first, the model's, in its own colour; several side by side.

    An interval is a line over the bar's end; what is no number has no bar.
    """
    rows = list(next(iter(series.values())))
    names = [*rows, *series] if len(series) > 1 else rows
    wide = 5.0 + 0.1 * max(map(len, names), default=0)  # inches: the bars keep theirs
    figure, axes = _open(title, (wide, 1.2 + (0.15 + 0.2 * len(series)) * max(len(rows), 1)))
    high = 0.8 / len(series)
    for n, (name, bars) in enumerate(series.items()):
        ends = np.array([_ends(bars[row]) for row in rows], np.float64).reshape(-1, 3)
        at = np.arange(len(rows)) + (n - (len(series) - 1) / 2) * high
        colours = ["tab:orange", "tab:blue", "tab:green"][n] if len(series) > 1 else _one_series(len(rows))
        axes.barh(at, ends[:, 0], high, color=colours, label=name)
        known = ~np.isnan(ends).any(1)
        axes.hlines(at[known], ends[known, 1], ends[known, 2], color="0.2", linewidth=1.5)
    axes.set_yticks(np.arange(len(rows)), rows)
    axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)  # the first on top, and room for one without a bar
    axes.set_xlabel(label)
    axes.grid(visible=False, axis="y")
    if len(series) > 1:
        axes.legend(bbox_to_anchor=(1.01, 1.0), loc="upper left")  # beside, where no bar is
    _save(figure, path)


def _ends(bar: Bar) -> tuple[float, float, float]:
    return bar if isinstance(bar, tuple) else (bar, np.nan, np.nan)


def _one_series(rows: int) -> list[str]:
    return ["tab:orange", *["tab:blue"] * (rows - 1)][:rows]


def _open(title: str, size: tuple[float, float] = (7, 4)) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ebbtide"  # equal runs draw equal files
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=size)
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
