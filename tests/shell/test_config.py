"""The config: what a file may say, what it then means, and what is said of a file that is wrong."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from stream import config as parts
from stream.config_docs import docs_page, to_toml
from stream.config_fields import KEYS, NAMES, POLICY_STATES, SECTIONS
from stream.config_load import load_config, parse_config, preset_names
from stream.config_tables import EVENT_FIELDS
from stream.config_values import parse_duration
from stream.core import lifecycle
from stream.errors import ConfigError

REPOSITORY = Path(__file__).parents[2]
DAY_MS = 86_400_000


def faults_of(tree: dict[str, Any], **environment: str) -> dict[str, str]:
    """Return what is wrong with a tree: full key → what and remedy; {} if nothing is."""
    try:
        parse_config(tree, environment=environment)
    except ConfigError as error:
        return {fault.key: f"{fault.what} ({fault.remedy})" for fault in error.faults}
    return {}


# The defaults of the design.


def test_the_defaults_are_those_of_the_design() -> None:
    config = parse_config()
    assert config.events.kinds == {"view": "engagement", "purchase": "conversion", "impression": "contact"}
    assert config.events.recommend == ("view",)
    minute, hour = 60_000, 3_600_000
    time = config.time
    assert (time.future_max_ms, time.out_of_order_max_ms) == (5 * minute, minute)
    assert (time.lateness_max_ms, time.session_gap_ms) == (7 * DAY_MS, 30 * minute)
    assert (time.visit_gap_ms, time.idle_after_ms) == (12 * hour, minute // 2)
    assert (time.idle_advance_max_ms, time.day_offset_ms) == (30 * DAY_MS, 0)
    assert config.windows.rings == ((5 * minute, 12), (hour, 24), (DAY_MS, 30))
    assert config.windows.windows == {"1h": (0, 12), "24h": (1, 24), "7d": (2, 7), "30d": (2, 30)}
    assert config.windows.day_ring == 2
    life = config.lifecycle
    assert (life.active_days_min, life.cadence, life.risk) == (3, 4.0, "rhythm")
    days = (life.at_risk_min_ms, life.at_risk_max_ms, life.at_risk_default_ms)
    assert days == (7 * DAY_MS, 45 * DAY_MS, 30 * DAY_MS)
    silences = (life.dormant_after_ms, life.churned_after_ms, life.forget_after_ms)
    assert silences == (60 * DAY_MS, 120 * DAY_MS, 400 * DAY_MS)
    assert config.worker.events_per_5min_max == 600
    assert config.policies["new"].k == 10
    assert config.policies["new"].min_similarity is None


def test_states_and_event_fields_are_those_of_the_program() -> None:
    assert lifecycle.STATES[lifecycle.NEW : lifecycle.FORGOTTEN] == POLICY_STATES
    assert len(EVENT_FIELDS) == 10


def test_the_config_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        parse_config().time.session_gap_ms = 1  # type: ignore[misc]


# The table of fields and the structs.


def test_every_key_has_an_attribute_and_every_attribute_a_key() -> None:
    derived = {"windows.day_ring"}
    attributes = set()
    for field in msgspec.structs.fields(parts.Config):
        if field.name in ("place", "meaning", "policies_given", "policies"):
            continue
        if field.name == "preset":
            attributes.add("preset")
            continue
        attributes |= {f"{field.name}.{inner.encode_name}" for inner in msgspec.structs.fields(field.type)}
    for inner in msgspec.structs.fields(parts.Policy):
        attributes |= {f"policies.{state}.{inner.encode_name}" for state in ("default", *POLICY_STATES)}
    assert attributes - derived == set(KEYS)


def test_every_default_reads_as_itself_and_every_example_is_a_value() -> None:
    for full, key in KEYS.items():
        for value in (key.default, key.example):
            if value is not None:
                key.reader.read(value)
        assert key.meaning.endswith("."), full


def test_the_page_of_keys_is_up_to_date() -> None:
    page = (REPOSITORY / "docs" / "config.md").read_text(encoding="utf-8")
    assert page == docs_page(), "run: python -m stream.config_docs > docs/config.md"
    for section in SECTIONS:
        for key in section.keys:
            assert f"| `{key.name}`" in page


def test_toml_is_written_as_it_is_read() -> None:
    value = {"a b": 'say "x"\\', "list": [1, True, {"b-c": 0.5}], "none": {}}
    assert tomllib.loads(f"value = {to_toml(value)}")["value"] == value


# Policies.


def test_a_policy_overrides_single_keys_of_the_default() -> None:
    config = parse_config({"policies": {"default": {"k": 5, "diversity": 0.5}, "loyal": {"k": 7}}})
    assert set(config.policies) == set(POLICY_STATES)
    assert (config.policies["loyal"].k, config.policies["loyal"].diversity) == (7, 0.5)
    assert (config.policies["new"].k, config.policies["new"].diversity) == (5, 0.5)
    assert config.policies_given == {"loyal"}


def test_a_policy_of_at_risk_that_is_given_wins_back_even_if_empty() -> None:
    assert parse_config({"policies": {"at_risk": {}}}).policies_given == {"at_risk"}
    assert "at_risk" in parse_config({"preset": "news"}).policies_given
    without = parse_config({"preset": "news", "policies": {"at_risk": False}})
    assert "at_risk" not in without.policies_given
    assert without.policies["at_risk"] == without.policies["loyal"]


# Presets.


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_is_a_whole_config(name: str) -> None:
    config = parse_config({"preset": name})
    assert config.preset == name
    assert config.events.recommend
    assert "contact" in config.events.kinds.values()


def test_the_presets_are_those_of_the_readme() -> None:
    assert set(preset_names()) == {"e-commerce", "social", "video", "news", "health"}


def test_a_file_overrides_its_preset_key_by_key_and_kinds_whole() -> None:
    preset = parse_config({"preset": "video"})
    over = parse_config(
        {"preset": "video", "time": {"visit_gap": "3h"}, "events": {"kinds": {"watch": "engagement"}}}
    )
    assert over.time.visit_gap_ms == 3 * 3_600_000
    assert over.time.session_gap_ms == preset.time.session_gap_ms == 3_600_000
    assert over.events.kinds == {"watch": "engagement"}
    assert over.events.recommend == ("watch",)
    assert over.policies == preset.policies


# Keys that are none.


@pytest.mark.parametrize(
    ("tree", "key", "near"),
    [
        ({"lifecycle": {"dormnt_after": "1d"}}, "lifecycle.dormnt_after", "lifecycle.dormant_after"),
        ({"lifecycle": {"session_gap": "1d"}}, "lifecycle.session_gap", "time.session_gap"),
        ({"lifecycel": {}}, "lifecycel", "lifecycle"),
        ({"session_gap": "30m"}, "session_gap", "time.session_gap"),
        ({"policies": {"at_rsk": {}}}, "policies.at_rsk", "policies.at_risk"),
        ({"policies": {"new": {"exlude": "none"}}}, "policies.new.exlude", "policies.new.exclude"),
        ({"preset": "e-comerce"}, "preset", "e-commerce"),
        ({"events": {"kinds": {"a": "engagment"}}}, "events.kinds.a", "engagement"),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest(tree: dict[str, Any], key: str, near: str) -> None:
    assert f'did you mean "{near}"?' in faults_of(tree)[key]


@pytest.mark.parametrize("section", [section.name for section in SECTIONS])
def test_a_section_that_is_no_table_is_refused(section: str) -> None:
    assert f"[{section}]" in faults_of({section: 5})[section]


def test_all_faults_are_told_at_once_in_the_order_of_the_table() -> None:
    tree = {
        "http": {"port": "x"}, "typo": 1, "events": {"kinds": {"a": "b"}, "recomend": []},
        "time": {"session_gap": "13h"}, "policies": {"new": {"k": 0}},
    }  # fmt: skip
    assert list(faults_of(tree)) == [
        "events.recomend", "events.kinds.a", "time.session_gap", "policies.new.k", "http.port", "typo",
    ]  # fmt: skip


# The environment.


def test_strings_take_variables_of_the_environment() -> None:
    def group(text: str, **environment: str) -> str:
        return parse_config({"kafka": {"group_id": text}}, environment=environment).kafka.group_id

    assert group("a-${NAME}-b", NAME="x") == "a-x-b"
    assert group("${NAME:-y}") == group("${NAME:-y}", NAME="") == "y"
    assert group("$${NAME}", NAME="x") == "${NAME}"
    assert group("$NAME") == "$NAME"


def test_numbers_take_them_too() -> None:
    tree = {"http": {"port": "${PORT}"}, "lifecycle": {"cadence": "${C}", "at_risk_min": "${D}"}}
    config = parse_config(tree, environment={"PORT": "80", "C": "2.5", "D": "8d"})
    assert (config.http.port, config.lifecycle.cadence) == (80, 2.5)
    assert config.lifecycle.at_risk_min_ms == 8 * DAY_MS
    assert "expected" in faults_of({"http": {"port": "80"}})["http.port"]


def test_a_missing_variable_is_named_and_so_is_a_broken_one() -> None:
    client = {"sasl.password": "${PASSWORD}", "sasl.username": "${}"}
    faults = faults_of({"kafka": {"client": client, "group_id": "${GROUP"}})
    assert "PASSWORD is not set" in faults['kafka.client."sasl.password"']
    assert "names no variable" in faults['kafka.client."sasl.username"']
    assert "names no variable" in faults["kafka.group_id"]


def test_secrets_appear_in_no_error_and_no_text_of_the_config() -> None:
    tree = {"kafka": {"client": {"sasl.password": "${P}", "list": ["s3cret"]}}, "http": {"port": "${P}"}}
    faults = str(faults_of(tree, P="s3cret"))
    assert "${P}" in faults
    assert "s3cret" not in faults
    config = parse_config({"kafka": {"client": {"sasl.password": "${P}"}}}, environment={"P": "s3cret"})
    assert config.kafka.client == {"sasl.password": "s3cret"}
    assert "s3cret" not in repr(config)
    assert config.meaning == parse_config().meaning


# The meaning of the fold.


def test_the_meaning_changes_with_every_key_that_the_fold_depends_on_and_with_no_other() -> None:
    other: dict[str, object] = {
        "preset": None, "events.kinds": {"view": "engagement"}, "events.recommend": ["purchase"],
        "events.fields": {"value": "price"}, "windows.rings": [{"bucket": "1d", "buckets": 30}],
        "windows.windows": {"7d": "1d"}, "lifecycle.risk": "model", "policies.default.exclude": "seen",
        "bundle.path": "b", "kafka.bootstrap_servers": "k:1", "kafka.client": {"a": 1},
        "worker.guarantee": "at-least-once", "worker.emit_from": "earliest", "time.day_offset": "1h",
    }  # fmt: skip
    meaning = parse_config().meaning
    for full, key in KEYS.items():
        section, *rest = full.split(".")
        value = other.get(full, other.get(full.replace(rest[0], "default", 1)) if rest else None)
        if value is None and key.default is not None:
            value = _near(key.default)
        if value is None:
            continue
        tree: Any = value
        for part in reversed(rest):
            tree = {part: tree}
        tree = {section: tree}
        if full == "windows.rings":
            tree["windows"]["windows"] = {"7d": "1d"}
        assert (parse_config(tree).meaning != meaning) is key.folds, full


def _near(default: object) -> object:
    """Return another value that every agreement of the config allows beside the defaults."""
    if isinstance(default, str) and (ms := parse_duration(default)) is not None:
        return ms + 1
    if isinstance(default, str):
        return f"{default}x"
    return default + 1 if isinstance(default, int) else default / 2 + 0.1  # type: ignore[operator]


def test_the_meaning_does_not_depend_on_order_or_spelling() -> None:
    kinds = {"a": "engagement", "b": "conversion", "c": "engagement"}
    rings = [{"bucket": "1h", "buckets": 24}, {"bucket": "1d", "buckets": 30}]
    meanings = {
        parse_config(
            {
                "events": {"kinds": {name: kinds[name] for name in names}, "recommend": list(names[:2])},
                "windows": {"rings": rings[::step], "windows": {"24h": hour, "7d": "1d"}},
            }
        ).meaning
        for names, step, hour in itertools.product(("abc", "bac"), (1, -1), ("1h", 3_600_000, "60m"))
    }
    assert len(meanings) == 1


# Files.


def test_a_file_is_read_with_its_folder_and_named_in_its_errors(tmp_path: Path) -> None:
    path = tmp_path / "shop.toml"
    path.write_text('preset = "e-commerce"\n[bundle]\npath = "model"\n', encoding="utf-8")
    config = load_config(path)
    assert config.place == str(path)
    assert config.bundle.path == tmp_path / "model"
    path.write_text("[time]\nsession_gp = 1\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"time\.session_gp: no such key") as caught:
        load_config(path)
    assert str(caught.value).startswith(f"{path}: 1 fault in the config")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"[time", "is not TOML"),
        (b"a = 1\na = 2", "is not TOML"),
        (b'a = "\xff"', "is not UTF-8"),
        (None, "no such file"),
    ],
)
def test_a_file_that_is_no_config_says_so(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "c.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=what):
        load_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_names_are_unique() -> None:
    assert len(set(NAMES)) == len(NAMES)
