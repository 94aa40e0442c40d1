"""The command `ebbtide-train vectors`: what an item's texts mean, as numbers beside its attributes."""

from __future__ import annotations

import gzip
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from models import options
from models.items.sentences import encode_sentences
from stream.errors import UsageError
from stream.item_features import is_number, words
from stream.wire import Item

#: Digits behind the point: the item encoder brings a vector to unit length again.
DIGITS: Final = 6


def vectors_command(
    items: Annotated[Path, typer.Option("--items", help="Items with their attributes, JSON lines.")],
    text: Annotated[
        list[str], typer.Option("--text", "-t", metavar="NAME", help="An attribute to read; may be repeated.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, for --items (`.gz` too).")],
    name: Annotated[str, typer.Option("--name", help="The attribute that gets the vector.")] = "sentence",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
) -> None:
    """Give items a vector of what their texts say, by a sentence encoder (all-MiniLM-L6-v2, 384 numbers).

    It is one more attribute of the item, a list of numbers, which a recipe names in `attributes` as others.
    An item without a text gets none. Items that come later, on the items topic, need theirs by the same
    command. It needs a package: `pip install 'ebbtide[sentences]'`.
    """
    if out.exists() and not overwrite:
        raise UsageError("is there already", place=str(out), remedy="name another file, or use --overwrite")
    catalogue = options.read_catalogue(items)
    texts = texts_of(catalogue, text, name)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("reading the texts", total=len(texts))
        vectors = encode_sentences(list(texts.values()), on_batch=lambda n: progress.advance(task, n))
    rounded = np.round(vectors.astype(np.float64), DIGITS)
    for item_id, vector in zip(texts, rounded.tolist(), strict=True):
        catalogue[item_id] = catalogue[item_id] | {name: vector}
    write_items(out, catalogue)
    size = vectors.shape[1]
    typer.echo(f"{out}: {len(catalogue):,} items, {len(texts):,} with a vector of {size} as `{name}`")
    typer.echo(f'in the recipe: attributes = ["{name}", …], or ["*"] for all')


def texts_of(catalogue: Mapping[str, Any], names: Sequence[str], target: str) -> dict[str, str]:
    """Return item id → the named attributes' words in a row; items that have none are left out.

    Raises UsageError if no item has one of the attributes, or if `target` is a word or a number of some item.
    """
    there = sorted({name for attributes in catalogue.values() for name in attributes})
    if missing := sorted(set(names) - set(there)):
        remedy = f"there are: {', '.join(there)}" if there else "give items with attributes"
        raise UsageError(f"no item has {', '.join(missing)}", place="--text", remedy=remedy)
    given = (attributes.get(target) for attributes in catalogue.values())
    if target in names or any(value is not None and not is_vector(value) for value in given):
        raise UsageError(f"the items have {target} already", place="--name", remedy="name another attribute")
    read = {
        item_id: ". ".join(word for name in names for word in words(attributes.get(name)) if word.strip())
        for item_id, attributes in catalogue.items()
    }
    found = {item_id: said for item_id, said in read.items() if said}
    if not found:
        raise UsageError("no item has a word", place="--text", remedy="name attributes that hold words")
    return found


def is_vector(value: Any) -> bool:
    return isinstance(value, list) and all(map(is_number, value))


def write_items(path: Path, catalogue: Mapping[str, Any]) -> None:
    """Write the items as JSON lines; the file appears whole or not at all."""
    lines = b"".join(msgspec.json.encode(Item(*item)) + b"\n" for item in catalogue.items())
    beside = path.with_name(f".{path.name}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside.write_bytes(gzip.compress(lines, mtime=0) if path.suffix == ".gz" else lines)
    os.replace(beside, path)
