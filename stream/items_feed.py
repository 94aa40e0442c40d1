"""Follows the items topic and applies it to the model: withdrawals, returns, and items that are new.

Every worker reads all of it, outside of any group, from its start. The topic is compacted and has as many
partitions as one likes; `catalogue` is how far it has been read, added up over them.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import msgspec

from stream.broker import Broker, Reader
from stream.catalogue import apply_items
from stream.clock import Clock
from stream.errors import RetriableError
from stream.log import log
from stream.model import Model
from stream.wire import Attributes, Item
from stream.workshop import Workshop

RECORDS_MAX: Final = 5_000
#: How often a topic that is not there is asked for again.
ASK_EVERY_S: Final = 60.0
#: A reader that is opened with this end follows its partition for ever.
NO_END: Final = 2**62

_attributes = msgspec.json.Decoder(Attributes | None).decode


class ItemsFeed:
    """Readers of every partition of the items topic; opened at the first poll, if there is a model."""

    def __init__(self, broker: Broker, topic: str, workshop: Workshop, clock: Clock) -> None:
        self._broker, self._topic, self._workshop, self._clock = broker, topic, workshop, clock
        self._readers: list[Reader] = []
        self._due_s = clock.monotonic_s()
        self._refused = 0

    def poll(self) -> None:
        """Apply what has come since, without waiting for more; while the broker is away, nothing has."""
        if self._workshop.model is not None:
            with suppress(RetriableError):
                self._follow(self._workshop.model)

    def _follow(self, model: Model) -> None:
        if not self._readers and self._clock.monotonic_s() >= self._due_s:
            self._readers = self._open()
            self._due_s = self._clock.monotonic_s() + ASK_EVERY_S
        for reader in self._readers:
            batch = reader.read(RECORDS_MAX, 0.0)
            read = map(self._read, batch.keys, batch.values)
            apply_items(model, self._workshop.items, [item for item in read if item is not None])
        if self._readers:
            model.catalogue = sum(reader.position() for reader in self._readers)

    def _open(self) -> list[Reader]:
        found = self._broker.admin().describe([self._topic])[self._topic]
        partitions = range(found.partitions if found else 0)
        return [self._broker.reader(self._topic, partition, 0, NO_END) for partition in partitions]

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
