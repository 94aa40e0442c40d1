"""`ebbtide init`: write a config for one's own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from stream.errors import UsageError


def init(
    preset: Annotated[
        str,
        typer.Option("--preset", "-p", help="What it is for: e-commerce, social, video, news or health."),
    ] = "e-commerce",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Where to; - is standard output.")
    ] = Path("ebbtide.toml"),
    force: Annotated[bool, typer.Option("--force", "-f", help="Overwrite the file if it exists.")] = False,
) -> None:
    """Write a config for your own data, every key explained.

    It starts from a preset; name your event kinds and fields in it, and leave the rest for later.
    """
    from stream.config_load import preset_names
    from stream.config_values import suggest
    from stream.init import commented_config

    if preset not in preset_names():
        remedy = suggest(preset, preset_names()) or f"presets: {', '.join(preset_names())}"
        raise UsageError(f'there is no preset "{preset}"', place="--preset", remedy=remedy)
    text = commented_config(preset)
    if str(out) == "-":
        typer.echo(text, nl=False)
        return
    try:
        with out.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(
            f"{out} exists", place="--out", remedy="--force overwrites it, --out FILE names another"
        ) from None
    typer.echo(_next_steps(preset, out))


def _next_steps(preset: str, out: Path) -> str:
    return f"""Wrote {out} from the preset {preset}. Next:

  1. In {out}, [events]: the kinds that your events have, and your names for their fields.
  2. Try it on a file of events, one JSON object a line:
       ebbtide replay --config {out} --input events.jsonl --out out --no-model
     out/summary.json adds up; out/dead-letters.jsonl says what did not fit, and why.
  3. On Kafka: kafka.bootstrap_servers and topics.events, then
       ebbtide check --config {out}
       ebbtide topics --config {out} --create
       ebbtide run --config {out}"""
