"""The program `ebbtide-train`: from events to a model, how good it is, and which recipe is best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
import typer

from models import options
from models import run as runs
from models.clean import clean
from models.crossvalidate import cross_validate, summarize
from models.dataset import Sequences
from models.judge_run import judge_last, judge_lists, judge_risks, judge_values
from models.plots import plot_learning_curve, plot_reliability
from models.recipe import Recipe, read_recipe
from models.sequences import without_last
from models.show import describe, epochs_shown, show_figures, show_quality, show_risk, show_run
from models.train import Described, count_epochs, fit, make_model
from models.validate import make_folds, roll_origin
from stream.cli import Commands
from stream.config_load import load_config
from stream.errors import UsageError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def main_options(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error too.")] = False,
) -> None:
    """Train encoders on events, and measure them.

    `fit` writes a run folder; `ebbtide-export` makes that a bundle, which `ebbtide` serves.
    """


@app.command("fit")
def fit_command(
    recipe: options.Recipe,
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.")],
    config: options.Config = None,
    input: options.Input = "",
    format: options.Form = "events",
    kafka: options.Kafka = "",
    topic: options.Topic = "",
    items: options.Items = None,
    until: options.Until = "",
    set: options.Settings = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Override the recipe's seed.")] = None,
    folds: Annotated[
        int, typer.Option("--folds", min=0, help="First judge the recipe on k folds of users.")
    ] = 0,
    rolling: Annotated[int, typer.Option("--rolling", min=0, help="First judge it on k spans of time.")] = 0,
    last: Annotated[
        bool, typer.Option("--last", help="Leave everyone's last event out, for `evaluate --last`.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from where a killed run was.")] = False,
    threads: options.Threads = 2,
) -> None:
    """Train a model and write its run folder.

    The events go through the very fold that serves, so that the model sees what it will see in production.
    With --folds or --rolling the recipe is judged first; then the model is trained on everything, for as many
    epochs as were best there unless the recipe holds something out by itself.
    """
    torch.set_num_threads(threads)
    chosen = choose(recipe, set, seed)
    catalogue = options.read_catalogue(items)
    data = options.read_data(input, kafka, topic, config, list(catalogue), chosen.contexts, format)
    data, until_ms, dropped = cut_to_size(data, chosen, until, last)
    described = runs.describe(data.item_ids, catalogue, chosen)
    judged: dict[str, Any] = {}
    if folds or rolling:
        judged, chosen = judge_recipe(data, chosen, described, folds, rolling)
    checkpoint = runs.checkpoint_of(out, chosen, data, resume=resume)
    model = make_model(data, chosen, described)
    with epochs_shown("training", count_epochs(chosen)) as on_epoch:
        history = fit(model, data, chosen, on_epoch, checkpoint=checkpoint)
    record = runs.make_record(
        data,
        history,
        source=input or topic or "the config's events topic",
        items=items,
        config=config,
        until_ms=until_ms,
        last_left_out=last,
        dropped=dropped,
        metrics={"cross_validation": judged} if judged else {},
    )
    runs.save_run(out, model, data, chosen, record)
    runs.forget_checkpoints(checkpoint)
    plot_learning_curve(out / runs.CURVE, history, out.name)
    show_run(out, record, chosen, model)


def cut_to_size(
    data: Sequences, recipe: Recipe, until: str, last: bool
) -> tuple[Sequences, int | None, dict[str, int]]:
    """Return what is learnt from, until when it goes, and how many events each rule of cleaning dropped."""
    until_ms = options.read_time(until, "--until") if until else None
    data, dropped = clean(data if until_ms is None else data.before(until_ms), recipe.cleaning)
    for rule, count in dropped.items():
        typer.echo(f"cleaning, {rule}: {count:,} events dropped", err=True)
    return without_last(data) if last else data, until_ms, dropped


def choose(path: Path, settings: list[str] | None, seed: int | None) -> Recipe:
    recipe = read_recipe(path, settings or [])
    return recipe if seed is None else msgspec.structs.replace(recipe, seed=seed)


def judge_recipe(
    data: Sequences, recipe: Recipe, described: Described | None, folds: int, rolling: int
) -> tuple[dict[str, Any], Recipe]:
    """Cross-validate the recipe, show how it did, and return the figures for the record.

    And the recipe, which trains for as long as was best unless it finds that out by itself.
    """
    if folds and rolling:
        raise UsageError("--folds and --rolling", remedy="name one of them")
    if folds == 1:
        raise UsageError("--folds 1 holds out everyone", remedy="name 2 or more")
    splits = make_folds(data, folds, recipe.seed) if folds else roll_origin(data, rolling)
    found = cross_validate(
        data, splits, recipe, described, lambda n, e: typer.echo(f"fold {n}: {describe(e)}", err=True)
    )
    summary = summarize(found)
    summary["by"] = "users" if folds else "time"
    title = f"{len(found)} folds by {summary['by']}"
    rows: dict[str, dict[str, Any]] = {
        str(n): {
            "learnt": fold.learnt_events,
            "judged": fold.judged_events,
            "epochs": fold.epochs,
            **fold.figures,
        }
        for n, fold in enumerate(found, 1)
    }
    if all(row.keys() == rows["1"].keys() for row in rows.values()):
        show_figures(title, rows)
    for name, figure in summary["figures"].items():
        typer.echo(f"{name}: {figure['mean']:.4f} ± {figure['sd']:.4f}")
    if recipe.validation.by == "none" and not recipe.stages:
        recipe = msgspec.structs.replace(recipe, epochs=summary["epochs"])
    return summary, recipe


@app.command("evaluate")
def evaluate_command(
    run: Annotated[Path, typer.Argument(help="A run folder that `fit` wrote.")],
    config: options.Config = None,
    start: Annotated[str, typer.Option("--from", help="Judge what came from this instant on.")] = "",
    last: Annotated[bool, typer.Option("--last", help="Judge everyone's last event: leave-one-out.")] = False,
    input: options.Input = "",
    format: options.Form = "events",
    kafka: options.Kafka = "",
    topic: options.Topic = "",
    threads: options.Threads = 2,
) -> None:
    """Judge the model on what came after its training: lists, risks and values, whichever it has.

    Lists: each basket against the list that stood before it; nothing is excluded, and every item competes; in
    all, and by the user's lifecycle state. Risks: who stays away. Values: MAE and RMSE. With --last instead:
    where everyone's last item stands among all items, and among those that the user had not had. The figures
    go into the run's record, and from there into the bundle's manifest.
    """
    torch.set_num_threads(threads)
    loaded = runs.load_run(run)
    if last:
        data = options.read_data(input, kafka, topic, config, loaded.item_ids, loaded.recipe.contexts, format)
        rows = judge_last(loaded, data)
        runs.add_metrics(run, {"leave_one_out": rows})
        show_figures("everyone's last item, ranked among all", rows)
        return
    if not start or config is None:
        raise UsageError("--from and --config, or --last", remedy="say what is to be judged")
    from_ms = options.read_time(start, "--from")
    if loaded.record.until_ms is None or from_ms < loaded.record.until_ms:
        raise UsageError(
            "the model was trained on part of this span", remedy="fit with --until, and no later"
        )
    data = options.read_data(input, kafka, topic, config, loaded.item_ids, loaded.recipe.contexts)
    if len(data.item_ids) > len(loaded.item_ids):
        raise UsageError("the events hold items that the run does not know", remedy="fit with --items")
    if loaded.recipe.next_item.weight:
        quality, states, figures = judge_lists(loaded, data, config, from_ms)
        runs.add_metrics(run, {"next_basket": {"from": start, **figures}})
        show_quality(quality, states)
    if loaded.model.hazard is not None:
        risk, leads, figures = judge_risks(loaded, data, config, from_ms)
        runs.add_metrics(run, {"risk": {"from": start, **figures}})
        show_risk(risk, leads)
        plot_reliability(run / runs.RELIABILITY, risk.reliability, "reliability of the risk")
    if loaded.model.value is not None:
        rows = judge_values(loaded, data, from_ms)
        runs.add_metrics(run, {"value": {"from": start, **rows}})
        show_figures("values", rows)


@app.command("join")
def join_command(
    members: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders that `fit` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.")],
    weight: Annotated[
        list[float] | None,
        typer.Option("--weight", "-w", help="Of a run's scores, in the order of the runs; none: all alike."),
    ] = None,
) -> None:
    """Make one model of several: an item's score is the weighted sum of theirs.

    Equally good runs, of different encoders or of one recipe with different seeds, often do better together;
    a user's state and a step cost what theirs cost together. The result is a run: `evaluate` says whether it
    is worth it, `ebbtide-export` what it costs. All runs must have learnt from the same events. A churn head
    is that of the first run that has one.
    """
    from models.join import join_runs

    if len(members) < 2:
        raise UsageError("one run is no ensemble", remedy="name two or more")
    joined = join_runs(members, weight or ())
    runs.write_run(out, joined)
    config = joined.model.config
    typer.echo(
        f"{out}: {config.encoder}, {config.embedding_size} dimensions,"
        f" {4 * joined.model.state_size:,} bytes a user"
    )


@app.command("explain")
def explain_command(
    run: Annotated[Path, typer.Argument(help="A run folder that `fit` wrote.")],
    user: Annotated[str, typer.Option("--user", "-u", metavar="ID", help="The user_id to explain.")],
    config: options.Config = None,
    input: options.Input = "",
    format: options.Form = "events",
    kafka: options.Kafka = "",
    topic: options.Topic = "",
    k: Annotated[int, typer.Option("--k", min=1, help="Items of the list.")] = 10,
    last: Annotated[int, typer.Option("--last", min=0, help="How many past events to leave out.")] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON instead of a page.")] = False,
    threads: options.Threads = 2,
) -> None:
    """Explain the list after a user's last event, before there is a bundle.

    Each of the last events is left out once: which items come and go, and by how much every score moves. And
    what each score is made of: history, context, prior. `ebbtide explain` does the same for a bundle, with
    windows, lifecycle and policy folded anew.
    """
    from models.influence import explain_user

    torch.set_num_threads(threads)
    loaded = runs.load_run(run)
    data = options.read_data(input, kafka, topic, config, loaded.item_ids, loaded.recipe.contexts, format)
    session_gap_ms = load_config(config).time.session_gap_ms if config else None
    explanation = explain_user(loaded, data, user, k=k, last=last, session_gap_ms=session_gap_ms)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(explanation)).decode())
        return
    from models.influence_page import show

    show(explanation)


@app.command("tune")
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

    The best recipe is written to OUT/best.json: give it to `fit`.
    """
    from models.tune import read_space, tune

    torch.set_num_threads(threads)
    base = read_recipe(recipe, set or [])
    catalogue = options.read_catalogue(items)
    data = options.read_data(input, kafka, topic, config, list(catalogue), base.contexts, format)
    if until:
        data = data.before(options.read_time(until, "--until"))
    data, _ = clean(data, base.cleaning)

    def show(number: int, value: float | None, best: float | None) -> None:
        told = "cut short" if value is None else f"{value:.4f}"
        typer.echo(f"trial {number}: {told}; best {np.nan if best is None else best:.4f}", err=True)

    found = tune(
        data, base, read_space(space), out, trials=trials, minutes=minutes, on_trial=show,
        describe=lambda recipe: runs.describe(data.item_ids, catalogue, recipe),
    )  # fmt: skip
    runs.write_recipe(out / "best.json", found.recipe)
    typer.echo(
        f"{base.validation.measure} {found.value:.4f}, the best of {found.trials} trials: {out / 'best.json'}"
    )
    for key, value in found.params.items():
        typer.echo(f"  {key} = {value}")


def main() -> None:
    """Run the program with the arguments of the command line."""
    app(prog_name="ebbtide-train")
