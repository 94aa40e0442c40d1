"""`ebbtide control`: commands to a running group."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.commands import options

control = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Command a running group through its control topic.",
)


@control.callback()
def only_groups() -> None:
    """Command a running group through its control topic."""


@control.command()
def erase(
    user_id: Annotated[str, typer.Argument(help="The user_id to forget.")], config_file: options.ConfigFile
) -> None:
    """Forget a user: the row goes, and what the state topic holds of it.

    The workers obey within seconds, exactly once, and note it in the journal. Events that come later make a
    new row. What was published before, and the events themselves, stay until the retention of their topics:
    erase them there too where the law asks for it.
    """
    config = options.read_config(config_file)
    options.check_client_settings(config)

    from stream.clock import SystemClock
    from stream.upkeep.command import erase as command_erase

    command_erase(options.open_broker(config), config, user_id, SystemClock())
    typer.echo(f"written to {config.topics.control}; `ebbtide user` shows when it is done")
