"""What it costs to read a record and to write an output, in µs of one core, and against the libraries alone.

Reading: events of a shop (180 bytes: seven fields, a context of one entry), keyed by user, in batches. The
yardstick is one bare msgspec call a record into the same struct, without columns, and without the tests of
keys, times and UTF-8. Writing: lists of ten of 20,000 items; the yardstick is msgspec with a struct an item.
The best of RUNS runs counts: what is asked is what the code costs, not what the neighbours do meanwhile.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import numpy as np

from stream.codec import Decoder
from stream.core.effects import ALERT, EFFECT, LIST, TRANSITION
from stream.dead_letters import DeadLetter
from stream.emit import Emitter, Lists, encode_lists
from stream.items import ItemTable
from stream.records import Output, RecordBatch
from stream.wire import Recommendation, ScoredItem, event_type

RECORDS = 4096
RUNS = 30
KINDS = {"view": "engagement", "cart": "engagement", "purchase": "conversion", "impression": "contact"}
PLACES = [str(place) for place in range(400)]
ITEMS = [str(1_000_000 + item) for item in range(20_000)]


def run() -> None:
    read()
    write()


def read() -> None:
    batch = shop(name="household")
    bare = msgspec.json.Decoder(event_type(tuple(KINDS), {})).decode
    rows: list[tuple[str, float]] = [
        ("msgspec alone", best(lambda: [bare(value) for value in values(batch)], RECORDS)),
        ("json.loads alone", best(lambda: [json.loads(value) for value in values(batch)], RECORDS)),
    ]
    decoder = Decoder(KINDS, ItemTable(ITEMS))
    for size in (4096, 1024, 256, 64, 7, 1):
        part = batch.slice(0, size)
        rows.append((f"decoded in batches of {size:,}", best(partial(decoder.decode, part), size)))
    named = Decoder(KINDS, ItemTable(ITEMS), context=["place"], vocabularies={"place": PLACES})
    rows.append(("one context entry as a column", best(lambda: named.decode(batch), RECORDS)))
    wide = shop(name="foyer-zoë")
    rows.append(("user ids beyond ASCII", best(lambda: decoder.decode(wide), RECORDS)))
    spoilt = shop(name="household", bad=100)
    rows.append(("one bad record in 100", best(lambda: decoder.decode(spoilt), RECORDS)))
    broken = shop(name="household", bad=1)
    rows.append(("nothing but bad records", best(lambda: decoder.decode(broken), RECORDS)))
    show("reading a record", rows)


def write() -> None:
    table, lists = ItemTable(ITEMS), make_lists()
    emitter, user = Emitter("events", 0), b"household-0001"
    ids = np.frombuffer(user, np.uint8)
    bad = RecordBatch("events", 0, [1], [user], [b"{"], [0], [None])
    encode = msgspec.json.encode

    def structs(items: list[int], scores: list[float]) -> list[ScoredItem]:
        return [ScoredItem(ITEMS[item], score) for item, score in zip(items, scores, strict=True)]

    def whole(items: list[int], scores: list[float]) -> bytes:
        listed = structs(items, scores)
        return encode(Recommendation("events-0-1", user.decode(), 1, "active", "p", "event", "v1", 7, listed))

    def listed() -> list[Output]:
        encoded = Lists(["p"] * RECORDS, encode_lists(table, lists), "v1", 7)
        return emitter.emit(effects(LIST, user), ids, encoded)

    calls: list[tuple[str, Callable[[], object]]] = [
        ("ten items by msgspec", lambda: [encode(structs(*pair)) for pair in lists]),
        ("ten items", lambda: encode_lists(table, lists)),
        ("a list's value by msgspec", lambda: [whole(*pair) for pair in lists]),
        ("a list, with key and headers", listed),
        ("a transition", lambda: emitter.emit(effects(TRANSITION, user), ids)),
        ("an alert", lambda: emitter.emit(effects(ALERT, user), ids)),
        ("a dead letter", lambda: [emitter.dead_letter(bad, DeadLetter(0, "not_json")) for _ in lists]),
    ]
    show("writing an output", [(name, best(call, RECORDS)) for name, call in calls])


def effects(what: int, user: bytes) -> Any:
    """Return RECORDS effects of one user, EFFECT[RECORDS]."""
    table = np.zeros(RECORDS, EFFECT).view(np.recarray)
    table.what, table.id_length = what, len(user)
    table.offset = table.read = np.arange(RECORDS)
    table.at = table.last_event_time = table.first_event_time = 1_500_000_000_000
    return table


def shop(name: str, bad: int = 0) -> RecordBatch:
    """Return RECORDS events of 2,500 users; every `bad`-th has a broken time."""
    draw = random.Random(1)
    keys: list[bytes | None] = []
    records: list[bytes | None] = []
    for i in range(RECORDS):
        user = f"{name}-{draw.randint(1, 2500):04}"
        minute = "99" if bad and i % bad == 0 else f"{draw.randint(10, 59)}"
        event = {
            "user_id": user,
            "event_type": draw.choice(list(KINDS)),
            "event_time": f"2017-0{draw.randint(1, 9)}-1{draw.randint(0, 9)}T12:{minute}:11.123Z",
            "item_id": draw.choice(ITEMS),
            "event_id": f"basket-{draw.randint(10**9, 10**10)}-{i}",
            "value": round(20 * draw.random(), 2),
            "context": {"place": draw.choice(PLACES)},
        }
        keys.append(user.encode())
        records.append(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
    offsets = list(range(RECORDS))
    return RecordBatch("events", 0, offsets, keys, records, [1_500_000_000_000] * RECORDS, [None] * RECORDS)


def values(batch: RecordBatch) -> list[bytes]:
    return [value for value in batch.values if value is not None]


def make_lists() -> list[tuple[list[int], list[float]]]:
    rng = np.random.default_rng(1)
    scores = -np.sort(-rng.normal(size=(RECORDS, 10)).astype(np.float32), axis=1)
    items = rng.integers(len(ITEMS), size=(RECORDS, 10))
    return list(zip(items.tolist(), scores.tolist(), strict=True))


def best(call: Callable[[], object], count: int) -> float:
    """Return the µs that the best of the runs took for each of `count` things."""
    call()  # compiles, and fills the caches
    fastest = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter()
        call()
        fastest = min(fastest, time.perf_counter() - began)
    return fastest / count * 1e6


def show(title: str, rows: list[tuple[str, float]]) -> None:
    """Print the rows with their ratio to the first."""
    print(f"{title:<38}{'µs':>8}{'ratio':>8}")
    for name, cost_us in rows:
        print(f"  {name:<36}{cost_us:8.2f}{cost_us / rows[0][1]:8.1f}", flush=True)


if __name__ == "__main__":
    run()
