"""What all partitions of a worker have in common: the config, the model, the item table and the decoder."""

from __future__ import annotations

from stream.bundle import Bundle
from stream.clock import Clock
from stream.codec import Decoder
from stream.config import Config
from stream.engine import Partition
from stream.items import ItemTable
from stream.model import Model, bundle_contexts
from stream.snapshot_format import SnapshotFormat
from stream.tested import Tested


class Workshop:
    """Makes partitions. One bundle, one vocabulary of items, shared by all of them."""

    def __init__(self, config: Config, bundle: Bundle | None) -> None:
        self.config, self.bundle = config, bundle
        self.items = ItemTable(bundle.item_ids if bundle else ())
        self.model = Model(bundle, config, self.items) if bundle else None
        self.format = SnapshotFormat(config, self.items)
        self.tested = Tested()
        self.decoder = Decoder(
            config.events.kinds,
            self.items,
            fields=config.events.fields,
            context=bundle_contexts(bundle) if bundle else (),
            vocabularies=bundle.manifest.vocabularies if bundle else {},
        )

    def partition(
        self, topic: str, partition: int, *, undo: bool, snapshots: bool, clock: Clock | None = None
    ) -> Partition:
        """Return a partition that has seen nothing."""
        return Partition(
            self.config,
            self.decoder,
            self.items,
            self.model,
            topic=topic,
            partition=partition,
            undo=undo,
            snapshots=snapshots,
            clock=clock,
        )
