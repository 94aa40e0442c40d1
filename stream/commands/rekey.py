"""`ebbtide rekey`: a topic of events with keys as they must be, made from one with others."""

from __future__ import annotations

from typing import Annotated

import typer

from stream.commands import options


def rekey(
    config_file: options.ConfigFile,
    to: Annotated[str, typer.Option("--to", metavar="TOPIC", help="The topic to write; made if missing.")],
    from_: Annotated[
        str | None, typer.Option("--from", metavar="TOPIC", help="The topic to read; else topics.events.")
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option("--partitions", metavar="N", min=1, help="Of a topic that is made; else as the other."),
    ] = None,
) -> None:
    """Copy a topic of events into another, keyed by user_id, each user in the partition of murmur2.

    For topics whose producers sent no keys, other keys, or used another partitioner. Values, headers and
    timestamps stay. It is transactional: stopped anywhere, it goes on where it was when it is run again, and
    no record comes twice.
    """
    config = options.read_config(config_file)
    source = from_ or config.topics.events
    options.check_client_settings(config)

    from stream.clock import SystemClock
    from stream.upkeep.copying import copy_identity
    from stream.upkeep.rekey import rekey as run_rekey

    broker = options.open_broker_as(config, copy_identity(source, to))
    copied = run_rekey(
        broker,
        config,
        source,
        to,
        SystemClock(),
        partitions=partitions,
        told=lambda done, total: typer.echo(f"{done:,} of {total:,} offsets", err=True),
    )
    typer.echo(f"copied {copied:,} records from {source} to {to}, keyed by user_id")
    if copied:
        typer.echo(_NEXT.format(source=source, to=to))


_NEXT = """Next:

  1. Let the producers write to {to}, keyed by user_id with murmur2 (librdkafka: partitioner=murmur2_random).
  2. Run this again: it copies what came to {source} meanwhile.
  3. In the config: topics.events = "{to}", and another kafka.group_id, topics.user_state and topics.journal,
     as offsets of {source} mean nothing there. worker.emit_from keeps the past from being published again."""
