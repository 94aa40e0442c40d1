"""The program `ebbtide-train`: from events to a model, how good it is, and which recipe is best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
import typer

from models import options
from models import run as runs
from models.checkpoint import Epoch
from models.clean import clean
from models.crossvalidate import cross_validate, summarize
from models.dataset import Sequences
from models.judge_last import judge_last
from models.judge_run import judge_lists, judge_risks, judge_values
from models.judged_plots import plot_last, plot_lists, plot_risk, plot_values
from models.plots import plot_learning_curve
from models.recipe import Recipe, read_recipe
from models.recommender import Recommender
from models.sequences import without_last
from models.show import (
    describe,
    epochs_shown,
    show_figures,
    show_last,
    show_notes,
    show_plots,
    show_quality,
    show_risk,
    show_run,
)
from models.train import Described, count_epochs, fit, make_model, refuse_without_last
from models.tune_command import tune_command
from models.validate import hold_out, make_folds, roll_origin
from models.vectors_command import vectors_command
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


Out = Annotated[Path, typer.Option("--out", "-o", help="The run folder to write.")]
Folds = Annotated[int, typer.Option("--folds", min=0, help="First judge the recipe on k folds of users.")]
Rolling = Annotated[int, typer.Option("--rolling", min=0, help="First judge it on k spans of time.")]
LastOut = Annotated[
    bool, typer.Option("--last", help="Leave everyone's last event out, for `evaluate --last`.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from where a killed run was.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace a finished run that is there.")]


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
    out: Out,
    config: options.Config = None,
    input: options.Input = "",
    format: options.Form = "events",
    kafka: options.Kafka = "",
    topic: options.Topic = "",
    items: options.Items = None,
    until: options.Until = "",
    set: options.Settings = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Override the recipe's seed.")] = None,
    folds: Folds = 0,
    rolling: Rolling = 0,
    last: LastOut = False,
    resume: Resume = False,
    overwrite: Overwrite = False,
    threads: options.Threads = 2,
) -> None:
    """Train a model and write its run folder.

    The events go through the very fold that serves, so that the model sees what it will see in production.
    With --folds or --rolling the recipe is judged first; then the model is trained on everything, for as many
    epochs as were best there unless the recipe holds something out by itself.
    """
    torch.set_num_threads(threads)
    if not (resume or overwrite):
        runs.refuse_finished(out)
    chosen = choose(recipe, set, seed)
    catalogue = options.read_catalogue(items)
    data = options.read_data(input, kafka, topic, config, list(catalogue), chosen.contexts, format)
    data, until_ms, dropped = cut_to_size(data, chosen, until, last)
    described = runs.describe(data.item_ids, catalogue, chosen)
    digest = runs.digest_of(chosen, data, described, folds, rolling)
    if resume and not overwrite and runs.is_finished(out, digest):
        typer.echo(f"{out}: is finished, of this recipe, these data and items: nothing is left to do")
        return
    judged, chosen = judge_recipe(data, chosen, described, folds, rolling)
    checkpoint = find_checkpoint(out, chosen, data, described, resume=resume)
    model, history = train(data, chosen, described, checkpoint)
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
        digest=digest,
    )
    runs.save_run(out, model, data, chosen, record)
    runs.forget_checkpoints(checkpoint)
    plot_learning_curve(out / runs.CURVE, history, out.name)
    show_run(out, record, chosen, model)


def train(
    data: Sequences, recipe: Recipe, described: Described | None, checkpoint: Path
) -> tuple[Recommender, list[Epoch]]:
    """Train the recipe's model, and show how it goes."""
    split = hold_out(data, recipe.validation, recipe.seed)
    model = make_model(split.learn, recipe, described)
    with epochs_shown("training", count_epochs(recipe)) as on_epoch:
        history = fit(model, data, recipe, on_epoch, split=split, checkpoint=checkpoint)
    return model, history


def find_checkpoint(
    out: Path, recipe: Recipe, data: Sequences, described: Described | None, *, resume: bool
) -> Path:
    """Return where the run's checkpoint is, and say so if there is only one that it cannot go on from."""
    checkpoint = runs.checkpoint_of(out, recipe, data, described, resume=resume)
    if resume and not checkpoint.exists() and any(out.glob("checkpoint-*.pt")):
        typer.echo(
            "the checkpoint there belongs to other data, other items or another recipe: this run begins anew",
            err=True,
        )
    return checkpoint


def cut_to_size(
    data: Sequences, recipe: Recipe, until: str, last: bool
) -> tuple[Sequences, int | None, dict[str, int]]:
    """Return what is learnt from, until when it goes, and how many events each rule of cleaning dropped."""
    if last:
        refuse_without_last(recipe, "--last")
    data, until_ms = options.cut_until(data, until)
    data, dropped = clean(data, recipe.cleaning)
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
    if not folds and not rolling:
        return {}, recipe
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
    baselines: Annotated[
        bool, typer.Option("--baselines/--no-baselines", help="Of --last: all of them, or popularity alone.")
    ] = True,
    input: options.Input = "",
    format: options.Form = "events",
    kafka: options.Kafka = "",
    topic: options.Topic = "",
    threads: options.Threads = 2,
) -> None:
    """Judge the model on what came after its training: lists, risks and values, whichever it has.

    Lists: each basket against the list that stood before it; nothing is excluded, and every item competes; in
    all, and by the user's lifecycle state. Risks: who stays away. Values: MAE and RMSE. With --last instead:
    where everyone's last item stands among all items, and among those that the user had not had. Baselines
    stand in the same tables. The figures go into the run's record, and from there into the bundle's manifest;
    each table is drawn too, as an SVG in the run's folder.
    """
    torch.set_num_threads(threads)
    loaded = runs.load_run(run)
    if last:
        data = options.read_data(input, kafka, topic, config, loaded.item_ids, loaded.recipe.contexts, format)
        evaluate_last(run, loaded, data, baselines)
        return
    config = choose_config(loaded, config, start, format)
    from_ms = options.read_time(start, "--from")
    if loaded.record.until_ms is None or from_ms < loaded.record.until_ms:
        raise UsageError(
            "the model was trained on part of this span", remedy="fit with --until, and no later"
        )
    data = options.read_data(input, kafka, topic, config, loaded.item_ids, loaded.recipe.contexts, format)
    options.warn_of_end(data)
    if len(data.item_ids) > len(loaded.item_ids):
        raise UsageError("the events hold items that the run does not know", remedy="fit with --items")
    if config and loaded.recipe.next_item.weight:
        quality, states, figures, notes = judge_lists(loaded, data, config, from_ms)
        runs.add_metrics(run, {"next_basket": {"from": start, **figures}})
        show_notes(notes)
        show_quality(quality, states)
        show_plots(plot_lists(run, quality, states))
    if config and loaded.model.hazard is not None:
        risk, leads, figures = judge_risks(loaded, data, config, from_ms)
        runs.add_metrics(run, {"risk": {"from": start, **figures}})
        show_risk(risk, leads)
        show_plots(plot_risk(run, risk, leads))
    if loaded.model.value is not None:
        rows = judge_values(loaded, data, from_ms)
        runs.add_metrics(run, {"value": {"from": start, **rows}})
        show_figures("values", rows)
        show_plots(plot_values(run, rows))


def choose_config(run: runs.Run, config: Path | None, start: str, form: str) -> Path | None:
    """Return the config by which lists and risks are judged from an instant on, None for item sequences.

    Those are judged by their values alone. Raises UsageError if nothing can be judged.
    """
    if not start or (form == "events" and config is None):
        raise UsageError("--from and --config, or --last", remedy="say what is to be judged")
    if form == "events":
        return config
    if form != "atomic":
        raise UsageError("item sequences have no times", place="--from", remedy="judge lists by --last")
    if run.model.value is None:
        raise UsageError(
            "of item sequences values alone are judged by time", place="--from", remedy="use --last for lists"
        )
    if run.recipe.next_item.weight or run.model.hazard is not None:
        typer.echo("of item sequences values alone are judged by time; --last judges lists", err=True)
    return None


def evaluate_last(folder: Path, run: runs.Run, data: Sequences, baselines: bool) -> None:
    """Judge everyone's last event, and note, show and draw what was found."""
    found = judge_last(
        run, data, baselines=baselines, tell=lambda name: typer.echo(f"judging {name} …", err=True)
    )
    by_state = {"leave_one_out_by_lifecycle": found.states} if found.states else {}
    runs.add_metrics(folder, {"leave_one_out": found.rows, **by_state})
    show_notes(found.notes)
    show_last(found)
    show_plots(plot_last(folder, found))


@app.command("join")
def join_command(
    members: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run folders that `fit` wrote.")],
    out: Out,
    weight: Annotated[
        list[float] | None,
        typer.Option("--weight", "-w", help="Of a run's scores, in the order of the runs; none: all alike."),
    ] = None,
    overwrite: Overwrite = False,
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
    if out.resolve() in {member.resolve() for member in members}:
        raise UsageError("is one of the runs to join", place=str(out), remedy="name another folder")
    if not overwrite:
        runs.refuse_finished(out)
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


app.command("tune")(tune_command)
app.command("vectors")(vectors_command)


def main() -> None:
    """Run the program with the arguments of the command line."""
    app(prog_name="ebbtide-train")
