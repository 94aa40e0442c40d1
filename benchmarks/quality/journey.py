"""The next basket of Complete Journey's households, October to December unseen, by the demo's own protocol.

What a household buys next is told as a mixture of distributions over all products, each known at that moment:

    popular     what all bought lately
    own         what the household bought, older purchases fading
    repeated    the same, times how often the product is bought again by those who have it
    types       the household's product types, and in them what all bought
    near        products in the histories of those who bought the same

The mixture's weights, by how much of a household is known, are learnt by EM on July to September; the test
months only move what is known. Beside it stands what the engine served with the demo's bundle, whose model
knows the products as they were in September. A basket is judged as in stream/demo/quality.py: full ranking,
nothing taken out, intervals by bootstrap over households. I products, U households.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.quality.table import Result, Row, Stopwatch
from models import metrics
from models.sequences import read_lines
from stream.config_load import load_config
from stream.demo.brokers import CONFIG
from stream.demo.journey import EVENTS
from stream.demo.quality import DISCOUNT, TEST_FROM_MS, Bought, Lists, Popularity, baskets_of, judge
from stream.replay import FILES, replay
from stream.wire import RECOMMENDATIONS

Floats = npt.NDArray[np.float64]

DEMO: Final = Path("stream/demo/data")
DAY_MS: Final = 86_400_000
RENEW_MS: Final = 7 * DAY_MS
#: July begins; before it everything is only counted.
LEARN_FROM_MS: Final = TEST_FROM_MS - 92 * DAY_MS
SERVED: Final = "ebbtide, as served"
MIXTURE: Final = "mixture"
PARTS: Final = ("popular", "own", "repeated", "types", "near")
HALF_LIFE_DAYS: Final = {"popular": 60.0, "own": 120.0}
#: Purchases known of a household: below each edge another set of weights.
EDGES: Final = (5, 12, 25, 50)
SEED: Final = 0
COLUMNS: Final = ["HR@10", "NDCG@10", "low", "high"]


class Shop:
    """All that is known at a moment; `tell` gives the distributions, `sell` moves on."""

    def __init__(self, items: int, types: npt.NDArray[np.int64]) -> None:
        self.items, self.types = items, types
        self.popular = np.full(items, 0.02)
        self.buyers = np.zeros(items)  # households that bought it
        self.again = np.zeros(items)  # purchases by those who had it
        self.own: dict[str, dict[int, float]] = defaultdict(dict)  # decayed counts, grown by time instead
        self.of_type: dict[str, dict[int, float]] = defaultdict(dict)
        self.near: Any = None  # [I, I] sparse, as it was at the last renewal
        self.renewed_ms = 0
        self.by_type = np.zeros(int(types.max()) + 1)
        np.add.at(self.by_type, types, self.popular)
        self.known: dict[str, int] = defaultdict(int)

    def tell(self, user: str) -> Floats:
        """Return the distributions, [parts, I]; one of which nothing is known is zeros."""
        said = np.zeros((len(PARTS), self.items))
        said[0] = self.popular
        for item, count in self.own[user].items():
            said[1, item] = count
            said[2, item] = count * (self.again[item] + 0.3) / (self.buyers[item] + 3.0)
        if self.near is not None and self.own[user]:
            had = list(self.own[user])
            said[4] = self.near[had].sum(0)
            said[4, had] = 0.0
        of_type = np.zeros(len(self.by_type))
        for number, count in self.of_type[user].items():
            of_type[number] = count
        said[3] = (of_type / self.by_type)[self.types] * self.popular
        total = said.sum(1, keepdims=True)
        return said / np.where(total > 0, total, 1.0)

    def renew(self, at_ms: int) -> None:
        """Count anew which products the same households had, once a week."""
        if at_ms - self.renewed_ms < RENEW_MS:
            return
        from scipy import sparse

        self.renewed_ms = at_ms
        pairs = [(row, item) for row, own in enumerate(self.own.values()) for item in own]
        row, item = np.array(pairs or [(0, 0)]).T
        had = sparse.coo_array(
            (np.ones(len(row)), (row, item)), shape=(int(row.max()) + 1, self.items)
        ).tocsr()
        self.near = (sparse.diags_array(1.0 / (10.0 + self.buyers)) @ (had.T @ had)).tocsr()

    def sell(self, user: str, items: list[int], at_ms: int) -> None:
        """Count a basket. Weights grow with time, so that older ones fade beside them."""
        grown = {
            name: 2.0 ** ((at_ms - TEST_FROM_MS) / (days * DAY_MS)) for name, days in HALF_LIFE_DAYS.items()
        }
        mine = self.own[user]
        for item in items:
            self.popular[item] += grown["popular"]
            self.by_type[self.types[item]] += grown["popular"]
            if item in mine:
                self.again[item] += 1.0
            else:
                self.buyers[item] += 1.0
            mine[item] = mine.get(item, 0.0) + grown["own"]
            kind = int(self.types[item])
            self.of_type[user][kind] = self.of_type[user].get(kind, 0.0) + grown["own"]
        self.known[user] += len(items)


def read_purchases() -> tuple[list[tuple[str, int, str]], dict[str, dict[str, Any]]]:
    """Return (user, at_ms, item) in time order, and the catalogue."""
    import msgspec

    from stream.times import parse_time

    purchases = []
    for line in read_lines(DEMO / "events.jsonl.gz"):
        event = msgspec.json.decode(line)
        if event["event_type"] == "purchase" and event.get("item_id"):
            at = event["event_time"]
            at_ms = at if isinstance(at, int) else int(parse_time(at) or 0)
            purchases.append((event["user_id"], at_ms, event["item_id"]))
    catalogue = {}
    for line in read_lines(DEMO / "items.jsonl.gz"):
        item = msgspec.json.decode(line)
        catalogue[item["item_id"]] = item["attributes"]
    return purchases, catalogue


def read_served() -> dict[str, Lists]:
    """Return the lists that the engine makes of the demo's year, by household."""
    import msgspec

    config, served = load_config(CONFIG), dict[str, Lists]()
    with TemporaryDirectory() as folder:
        replay(str(EVENTS), Path(folder), config, config.bundle.path)
        for line in (Path(folder) / FILES[RECOMMENDATIONS]).read_bytes().splitlines():
            given = msgspec.json.decode(line)
            theirs = served.setdefault(given["user_id"], Lists([], []))
            theirs.at_ms.append(given["event_time"])
            theirs.items.append([item["item_id"] for item in given["items"]])
    return served


def fit_weights(rows: list[tuple[int, Floats]]) -> Floats:
    """Return the weights [buckets, parts] that make the purchases likeliest: EM. rows: bucket, p."""
    bucket = np.array([row[0] for row in rows])
    p = np.stack([row[1] for row in rows])
    weight = np.full((len(EDGES) + 1, p.shape[1]), 1.0 / p.shape[1])
    for _ in range(60):
        share = weight[bucket] * p + 1e-12
        share /= share.sum(1, keepdims=True)
        for number in range(len(weight)):
            if (bucket == number).any():
                weight[number] = share[bucket == number].mean(0)
    return weight


def run(command: str) -> Result:
    watch = Stopwatch()
    purchases, catalogue = read_purchases()
    index = {
        item: place for place, item in enumerate(dict.fromkeys([*catalogue, *(p[2] for p in purchases)]))
    }
    kinds: dict[Any, int] = {}
    types = np.array(
        [kinds.setdefault((catalogue.get(item) or {}).get("type"), len(kinds)) for item in index],
        np.int64,
    )
    shop, popularity, bought = Shop(len(index), types), Popularity(), defaultdict[str, Bought](Bought)
    names, learnt, served = list(index), [], read_served()
    weight: Floats | None = None
    judged: dict[str, list[tuple[float, float]]] = defaultdict(list)
    whose: list[str] = []
    for nth, basket in enumerate(baskets_of(purchases)):
        items = sorted(index[item] for item in basket.items)
        known = shop.known[basket.user]
        if basket.at_ms >= LEARN_FROM_MS and known:
            shop.renew(basket.at_ms)
            said = shop.tell(basket.user)
            bucket = int(np.searchsorted(EDGES, known, side="right"))
            if basket.at_ms < TEST_FROM_MS:
                learnt += [(bucket, said[:, item]) for item in items]
            else:
                weight = fit_weights(learnt) if weight is None else weight
                theirs = served[basket.user]
                before = bisect_left(theirs.at_ms, basket.at_ms)
                lists = {
                    "popularity": popularity.top,
                    "buy again": bought[basket.user].again(popularity.top),
                    "item-kNN": best(said[4] + 1e-6 * said[0], names),
                    MIXTURE: best(weight[bucket] @ said, names),
                    SERVED: list(theirs.items[before - 1]) if before else [],
                }
                for name, given in lists.items():
                    judged[name].append(judge(given, basket.items))
                whose.append(basket.user)
        shop.sell(basket.user, items, basket.at_ms)
        for item in sorted(basket.items):
            popularity.sell(item)
            bought[basket.user].buy(item, nth)
    return tabulate(judged, whose, weight, command, watch)


def best(scores: Floats, names: list[str]) -> list[str]:
    found = np.argpartition(-scores, len(DISCOUNT))[: len(DISCOUNT)]
    return [names[i] for i in found[np.argsort(-scores[found])].tolist()]


def tabulate(
    judged: dict[str, list[tuple[float, float]]],
    whose: list[str],
    weight: Any,
    command: str,
    watch: Stopwatch,
) -> Result:
    _, user = np.unique(whose, return_inverse=True)
    rows = []
    count = np.bincount(user).astype(np.float64)
    sums = {name: np.bincount(user, np.array(pairs)[:, 1]) for name, pairs in judged.items()}

    def ratio(total: Floats, size: Floats) -> float:
        return float(total.sum() / size.sum())

    for name, pairs in judged.items():
        hit, gain = np.mean(pairs, 0).tolist()
        sure = metrics.bootstrap((sums[name], count), ratio, seed=SEED)
        figures: dict[str, float | str] = {"HR@10": hit, "NDCG@10": gain, "low": sure.low, "high": sure.high}
        rows.append(Row(name, "ours" if name in (MIXTURE, SERVED) else "baseline", figures))
    notes = []
    for name, other in ((MIXTURE, "buy again"), (SERVED, "buy again"), (SERVED, MIXTURE)):
        more = metrics.bootstrap((sums[name] - sums[other], count), ratio, seed=SEED)
        notes.append(f"{name}: {more.low:+.4f} … {more.high:+.4f} NDCG@10 (95 %) beside {other}.")
    notes[-1] += " It was chosen by July to September, and looked at on these months once."
    for number, row in enumerate(weight):
        told = ", ".join(f"{part} {share:.2f}" for part, share in zip(PARTS, row.tolist(), strict=True))
        notes.append(f"Weights, {[0, *EDGES][number]} purchases known or more: {told}.")
    protocol = f"{len(whose):,} baskets of {len(count):,} households, all products ranked, nothing taken out."
    title = "Complete Journey, October to December"
    return Result("completejourney", title, protocol, COLUMNS, rows, command, SEED, watch.minutes, notes)
