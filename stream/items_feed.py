"""Follows the items topic and applies it to the model: withdrawals, returns, and items that are new.

Every worker reads all of it, outside of any group, from its start. The topic is compacted and has as many
partitions as one likes; `catalogue` is how far it has been read, added up over them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from stream.broker import Broker, Reader
from stream.catalogue import apply_items
from stream.items import ItemTable
from stream.log import log
from stream.model import Model
from stream.wire import Attributes, Item

RECORDS_MAX: Final = 5_000
#: A reader that is opened with this end follows its partition for ever.
NO_END: Final = 2**62

_attributes = msgspec.json.Decoder(Attributes | None).decode


class ItemsFeed:
    """Readers of every partition of the items topic."""

    def __init__(self, broker: Broker, topic: str, model: Model, items: ItemTable) -> None:
        found = broker.admin().describe([topic])[topic]
        partitions = range(found.partitions if found else 0)
        self._readers: list[Reader] = [broker.reader(topic, partition, 0, NO_END) for partition in partitions]
        self._model, self._items = model, items
        self._refused = 0

    def poll(self) -> None:
        """Apply what has come since, without waiting for more."""
        for reader in self._readers:
            batch = reader.read(RECORDS_MAX, 0.0)
            read = map(self._read, batch.keys, batch.values)
            apply_items(self._model, self._items, [item for item in read if item is not None])
        if self._readers:
            self._model.catalogue = sum(reader.position() for reader in self._readers)

    def _read(self, key: bytes | None, value: bytes | None) -> Item | None:
        try:
            attributes = None if value is None else _attributes(value)
            item = Item((key or b"").decode(), attributes)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            self._refused += 1
            log.warning("an item of the catalogue is refused, %d so far: %s", self._refused, error)
            return None
        return item if item.item_id else None

    def close(self) -> None:
        for reader in self._readers:
            reader.close()
