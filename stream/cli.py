"""The program `ebbtide`: its commands put together, and what becomes of their errors.

    exit 0   done; bad records that became dead letters are no fault
    exit 1   a fault: a broken file, the broker, the bundle
    exit 2   wrong usage or config; nothing was begun

An error that was to be expected is a sentence on stderr; its traceback is for `--debug`. Any other error is a
defect of Ebbtide, and shows its traceback.
"""

from __future__ import annotations

import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from stream.commands.check import check
from stream.commands.control import control
from stream.commands.demo import demo
from stream.commands.dlq import dlq
from stream.commands.explain import explain
from stream.commands.init import init
from stream.commands.rekey import rekey
from stream.commands.repartition import repartition
from stream.commands.replay import replay
from stream.commands.run import run
from stream.commands.schema import schema
from stream.commands.topics import topics
from stream.commands.user import user
from stream.commands.verify import verify
from stream.errors import EbbtideError, UsageError


class Commands(TyperGroup):
    """The commands; errors of the domain end them with a sentence and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except EbbtideError as error:
            fail(str(error), debug=ctx.params["debug"])
            if isinstance(error, UsageError) and ctx.invoked_subcommand:
                typer.echo(f"help: {ctx.command_path} {ctx.invoked_subcommand} --help", err=True)
            raise typer.Exit(error.exit_code) from error
        except BrokenPipeError:
            raise  # the reader of our output has enough: Typer ends quietly
        except OSError as error:
            place = f"{error.filename}: " if error.filename else ""
            fail(place + (error.strerror or str(error)), debug=ctx.params["debug"])
            raise typer.Exit(1) from error


def fail(text: str, *, debug: bool) -> None:
    """Say on stderr what went wrong, with the traceback of the error in hand where `debug`."""
    if debug:
        typer.echo(traceback.format_exc(), err=True)
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(text, err=True)


def show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ebbtide {version('ebbtide')}")
        raise typer.Exit


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
    epilog="Exit codes: 0 done (dead letters are no fault), 1 a fault, 2 wrong usage or config. "
    "Every command has its own --help.",
)


@app.callback()
def ebbtide(
    version: Annotated[
        bool, typer.Option("--version", callback=show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error too.")] = False,
) -> None:
    """Recommendations and user lifecycle from click events on Kafka, exactly once.

    Ebbtide reads events, keeps windows and a lifecycle for every user, steps an encoder by each event, and
    writes fresh recommendations, lifecycle transitions and churn alerts to topics.

    Begin with `ebbtide demo`: a real year of retail events, nothing else to install. Then your own:
    `ebbtide init` writes a config, `ebbtide replay` runs a file through the engine, and
    `ebbtide run` does the same on Kafka.
    """


TRY, RUN, LOOK, MEND = "Try it", "Run it on Kafka", "Look into it", "Mend and move"

app.command(rich_help_panel=TRY)(demo)
app.command(rich_help_panel=TRY)(init)
app.command(rich_help_panel=TRY)(replay)
app.command(rich_help_panel=RUN)(check)
app.command(rich_help_panel=RUN)(topics)
app.command(rich_help_panel=RUN)(run)
app.command(rich_help_panel=LOOK)(explain)
app.command(rich_help_panel=LOOK)(user)
app.command(rich_help_panel=LOOK)(verify)
app.add_typer(dlq, name="dlq", rich_help_panel=MEND)
app.add_typer(control, name="control", rich_help_panel=MEND)
app.command(rich_help_panel=MEND)(rekey)
app.command(rich_help_panel=MEND)(repartition)
app.command(rich_help_panel=LOOK)(schema)


def main() -> None:
    """Run the program with the arguments of the command line."""
    app(prog_name="ebbtide")
