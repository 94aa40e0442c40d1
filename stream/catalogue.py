"""The live catalogue: what the items topic, or a file of it, says about what may be listed.

It affects scoring only: the step's item input comes from the frozen bundle alone. An item with attributes may
be listed, one without (null) is withdrawn. An item that the bundle does not know is encoded from its
attributes, if the bundle has an item encoder, and listed from then on; until the next bundle its attributes
are all that speaks for it. What the bundle knows of its own items it keeps, whatever their attributes become.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path

import msgspec

from stream.errors import InputError
from stream.items import ItemTable
from stream.log import log
from stream.model import Model
from stream.wire import Attributes, Item


def apply_items_file(model: Model, items: ItemTable, path: Path) -> None:
    """Apply a file of items, one JSON object a line; `catalogue` becomes its number of lines.

    Raises InputError naming the first line that is none.
    """
    decode = msgspec.json.Decoder(Item).decode
    data = path.read_bytes()
    lines = (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    changes = []
    for number, line in enumerate(lines):
        try:
            changes.append(decode(line))
        except msgspec.MsgspecError as error:
            raise InputError(
                f"line {number + 1}: {error}", place=str(path), remedy="give {item_id, attributes} a line"
            ) from error
    apply_items(model, items, changes)
    model.catalogue = len(lines)


def apply_items(model: Model, items: ItemTable, changes: Sequence[Item]) -> None:
    """Apply what came to be known of items, in order: of an item the last word counts."""
    late: dict[str, Attributes] = {}
    for change in changes:
        index = items.find(change.item_id)
        if change.attributes is None:
            late.pop(change.item_id, None)
            model.candidates.withdraw(index)
        elif 0 <= index < items.known:
            model.candidates.restore(index)
        else:
            late[change.item_id] = change.attributes
    if late and model.item_encoder is not None:
        vectors, bias = model.item_encoder.encode(list(late.values()))
        room = model.candidates.add([items.intern(item_id) for item_id in late], vectors, bias)
        if room < len(late):
            log.warning(
                "%d late items are not listed: export a bundle that knows the items", len(late) - room
            )
