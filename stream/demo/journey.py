"""The demo's input: a year of groceries as records, and the names of what was sold.

Owns where the data lie and what a careless producer adds to them. The year itself has no repeats and no
broken records; a stream that people run has both. So the demo sends one record in a thousand twice and
strews in `BROKEN`, and the summary at the end has something to add up.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

DATA: Final = Path(__file__).parent / "data"
EVENTS: Final = DATA / "events.jsonl.gz"
ITEMS: Final = DATA / "items.jsonl.gz"

#: Every n-th record is delivered twice, as a producer does that retries without idempotence.
REDELIVERED_EVERY: Final = 1000

#: Records that no event can be read from: key, value, and the dead letter's reason.
BROKEN: Final[tuple[tuple[str, str, str], ...]] = (
    ("18", "", "empty"),
    ("18", '{"user_id":"18","event_type":"purch', "not_json"),
    ("18", '{"event_type":"purchase","event_time":1496318400000}', "missing_field"),
    ("18", '{"user_id":"18","event_type":"purchase","event_time":"yesterday"}', "bad_field"),
    (
        "18",
        '{"user_id":"18","event_type":"barter","event_time":1496318400000}',
        "unknown_event_type",
    ),
    ("19", '{"user_id":"18","event_type":"purchase","event_time":1496318400000}', "key_mismatch"),
    ("18", '{"user_id":"18","event_type":"purchase","event_time":"2199-01-01T00:00:00Z"}', "from_future"),
    ("18", '{"user_id":"18","event_type":"purchase","event_time":"2001-01-01T00:00:00Z"}', "too_late"),
)


class Event(msgspec.Struct, frozen=True):
    """One line of the year, as far as the demo shows it."""

    event_time: datetime
    user_id: str
    event_type: str
    item_id: str = ""

    @property
    def at_ms(self) -> int:
        return round(self.event_time.timestamp() * 1000)


class Sent(NamedTuple):
    """A record as the demo's producer sends it, and when it happened in the year."""

    at_ms: int
    key: bytes
    value: bytes


def lines(path: Path = EVENTS) -> list[bytes]:
    """Return the year's events in time order, one JSON object each."""
    with gzip.open(path) as packed:
        return packed.read().splitlines()


def events(year: list[bytes]) -> list[Event]:
    decoder = msgspec.json.Decoder(Event)
    return [decoder.decode(line) for line in year]


def product_names(path: Path = ITEMS) -> dict[str, str]:
    """Return the products' names by item id."""
    names: dict[str, str] = {}
    with gzip.open(path) as packed:
        for line in packed:
            item = msgspec.json.decode(line)
            names[item["item_id"]] = item["attributes"]["name"]
    return names


def records(year: list[bytes]) -> Iterator[Sent]:
    """Yield what the producer sends: the year, its redeliveries, and the broken records spread over it."""
    decoder = msgspec.json.Decoder(Event)
    broken_every = max(1, len(year) // len(BROKEN))
    for n, line in enumerate(year):
        event = decoder.decode(line)
        sent = Sent(event.at_ms, event.user_id.encode(), line)
        yield sent
        # A mailing is a contact, and contacts are not de-duplicated.
        if n % REDELIVERED_EVERY == REDELIVERED_EVERY - 1 and event.event_type != "campaign":
            yield sent
        which, place = divmod(n, broken_every)
        if place == broken_every // 2 and which < len(BROKEN):
            key, value, _ = BROKEN[which]
            yield Sent(event.at_ms, key.encode(), value.encode())
