"""`ebbtide check`: everything that is wrong before a start, at once."""

from __future__ import annotations

import typer

from stream.commands import options


def check(config_file: options.ConfigFile) -> None:
    """Check config, bundle, broker and topics, and say everything that is wrong, with its remedy.

    Nothing is changed. The exit code is 0 if a worker can start, 1 if not, 2 if the config itself is wrong.
    """
    config = options.read_config(config_file)

    from stream.check import find_faults

    typer.echo(f"config   ok    {config.place}, meaning {config.meaning}")
    faults = 0
    for subject, findings in find_faults(config, options.open_broker):
        wrong = sum(not finding.note for finding in findings)
        faults += wrong
        typer.echo(f"{subject:8} {'WRONG' if wrong else 'ok'}")
        for place, what, remedy, note in findings:
            typer.echo(f"  {'note: ' if note else ''}{place}: {what}\n    → {remedy}")
    if faults:
        typer.echo(f"{faults} to mend before a worker can start", err=True)
        raise typer.Exit(1)
