"""Encoding: every output decoded again by a JSON library, its fields in the contract's order."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream.core import lifecycle
from stream.dead_letters import DeadLetter
from stream.emit import NO_LISTS, Emitter, Lists, Risks, encode_lists, make_alert_id
from stream.errors import InvariantError
from stream.items import ItemTable
from stream.records import Output, RecordBatch
from stream.wire import ChurnAlert, Recommendation, Transition
from tests import effects

USER = "ü\0\"x'".encode()

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


def pairs(value: bytes | None) -> list[tuple[str, Any]]:
    """The fields of a JSON object in their order."""
    assert value is not None
    ordered: list[tuple[str, Any]] = json.loads(value, object_pairs_hook=list)
    return ordered


def emitted(*made: Any, users: Sequence[bytes] | None = None, lists: Lists = NO_LISTS) -> list[Output]:
    """What an emitter makes of effects, all of one user if none are given."""
    table, ids = effects.of_users(users or [USER] * len(made), made)
    return Emitter("clicks", 3).emit(table, ids, lists)


def test_a_recommendation() -> None:
    items = encode_lists(ItemTable(["apple", 'quo"te']), [([], []), ([1, 0], [1.5, -0.25])])
    lists = Lists(["other", "default"], items, "v1", 4)
    (output,) = emitted(effects.listed("active", read=1), lists=lists)
    assert (output.topic, output.partition, output.key) == ("recommendations", 3, USER)
    assert pairs(output.value) == [
        ("rec_id", "clicks-3-70"),
        ("user_id", USER.decode()),
        ("event_time", 9),
        ("lifecycle", "active"),
        ("policy", "default"),
        ("trigger", "event"),
        ("bundle", "v1"),
        ("catalogue", 4),
        ("items", [[("item_id", 'quo"te'), ("score", 1.5)], [("item_id", "apple"), ("score", -0.25)]]),
    ]
    assert output.headers == [
        ("schema", b"recommendations/1"),
        ("source", b"clicks-3-70"),
        ("id", b"clicks-3-70"),
    ]


def test_a_win_back_is_named_after_its_alert() -> None:
    effect = effects.listed("at_risk", by_timer=True, read=0, nth=2, last_event_time=7)
    (output,) = emitted(effect, lists=Lists(["win"], [b"[]"], "v1", None))
    value = dict(pairs(output.value))
    assert (value["rec_id"], value["trigger"], value["catalogue"]) == (
        make_alert_id(USER, 7),
        "lifecycle",
        None,
    )
    assert output.headers[2] == ("id", b"clicks-3-70/2")
    assert output.headers[1] == ("source", b"clicks-3-70")


@pytest.mark.parametrize(("last", "silent"), [(None, None), (7, 2), (12, -3)])
def test_a_transition(last: int | None, silent: int | None) -> None:
    before = {} if last is None else {"last_event_time": last}
    (output,) = emitted(effects.transition("new", "retained", nth=1, **before))
    assert (output.topic, output.partition, output.key) == ("lifecycle", 3, USER)
    assert pairs(output.value) == [
        ("user_id", USER.decode()),
        ("from", "new"),
        ("to", "retained"),
        ("trigger", "engagement"),
        ("at", 9),
        ("last_event_time", last),
        ("silent_ms", silent),
        *effects.EVIDENCE.items(),
    ]
    assert output.headers == [
        ("schema", b"lifecycle/1"),
        ("source", b"clicks-3-70"),
        ("id", b"clicks-3-70/1"),
    ]


def test_an_alert() -> None:
    (output,) = emitted(effects.alert("opened", "at_risk"))
    assert (output.topic, output.partition, output.key) == ("churn_alerts", 3, USER)
    assert pairs(output.value) == [
        ("alert_id", hashlib.blake2b(USER + b"\0" + b"7", digest_size=8).hexdigest()),
        ("user_id", USER.decode()),
        ("status", "opened"),
        ("stage", "at_risk"),
        ("at", 9),
        ("last_event_time", 7),
        *effects.EVIDENCE.items(),
    ]
    assert output.headers[0] == ("schema", b"churn-alerts/1")


def test_an_alert_carries_the_risk_that_it_looked_at() -> None:
    table, ids = effects.of_users([USER, USER], [effects.alert(read=1), effects.alert("resolved", read=0)])
    first, second = Emitter("clicks", 3).emit(table, ids, NO_LISTS, Risks([0.25, 0.123456789], 86_400_000))
    assert pairs(first.value)[5:8] == [("last_event_time", 7), ("risk", 0.123457), ("horizon", 86_400_000)]
    assert dict(pairs(second.value))["risk"] == 0.25


def test_outputs_come_in_the_order_of_the_effects_each_with_its_own_user() -> None:
    made = [
        effects.alert("resolved", "churned", offset=1),
        effects.listed("new", read=1, offset=2),
        effects.transition("new", "at_risk", "silence", offset=3, last_event_time=1),
        effects.listed("at_risk", by_timer=True, read=0, offset=3, last_event_time=1),
        effects.alert("escalated", "dormant", offset=4, nth=1),
    ]
    users = [b"a", b"", "\n\u2028".encode(), b"dd", b"a"]
    outputs = emitted(*made, users=users, lists=Lists(["p", "q"], [b"[1]", b"[2]"], "v1", None))
    assert [(output.topic, output.key, output.headers[2][1]) for output in outputs] == [
        ("churn_alerts", b"a", b"clicks-3-1"),
        ("recommendations", b"", b"clicks-3-2"),
        ("lifecycle", "\n\u2028".encode(), b"clicks-3-3"),
        ("recommendations", b"dd", b"clicks-3-3"),
        ("churn_alerts", b"a", b"clicks-3-4/1"),
    ]
    values = [dict(pairs(output.value)) for output in outputs]
    assert [value["user_id"].encode() for value in values] == users
    assert [(value.get("policy"), value.get("items")) for value in values] == [
        (None, None),
        ("q", [2]),
        (None, None),
        ("p", [1]),
        (None, None),
    ]


def test_nothing_to_emit() -> None:
    assert Emitter("clicks", 3).emit(effects.alert()[:0], np.zeros(0, np.uint8)) == []


def test_alert_ids() -> None:
    assert make_alert_id(b"u", -5) == hashlib.blake2b(b"u\x00-5", digest_size=8).hexdigest()
    assert len({make_alert_id(b"a", 1), make_alert_id(b"a\0", 1), make_alert_id(b"a", 11)}) == 3
    assert len(make_alert_id(b"u", 0)) == 16


@pytest.mark.parametrize("value", [None, b"", b"\xff{"])
@pytest.mark.parametrize("key", [None, b"\xfe"])
def test_a_dead_letter_is_untouched(key: bytes | None, value: bytes | None) -> None:
    emitter = Emitter("clicks", 3)
    theirs = [("trace", b"\x00\xff"), ("reason", b"theirs")]
    batch = RecordBatch("clicks", 3, [69, 70], [b"", key], [b"", value], [0, 0], [None, theirs])
    output = emitter.dead_letter(batch, DeadLetter(1, "bad_field", "context"))
    assert output[:4] == ("dead_letters", 3, key, value)
    assert output.headers == [
        *theirs,
        ("reason", b"bad_field"),
        ("detail", b"context"),
        ("source", b"clicks-3-70"),
    ]
    assert theirs == [("trace", b"\x00\xff"), ("reason", b"theirs")]
    assert emitter.dead_letter(batch, DeadLetter(0, "empty")).headers == [
        ("reason", b"empty"),
        ("detail", b""),
        ("source", b"clicks-3-69"),
    ]


def test_the_source_of_a_line() -> None:
    assert Emitter("file", 0).source(12) == "file-0-12"


def test_the_words_of_the_types_are_those_of_the_fold() -> None:
    """The encoder does not check them, so the types must be right by themselves."""

    states = set(lifecycle.STATES)
    assert words(Transition, "from_") == states - {"forgotten"}
    assert words(Transition, "to") == states - {"none"}
    assert words(Recommendation, "lifecycle") == states - {"none", "forgotten"}
    assert words(ChurnAlert, "stage") == {*(lifecycle.STATES[i] for i in lifecycle.SILENT), "forgotten"}
    assert words(ChurnAlert, "status") == set(lifecycle.STATUSES)
    assert words(Transition, "trigger") == set(lifecycle.TRIGGERS)


def words(struct: Any, field: str) -> set[str]:
    """All words that the type of a field allows."""

    def walk(hint: Any) -> set[str]:
        return set().union(*(walk(part) for part in get_args(hint))) if get_args(hint) else {hint}

    return walk(get_type_hints(struct)[field])


# --------------------------------------------------------------------------------------------- lists


@given(st.lists(st.lists(st.tuples(st.integers(0, 3), finite), max_size=12), max_size=5))
def test_lists_are_read_back(lists: list[list[tuple[int, float]]]) -> None:
    table = ItemTable(["apple", 'quo"te', "ü\\"])
    table.intern("\u2028 newcomer")
    split = [([item for item, _ in row], [score for _, score in row]) for row in lists]
    for row, text in zip(lists, encode_lists(table, split), strict=True):
        assert [(table.find(entry["item_id"]), entry["score"]) for entry in json.loads(text)] == [
            (item, pytest.approx(score, rel=6e-8, abs=1e-45)) for item, score in row
        ]


@given(finite)
@example(0.0)
@example(-0.0)
@example(1.0)
@example(0.1)
@example(-9.9999999e-6)
@example(1e-5)
@example(999999.94)
@example(1e15)
@example(16777216.0)
@example(3.4028234663852886e38)
@example(1.1754943508222875e-38)
@example(1.401298464324817e-45)
def test_a_score_is_written_as_few_digits_of_the_same_float32(score: float) -> None:
    (text,) = encode_lists(ItemTable(["a"]), [([0], [score])])
    number = text[len(b'[{"item_id":"a","score":') : -2].decode()
    assert np.float32(number) == np.float32(score)
    if score == 0 or abs(score) > 2e-38:  # among the subnormal ones fewer than six digits may do
        assert len(digits_of(number)) <= len(digits_of(str(np.float32(score))))


def digits_of(number: str) -> str:
    """The significant digits of a decimal."""
    return number.split("e")[0].replace(".", "").strip("-").strip("0")


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0.5, "0.5"), (-12.0, "-12.0"), (0.0, "0.0"), (1234567.0, "1234567.0"), (0.00012, "0.00012"),
        (1e-6, "1e-6"), (2e20, "2e20"), (-1.5e-30, "-1.5e-30"), (100.0, "100.0"), (0.1 + 0.2, "0.3"),
        (3e14, "300000000000000.0"),
    ],
)  # fmt: skip
def test_how_scores_look(score: float, text: str) -> None:
    assert encode_lists(ItemTable(["a"]), [([0], [score])]) == [
        f'[{{"item_id":"a","score":{text}}}]'.encode()
    ]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_no_number_stops_the_worker(score: float) -> None:
    with pytest.raises(InvariantError, match="finite"):
        encode_lists(ItemTable(["a"]), [([0], [score])])


@pytest.mark.parametrize("index", [-1, 1])
def test_a_list_of_an_item_that_is_none(index: int) -> None:
    with pytest.raises(IndexError):
        encode_lists(ItemTable(["a"]), [([0, index], [1.0, 0.5])])


def test_no_lists() -> None:
    assert encode_lists(ItemTable(), []) == []
    assert encode_lists(ItemTable(), [([], [])]) == [b"[]"]
