"""`ebbtide user`: one user of a running group, now or as of an offset."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.commands import options


def user(
    user_id: Annotated[str, typer.Argument(help="The user_id to look up.")],
    config_file: options.ConfigFile,
    at: Annotated[
        int | None,
        typer.Option("--at", metavar="OFFSET", min=0, help="As of this offset of the user's partition."),
    ] = None,
    events: Annotated[
        int,
        typer.Option("--events", metavar="N", min=0, help="How many past events to leave out, one by one."),
    ] = 50,
    as_json: options.AsJson = False,
) -> None:
    """Show one user: state, windows, lifecycle with its evidence, deadline, last list, and why.

    Now: the committed row, as a worker would restore it. With --at: rebuilt from the log as of an offset. Why
    is found by leaving each of the last events out and making the list again, which needs a log that reaches
    back to where the group began; else the output topics say what they still hold.
    """
    config = options.read_config(config_file)
    options.check_client_settings(config)

    from stream.clock import SystemClock
    from stream.explain_page import show
    from stream.upkeep.user import Looker

    look = Looker(config, options.open_broker(config), user_id, SystemClock()).look(at, events)
    if as_json:
        typer.echo(look.to_json())
        return
    origin = "as committed" if look.committed else "rebuilt from the log"
    typer.echo(f"partition {look.partition}, as of offset {look.offset:,}, {origin}")
    for note in look.notes:
        typer.echo(f"note: {note}")
    show(look.explanation, config)
