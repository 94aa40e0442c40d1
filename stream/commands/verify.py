"""`ebbtide verify`: fold the log again, and hold what was committed against it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from stream.commands import options
from stream.errors import UsageError


def verify(
    config_file: options.ConfigFile,
    from_: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="OFFSET",
            help="Where to begin: `start`, or an offset of the only partition or the one of --partition.",
        ),
    ] = "start",
    partition: Annotated[
        int | None, typer.Option("--partition", metavar="N", min=0, help="Verify this partition alone.")
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="How many differences to show.")
    ] = 20,
    progress: Annotated[
        bool | None,
        typer.Option("--progress/--no-progress", help="A progress bar; by default on a terminal."),
    ] = None,
) -> None:
    """Fold the log and the journal again, and compare every user and every output with what was committed.

    Workers may go on meanwhile: the comparison is made at what is committed now. The exit code is 0 if all is
    equal, 1 if something differs. Where the log no longer reaches back to where the group began, only users
    whose whole history it holds are compared, and the report says how many are not.
    """
    config = options.read_config(config_file)
    begin = None if from_ == "start" else read_offset(from_)
    options.check_client_settings(config)

    from stream.upkeep.verify import verify_group
    from stream.upkeep.verify_page import Bar, to_text

    broker = options.open_broker(config)
    with Bar(shown=sys.stderr.isatty() if progress is None else progress) as bar:
        reports = verify_group(config, broker, begin=begin, only=partition, told=bar.advance)
    typer.echo(to_text(reports, limit))
    if wrong := sum(report.wrong for report in reports):
        typer.echo(f"{wrong:,} {'difference' if wrong == 1 else 'differences'}", err=True)
        raise typer.Exit(1)


def read_offset(text: str) -> int:
    """Return the offset. Raises UsageError if it is none."""
    if not text.isdigit():
        raise UsageError(f'"{text}" is no offset', place="--from", remedy="write `start` or a number")
    return int(text)
