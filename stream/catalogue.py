"""The live catalogue: what the items topic, or a file of it, says about what may be listed.

It affects scoring only: a withdrawn item is never listed. An item that the bundle does not know joins once
its attributes can be encoded. The step's item input comes from the frozen bundle alone.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec

from stream.errors import InputError
from stream.items import ItemTable
from stream.model import Model
from stream.wire import Item


def apply_items_file(model: Model, items: ItemTable, path: Path) -> None:
    """Apply a file of items, one JSON object a line; `catalogue` becomes its number of lines.

    Raises InputError naming the first line that is none.
    """
    decode = msgspec.json.Decoder(Item).decode
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    for number, line in enumerate(lines):
        try:
            apply_item(model, items, decode(line))
        except msgspec.MsgspecError as error:
            raise InputError(
                f"line {number + 1}: {error}", place=str(path), remedy="give {item_id, attributes} a line"
            ) from error
    model.catalogue = len(lines)


def apply_item(model: Model, items: ItemTable, item: Item) -> None:
    """Withdraw an item, or bring it back."""
    index = items.find(item.item_id)
    if not 0 <= index < items.known:
        return
    if item.attributes is None:
        model.withdraw(index)
    else:
        model.restore(index)
