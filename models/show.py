"""What the commands of `ebbtide-train` show: progress, and tables of figures."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from models.checkpoint import Epoch
from models.ensemble import Model
from models.evaluate import StateQuality
from models.judge_last import LastQuality
from models.list_quality import ListQuality
from models.recipe import Recipe
from models.risk_quality import LeadTime, RiskQuality
from models.run import Record
from stream.demo.quality import Estimate


@contextmanager
def epochs_shown(what: str, epochs: int) -> Iterator[Callable[[Epoch], None]]:
    """Show epochs as a progress bar, or as a line each where there is no terminal."""
    shown = sys.stderr.isatty()
    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(what, total=epochs)

        def on_epoch(epoch: Epoch) -> None:
            bar.update(task, completed=epoch.number, description=f"{what}: {describe(epoch)}")
            if not shown:
                typer.echo(f"{what}: {describe(epoch)}, {epoch.seconds:.1f} s", err=True)

        yield on_epoch


def describe(epoch: Epoch) -> str:
    held = "".join(f", {name} {epoch.held[name]:.4f}" for name in ("loss", "ndcg") if name in epoch.held)
    return f"epoch {epoch.number}, loss {epoch.loss:.4f}" + (f"; held out{held[1:]}" if held else "")


def show_run(folder: Path, record: Record, recipe: Recipe, model: Model) -> None:
    """Say what was learnt from, and how much co-occurrence counts if the recipe asks for it."""
    typer.echo(
        f"{folder}: {record.users:,} users, {record.events:,} events, {record.seconds:.0f} s of training"
    )
    if recipe.co_occurrence:
        counts = f"strength {model.near.strength:g}" if model.near else "left out, it helped nobody"
        typer.echo(f"co-occurrence: {counts}")


def show_last(found: LastQuality) -> None:
    """Show the rows of leave-one-out, and the model's by lifecycle state if the data tell it."""
    show_figures("everyone's last item, ranked among all, 95 % intervals over users", found.rows)
    if found.states:
        show_figures("the model's, by the user's state before the last event", found.states)


def show_quality(quality: ListQuality, states: Mapping[str, StateQuality]) -> None:
    title = f"{quality.baskets:,} baskets of {quality.users:,} users, 95 % intervals"
    measures = "MRR@10", "precision@10", "recall@10", "coverage", "Gini", "novelty", "diversity"
    table = _table(title, "list", "HR@10", "NDCG@10", *measures)
    for rival, found in quality.rivals.items():
        cells = (_known(value, ".4f") for value in found[2:])
        table.add_row(rival, _interval(found.hit_rate), _interval(found.ndcg), *cells)
    _print(table)
    table = _table(
        "by the user's state when the list was made", "state", "baskets", *("HR@10", "NDCG@10") * 2
    )
    for state, by in states.items():
        table.add_row(state, f"{by.baskets:,}", *(f"{value:.4f}" for value in (*by.listed, *by.buy_again)))
    table.caption = "the model's lists, then “buy again”"
    _print(table)


def show_risk(risk: RiskQuality, leads: Mapping[str, LeadTime]) -> None:
    title = f"risk: {risk.users:,} users at {risk.origins} instants, {risk.base_rate:.1%} stayed away"
    table = _table(title, "by", "AUC", "PR-AUC", "Brier")
    table.add_row("hazard head", _interval(risk.auc), _known(risk.pr_auc, ".4f"), f"{risk.brier:.4f}")
    recency = _interval(risk.auc_recency), _known(risk.pr_auc_recency, ".4f")
    table.add_row("recency alone", *recency, "")
    table.add_row("base rate", "0.5", f"{risk.base_rate:.4f}", f"{risk.brier_base_rate:.4f}")
    _print(table)
    table = _table("reliability", "risk", "stayed away", "questions")
    for said, true, count in risk.reliability:
        table.add_row(f"{said:.3f}", f"{true:.3f}", f"{count:,}")
    _print(table)
    table = _table(
        "at risk before dormant", "by", "silences", "dormant", "found", "days before", "wrong calls"
    )
    for name, lead in leads.items():
        found = _known(lead.found, ".1%"), _known(lead.lead_days, ".1f"), _known(lead.wrong, ".1%")
        table.add_row(name, f"{lead.silences:,}", f"{lead.dormant:,}", *found)
    _print(table)


def show_figures(title: str, rows: Mapping[str, Mapping[str, Any]]) -> None:
    """Show rows of equal columns."""
    columns = list(next(iter(rows.values())))
    table = _table(title, "", *columns)
    for name, cells in rows.items():
        table.add_row(name, *(_number(cells[column]) for column in columns))
    _print(table)


def show_notes(notes: Iterable[str]) -> None:
    """Say on stderr what is left out."""
    for note in notes:
        typer.echo(note, err=True)


def show_plots(paths: Iterable[Path]) -> None:
    for path in paths:
        typer.echo(f"plot: {path}")


def _known(value: float, form: str) -> str:
    """Return the number, or a dash for one that is unknown."""
    return "-" if math.isnan(value) else format(value, form)


def _number(value: Any) -> str:
    return (
        f"{value:.4f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else str(value)
    )


def _interval(estimate: Estimate | tuple[float, float, float]) -> str:
    value, low, high = estimate
    return "-" if math.isnan(value) else f"{value:.4f}  [{low:.4f}, {high:.4f}]"


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title)
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    return table


def _print(table: Table) -> None:
    """Print the table whole: where the terminal is narrower, or there is none, its lines are longer."""
    console = Console()
    console.width = max(
        console.width, console.measure(table, options=console.options.update(width=10_000)).maximum
    )
    console.print(table)
