"""The command `ebbtide-train tune`: which recipe is best, within a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from models import options
from models.clean import clean
from models.recipe import read_recipe
from models.run import write_recipe


def tune_command(
    recipe: options.Recipe,
    space: Annotated[Path, typer.Option("--space", help="What may vary, TOML (docs/models.md).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the study; a second call goes on.")],
    config: options.Config = None,
    input: options.Input = "",
    format: options.Form = "events",
    kafka: options.Kafka = "",
    topic: options.Topic = "",
    items: options.Items = None,
    until: options.Until = "",
    set: options.Settings = None,
    trials: Annotated[int, typer.Option("--trials", min=1, help="All trials, earlier calls' included.")] = 50,
    minutes: Annotated[float | None, typer.Option("--minutes", help="Begin no trial after so long.")] = None,
    threads: options.Threads = 2,
) -> None:
    """Look for the best recipe, within a budget; a search that was stopped goes on.

    A trial that falls behind is cut short; one whose choices do not go together fails, and says why. The best
    recipe is written to OUT/best.json: give it to `fit`.
    """
    from models.tune import read_space, tune

    torch.set_num_threads(threads)
    base, varied = read_recipe(recipe, set or []), read_space(space)
    catalogue = options.read_catalogue(items)
    data = options.read_data(input, kafka, topic, config, list(catalogue), base.contexts, format)
    data, _ = clean(options.cut_until(data, until)[0], base.cleaning)

    def show(number: int, value: float | str, best: float | None) -> None:
        told = value if isinstance(value, str) else f"{value:.4f}"
        typer.echo(f"trial {number}: {told}; best {np.nan if best is None else best:.4f}", err=True)

    found = tune(
        data, base, varied, out,
        catalogue=catalogue, trials=trials, minutes=minutes, on_trial=show,
    )  # fmt: skip
    write_recipe(out / "best.json", found.recipe)
    typer.echo(
        f"{base.validation.measure} {found.value:.4f}, the best of {found.trials} trials: {out / 'best.json'}"
    )
    for key, value in found.params.items():
        typer.echo(f"  {key} = {value}")
