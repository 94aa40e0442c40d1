"""Keys of the config: which values each takes, and what several must agree on."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from stream.config_fields import KEYS, ORDERS
from stream.config_load import parse_config
from stream.config_tables import CLIENT_RESERVED
from stream.config_values import EARLIEST_MS, format_duration, parse_duration
from stream.errors import ConfigError

DAY_MS = 86_400_000


def faults_of(tree: dict[str, Any], **environment: str) -> dict[str, str]:
    """Return what is wrong with a tree: full key → what and remedy; {} if nothing is."""
    try:
        parse_config(tree, environment=environment)
    except ConfigError as error:
        return {fault.key: f"{fault.what} ({fault.remedy})" for fault in error.faults}
    return {}


# Durations and other values.


@pytest.mark.parametrize(
    ("text", "ms"),
    [("250ms", 250), ("30s", 30_000), ("5m", 300_000), ("12h", 43_200_000), ("7d", 604_800_000), (42, 42)],
)
def test_a_duration_is_a_number_with_a_unit_or_milliseconds(text: object, ms: int) -> None:
    assert parse_duration(text) == ms
    assert parse_duration(format_duration(ms)) == ms
    assert parse_config({"time": {"future_max": text}}).time.future_max_ms == ms


@pytest.mark.parametrize("text", ["5", "5 m", "5w", "1h30m", "1.5h", "", "m", 5.0, True, [], "٥m", "-5m", -1])
def test_what_is_no_duration_is_refused(text: object) -> None:
    assert "expected a duration" in faults_of({"time": {"future_max": text}})["time.future_max"]


def test_the_day_may_begin_before_or_after_utc() -> None:
    assert parse_config({"time": {"day_offset": "-5h"}}).time.day_offset_ms == -18_000_000
    assert faults_of({"time": {"day_offset": "25h"}})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("policies.default.k", 0), ("policies.default.k", True), ("policies.default.k", 1.0),
        ("policies.loyal.exclude", "bought"), ("policies.default.min_context", "high"),
        ("lifecycle.cadence", 0), ("lifecycle.cadence", float("nan")), ("lifecycle.cadence", float("inf")),
        ("lifecycle.risk", "mode"), ("lifecycle.risk_threshold", 1), ("lifecycle.active_days_min", 8),
        ("worker.users_max", 0), ("worker.timers_max", -1), ("worker.dead_letters_share_max", 1.5),
        ("worker.emit_from", "2026-01-31"), ("worker.emit_from", "2026-01-31T00:00:00"),
        ("worker.emit_from", 5), ("topics.events", ".."), ("topics.events", "a b"),
        ("topics.events", "x" * 250), ("topics.events", "x\n"), ("http.port", 65_536), ("http.host", ""),
        ("bundle.path", 5),
        ("kafka.bootstrap_servers", ""), ("kafka.bootstrap_servers", "a:1,,b:2"), ("kafka.client", "x"),
        ("time.session_gap", 0), ("time.idle_after", "0s"), ("worker.commit_interval_ms", "2m"),
    ],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_named_with_its_full_key(key: str, value: object) -> None:
    section, *middle, last = key.split(".")
    table = {middle[0]: {last: value}} if middle else {last: value}
    assert "expected" in faults_of({section: table})[key]


def test_emit_from_is_earliest_or_a_time_with_a_zone() -> None:
    def emit_from(text: object) -> int | None:
        return parse_config({"worker": {"emit_from": text}}).worker.emit_from_ms

    assert parse_config().worker.emit_from_ms is None
    assert emit_from("earliest") == EARLIEST_MS
    assert emit_from("1970-01-02T01:00:00+01:00") == DAY_MS
    assert emit_from("1970-01-01T00:00:00.0019Z") == 1
    assert emit_from(tomllib.loads("t = 1970-01-02T00:00:00Z")["t"]) == DAY_MS


# Kinds, fields, rings, windows.


def test_at_most_sixteen_kinds_and_one_that_makes_a_row() -> None:
    sixteen = {f"kind{i}": "engagement" for i in range(16)}
    assert faults_of({"events": {"kinds": sixteen}}) == {}
    assert "not 17" in faults_of({"events": {"kinds": sixteen | {"x": "contact"}}})["events.kinds"]
    assert "not 0" in faults_of({"events": {"kinds": {}}})["events.kinds"]
    assert "every kind is a contact" in faults_of({"events": {"kinds": {"mail": "contact"}}})["events.kinds"]


def test_recommend_names_kinds_that_are_no_contacts() -> None:
    kinds = {"buy": "conversion", "look": "engagement", "mail": "contact"}
    assert parse_config({"events": {"kinds": kinds}}).events.recommend == ("look",)
    assert parse_config({"events": {"kinds": kinds, "recommend": []}}).events.recommend == ()
    assert parse_config({"events": {"kinds": kinds, "recommend": ["buy"]}}).events.recommend == ("buy",)
    contact = faults_of({"events": {"kinds": kinds, "recommend": ["mail"]}})
    assert "is a contact" in contact["events.recommend"]
    assert (
        'did you mean "look"?'
        in faults_of({"events": {"kinds": kinds, "recommend": ["lok"]}})["events.recommend"]
    )
    assert "twice" in faults_of({"events": {"kinds": kinds, "recommend": ["buy", "buy"]}})["events.recommend"]


def test_two_fields_cannot_be_read_from_one() -> None:
    assert faults_of({"events": {"fields": {"event_time": "timestamp", "value": "price"}}}) == {}
    swapped = {"item_id": "user_id", "user_id": "item_id"}
    assert faults_of({"events": {"fields": swapped}}) == {}
    assert "events.fields.item_id" in faults_of({"events": {"fields": {"item_id": "user_id"}}})
    assert set(faults_of({"events": {"fields": {"item_id": "x", "value": "x"}}})) == {
        "events.fields.item_id", "events.fields.value",
    }  # fmt: skip


def test_a_window_is_read_from_the_ring_of_its_buckets() -> None:
    rings = [{"bucket": "1d", "buckets": 40}, {"bucket": 60_000, "buckets": 90}]
    config = parse_config({"windows": {"rings": rings, "windows": {"1h": "1m", "90m": "1m", "40d": "1d"}}})
    assert config.windows.windows == {"1h": (1, 60), "90m": (1, 90), "40d": (0, 40)}
    assert config.windows.day_ring == 0


@pytest.mark.parametrize(
    ("window", "what"),
    [
        ({"1h": "2m"}, "no ring has buckets of 2m"),
        ({"7m": "5m"}, "is no multiple"),
        ({"65m": "5m"}, "needs 13 buckets"),
        ({"hour": "5m"}, "named by its length"),
        ({"1h": "five"}, "bucket size of a ring"),
    ],
)
def test_a_window_that_its_ring_cannot_answer_is_refused(window: dict[str, str], what: str) -> None:
    (name,) = window
    assert what in faults_of({"windows": {"windows": window}})[f"windows.windows.{name}"]


def test_a_ring_of_thirty_days_is_always_there() -> None:
    rings = [
        {"bucket": "5m", "buckets": 12},
        {"bucket": "1h", "buckets": 24},
        {"bucket": "1d", "buckets": 29},
    ]
    windows = {"1h": "5m"}
    faults = faults_of({"windows": {"rings": rings, "windows": windows}})
    assert "30 or more" in faults["windows.rings"]
    rings[2]["buckets"] = 30
    assert faults_of({"windows": {"rings": rings, "windows": windows}}) == {}


@pytest.mark.parametrize(
    ("rings", "key"),
    [
        ([], "windows.rings"), ("1d", "windows.rings"), ([3], "windows.rings[0]"),
        ([{"bucket": "1d"}], "windows.rings[0].buckets"),
        ([{"bucket": "1d", "buckets": 30}, {"bucket": 0, "buckets": 1}], "windows.rings[1].bucket"),
        ([{"bucket": "1d", "buckets": 30, "size": 1}], "windows.rings[0].size"),
        ([{"bucket": "1d", "buckets": 30}, {"bucket": "24h", "buckets": 2}], "windows.rings"),
        ([{"bucket": "1d", "buckets": 4_000}, {"bucket": "1h", "buckets": 97}], "windows.rings"),
    ],
)  # fmt: skip
def test_a_ring_that_is_none_is_refused(rings: object, key: str) -> None:
    assert key in faults_of({"windows": {"rings": rings, "windows": {"7d": "1d"}}})


# Agreements.


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order.less}-{order.more}")
def test_inequalities_of_the_design_hold_at_their_edge(order: Any) -> None:
    less, more = KEYS[order.less], KEYS[order.more]
    section, low = order.less.split(".")
    high = order.more.split(".")[1]
    edge = parse_duration(less.default) or 0
    chain = {"forget_after": edge + 3, "churned_after": edge + 2, "dormant_after": edge + 1}
    chain |= {"at_risk_max": edge, "at_risk_min": edge, "at_risk_default": edge}
    base = chain if section == "lifecycle" else {}
    same = faults_of({section: base | {low: edge, high: edge}})
    assert (order.less in same) is not order.equal
    assert order.less in faults_of({section: base | {low: edge, high: edge - 1}})
    assert order.less not in faults_of({section: base | {low: edge, high: edge + 1}})
    assert more.meaning


def test_no_two_topics_have_one_name() -> None:
    assert "topics.events already" in faults_of({"topics": {"items": "events"}})["topics.items"]


# librdkafka's settings.


def test_client_settings_are_dotted_or_nested() -> None:
    client = {
        "sasl": {"mechanism": "PLAIN", "oauth": {"x": 1}},
        "fetch.queue.backoff.ms": 5,
        "enable.x": True,
    }
    assert parse_config({"kafka": {"client": client}}).kafka.client == {
        "sasl.mechanism": "PLAIN", "sasl.oauth.x": 1, "fetch.queue.backoff.ms": 5, "enable.x": True,
    }  # fmt: skip
    assert faults_of({"kafka": {"client": {"a.b": 1, "a": {"b": 2}}}})


@pytest.mark.parametrize("name", [*CLIENT_RESERVED, "error_cb"])
def test_what_exactly_once_depends_on_cannot_be_set(name: str) -> None:
    nested: object = "x"
    for part in reversed(name.split(".")):
        nested = {part: nested}
    for client in ({name: "x"}, nested):
        fault = faults_of({"kafka": {"client": client}})[f'kafka.client."{name}"']
        assert "cannot be set here" in fault
        assert len(fault) > len("cannot be set here ()")
