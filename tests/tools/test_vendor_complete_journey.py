"""The demo's data are made as their README says; on tables of a few rows."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tools.vendor_complete_journey import events, items, name_of, write_lines

TABLES = {
    "transactions_sample": "household_id,store_id,basket_id,product_id,sales_value,transaction_timestamp\n"
    "7,300,B1,101,1.5,2017-03-03 21:00:00\n"
    "7,300,B1,102,4.440892e-16,2017-03-03 21:00:00\n"
    "8,301,B2,101,1.0,2017-03-03 05:00:00\n",
    "coupon_redemptions": "household_id,coupon_upc,campaign_id,redemption_date\n7,C9,1,2017-03-03\n",
    "campaigns": "campaign_id,household_id\n1,8\n1,7\n",
    "campaign_descriptions": "campaign_id,start_date,end_date\n1,2017-03-03,2017-04-09\n",
    "products": "product_id,manufacturer_id,department,brand,product_category,product_type,package_size\n"
    "101,2,GROCERY,National,FRZN ICE,ICE - CRUSHED/CUBED,22 LB\n"
    "999,2,GROCERY,National,SUGAR,SUGAR,\n",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in TABLES.items():
        (tmp_path / f"{name}.csv.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_a_day_is_in_order_mailings_first_redemptions_last(folder: Path) -> None:
    year = events(folder)
    assert [(e["event_time"], e["event_type"], e["user_id"]) for e in year] == [
        ("2017-03-03T05:00:00Z", "campaign", "8"),
        ("2017-03-03T05:00:00Z", "campaign", "7"),
        ("2017-03-03T05:00:00Z", "purchase", "8"),
        ("2017-03-03T21:00:00Z", "purchase", "7"),
        ("2017-03-03T21:00:00Z", "purchase", "7"),
        ("2017-03-04T04:59:59Z", "coupon", "7"),
    ]


def test_a_purchase_names_its_line_of_the_basket(folder: Path) -> None:
    *_, first, second, _ = events(folder)
    assert first["event_id"] == "B1-1"
    assert second == {
        "event_time": "2017-03-03T21:00:00Z",
        "user_id": "7",
        "event_type": "purchase",
        "item_id": "102",
        "value": 0.0,
        "context": {"place": "300"},
        "event_id": "B1-2",
    }


def test_items_are_those_sold_and_one_without_a_row_has_its_number(folder: Path) -> None:
    found = {item["item_id"]: item["attributes"] for item in items(folder, {"101", "102"})}
    assert found["101"]["name"] == "Ice - crushed/cubed, 22 lb"
    assert found["102"] == {"name": "Product 102"}
    assert found.keys() == {"101", "102"}


@pytest.mark.parametrize(
    ("kind", "category", "size", "name"),
    [
        (
            "SFT DRNK 2 LITER BTL CARB INCL",
            "SOFT DRINKS",
            "2 L",
            "Soft drink 2 liter bottle carb including, 2 l",
        ),
        ("CANDY BARS (SINGLES)(INCLUDING", "CANDY", "", "Candy bars (singles)"),
        ("PREMIUM", "ICE CREAM", "PT", "Ice cream: premium"),
        ("", "HOSIERY/SOCKS", "", "Hosiery/socks"),
    ],
)
def test_names_can_be_read(kind: str, category: str, size: str, name: str) -> None:
    row = {"product_type": kind, "product_category": category, "department": "D", "package_size": size}
    assert name_of(row) == name


def test_equal_rows_give_equal_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / "a.jsonl.gz", tmp_path / "b.jsonl.gz"]
    for path in paths:
        write_lines(path, [{"n": 1}, {"n": "é"}])
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert json.loads(gzip.decompress(paths[0].read_bytes()).splitlines()[1]) == {"n": "é"}


def test_a_folder_without_the_tables_says_so(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"neither campaign_descriptions\.csv"):
        events(tmp_path)
