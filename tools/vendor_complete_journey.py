"""Turn the tables of Complete Journey into the demo's events and items.

    python tools/vendor_complete_journey.py FOLDER [--out stream/demo/data]

FOLDER holds the tables of the R package completejourney 1.1.1 as CSV files (`.csv` or `.csv.gz`):
`transactions_sample`, `coupon_redemptions`, `campaigns`, `campaign_descriptions`, `products`. The package, by
Bradley Boehmke and Steve Mortimer with data of 84.51°, is at github.com/bradleyboehmke/completejourney; its
data are CC0. The same tables give the same lines, and with the same zlib the same bytes: nothing depends on
the clock, and gzip's own time stamp is zero.

Choices made here, with their reasons in docs/decisions/0070-demo-data.md:

- A transaction's timestamp carries no zone. Its trough lies at 08:00 and the table's weeks change near 05:00,
  so it is the UTC reading of a shop day of US Eastern time, and is taken as UTC.
- A redemption has a date only. It is put at the last second of that shop day, after every basket of it, so
  that no list is ever made with knowledge of a coupon handed over with the basket it is judged by.
- A mailing is put at the first second of the shop day on which its campaign starts.
- A coupon names no item: the median coupon is good for 44 products, and which was bought is not recorded.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

Row = dict[str, str]
Timed = tuple[datetime, int, dict[str, Any]]

#: Hours from midnight UTC to the start of a shop day; see the docstring.
SHOP_DAY_STARTS = timedelta(hours=5)

# At the same second a mailing comes first and a redemption last.
CAMPAIGN, PURCHASE, COUPON = range(3)

#: Till abbreviations that a reader would stumble over, spelt out in names.
WORDS = {
    "btl": "bottle",
    "beeralemalt": "beer, ale, malt",
    "crbntd": "carbonated",
    "dnrs": "dinners",
    "drnk": "drink",
    "drnking": "drinking",
    "frzn": "frozen",
    "gds": "goods",
    "incl": "including",
    "mneral": "mineral",
    "pkgd": "packaged",
    "prem": "premium",
    "saucessalsapicantee": "sauces, salsa, picante",
    "sft": "soft",
    "sgl": "single",
    "sngl": "single",
    "srv": "serve",
    "ss": "single-serve",
    "sw": "sweet",
    "veg": "vegetables",
    "whl": "whole",
}


def read_table(folder: Path, name: str) -> Iterator[Row]:
    """Yield the rows of one table, from `name.csv` or `name.csv.gz`."""
    plain, packed = folder / f"{name}.csv", folder / f"{name}.csv.gz"
    if not plain.exists() and not packed.exists():
        raise SystemExit(f"{folder}: neither {plain.name} nor {packed.name}; see the head of this script")
    with gzip.open(packed) if packed.exists() else plain.open("rb") as raw:
        yield from csv.DictReader(io.TextIOWrapper(raw, encoding="utf-8", newline=""))


def purchases(folder: Path) -> Iterator[Timed]:
    """Yield a `purchase` for each transaction row. A basket's lines share its second and keep their order."""
    lines: Counter[str] = Counter()
    for row in read_table(folder, "transactions_sample"):
        basket = row["basket_id"]
        lines[basket] += 1
        yield (
            datetime.fromisoformat(row["transaction_timestamp"]),
            PURCHASE,
            {
                "user_id": row["household_id"],
                "event_type": "purchase",
                "item_id": row["product_id"],
                "value": round(float(row["sales_value"]), 2),
                "context": {"place": row["store_id"]},
                "event_id": f"{basket}-{lines[basket]}",
            },
        )


def redemptions(folder: Path) -> Iterator[Timed]:
    """Yield a `coupon` for each redemption."""
    for row in read_table(folder, "coupon_redemptions"):
        day, campaign = row["redemption_date"], row["campaign_id"]
        yield (
            datetime.fromisoformat(day) + SHOP_DAY_STARTS + timedelta(days=1, seconds=-1),
            COUPON,
            {
                "user_id": row["household_id"],
                "event_type": "coupon",
                "context": {"campaign": campaign},
                "event_id": f"{row['coupon_upc']}-{campaign}-{day}",
            },
        )


def mailings(folder: Path) -> Iterator[Timed]:
    """Yield a `campaign` for each household that a campaign was mailed to."""
    starts = {row["campaign_id"]: row["start_date"] for row in read_table(folder, "campaign_descriptions")}
    for row in read_table(folder, "campaigns"):
        campaign = row["campaign_id"]
        yield (
            datetime.fromisoformat(starts[campaign]) + SHOP_DAY_STARTS,
            CAMPAIGN,
            {
                "user_id": row["household_id"],
                "event_type": "campaign",
                "context": {"campaign": campaign},
            },
        )


def events(folder: Path) -> list[dict[str, Any]]:
    """Return the year in time order; events of one second in the order mailing, purchase, coupon, table."""
    timed = [*mailings(folder), *purchases(folder), *redemptions(folder)]
    timed.sort(key=lambda event: event[:2])
    return [{"event_time": f"{at.isoformat()}Z", **event} for at, _, event in timed]


def words_of(text: str) -> str:
    """Return a till description in lower case with its abbreviations spelt out."""
    text = re.sub(r"\s+", " ", text.lower()).strip()
    text = re.sub(r" ?\([^)]*$", "", text)  # a bracket that the till cut off
    return re.sub(r"[a-z]+", lambda word: WORDS.get(word[0], word[0]), text)


def name_of(row: Row) -> str:
    """Return a readable name: the product type, its category where the type is one bare word, the size."""
    kind, category, size = row["product_type"], row["product_category"], row["package_size"]
    if not kind:
        kind = category or row["department"]
    elif " " not in kind and category and kind[:5] not in category:
        kind = f"{category}: {kind}"
    name = words_of(kind)
    if re.search(r"\d", size):
        name += f", {size.lower()}"
    return name[:1].upper() + name[1:]


def items(folder: Path, sold: set[str]) -> list[dict[str, Any]]:
    """Return the products that were sold, sorted so that like stands beside like.

    Five of them have no row in the table of products: their name is their number.
    """
    columns = {
        "department": "department",
        "category": "product_category",
        "type": "product_type",
        "brand": "brand",
        "manufacturer": "manufacturer_id",
        "size": "package_size",
    }
    found = []
    for row in read_table(folder, "products"):
        if row["product_id"] in sold:
            attributes = {name: row[column] for name, column in columns.items() if row[column]}
            found.append((row["product_id"], {"name": name_of(row), **attributes}))
    unnamed = sold - {item_id for item_id, _ in found}
    found += [(item_id, {"name": f"Product {item_id}"}) for item_id in unnamed]
    found.sort(key=lambda item: ([item[1].get(name, "~") for name in columns], int(item[0])))
    return [{"item_id": item_id, "attributes": attributes} for item_id, attributes in found]


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write one JSON object a line, packed so that equal rows give equal bytes."""
    with path.open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
        for row in rows:
            packed.write(json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode() + b"\n")
    print(f"{path}: {len(rows)} lines, {path.stat().st_size} bytes")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("folder", type=Path, help="the CSV tables of completejourney 1.1.1")
    parser.add_argument("--out", type=Path, default=Path("stream/demo/data"))
    arguments = parser.parse_args()
    year = events(arguments.folder)
    sold = {event["item_id"] for event in year if "item_id" in event}
    write_lines(arguments.out / "events.jsonl.gz", year)
    write_lines(arguments.out / "items.jsonl.gz", items(arguments.folder, sold))


if __name__ == "__main__":
    main()
