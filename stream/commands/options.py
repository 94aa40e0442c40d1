"""Options that several commands share, and how they become a config and a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.broker import Broker, Identity
    from stream.config import Config

ConfigFile = Annotated[
    Path,
    typer.Option("--config", "-c", metavar="FILE", help="The config; `ebbtide init` writes one."),
]

ConfigFileOrDefaults = Annotated[
    Path | None,
    typer.Option("--config", "-c", metavar="FILE", help="The config; without one, the defaults hold."),
]

BundleFolder = Annotated[
    Path | None,
    typer.Option("--bundle", "-b", metavar="DIR", help="The bundle, instead of the config's bundle.path."),
]

NoModel = Annotated[
    bool,
    typer.Option("--no-model", help="No model and no recommendations: windows, lifecycle and alerts alone."),
]

InputFile = Annotated[
    str,
    typer.Option(
        "--input", "-i", metavar="FILE", help="Events, one JSON object a line; .gz too; - is stdin."
    ),
]

OutFolder = typer.Option("--out", "-o", metavar="DIR", help="The folder for the outputs.")

Now = Annotated[
    int | None,
    typer.Option(
        "--now",
        metavar="MS",
        help="Stands in for the records' timestamps, in epoch milliseconds: events too far ahead of it "
        "become dead letters. Without it nothing is too far ahead.",
    ),
]

ItemsFile = Annotated[
    Path | None,
    typer.Option(
        "--items", metavar="FILE", help="Items' attributes and withdrawals, one JSON object a line."
    ),
]

AsJson = Annotated[bool, typer.Option("--json", help="As JSON instead of a page.")]


def read_config(path: Path | None) -> Config:
    """Load the config that was named, or the defaults. Raises ConfigError."""
    from stream.config_load import load_config, parse_config

    return load_config(path) if path else parse_config(place="defaults")


def choose_bundle(config: Config, bundle: Path | None, no_model: bool) -> Path | None:
    """Return the bundle to use, or None for none.

    Raises UsageError if neither a bundle nor `--no-model` was given, if both were, or if there is no folder.
    """
    if no_model:
        if bundle:
            raise UsageError("--bundle and --no-model exclude each other", remedy="leave one of them out")
        return None
    chosen = bundle or config.bundle.path
    if chosen is None:
        raise UsageError(
            "there is no model",
            remedy="give --bundle DIR (or bundle.path in the config), or --no-model for windows, lifecycle "
            "and alerts alone",
        )
    if not chosen.is_dir():
        place = "--bundle" if bundle else f"{config.place}, bundle.path"
        raise UsageError(f"there is no folder {chosen}", place=place, remedy="a bundle holds a manifest.json")
    return chosen


def check_input(path: str, option: str = "--input") -> None:
    """Raise UsageError if there is no such file to read; "-" is standard input."""
    if path != "-" and not Path(path).exists():
        raise UsageError(f"there is no file {path}", place=option)
    if path != "-" and Path(path).is_dir():
        raise UsageError(f"{path} is a folder", place=option, remedy="name a file with one event a line")


def open_broker(config: Config) -> Broker:
    """Return Kafka, as the config names it."""
    from stream.assembly import connect

    return connect(config)


def open_broker_as(config: Config, identity: Identity) -> Broker:
    """Return Kafka as the config names it, for somebody else than a worker."""
    from stream.assembly import connect

    return connect(config, identity)


def read_since(text: str) -> int:
    """Return the moment that an option names, in epoch milliseconds: a time, or a duration before now.

    Raises UsageError.
    """
    from stream.clock import SystemClock
    from stream.config_values import parse_duration
    from stream.times import parse_time

    duration_ms, moment_ms = parse_duration(text), parse_time(text)
    if duration_ms is not None:
        return SystemClock().now_ms() - duration_ms
    if moment_ms is None:
        remedy = 'write a time as "2026-01-31T00:00:00Z", or a duration before now as "2h"'
        raise UsageError(f'"{text}" is neither a time nor a duration', place="--since", remedy=remedy)
    return moment_ms


def check_client_settings(config: Config) -> None:
    """Raise ConfigError if librdkafka refuses a setting of `[kafka.client]`."""
    from stream.check import check_client
    from stream.errors import ConfigError

    if faults := check_client(config):
        raise ConfigError(faults, place=config.place)
