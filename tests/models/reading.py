"""A small place to try out how the programs read: events, a config and a recipe; and how to run them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from models import cli
from tests.models.clicks import write_clicks

RECIPE = 'embedding_size = 8\nencoder_config = { hidden = 8 }\nepochs = 1\nvalidation = { by = "last" }\n'
#: Of a table with ratings.
HEAD = "user_id:token\titem_id:token\ttimestamp:float\trating:float\n"


def write_place(folder: Path) -> Path:
    """Write the events of twenty users, a config and a recipe into the folder, and return it."""
    write_clicks(folder / "clicks.jsonl", users=20, days=30)
    (folder / "ebbtide.toml").write_text('[events]\nkinds = { view = "engagement", buy = "conversion" }\n')
    (folder / "recipe.toml").write_text(RECIPE)
    return folder


def run(*words: Any, app: Any = cli.app) -> Any:
    """Run a program: what it refuses is a sentence, never a traceback."""
    ran = CliRunner().invoke(app, [str(word) for word in words])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), repr(ran.exception)
    return ran


def fit(at: Path, *words: Any, input: str = "clicks.jsonl", out: str = "run") -> Any:
    """Fit what is in the place, with its config if the input is events."""
    given = ("--config", at / "ebbtide.toml") if "--format" not in words else ()
    fixed = ("--recipe", at / "recipe.toml", "--out", at / out, "--threads", 1)
    return run("fit", *fixed, "--input", at / input, *given, *words)
