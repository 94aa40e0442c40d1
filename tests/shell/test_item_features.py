"""Attributes become numbers in one way, whatever other people's catalogues hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.errors import BundleError
from stream.item_features import (
    NUMBER_MAX,
    Category,
    Field,
    ItemFeatures,
    Number,
    Text,
    Vector,
    read_item_features,
)

FEATURES = ItemFeatures(
    [
        Category("brand", ["acme", "5", "true"], most=2),
        Number("price", mean=1.0, deviation=0.5, log=True),
        Text("title", buckets=50, length=6),
        Vector("picture", size=2),
    ]
)


def codes(field: Field, *values: Any) -> list[list[int]]:
    return ItemFeatures([field]).encode([{field.name: value} for value in values])[0].tolist()


def floats(field: Field, *values: Any) -> list[list[float]]:
    return ItemFeatures([field]).encode([{field.name: value} for value in values])[1].tolist()


def test_words_are_places_in_the_list_and_unknown_ones_leave_no_gap() -> None:
    brand = Category("brand", ["acme", "5", "true"], most=2)
    assert codes(brand, "acme", "else", None) == [[1, 0], [0, 0], [0, 0]]
    assert codes(brand, ["else", "5", "acme", "true"]) == [[2, 1]]
    assert codes(brand, 5.0, True, 5.5, [5.0]) == [[2, 0], [3, 0], [0, 0], [0, 0]]


def test_numbers_are_standardised_and_held_within_bounds() -> None:
    assert floats(Number("n", 10.0, 2.0), 14.0, 1e30, -1e30) == [
        [2.0, 1.0], [NUMBER_MAX, 1.0], [-NUMBER_MAX, 1.0],
    ]  # fmt: skip
    assert floats(Number("n", 0.0, 1.0, log=True), np.expm1(3.0), -5.0) == [[3.0, 1.0], [0.0, 1.0]]


@pytest.mark.parametrize("value", [None, "14", True, [1.0], float("nan"), float("inf")])
def test_what_is_no_number_is_missing(value: Any) -> None:
    assert floats(Number("n", 10.0, 2.0), value) == [[0.0, 0.0]]


def test_text_is_runs_of_letters_whatever_its_case_width_or_blanks() -> None:
    text = Text("t", buckets=1_000_000, length=10)
    plain, loud, wide = codes(text, "red tea", "  RED\n tea ", "ｒｅｄ tea")
    assert plain == loud == wide
    assert sum(code > 0 for code in plain) == 7  # " re", "red", "ed ", "d t", " te", "tea", "ea "
    shared = set(plain) & set(codes(text, "red wine")[0])
    assert len(shared - {0}) == 3  # " re", "red", "ed "


def test_text_is_cut_at_its_length_and_may_be_short_or_missing() -> None:
    text = Text("t", length=4)
    assert all(codes(text, "a long name")[0])
    assert sum(code > 0 for code in codes(text, "a")[0]) == 1
    assert codes(text, "", "  ", None, {}) == [[0] * 4] * 4


def test_a_vector_has_unit_length_and_the_right_size_or_is_missing() -> None:
    given = [[3.0, 4.0], [1.0], [0.0, 0.0], [1.0, "x"], [1.0, float("inf")], None, [1e300, 1e300]]
    found = floats(Vector("v", 2), *given)
    np.testing.assert_allclose(found[0], [0.6, 0.8, 1.0], rtol=1e-6)
    assert found[1:6] == [[0.0] * 3] * 5
    assert np.isfinite(found).all()


def test_fields_lie_side_by_side() -> None:
    item = {"brand": "acme", "title": "tea", "picture": [0.0, 2.0], "weight": 3.0}
    code, number = FEATURES.encode([item, {}])
    assert code.shape == (2, FEATURES.codes) == (2, 8)
    assert number.shape == (2, FEATURES.floats) == (2, 5)
    assert code.dtype == np.int64
    assert number.dtype == np.float32
    assert code[0, :2].tolist() == [1, 0]
    assert (code[0, 2:5] > 0).all()
    assert number[0].tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    assert not code[1].any()
    assert not number[1].any()


json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=12), lambda inner: st.lists(inner, max_size=3)
)
attributes = st.dictionaries(st.sampled_from(["brand", "price", "title", "picture", "x"]), json)


@given(st.lists(attributes, max_size=4))
def test_nothing_breaks_it_and_an_item_does_not_see_the_others(catalogue: list[dict[str, Any]]) -> None:
    code, number = FEATURES.encode(catalogue)
    assert np.isfinite(number).all()
    assert ((code >= 0) & (code <= 50)).all()
    for row, item in enumerate(catalogue):
        alone = FEATURES.encode([item])
        assert np.array_equal(alone[0][0], code[row])
        assert np.array_equal(alone[1][0], number[row])


def test_it_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "item_features.json"
    path.write_bytes(msgspec.json.encode(FEATURES))
    assert read_item_features(path) == FEATURES
    assert msgspec.convert({"fields": FEATURES.to_builtins()}, ItemFeatures) == FEATURES
    path.write_text('{"fields": [{"type": "smell", "name": "x"}]}')
    with pytest.raises(BundleError, match=r"item_features\.json: no list of item features"):
        read_item_features(path)
