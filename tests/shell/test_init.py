"""`ebbtide init`'s file: it says what holds, and it holds what it says."""

from __future__ import annotations

import re
import tomllib

import pytest

from stream.config_fields import KEYS
from stream.config_load import parse_config, preset_names
from stream.init import commented_config


def load(text: str) -> object:
    return parse_config(tomllib.loads(text))


@pytest.mark.parametrize("preset", preset_names())
def test_the_file_loads_to_its_preset(preset: str) -> None:
    assert load(commented_config(preset)) == parse_config({"preset": preset})


@pytest.mark.parametrize("preset", preset_names())
def test_with_every_comment_removed_it_still_does(preset: str) -> None:
    # Keys that are not set have an example behind their #, and stay out of it.
    text = re.sub(r"^# (?=[a-z_]+ = )", "", commented_config(preset), flags=re.MULTILINE)
    text = re.sub(r"^(# For example:\n)(?=[a-z_]+ = )", r"\1# ", text, flags=re.MULTILINE)
    assert load(text) == parse_config({"preset": preset})


@pytest.mark.parametrize("preset", preset_names())
def test_every_example_is_a_value(preset: str) -> None:
    commented = commented_config(preset)
    given = re.sub(r"^# (?=[a-z_]+ = )", "", commented, flags=re.MULTILINE)
    assert given.count("\n# ") < commented.count("\n# ")
    assert load(given) != load(commented)  # keys that have no default took their examples


def test_every_key_and_its_meaning_are_in_the_file() -> None:
    text = commented_config("e-commerce")
    words = " ".join(text.replace("\n#", " ").split())
    for full, key in KEYS.items():
        if full.startswith("policies.") and not full.startswith("policies.default."):
            continue
        assert re.search(rf"^(# )?{key.name} = |^\[events\.{key.name}\]", text, flags=re.MULTILINE), full
        if full != "preset":
            assert " ".join(key.meaning.split()) in words, full


def test_lines_are_short_enough_to_read() -> None:
    assert max(map(len, commented_config("health").splitlines())) <= 120
