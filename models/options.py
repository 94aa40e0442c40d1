"""What the commands of `ebbtide-train` share: their options, and how data are read."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import typer
from rich.console import Console

from models.dataset import Sequences, fold_events
from stream.config import Config as LoadedConfig
from stream.config_load import load_config
from stream.errors import InputError, UsageError
from stream.wire import Item

Recipe = Annotated[Path, typer.Option("--recipe", "-r", help="What to train, TOML (docs/recipes.md).")]
Input = Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="Events, JSON lines (`.gz` too).")]
Kafka = Annotated[str, typer.Option("--kafka", metavar="HOST:PORT", help="Read a topic instead of a file.")]
Topic = Annotated[str, typer.Option("--topic", help="The topic; without it the config's events topic.")]
Config = Annotated[
    Path | None, typer.Option("--config", "-c", help="The config that serves: it says what counts in events.")
]
Form = Annotated[
    Literal["events", "sequences", "bare", "atomic"],
    typer.Option(
        "--format",
        help="`events`; or item sequences, a user a line, with the user in front or `bare`; or RecBole's "
        "`atomic` files.",
    ),
]
Items = Annotated[Path | None, typer.Option("--items", help="Items with their attributes, JSON lines.")]
Until = Annotated[str, typer.Option("--until", help="Learn from events before this instant.")]
Threads = Annotated[int, typer.Option("--threads", min=1, help="Threads of torch.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key of the recipe: `epochs=3`.")
]


def read_data(
    input: str,
    kafka: str,
    topic: str,
    config: Path | None,
    item_ids: Sequence[str],
    contexts: Mapping[str, Sequence[str]],
    form: str = "events",
) -> Sequences:
    """Fold a file's or a topic's events, or read a file of sequences. Raises UsageError, InputError."""
    if bool(input) == bool(kafka):
        raise UsageError(
            "name either --input or --kafka", remedy="--input events.jsonl, or --kafka HOST:PORT"
        )
    console = Console(stderr=True)
    if form != "events":
        data = read_file(input, form)
    elif config is None:
        raise UsageError("events need a config", remedy="--config ebbtide.toml: it says what counts")
    else:
        with console.status(f"folding {Path(input).name if input else 'the topic'}"):
            data = _fold(input, kafka, topic, load_config(config), item_ids, contexts)
    console.print(f"{len(data.item):,} steps of {data.users:,} sequences, {len(data.item_ids):,} items")
    return data


def read_file(input: str, form: str) -> Sequences:
    """Read a file of sequences that were no events."""
    from models.sequences import read_atomic, read_sequences

    if not input:
        raise UsageError("a topic holds events", remedy="--input FILE with this --format")
    return read_atomic(input) if form == "atomic" else read_sequences(input, bare=form == "bare")


def _fold(
    input: str,
    kafka: str,
    topic: str,
    config: LoadedConfig,
    item_ids: Sequence[str],
    contexts: Mapping[str, Sequence[str]],
) -> Sequences:
    if input:
        return fold_events(input, config, item_ids, contexts)
    from models.sources import connect, fold_topic

    topic = topic or config.topics.events
    return fold_topic(connect(kafka, config, topic), topic, config, item_ids, contexts)


def read_events(
    input: str, config: Path, item_ids: Sequence[str], contexts: Mapping[str, Sequence[str]] | None = None
) -> Sequences:
    return read_data(input, "", "", config, item_ids, contexts or {})


def read_catalogue(path: Path | None) -> dict[str, Any]:
    """Return item id → attributes of the items that are not withdrawn."""
    if path is None:
        return {}
    content = path.read_bytes()
    lines = (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()
    decode = msgspec.json.Decoder(Item).decode
    found = {}
    for number, line in enumerate(lines):
        try:
            item = decode(line)
        except msgspec.MsgspecError as error:
            raise InputError(f"no item: {error}", place=f"{path}, line {number}") from error
        if item.attributes is not None:
            found[item.item_id] = item.attributes
    return found


def read_time(text: str, option: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: no time", remedy="write 2017-10-01T05:00:00Z") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
