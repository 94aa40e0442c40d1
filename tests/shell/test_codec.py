"""Decoding: hostile records one by one, the fast path held to the slow one, and the columns."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import astuple

from stream.codec import _REFUSALS, FILE, Decoded, Decoder, _trusted
from stream.core.events import NO_ITEM
from stream.dead_letters import DeadLetter, Refusal
from stream.items import ItemTable
from stream.records import RecordBatch
from stream.strict import Strict, has_lone_surrogate, parse_object
from stream.wire import Event
from tests import oracle_decode
from tests.hostile import HOSTILE, KINDS, OK, TIME, TIME_MS, raw, record

#: FNV-1a 64 of b"e1", worked out by hand.
FNV_OF_E1 = 0x088E7B07B539B883


def a_file(values: Sequence[bytes | None]) -> RecordBatch:
    n = len(values)
    return RecordBatch(FILE, 0, list(range(n)), [None] * n, list(values), [TIME_MS + 1] * n, [None] * n)


def a_topic(values: Sequence[bytes | None], keys: Sequence[bytes | None], timestamp: int) -> RecordBatch:
    n = len(values)
    return RecordBatch(
        "clicks", 3, list(range(70, 70 + n)), list(keys), list(values), [timestamp] * n, [None] * n
    )


def decoder(**options: Any) -> Decoder:
    return Decoder(KINDS, ItemTable(["apple"]), **options)


def verdict(value: bytes | None, **options: Any) -> tuple[str, str]:
    """(reason, detail) of one line of a file, OK if it is an event."""
    decoded = decoder(**options).decode(a_file([value]))
    return decoded.dead[0][1:] if decoded.dead else OK


hostile = pytest.mark.parametrize(
    ("value", "expected"), [pytest.param(value, expected, id=name) for name, value, expected in HOSTILE]
)


@hostile
def test_a_hostile_record_gets_its_reason(value: bytes | None, expected: tuple[str, str]) -> None:
    assert verdict(value) == expected


@hostile
def test_the_naive_reader_gives_the_same_reason(value: bytes | None, expected: tuple[str, str]) -> None:
    assert naive_verdict(value or b"") == expected


def naive_verdict(value: bytes) -> tuple[str, str]:
    try:
        oracle_decode.decode(value, KINDS, {})
    except oracle_decode.RefusedError as refused:
        return refused.reason, refused.detail
    return OK


def test_hostile_records_do_not_disturb_each_other() -> None:
    decoded = decoder().decode(a_file([value for _, value, _ in HOSTILE]))
    reasons = {dead.row: dead[1:] for dead in decoded.dead}
    assert [reasons.get(row, OK) for row in range(len(HOSTILE))] == [expected for *_, expected in HOSTILE]
    assert sorted([*decoded.rows, *reasons]) == list(range(len(HOSTILE)))
    assert decoded.dead == sorted(decoded.dead)


# ------------------------------------------------------------------------------ on a topic: keys and times


def on_topic(value: bytes, key: bytes | None, timestamp: int = TIME_MS) -> Decoded:
    return decoder().decode(a_topic([value], [key], timestamp))


@pytest.mark.parametrize("key", [None, b"", b"v", b"u\0", b"U", b"\xff"])
def test_another_key_is_a_mismatch(key: bytes | None) -> None:
    assert on_topic(record(), key).dead == [DeadLetter(0, "key_mismatch")]


def test_the_key_is_looked_at_last() -> None:
    assert on_topic(record(event_type="nap"), b"v").dead == [DeadLetter(0, "unknown_event_type")]
    assert on_topic(record(user_id=""), b"").dead == [DeadLetter(0, "bad_field", "user_id")]


def test_keys_are_compared_record_by_record() -> None:
    values = [record(user_id="ab"), record(user_id="c")]
    shifted = decoder().decode(a_topic(values, [b"a", b"bc"], TIME_MS))
    assert [dead.reason for dead in shifted.dead] == ["key_mismatch", "key_mismatch"]
    one = decoder().decode(a_topic(values, [b"ab", None], TIME_MS))
    assert (one.rows, one.dead) == ([0], [DeadLetter(1, "key_mismatch")])


def test_a_key_of_two_bytes_a_letter() -> None:
    assert on_topic(record(user_id="ü"), "ü".encode()).dead == []
    assert on_topic(record(user_id="ü"), "ü".encode("latin-1")).dead == [DeadLetter(0, "key_mismatch")]


def test_a_missing_event_time_is_the_records_and_is_counted() -> None:
    values = [record(event_time=None), record(), record(event_time=TIME_MS + 5)]
    decoded = decoder().decode(a_topic(values, [b"u"] * 3, TIME_MS + 9))
    assert decoded.times_missing == 1
    assert decoded.events.event_time_ms.tolist() == [TIME_MS + 9, TIME_MS, TIME_MS + 5]


@pytest.mark.parametrize("timestamp", [-1, 0, 946_684_799_999, 253_402_300_800_000])
def test_a_records_time_out_of_range_is_none(timestamp: int) -> None:
    """A record can come without a timestamp (−1), or with one that no event may have."""
    decoded = on_topic(record(event_time=None), b"u", timestamp)
    assert decoded.dead == [DeadLetter(0, "missing_field", "event_time")]
    assert on_topic(record(), b"u", timestamp).dead == []


def test_a_dead_letter_is_not_counted_as_a_missing_time() -> None:
    assert on_topic(record(event_time=None), b"v").times_missing == 0


# ------------------------------------------------------------------------------------------- the columns


def test_columns() -> None:
    items = ItemTable(["apple"])
    values = [
        record(item_id="pear", event_id="e1", value=2.5, session_id="s", rec_id="r", position=3),
        b"nonsense",
        record(user_id="ü😀", event_type="impression", item_id="apple", event_id=""),
        record(user_id="v", event_type="purchase", event_time=TIME_MS - 1, value=-0.0),
    ]
    decoded = Decoder(KINDS, items).decode(a_file(values))
    events = decoded.events
    assert decoded.rows == [0, 2, 3]
    assert events.offset.tolist() == [0, 2, 3]
    assert events.record_time_ms.tolist() == [TIME_MS + 1] * 3
    assert events.event_time_ms.tolist() == [TIME_MS, TIME_MS, TIME_MS - 1]
    assert events.kind.tolist() == [0, 2, 1]
    assert [events.user_id(i) for i in range(3)] == [b"u", "ü😀".encode(), b"v"]
    assert events.item.tolist() == [1, 0, NO_ITEM]
    assert items.name(1) == "pear"
    assert events.event_id.tolist() == [FNV_OF_E1, 0, 0]
    assert events.value[0] == 2.5
    assert math.isnan(events.value[1])
    assert math.copysign(1, events.value[2]) == -1
    assert events.context.shape == (3, 0)
    assert decoded.session_id == ["s", None, None]
    assert decoded.rec_id == ["r", None, None]
    assert decoded.position == [3, None, None]
    assert [column.dtype for column in events] == [
        np.int64, np.int64, np.int64, np.uint8, np.uint8, np.int64, np.int32, np.uint64, np.float64,
        np.float32,
    ]  # fmt: skip


def test_an_empty_batch_has_empty_columns() -> None:
    decoded = decoder(context=["place"]).decode(a_file([]))
    assert decoded.events.size == 0
    assert decoded.events.user_start.tolist() == [0]
    assert decoded.events.context.shape == (0, 1)
    assert decoder().decode(a_file([None, b"x"])).events.size == 0


def test_a_refused_record_adds_no_item() -> None:
    items = ItemTable()
    values = [
        record(item_id="a", event_time="never"),
        record(item_id="b", event_type="nap"),
        record(item_id="c"),
    ]
    Decoder(KINDS, items).decode(a_file(values))
    assert len(items) == 1


def test_context_columns() -> None:
    contexts: list[Any] = [
        {"device": "web", "dwell": 2.5, "new": True},
        {"device": "fax", "dwell": "long", "new": False},
        {"device": 1, "dwell": 10**300},
        {"device": None},
        None,
        {"device": "app", "dwell": -3, "place": "nowhere"},
    ]
    values = [record(context=context) for context in contexts]
    made = decoder(
        context=["device", "dwell", "new"], vocabularies={"device": ["web", "app"], "colour": ["x"]}
    )
    largest = float(np.finfo(np.float32).max)
    assert made.decode(a_file(values)).events.context.tolist() == [
        [1, 2.5, 1], [0, 0, 0], [0, largest, 0], [0, 0, 0], [0, 0, 0], [2, -3, 0],
    ]  # fmt: skip


def test_mapped_fields() -> None:
    fields = {"event_time": "timestamp", "item_id": "sku"}
    value = (
        b'{"user_id":"u","event_type":"view","timestamp":1487074631123,"event_time":"x",'
        b'"item_id":9,"sku":"apple"}'
    )
    decoded = decoder(fields=fields).decode(a_file([value]))
    assert decoded.events.event_time_ms.tolist() == [TIME_MS]
    assert decoded.events.item.tolist() == [0]
    assert verdict(value.replace(b"timestamp", b"time"), fields=fields) == ("missing_field", "event_time")
    assert verdict(value.replace(b'"apple"', b"1"), fields=fields) == ("bad_field", "item_id")


def test_two_fields_may_change_places() -> None:
    fields = {"item_id": "event_id", "event_id": "item_id"}
    decoded = decoder(fields=fields).decode(a_file([raw('"event_id":"apple","item_id":"e1"')]))
    assert decoded.events.item.tolist() == [0]
    assert decoded.events.event_id.tolist() == [FNV_OF_E1]


@pytest.mark.parametrize("fields", [{"price": "value"}, {"item_id": "user_id"}])
def test_a_mapping_that_is_none(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="field"):
        decoder(fields=fields)


def test_no_kinds() -> None:
    with pytest.raises(ValueError, match="vocabulary"):
        Decoder({}, ItemTable())


# ----------------------------------------------- the fast path accepts nothing that the slow path refuses

LITERALS = [
    '"u"', '""', '"v"', '"view"', '"purchase"', '"nap"', '"ü"', r'"\u0075"', r'"\ud83d\ude00"', r'"\ud800"',
    '"a\x00"', '"\x7f"', '"' + "u" * 128 + '"', '"' + "ü" * 65 + '"', "null", "true", "0", "-0", "1", "1.0",
    "1.5e3", "1e400", "1e-400", "-1E+5", "01", "9" * 20, "9" * 400, "9" * 4400, "18446744073709551616",
    "0.1234567890123456789", str(TIME_MS), f"{TIME_MS}.0", "946684799999", f'"{TIME}"',
    '"2017-02-14t12:17:11+05:30"', '"2017-02-30T00:00:00Z"', "[]", "{}", '{"a":1}',
    '{"a":"x","b":true,"c":null}', '{"a":[]}', '{"a":1e400}', '{"a":1,"a":"x"}', "NaN",
    "[" * 63 + "]" * 63, "[" * 64 + "]" * 64, '"[[[["', '"\n"', "tru", "",
]  # fmt: skip
NAMES = [*Event.__struct_fields__, "x", r"user\u005fid", "ü", ""]

text = st.one_of(st.sampled_from(LITERALS), st.text(max_size=5).map(json.dumps))
good = {
    "user_id": st.just('"u"'),
    "event_type": st.sampled_from(['"view"', '"purchase"']),
    "event_time": st.sampled_from([str(TIME_MS), f'"{TIME}"', "null"]),
}
pairs = st.tuples(
    st.tuples(*(literal.map(lambda v, name=name: (name, v)) for name, literal in good.items())),
    st.lists(st.tuples(st.sampled_from(NAMES), text), max_size=4),
).map(lambda both: [*both[0], *both[1]])
records = pairs.flatmap(st.permutations).map(
    lambda fields: ("{" + ",".join(f'"{name}":{value}' for name, value in fields) + "}").encode()
)


@st.composite
def spoilt(draw: st.DrawFn) -> bytes:
    """A record with some bytes put in, changed or taken out."""
    value = draw(records)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(value)))
        cut = draw(st.integers(0, 3))
        put = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b'"', b"\\", b"}", b",", b"\xc3\xbc", b"0"]))
        )
        value = value[:at] + put + value[at + cut :]
    return value


def expect(strict: Strict, batch: RecordBatch) -> tuple[list[Event], list[DeadLetter]]:
    events, dead = [], []
    for row, (value, key, timestamp) in enumerate(
        zip(batch.values, batch.keys, batch.timestamps_ms, strict=True)
    ):
        read = strict.read(value, key, timestamp_ms=timestamp, in_file=batch.topic == FILE)
        if isinstance(read, Refusal):
            dead.append(DeadLetter(row, *read))
        else:
            events.append(read)
    return events, dead


@settings(max_examples=400)
@given(st.lists(spoilt(), min_size=1, max_size=12), st.booleans(), st.booleans())
def test_the_fast_path_gives_what_the_slow_path_gives(
    values: list[bytes], in_file: bool, keyed: bool
) -> None:
    batch = (
        a_file(values) if in_file else a_topic(values, [b"u" if keyed else None] * len(values), TIME_MS + 9)
    )
    events, dead = expect(Strict(tuple(KINDS), {}), batch)
    made = decoder(context=["a"], vocabularies={"a": ["x"]})
    decoded = made.decode(batch)
    assert decoded.dead == dead
    # The same events, all read by the slow path.
    rows, times = decoded.rows, made._times(batch, decoded.rows, events)
    assert len(rows) == len(events)
    assert decoded.session_id == [event.session_id for event in events]
    assert decoded.position == [event.position for event in events]
    columns = decoded.events
    assert columns.event_time_ms.tolist() == times.tolist()
    assert [columns.user_id(i).decode() for i in range(len(rows))] == [event.user_id for event in events]
    assert [list(KINDS)[kind] for kind in columns.kind] == [event.event_type for event in events]
    np.testing.assert_array_equal(columns.value, np.array([event.value for event in events], float))
    np.testing.assert_array_equal(columns.context, made._context(events))


@settings(max_examples=400)
@given(spoilt())
def test_what_the_parser_reads_the_slow_path_reads_alike(value: bytes) -> None:
    try:
        fast = decoder()._decode(_trusted([value])[0])
    except _REFUSALS:
        return
    slow = Strict(tuple(KINDS), {}).read(value, b"u", timestamp_ms=TIME_MS, in_file=True)
    if isinstance(slow, Refusal):  # left to the tests on the whole batch
        assert slow.detail in ("user_id", "event_time")
    else:
        assert astuple(slow) == astuple(fast)


@settings(max_examples=400)
@given(spoilt())
def test_the_naive_reader_agrees(value: bytes) -> None:
    assert verdict(value) == naive_verdict(value)


def test_good_records_take_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the two properties above would compare the slow path with itself."""
    monkeypatch.setattr(Strict, "read", lambda *_, **__: pytest.fail("went the slow way"))
    values = [record(), record(user_id="ü"), raw('"x":[[{}]],"item_id":"apple","value":1,"context":{"a":1}')]
    assert decoder().decode(a_file(values)).rows == [0, 1, 2]


@given(st.text(alphabet='\\u"dD8cCeE0', max_size=30))
def test_lone_surrogates_are_found_as_the_codec_of_python_finds_them(body: str) -> None:
    try:
        parsed = json.loads(f'"{body}"')
    except ValueError:
        return
    try:
        parsed.encode()
        lone = False
    except UnicodeEncodeError:
        lone = True
    assert has_lone_surrogate(f'"{body}"') == lone


documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_json_is_read_as_it_was_written(document: Any) -> None:
    expected = document if isinstance(document, dict) else None
    assert parse_object(json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass")) == expected
