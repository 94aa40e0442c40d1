"""`ebbtide repartition`: a group moved to topics with another number of partitions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.commands import options


def repartition(
    config_file: options.ConfigFile,
    to: Annotated[
        Path,
        typer.Option("--to", metavar="FILE", help="The config of the new group, its topics created already."),
    ],
) -> None:
    """Move a group's users and its place on the log to topics with another number of partitions.

    The new config names another group, and other topics for events, user_state and journal; the outputs need
    as many partitions as the new events. Stop the workers of both groups first: as long as one is a member,
    nothing is done. Rows, and what the old topic holds behind the last commit, are moved exactly once;
    stopped anywhere, it goes on when it is run again.
    """
    old, new = options.read_config(config_file), options.read_config(to)
    options.check_client_settings(old)

    from stream.clock import SystemClock
    from stream.upkeep.repartition import repartition as run_repartition

    moved = run_repartition(
        lambda identity: options.open_broker_as(old, identity),
        old,
        new,
        SystemClock(),
        told=lambda what, done, total: typer.echo(f"{what}: {done:,} of {total:,}", err=True),
    )
    rows = "rows were moved before" if moved.rows is None else f"moved {moved.rows:,} users"
    typer.echo(f"{rows}; copied {moved.records:,} records to {new.topics.events}")
    typer.echo(_NEXT.format(old=old.topics.events, new=new.topics.events, config=to, before=config_file))


_NEXT = """Next:

  1. Let the producers write to {new}.
  2. Run this again: it copies what came to {old} meanwhile.
  3. ebbtide run --config {config}
     Do not start workers with {before} any more: they would answer the copied events a second time."""
