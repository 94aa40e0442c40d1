"""What a new bundle's states, rebuilt from what each row kept, are worth beside those of the full history.

The demo's year up to October is folded with the demo's bundle. Then the states are kept as they are (full
history), rebuilt from the last 20 items of each row as after a change of the bundle, or left as zeros; every
household gets a list from that state. The rest of the year goes on from there, and each basket is held
against the list that stood before it, by how many baskets the household has had since the change.
"""

from __future__ import annotations

import gzip
from collections import Counter
from typing import Final

import msgspec
import numpy as np
from rich.console import Console
from rich.table import Table

from stream.bundle import open_bundle
from stream.config import Config
from stream.config_load import load_config
from stream.core.events import NO_GUARD
from stream.core.rules import RECENT_ITEMS
from stream.core.users import NO_DEADLINE
from stream.demo.brokers import CONFIG
from stream.demo.journey import EVENTS, Event
from stream.demo.quality import LISTED, TEST_FROM_MS, Lists, answers, baskets_of, judge
from stream.engine import Partition
from stream.model import Reads
from stream.records import RecordBatch
from stream.renew import renew_states
from stream.replay import FILE
from stream.wire import RECOMMENDATIONS, Recommendation
from stream.workshop import Workshop

#: Baskets since the change, up to so many.
SINCE: Final = (1, 3, 10, 1_000_000)
BATCH: Final = 512
WAYS: Final = ("full history", "rebuilt from the row", "zeros")

_decode_list = msgspec.json.Decoder(Recommendation).decode


def run() -> None:
    config = load_config(CONFIG)
    with gzip.open(EVENTS) as file:
        lines = file.read().splitlines()
    events = [msgspec.json.decode(line, type=Event) for line in lines]
    purchases = [(e.user_id, e.at_ms, e.item_id) for e in events if e.event_type == "purchase"]
    change = next(i for i, event in enumerate(events) if event.at_ms >= TEST_FROM_MS)
    table = Table(title=f"after a change of the bundle, {RECENT_ITEMS} items kept a row: HR@10 and NDCG@10")
    headings = ("basket 1", "baskets 2 to 3", "4 to 10", "from 11", "of the first list as with all")
    for heading in ("states", *headings):
        table.add_column(heading)
    whole: dict[str, set[str]] = {}
    for way in WAYS:
        lists = follow(config, lines, change, way)
        first = {user: set(given.items[0]) for user, given in lists.items() if given.at_ms[0] < TEST_FROM_MS}
        whole = whole or first
        same = np.mean([len(first[user] & whole[user]) / len(whole[user]) for user in whole if whole[user]])
        judged = judge_since(purchases, lists)
        cells = ["  ".join(f"{value:.4f}" for value in np.mean(part, axis=0)) for part in judged]
        table.add_row(way, *cells, f"{same:.1%}")
    table.caption = ", ".join(f"{len(part):,}" for part in judged) + " baskets"
    Console().print(table)


def follow(config: Config, lines: list[bytes], change: int, way: str) -> dict[str, Lists]:
    """Fold the year, exchange the states at record `change`, and return the lists from then on."""
    assert config.bundle.path is not None
    partition = Workshop(config, open_bundle(config.bundle.path)).partition(
        "f", 0, undo=True, snapshots=False
    )
    partition.quiet = True
    fold(partition, lines, 0, change, {})
    if way != WAYS[0]:
        partition.table.users.state[:] = 0.0
    if way == WAYS[1]:
        renew_states(partition, NO_DEADLINE)
    lists = list_all(partition)
    partition.quiet = False
    fold(partition, lines, change, len(lines), lists)
    return lists


def fold(partition: Partition, lines: list[bytes], start: int, stop: int, lists: dict[str, Lists]) -> None:
    """Apply the lines and note the lists of those who have one already."""
    for first in range(start, stop, BATCH):
        part = lines[first : min(stop, first + BATCH)]
        n = len(part)
        offsets = list(range(first, first + n))
        records = RecordBatch(FILE, 0, offsets, [None] * n, list(part), [NO_GUARD] * n, [None] * n)
        for made in partition.apply(records):
            partition.table.commit()
            for output in made.outputs:
                if output.topic == RECOMMENDATIONS and output.value:
                    given = _decode_list(output.value)
                    mine = lists.setdefault(given.user_id, Lists([], []))
                    mine.at_ms.append(given.event_time)
                    mine.items.append([item.item_id for item in given.items])


def list_all(partition: Partition) -> dict[str, Lists]:
    """Return a list for each user from the state as it is, as of just before the change."""
    model, table = partition.model, partition.table
    assert model is not None
    slots = table.slots()
    nothing = np.full((len(slots), RECENT_ITEMS), -1, np.int32)
    made = model.rank(
        Reads(
            state=table.users.state[slots],
            features=np.zeros((len(slots), len(model.feature_names)), np.float32),
            lifecycle=table.users.rows.lifecycle[slots].astype(np.int32),
            recent=nothing,
            converted=np.zeros(nothing.shape, np.bool_),
        )
    )
    items = [[partition.items.name(item) for item in given.items] for given in made]
    users = [table.row_id(slot).decode() for slot in slots.tolist()]
    return {user: Lists([TEST_FROM_MS - 1], [mine]) for user, mine in zip(users, items, strict=True)}


def judge_since(
    purchases: list[tuple[str, int, str]], lists: dict[str, Lists]
) -> list[list[tuple[float, float]]]:
    """Return (hit, NDCG) of the baskets by how many the household has had since the change."""
    since: Counter[str] = Counter()
    judged: list[list[tuple[float, float]]] = [[] for _ in SINCE]
    for basket, given in answers(baskets_of(purchases), lists, TEST_FROM_MS):
        if given is not None and lists[basket.user].at_ms[0] < TEST_FROM_MS:
            since[basket.user] += 1
            place = next(i for i, most in enumerate(SINCE) if since[basket.user] <= most)
            judged[place].append(judge(given[LISTED], basket.items))
    return judged
