"""`ebbtide dlq`: look into the dead letters, and send chosen ones again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from stream.commands import options
from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.upkeep.letters import Choice

Reason = Annotated[str | None, typer.Option("--reason", metavar="WORD", help="Only letters of this reason.")]
Partition = Annotated[
    int | None, typer.Option("--partition", metavar="N", min=0, help="Only letters of this partition.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="TIME", help="Only letters since a time, or since a duration ago: 2h."),
]

dlq = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Look into the dead letters: the records that could not be applied. Send chosen ones again.",
)


@dlq.command("list")
def list_letters(
    config_file: options.ConfigFile,
    reason: Reason = None,
    partition: Partition = None,
    since: Since = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=0, help="How many of the newest to name.")
    ] = 10,
    as_json: options.AsJson = False,
) -> None:
    """List the dead letters by reason, and name the newest."""
    config = options.read_config(config_file)
    choice = choose(None, reason, partition, since)

    from stream.clock import SystemClock
    from stream.upkeep.letters import read_letters, read_marks
    from stream.upkeep.letters_page import Page

    broker, clock = options.open_broker(config), SystemClock()
    page = Page(read_marks(broker, config, clock), limit)
    for letter in read_letters(broker, config, choice, clock):
        page.add(letter)
    typer.echo(page.to_json() if as_json else page.to_text())


@dlq.command()
def show(
    source: Annotated[str, typer.Argument(help="The letter's source: topic-partition-offset.")],
    config_file: options.ConfigFile,
) -> None:
    """Show one dead letter: its bytes, why it is one, and what to do."""
    config = options.read_config(config_file)

    from stream.clock import SystemClock
    from stream.upkeep.letters import read_letters, read_marks
    from stream.upkeep.letters_page import describe

    broker, clock = options.open_broker(config), SystemClock()
    choice = choose([source], None, None, None)
    letter = next(read_letters(broker, config, choice, clock), None)
    if letter is None:
        remedy = "`ebbtide dlq list` names them; older ones may have gone by the topic's retention"
        raise UsageError(f"there is no dead letter of {source}", remedy=remedy)
    typer.echo(describe(letter, replayed=source in read_marks(broker, config, clock)))


@dlq.command()
def replay(
    config_file: options.ConfigFile,
    sources: Annotated[
        list[str] | None, typer.Argument(help="Sources, topic-partition-offset; or use the filters.")
    ] = None,
    reason: Reason = None,
    partition: Partition = None,
    since: Since = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters that there are.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also those that were sent again before: they come twice then.")
    ] = False,
) -> None:
    """Send chosen dead letters again, as they came, exactly once.

    Mend first what made them dead letters: the config, or with `events.fields` the names of fields. What is
    still bad becomes a dead letter anew, with a source of its own. A letter that was sent again is marked in
    the control topic, in the same transaction, and is never sent a second time, unless with --again.
    """
    config = options.read_config(config_file)
    choice = choose(sources, reason, partition, since)
    if choice.everything and not everything:
        raise UsageError("no letter is chosen", remedy="name sources, a filter such as --reason, or --all")

    from stream.clock import SystemClock
    from stream.upkeep.letters_replay import job_identity, replay_letters

    broker = options.open_broker_as(config, job_identity(config))
    done = replay_letters(
        broker,
        config,
        choice,
        SystemClock(),
        again=again,
        told=lambda sent: typer.echo(f"{sent:,} sent", err=True),
    )
    typer.echo(f"sent {done.sent:,} again; {done.before:,} were sent before")


def choose(sources: list[str] | None, reason: str | None, partition: int | None, since: str | None) -> Choice:
    """Return the choice that the options make. Raises UsageError for a reason that there is not."""
    from stream.config_values import suggest
    from stream.dead_letters import REASONS
    from stream.upkeep.letters import Choice

    if reason is not None and reason not in REASONS:
        remedy = suggest(reason, list(REASONS)) or f"reasons: {', '.join(REASONS)}"
        raise UsageError(f'there is no reason "{reason}"', place="--reason", remedy=remedy)
    since_ms = None if since is None else options.read_since(since)
    return Choice(frozenset(sources) if sources else None, reason, partition, since_ms)
