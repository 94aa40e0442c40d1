"""The program `ebbtide-export`: from a run folder to a bundle, and what the bundle costs."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table

from export.from_run import export_run, longest_histories
from export.parity import History, Parity
from export.quality import measure_loss
from export.write import Precision
from models.options import Form, read_events
from models.run import load_run
from stream.bundle import Bundle
from stream.cli import fail
from stream.errors import EbbtideError
from stream.runtime import open_session

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)

#: Batches at which a step is timed: one user's event, a small batch, a full one.
BATCHES = 1, 64, 512
#: Real sequences that the proof walks through.
HISTORIES = 50


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="A run folder that `ebbtide-train fit` wrote.")],
    out: Annotated[Path, typer.Argument(help="The bundle's folder.")],
    input: Annotated[
        str, typer.Option("--input", "-i", help="Events to prove it on, beside the made ones.")
    ] = "",
    format: Form = "events",
    config: Annotated[Path | None, typer.Option("--config", "-c", help="The config of events.")] = None,
    precision: Annotated[
        Precision, typer.Option("--precision", help="How the items are stored: half the size, or a quarter.")
    ] = "float32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that is there.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error too.")] = False,
) -> None:
    """Turn a trained model into a bundle, and prove that it computes the same.

    The bundle is written only if torch over sequences, torch step by step and the bundle step by step agree,
    on real sequences and on adversarial ones, and if every result has equal bits in batches of 1 to 255.
    """
    torch.set_num_threads(1)
    loaded = load_run(run)
    real: list[History] = []
    metrics: dict[str, Any] = {}
    if input:
        data = read_events(input, config, loaded.item_ids, loaded.recipe.contexts, format)
        real = longest_histories(loaded, data, HISTORIES)
        if precision != "float32":
            metrics["compression"] = {
                "precision": precision,
                **measure_loss(loaded, data, precision)._asdict(),
            }
    bundle, parity = export_run(loaded, out, real, precision=precision, metrics=metrics, overwrite=overwrite)
    show(bundle, parity)


def show(bundle: Bundle, parity: Parity) -> None:
    size = sum(file.stat().st_size for file in bundle.path.iterdir())
    table = Table(title=f"{bundle.version} in {bundle.path}", show_header=False)
    table.add_row("size", f"{size / 1e6:.2f} MB, {bundle.manifest.items:,} items")
    if bundle.repeats is not None:
        table.add_row("repeats", f"of the last {bundle.repeats.length} items")
    if bundle.near is not None:
        pairs = f"{len(bundle.near.item):,} pairs of neighbours, strength {bundle.near.strength:g}"
        table.add_row("co-occurrence", pairs)
    table.add_row("state", f"{4 * bundle.manifest.state_size:,} bytes a user")
    for batch, micros in time_steps(bundle).items():
        table.add_row(f"step, batch of {batch}", f"{micros:.1f} µs an event")
    table.add_row("torch steps − torch sequence", f"{parity.torch_steps:.1e}")
    table.add_row("bundle − torch sequence", f"{parity.onnx_steps:.1e} over {parity.sequences} sequences")
    table.add_row("allowed", f"{bundle.manifest.tolerance:.0e} of the largest number of a sequence")
    if loss := bundle.manifest.metrics.get("compression"):
        before, after = loss["ndcg_before"], loss["ndcg_after"]
        table.add_row(f"NDCG@10, items as {loss['precision']}", f"{after:.4f}, {before:.4f} as float32")
        table.add_row("items of the lists that stay", f"{loss['items_kept']:.2%}")
    Console().print(table)


def time_steps(bundle: Bundle) -> dict[int, float]:
    """Return the microseconds of a step per event, by the size of the batch: the median of many."""
    session = open_session(bundle.file("user_step.onnx"))
    manifest = bundle.manifest
    found = {}
    for batch in BATCHES:
        rows: dict[str, Any] = {
            "state": np.zeros((batch, manifest.state_size), np.float32),
            "item": np.zeros((batch, manifest.item_size), np.float32),
            "features": np.zeros((batch, len(manifest.step_features)), np.float32),
        }
        seconds = []
        for _ in range(200):
            started = time.perf_counter()
            session.run(None, rows)
            seconds.append(time.perf_counter() - started)
        found[batch] = float(np.median(seconds)) / batch * 1e6
    return found


def main() -> None:
    """Run the program with the arguments of the command line."""
    try:
        app(prog_name="ebbtide-export")
    except EbbtideError as error:
        fail(str(error), debug="--debug" in sys.argv)
        sys.exit(error.exit_code)
