"""What the commands of `ebbtide-train` share: their options, and how data are read."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from models.dataset import Sequences, fold_events
from stream.config_load import load_config
from stream.errors import InputError, UsageError
from stream.wire import Item

Recipe = Annotated[Path, typer.Option("--recipe", "-r", help="What to train, TOML (docs/recipes.md).")]
Input = Annotated[str, typer.Option("--input", "-i", metavar="FILE", help="Events, JSON lines (`.gz` too).")]
Kafka = Annotated[str, typer.Option("--kafka", metavar="HOST:PORT", help="Read a topic instead of a file.")]
Topic = Annotated[str, typer.Option("--topic", help="The topic; without it the config's events topic.")]
Config = Annotated[Path, typer.Option("--config", "-c", help="The config that serves: it says what counts.")]
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
    config: Path,
    item_ids: Sequence[str],
    contexts: Mapping[str, Sequence[str]],
) -> Sequences:
    """Fold a file's or a topic's events."""
    if bool(input) == bool(kafka):
        raise UsageError(
            "name either --input or --kafka", remedy="--input events.jsonl, or --kafka HOST:PORT"
        )
    loaded = load_config(config)
    console = Console(stderr=True)
    if input:
        with console.status(f"folding {Path(input).name}"):
            data = fold_events(input, loaded, item_ids, contexts)
    else:
        from models.sources import connect, fold_topic

        topic = topic or loaded.topics.events
        with console.status(f"folding {topic}"):
            data = fold_topic(connect(kafka, loaded, topic), topic, loaded, item_ids, contexts)
    console.print(f"{len(data.item):,} steps of {data.users:,} sequences, {len(data.item_ids):,} items")
    return data


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
