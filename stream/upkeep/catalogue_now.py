"""The catalogue as it is now, brought into a model; and which older ones were the same."""

from __future__ import annotations

from stream.broker import Broker
from stream.clock import Clock
from stream.config import Config
from stream.items_feed import ItemsFeed
from stream.upkeep.logs import PAUSE_S, find_topic, ranges, read_log
from stream.upkeep.outputs_differ import Scored
from stream.workshop import Workshop


def load_catalogue(config: Config, broker: Broker, workshop: Workshop, clock: Clock) -> Scored:
    """Read the items topic to its end into the workshop's model; return which lists are of that catalogue.

    A catalogue is an offset. One that lies behind the topic's last record is the present one; before that
    the topic may have been compacted, and says no more what was in force.
    """
    model, topic = workshop.model, config.topics.items
    if model is None:
        return Scored(None, lambda catalogue: False)
    found = find_topic(broker, topic, clock)
    if found is None:
        return Scored(model.version, lambda catalogue: catalogue is None)
    kept = ranges(broker, topic, range(found.partitions), clock)
    end = sum(part.end for part in kept.values())
    feed = ItemsFeed(broker, topic, workshop, clock)
    try:
        feed.poll()
        while (model.catalogue or 0) < end:
            clock.sleep(PAUSE_S)
            feed.poll()
    finally:
        feed.close()
    last = end
    if found.partitions == 1:
        batches = read_log(broker, topic, 0, kept[0].start, kept[0].end, clock)
        last = max((batch.offsets[-1] + 1 for batch in batches), default=0)
    return Scored(model.version, lambda catalogue: catalogue is not None and catalogue >= last)
