"""`ebbtide schema`: JSON Schemas of the topics and files."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.commands import options
from stream.errors import UsageError


def schema(
    name: Annotated[
        str | None,
        typer.Argument(help="One topic or file, such as `events` or `users.jsonl`; without a name, all."),
    ] = None,
    config_file: options.ConfigFileOrDefaults = None,
) -> None:
    """Print the JSON Schemas of the topics and output files.

    They are made from the types that read and write them. With a config, the events' schema has its kinds
    and its names of the fields. Without a name: one object, by name.
    """
    import json

    from stream.config_values import suggest
    from stream.schema import schemas

    events = options.read_config(config_file).events if config_file else None
    found = schemas(events.kinds, events.fields) if events else schemas()
    if name is not None and name not in found:
        remedy = suggest(name, list(found)) or f"there are: {', '.join(found)}"
        raise UsageError(f'there is no schema of "{name}"', remedy=remedy)
    typer.echo(json.dumps(found if name is None else found[name], indent=2, ensure_ascii=False))
