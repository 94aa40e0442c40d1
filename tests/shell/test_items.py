"""The item table: interning, and dropping what nobody remembers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core.events import NO_ITEM
from stream.items import ItemTable

names = st.lists(st.one_of(st.none(), st.sampled_from(["", "a", "b", "c", "d"]), st.text(max_size=3)))


def test_the_bundles_items_come_first() -> None:
    table = ItemTable(["x", "y"])
    assert table.intern_all(["new", "y", None, "", "x", "new", "y"]).tolist() == [2, 1, -1, -1, 0, 2, 1]
    assert (table.known, len(table)) == (2, 3)
    assert [table.name(i) for i in range(3)] == ["x", "y", "new"]
    assert table.find("new") == 2
    assert table.find("elsewhere") == NO_ITEM
    assert len(table) == 3


@given(names, names)
def test_many_are_interned_like_one_by_one(first: list[str | None], second: list[str | None]) -> None:
    together, apart = ItemTable(["a"]), ItemTable(["a"])
    for batch in (first, second):
        assert together.intern_all(batch).tolist() == [apart.intern(name) for name in batch]


@given(names, st.data())
def test_dropped_items_leave_no_gap(batch: list[str | None], data: st.DataObject) -> None:
    table = ItemTable(["a", "b"])
    table.intern_all(batch)
    before = [table.name(i) for i in range(len(table))]
    used = data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before)))
    moved = table.compact(np.array(used, bool))
    kept = [name for i, name in enumerate(before) if used[i] or i < 2]
    assert [table.name(i) for i in range(len(table))] == kept
    assert [table.find(name) for name in before] == moved.tolist()
    assert moved.tolist() == [kept.index(name) if name in kept else NO_ITEM for name in before]
    assert table.intern("a brand-new one") == len(kept)
    assert table.intern_all([None, ""]).tolist() == [NO_ITEM, NO_ITEM]


@pytest.mark.parametrize("ids", [["a", "a"], [""]])
def test_a_bundle_names_each_item_once(ids: list[str]) -> None:
    with pytest.raises(ValueError, match="distinct"):
        ItemTable(ids)


def test_no_name_without_an_index() -> None:
    with pytest.raises(IndexError):
        ItemTable(["a"]).name(-1)
    with pytest.raises(ValueError, match="entries"):
        ItemTable(["a"]).compact(np.zeros(2, bool))
