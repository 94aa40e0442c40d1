"""`ebbtide topics`: the topics as they are and as they should be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands import options

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stream.broker import Topic
    from stream.config import Config


def topics(
    config_file: options.ConfigFile,
    create: Annotated[bool, typer.Option("--create", help="Create those that are missing.")] = False,
    partitions: Annotated[
        int,
        typer.Option("--partitions", metavar="N", min=1, help="Of the events topic, if it is created too."),
    ] = 8,
    replication: Annotated[
        int | None,
        typer.Option("--replication", metavar="N", min=1, help="Copies; by default as the broker has it."),
    ] = None,
) -> None:
    """Show the topics of a config, or create those that are missing.

    Outputs have as many partitions as the events; cleanup policy and retention follow from what a topic is
    for. A topic that exists is never changed: `ebbtide check` says what is wrong with it.
    """
    config = options.read_config(config_file)

    from stream.clock import SystemClock
    from stream.topics import plan, topic_names
    from stream.upkeep.logs import ask

    clock = SystemClock()
    options.check_client_settings(config)
    admin = options.open_broker(config).admin()
    try:
        names = list(topic_names(config).values())
        found = ask(lambda: admin.describe(names), clock)
        missing = plan(config, found, partitions=partitions, replication=replication or -1)
        if create and missing:
            admin.create(missing)
            found = ask(lambda: admin.describe(names), clock)
    finally:
        admin.close()
    typer.echo(describe(config, found, {topic.name for topic in missing} if create else set()))


def describe(config: Config, found: Mapping[str, Topic | None], created: set[str]) -> str:
    """Lay the topics out as a table of text, one line a role."""
    from stream.topics import topic_names

    lines = [f"{'role':16} {'topic':28} {'partitions':>10}  {'cleanup':8} state"]
    missing = 0
    for role, name in topic_names(config).items():
        topic = found.get(name)
        if topic is None:
            missing += 1
            lines.append(f"{role:16} {name:28} {'-':>10}  {'-':8} missing")
            continue
        cleanup = topic.configs.get("cleanup.policy", "delete")
        state = "created" if name in created else "there"
        lines.append(f"{role:16} {name:28} {topic.partitions:>10}  {cleanup:8} {state}")
    if missing:
        lines.append(f"\n{missing} missing; --create makes them")
    return "\n".join(lines)
