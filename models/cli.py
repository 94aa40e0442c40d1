"""The program `ebbtide-train`: from events to a model, and how good it is."""

from __future__ import annotations

import gzip
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from models import run as runs
from models.checkpoint import Epoch
from models.dataset import Sequences, data_hash, fold_events
from models.evaluate import evaluate_baskets
from models.recipe import Recipe, read_recipe
from models.train import fit, make_model
from stream.cli import Commands
from stream.config_load import load_config
from stream.demo.quality import RIVALS, Quality
from stream.errors import InputError, UsageError
from stream.wire import Item

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)

Input = Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="Events, JSON lines (`.gz` too).")]
Config = Annotated[Path, typer.Option("--config", "-c", help="The config that serves: it says what counts.")]
Items = Annotated[Path | None, typer.Option("--items", help="Items with their attributes, JSON lines.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")]


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error too.")] = False,
) -> None:
    """Train encoders on events, and measure them.

    `fit` writes a run folder; `ebbtide-export` makes that a bundle, which `ebbtide` serves.
    """


@app.command("fit")
def fit_command(
    recipe: Annotated[Path, typer.Option("--recipe", "-r", help="What to train, TOML.")],
    input: Input,
    config: Config,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.")],
    items: Items = None,
    until: Annotated[str, typer.Option("--until", help="Learn from events before this instant.")] = "",
    set: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the recipe: `epochs=3`.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Override the recipe's seed.")] = None,
    threads: Threads = 2,
) -> None:
    """Train a model and write its run folder.

    The events go through the very fold that serves, so that the model sees what it will see in production.
    """
    chosen = read_recipe(recipe, set or [])
    chosen = chosen if seed is None else msgspec.structs.replace(chosen, seed=seed)
    torch.set_num_threads(threads)
    torch.manual_seed(chosen.seed)
    until_ms = read_time(until, "--until") if until else None
    catalogue = read_catalogue(items) if items else {}
    everything = read_events(input, config, list(catalogue))
    data = everything if until_ms is None else everything.before(until_ms)
    model = make_model(data, chosen, runs.describe(data.item_ids, catalogue, chosen))
    history = show_epochs(chosen, lambda on_epoch: fit(model, data, chosen, on_epoch))
    record = runs.Record(
        input=Path(input).name,
        input_sha256=data_hash(Path(input)),
        items=items.name if items else None,
        items_sha256=data_hash(items) if items else None,
        config=config.read_text("utf-8"),
        until_ms=until_ms,
        users=data.users,
        events=len(data.item),
        seconds=round(sum(epoch.seconds for epoch in history), 1),
        loss=[round(epoch.loss, 5) for epoch in history],
        environment=runs.environment(),
    )
    runs.save_run(out, model, data, chosen, record)
    typer.echo(f"{out}: {data.users:,} users, {len(data.item):,} events, {record.seconds:.0f} s of training")


@app.command("evaluate")
def evaluate_command(
    run: Annotated[Path, typer.Argument(help="A run folder that `fit` wrote.")],
    input: Input,
    config: Config,
    start: Annotated[str, typer.Option("--from", help="Judge baskets from this instant on.")],
    threads: Threads = 2,
) -> None:
    """Judge the model's lists on what came after: each basket against the list that stood before it.

    Nothing is excluded from the lists, and every item competes. The figures go into the run's record, and
    from there into the bundle's manifest.
    """
    torch.set_num_threads(threads)
    loaded = runs.load_run(run)
    from_ms = read_time(start, "--from")
    if loaded.record.until_ms is None or from_ms < loaded.record.until_ms:
        raise UsageError(
            "the model was trained on part of this span", remedy="fit with --until, and no later"
        )
    data = read_events(input, config, loaded.item_ids)
    if len(data.item_ids) > len(loaded.item_ids):
        raise UsageError("the events hold items that the run does not know", remedy="fit with --items")
    kinds = load_config(config).events.recommend
    quality = evaluate_baskets(loaded.model, data, sorted(kinds), from_ms)
    runs.add_metrics(run, {"next_basket": quality_figures(quality, start)})
    show_quality(quality)


def read_events(input: str, config: Path, item_ids: list[str]) -> Sequences:
    loaded = load_config(config)
    console = Console(stderr=True)
    with console.status(f"folding {Path(input).name}"):
        data = fold_events(input, loaded, item_ids)
    console.print(f"{len(data.item):,} steps of {data.users:,} sequences, {len(data.item_ids):,} items")
    return data


def read_catalogue(path: Path) -> dict[str, Any]:
    """Return item id → attributes of the items that are not withdrawn."""
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()
    decode = msgspec.json.Decoder(Item).decode
    found = {}
    for number, line in enumerate(lines):
        try:
            item = decode(line)
        except msgspec.MsgspecError as error:
            raise InputError(f"no item: {error}", place=f"{path}, line {number}") from error
        if item.attributes is not None:
            found[item.item_id] = item.attributes
    return found


def read_time(text: str, option: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: no time", remedy="write 2017-10-01T05:00:00Z") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


def show_epochs(recipe: Recipe, train: Any) -> list[Epoch]:
    """Run `train` under a progress bar, or with a line an epoch where there is no terminal."""
    shown = sys.stderr.isatty()
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("training", total=recipe.epochs)

        def on_epoch(epoch: Epoch) -> None:
            bar.update(task, advance=1, description=f"epoch {epoch.number}, loss {epoch.loss:.4f}")
            if not shown:
                typer.echo(f"epoch {epoch.number}: loss {epoch.loss:.4f}, {epoch.seconds:.1f} s", err=True)

        history: list[Epoch] = train(on_epoch)
    return history


def quality_figures(quality: Quality, start: str) -> dict[str, Any]:
    """Return the figures for a record: value, and the ends of the 95 % interval."""
    figures: dict[str, Any] = {"from": start, "baskets": quality.baskets, "users": quality.users}
    for name, estimates in (("hit_rate_at_10", quality.hit_rate), ("ndcg_at_10", quality.ndcg)):
        figures[name] = {rival: np.round(estimates[rival], 5).tolist() for rival in RIVALS}
    return figures


def show_quality(quality: Quality) -> None:
    table = Table(title=f"{quality.baskets:,} baskets of {quality.users:,} users, 95 % intervals")
    for heading in ("list", "HR@10", "NDCG@10"):
        table.add_column(heading)
    for rival in RIVALS:
        cells = [
            f"{estimate.value:.4f}  [{estimate.low:.4f}, {estimate.high:.4f}]"
            for estimate in (quality.hit_rate[rival], quality.ndcg[rival])
        ]
        table.add_row(rival, *cells)
    Console().print(table)


def main() -> None:
    """Run the program with the arguments of the command line."""
    app(prog_name="ebbtide-train")
