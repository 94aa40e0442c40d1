"""Plots of a run, as SVG: how the loss fell, and whether a risk of p means p."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.checkpoint import Epoch


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


def _open(title: str) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ebbtide"  # equal runs draw equal files
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    from matplotlib import pyplot

    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
