"""`ebbtide replay`: the core over a file, without Kafka."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands import options
from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.wire import Summary


def replay(
    input_: options.InputFile,
    out: Annotated[Path, options.OutFolder],
    config_file: options.ConfigFileOrDefaults = None,
    bundle: options.BundleFolder = None,
    no_model: options.NoModel = False,
    now: options.Now = None,
    items: options.ItemsFile = None,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="A progress bar; by default on a terminal."),
    ] = None,
) -> None:
    """Run a file of events through the engine, without Kafka.

    Writes recommendations.jsonl, lifecycle.jsonl, churn-alerts.jsonl, dead-letters.jsonl, users.jsonl and
    summary.json. A bad line becomes a dead letter and stops nothing: the exit code is 0 when the input was
    read to its end.
    """
    config = options.read_config(config_file)
    chosen = options.choose_bundle(config, bundle, no_model)
    options.check_input(input_)
    if items is not None:
        options.check_input(str(items), "--items")
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is no folder", place="--out")

    from stream.replay import replay as run_replay

    shown = sys.stderr.isatty() if progress is None else progress
    summary = run_replay(input_, out, config, chosen, not no_model, now, items, shown)
    typer.echo(describe(summary, out))


def describe(summary: Summary, out: Path) -> str:
    """Say what a replay came to: the sum that must add up first."""
    dead = sum(summary.dead_letters.values())
    reasons = ", ".join(f"{reason} {n:,}" for reason, n in summary.dead_letters.items() if n)
    alerts = ", ".join(f"{status} {n:,}" for status, n in summary.alerts.items()) or "none"
    lines = (
        f"records in {summary.records_in:,} = accepted {summary.accepted:,} + duplicates "
        f"{summary.duplicates:,} + dead letters {dead:,}{f' ({reasons})' if reasons else ''}",
        f"users {summary.users:,}; transitions {sum(summary.transitions.values()):,}; alerts {alerts}",
        f"{summary.seconds:.1f} s, {summary.events_per_second:,.0f} events a second",
        f"written to {out}/",
    )
    return "\n".join(lines)
