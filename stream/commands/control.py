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


@control.command("roll-out")
def roll_out(config_file: options.ConfigFile) -> None:
    """Let the workers go over to the bundle that now lies in the folder of the config, without a restart.

    Put the new folder there first, on every worker's machine: by a rename, or a link that is turned, as the
    workers read the files of the old one until they are over. Each worker checks it, commits, makes its
    users' states anew and goes on, within the group; the journal says between which two records. A worker
    that finds another version there, or none, says so and keeps the bundle that it has.
    """
    config = options.read_config(config_file)
    options.check_client_settings(config)
    path = options.choose_bundle(config, None, no_model=False)
    assert path is not None

    from stream.bundle import open_bundle
    from stream.clock import SystemClock
    from stream.upkeep.command import roll_out as command_roll_out

    version = open_bundle(path).version
    command_roll_out(options.open_broker(config), config, version, SystemClock())
    typer.echo(f"written to {config.topics.control}: over to {version}; lists name the bundle they are from")
