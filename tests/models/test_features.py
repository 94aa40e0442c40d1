"""Features by name: the list in the docs is the one of the core, and an error names what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from models.recipe_docs import docs_page
from stream.config_load import parse_config, preset_names
from stream.core.features import FEATURES
from stream.core.lifecycle import STATES
from stream.errors import InputError
from stream.semantics import name_features
from tests.models.clicks import fold_clicks

WORD = {"KIND": r"[^/=]+", "WINDOW": r"\d+[smhd]", "STATE": f"({'|'.join(STATES)})", "NAME": ".+"}


def pattern_of(name: str) -> str:
    escaped = re.escape(name)
    for word, pattern in WORD.items():
        escaped = escaped.replace(word, pattern)
    return escaped


@pytest.mark.parametrize("preset", preset_names())
def test_the_list_of_features_is_what_the_core_gives_in_its_order(preset: str) -> None:
    names = name_features(parse_config({"preset": preset}), ["device", "place"])
    found = [
        [n for n, feature in enumerate(FEATURES) if re.fullmatch(pattern_of(feature.name), name)]
        for name in names
    ]
    assert all(len(places) == 1 for places in found), "each name is in the list once"
    places = [place for [place] in found]
    assert places == sorted(places)
    assert set(places) == set(range(len(FEATURES))), "and the list has nothing else"


def test_every_example_of_the_list_is_a_feature() -> None:
    names = name_features(parse_config({"preset": "e-commerce"}), [])
    examples = re.findall(r"[:,] `([a-z]+=[^`]+)`", " ".join(feature.meaning for feature in FEATURES))
    assert len(examples) >= 4
    assert set(examples) <= set(names)


def test_the_docs_list_every_feature() -> None:
    section = docs_page().partition("\n## Features\n")[2]
    assert [f"| `{feature.name}` | {feature.meaning} |" in section for feature in FEATURES].count(False) == 0


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("kind=coupon", "kind="),
        ("gap", "gap_log"),
        ("window=8d/view", "window=7d/view"),
        ("hours_sin", "hour_sin"),
    ],
)
def test_a_feature_that_there_is_not_is_answered_by_the_nearest(
    asked: str, near: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"the events give no feature {asked}") as refused:
        fold_clicks(tmp_path, users=4, days=9).column(["gap_log", asked])
    assert near in refused.value.remedy
    assert "docs/recipes.md, Features" in refused.value.remedy
