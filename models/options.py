"""What the commands of `ebbtide-train` share: their options, and how data are read."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import typer
from rich.console import Console

from models.dataset import Sequences, fold_events, look_into
from stream.config import Config as LoadedConfig
from stream.config_load import load_config
from stream.core.rules import DAY_MS
from stream.errors import InputError, UsageError
from stream.times import TIME_MS_MAX
from stream.wire import Item

#: An event that lies so far behind this share of the others is likely to have a wrong time.
_USUAL_SHARE = 0.999
_FAR_MS = 365 * DAY_MS

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
        data = read_file(input, form, item_ids)
    elif config is None:
        raise UsageError("events need a config", remedy="--config ebbtide.toml: it says what counts")
    else:
        with console.status(f"folding {Path(input).name if input else 'the topic'}"):
            data = _fold(input, kafka, topic, load_config(config), item_ids, contexts)
    if data.read is not None and data.read.total > data.read.accepted:
        look = f" → {look_into(input)}" if data.read.dead_letters else ""
        typer.echo(data.read.describe() + look, err=True)
    console.print(f"{len(data.item):,} steps of {data.users:,} sequences, {len(data.item_ids):,} items")
    return data


def read_file(input: str, form: str, item_ids: Sequence[str] = ()) -> Sequences:
    """Read a file of sequences that were no events; known items come first in the table, as with events."""
    from models.sequences import read_atomic, read_sequences

    if not input:
        raise UsageError("a topic holds events", remedy="--input FILE with this --format")
    if form == "atomic":
        return read_atomic(input, item_ids)
    return read_sequences(input, bare=form == "bare", item_ids=item_ids)


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
    input: str,
    config: Path | None,
    item_ids: Sequence[str],
    contexts: Mapping[str, Sequence[str]] | None = None,
    form: str = "events",
) -> Sequences:
    return read_data(input, "", "", config, item_ids, contexts or {}, form)


def cut_until(data: Sequences, until: str) -> tuple[Sequences, int | None]:
    """Return the events before `until` and that instant; all of them and None if it is empty.

    Raises UsageError if there are none, or no times.
    """
    until_ms = read_time(until, "--until") if until else None
    if until_ms is not None:
        if not data.timed:
            raise UsageError("item sequences have no times", place="--until", remedy="leave it out")
        first = int(data.time_ms.min(initial=TIME_MS_MAX))
        data = data.before(until_ms)
        if not len(data.item):
            raise UsageError(
                f"no event before {until}", place="--until", remedy=f"the first is of {show_time(first)}"
            )
    warn_of_end(data)
    return data, until_ms


def warn_of_end(data: Sequences) -> None:
    """Name the last event if it lies so far behind the others that its time is likely to be wrong.

    Silences are watched until the last event, so one of the year 9999 makes everyone's last one endless.
    """
    if not data.timed or not len(data.item):
        return
    usual_ms = int(np.quantile(data.time_ms, _USUAL_SHARE, method="lower"))
    last = int(data.time_ms.argmax())
    if data.time_ms[last] - usual_ms > _FAR_MS:
        event = data.kinds[data.kind[last]]
        if data.item[last] >= 0:
            event += f" of {data.item_ids[data.item[last]]}"
        typer.echo(
            f"the last event, {event}, has the time {show_time(int(data.time_ms[last]))}, more than a year "
            f"after {_USUAL_SHARE:.1%} of the events: everyone's last silence goes on until then "
            f"→ fit with --until {show_time(usual_ms + 1000)}, or mend the event",
            err=True,
        )


def show_time(ms: int) -> str:
    return f"{datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=ms):%Y-%m-%dT%H:%M:%SZ}"


def read_catalogue(path: Path | None) -> dict[str, Any]:
    """Return item id → attributes of the items that are not withdrawn: an item's last line counts."""
    if path is None:
        return {}
    content = path.read_bytes()
    try:
        lines = (gzip.decompress(content) if path.suffix == ".gz" else content).splitlines()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(str(error), place=str(path), remedy="pack it anew with gzip") from error
    decode = msgspec.json.Decoder(Item).decode
    found: dict[str, Any] = {}
    for number, line in enumerate(lines, 1):
        try:
            item = decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise InputError(f"no item: {error}", place=f"{path}, line {number}") from error
        if item.attributes is None:
            found.pop(item.item_id, None)
        else:
            found[item.item_id] = item.attributes
    return found


def read_time(text: str, option: str) -> int:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{option} {text}: no time", remedy="write 2017-10-01T05:00:00Z") from error
    return round((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)
