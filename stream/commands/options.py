"""Options that several commands share, and how they become a config and a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream.errors import UsageError

if TYPE_CHECKING:
    from stream.broker import Broker
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


def check_client_settings(config: Config) -> None:
    """Raise ConfigError if librdkafka refuses a setting of `[kafka.client]`."""
    from stream.check import check_client
    from stream.errors import ConfigError

    if faults := check_client(config):
        raise ConfigError(faults, place=config.place)
