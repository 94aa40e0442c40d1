"""`ebbtide demo`: a real year of retail events, to watch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.commands import options
from stream.errors import UsageError


def demo(
    kafka: Annotated[
        str | None,
        typer.Option("--kafka", metavar="HOST:PORT", help="Through this Kafka, for any client to look into."),
    ] = None,
    kafka_home: Annotated[
        Path | None,
        typer.Option(
            "--kafka-home", metavar="DIR", help="Start an Apache Kafka from its folder, and use it."
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            "--speed", metavar="DAYS", min=0.01, help="Slow the year down to so many days a second."
        ),
    ] = None,
    out: Annotated[Path, options.OutFolder] = Path("demo-out"),
) -> None:
    """Watch a real year of retail events go through the engine.

    2,377 households' purchases, coupons and campaigns are published to a broker inside this process, and the
    very worker of production reads them: recommendations beside what was just bought, the lifecycle of the
    households, alerts that open and resolve. It ends by itself, with a sum that adds up, the quality of the
    lists on the part of the year that the model never saw, and the outputs as files.
    """
    if kafka and kafka_home:
        raise UsageError("--kafka and --kafka-home exclude each other", remedy="leave one of them out")
    if kafka_home and not (kafka_home / "libs").is_dir():
        remedy = "name the folder of an unpacked Apache Kafka"
        raise UsageError(f"{kafka_home} has no libs folder", place="--kafka-home", remedy=remedy)

    from stream.demo.run import run_demo

    run_demo(out=out, kafka=kafka, kafka_home=kafka_home, speed=speed)
