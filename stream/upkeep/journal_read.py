"""The journal of a partition as a commit holds it."""

from __future__ import annotations

from stream.broker import Broker
from stream.clock import Clock
from stream.config import Config
from stream.errors import StateError
from stream.journal import Entry, read_entry
from stream.upkeep.logs import ranges, read_log


def read_entries(broker: Broker, config: Config, partition: int, count: int, clock: Clock) -> list[Entry]:
    """Return the first `count` entries. Raises StateError if some are gone."""
    topic, found = config.topics.journal, dict[int, Entry]()
    place = f"{topic}-{partition}"
    kept = ranges(broker, topic, range(partition, partition + 1), clock)[partition]
    for batch in read_log(broker, topic, partition, kept.start, kept.end, clock):
        entries = (read_entry(value, place=place) for value in batch.values)
        found.update({entry.n: entry for entry in entries if entry.n < count})
    if len(found) != count:
        raise StateError(
            f"of {count} journal entries there are {len(found)}",
            place=place,
            remedy="without them the log cannot be folded again; give the journal retention.ms=-1",
        )
    return [found[n] for n in sorted(found)]
