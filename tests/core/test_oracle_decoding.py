"""Every reason of the closed list, by hand from DESIGN.md section 3: what is refused, why, what is not."""

from __future__ import annotations

import base64

import pytest

from tests.oracle_settings import T0
from tests.scenarios import Run, every_program, pick, user

pytestmark = every_program

GOOD = b'{"user_id":"u","event_type":"view","event_time":1704067200000}'


def record(extra: str = "", **raw: str) -> bytes:
    """A good record with fields replaced by JSON text as it stands; "" leaves the field out."""
    fields = {"user_id": '"u"', "event_type": '"view"', "event_time": "1704067200000"} | raw
    return (
        "{" + ",".join(f'"{name}":{text}' for name, text in fields.items() if text) + extra + "}"
    ).encode()


def nested(levels: int) -> bytes:
    """A record of that many levels, the record itself being the first."""
    return record(x="[" * (levels - 1) + "]" * (levels - 1))


def padded(size: int) -> bytes:
    return record(x='"' + "a" * (size - len(record(x='""'))) + '"')


REFUSED = {
    "empty line": (b"", "empty", ""),
    "too large": (padded(1_048_577), "too_large", ""),
    "too large and broken": (b"{" * 1_048_577, "too_large", ""),
    # § 3: "not strict UTF-8 JSON, or not an object; a byte-order mark, lone surrogates, more than 64 levels"
    "blank": (b" ", "not_json", ""),
    "carriage return": (b"\r", "not_json", ""),
    "array": (b"[" + GOOD + b"]", "not_json", ""),
    "string": (b'"a"', "not_json", ""),
    "null": (b"null", "not_json", ""),
    "cut off": (GOOD[:-1], "not_json", ""),
    "two documents": (GOOD + GOOD, "not_json", ""),
    "trailing comma": (GOOD[:-1] + b",}", "not_json", ""),
    "single quotes": (b"{'a':1}", "not_json", ""),
    "comment": (GOOD + b"//", "not_json", ""),
    "byte-order mark": (b"\xef\xbb\xbf" + GOOD, "not_json", ""),
    "utf-16": (GOOD.decode().encode("utf-16"), "not_json", ""),
    "invalid utf-8 in an unknown field": (record(x='"?"').replace(b"?", b"\xff"), "not_json", ""),
    "overlong": (record(x='"?"').replace(b"?", b"\xc0\xaf"), "not_json", ""),
    "surrogate in utf-8": (record(x='"?"').replace(b"?", b"\xed\xa0\x80"), "not_json", ""),
    "lone high surrogate": (record(x=r'"\ud83d"'), "not_json", ""),
    "lone low surrogate": (record(x=r'"\ude00"'), "not_json", ""),
    "surrogates in the wrong order": (record(x=r'"\ude00\ud83d"'), "not_json", ""),
    "lone surrogate in a key": (record(extra=r',"\udfff":1'), "not_json", ""),
    "lone surrogate that is overwritten": (record(extra=r',"x":"\ud800","x":1'), "not_json", ""),
    "control character": (record(x='"\t"'), "not_json", ""),
    "unknown escape": (record(x=r'"\x41"'), "not_json", ""),
    "short escape": (record(x=r'"\u12"'), "not_json", ""),
    "NaN": (record(value="NaN"), "not_json", ""),
    "infinity": (record(x="-Infinity"), "not_json", ""),
    "leading zero": (record(value="01"), "not_json", ""),
    "plus sign": (record(value="+1"), "not_json", ""),
    "bare point": (record(value="1."), "not_json", ""),
    "hexadecimal": (record(value="0x1"), "not_json", ""),
    "capital word": (record(x="True"), "not_json", ""),
    "no-break space": (GOOD + "\u00a0".encode(), "not_json", ""),
    "65 levels": (nested(65), "not_json", ""),
    "100,000 levels": (nested(100_000), "not_json", ""),
    # § 3: "missing_field, bad_field (both with the field's name …)", "A JSON null is a missing field"
    "nothing": (b"{}", "missing_field", "user_id"),
    "user null": (record(user_id="null"), "missing_field", "user_id"),
    "type missing": (record(event_type=""), "missing_field", "event_type"),
    "time missing": (record(event_time=""), "missing_field", "event_time"),
    "the last of duplicates is null": (record(extra=',"user_id":null'), "missing_field", "user_id"),
    "missing comes before bad": (record(user_id="1", event_time="null"), "missing_field", "event_time"),
    # § 3: the table's fields in order
    "user empty": (record(user_id='""'), "bad_field", "user_id"),
    "user number": (record(user_id="1"), "bad_field", "user_id"),
    "user of 129 bytes": (record(user_id='"' + "é" * 64 + 'a"'), "bad_field", "user_id"),
    "type number": (record(event_type="1"), "bad_field", "event_type"),
    "time before 2000": (record(event_time="946684799999"), "bad_field", "event_time"),
    "time after 9999": (record(event_time="253402300800000"), "bad_field", "event_time"),
    "time float": (record(event_time="1704067200000.0"), "bad_field", "event_time"),
    "time exponent": (record(event_time="1704067200e3"), "bad_field", "event_time"),
    "time huge": (record(event_time="1" * 5_000), "bad_field", "event_time"),
    "time bool": (record(event_time="true"), "bad_field", "event_time"),
    "time as digits in a string": (record(event_time='"1704067200000"'), "bad_field", "event_time"),
    "bad before unknown kind": (record(event_type='"odd"', value='"1"'), "bad_field", "value"),
    "item number": (record(item_id="7"), "bad_field", "item_id"),
    "event_id list": (record(event_id="[]"), "bad_field", "event_id"),
    "value string": (record(value='"1"'), "bad_field", "value"),
    "value bool": (record(value="true"), "bad_field", "value"),
    "value not finite": (record(value="1e999"), "bad_field", "value"),
    "value integer not finite": (record(value="9" * 400), "bad_field", "value"),
    "session number": (record(session_id="1"), "bad_field", "session_id"),
    "rec_id object": (record(rec_id="{}"), "bad_field", "rec_id"),
    "position float": (record(position="1.0"), "bad_field", "position"),
    "position bool": (record(position="false"), "bad_field", "position"),
    "context list": (record(context="[]"), "bad_field", "context"),
    "context entry list": (record(context='{"unnamed":[1]}'), "bad_field", "context"),
    "context entry object": (record(context='{"device":{}}'), "bad_field", "context"),
    "context entry not finite": (record(context='{"device":-1e999}'), "bad_field", "context"),
    "the first bad field of two": (record(session_id="1", item_id="1"), "bad_field", "item_id"),
    "unknown kind": (record(event_type='"odd"'), "unknown_event_type", ""),
    "empty kind": (record(event_type='""'), "unknown_event_type", ""),
    "kind in capitals": (record(event_type='"View"'), "unknown_event_type", ""),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_record_is_a_dead_letter_with_its_reason(run: Run, case: str) -> None:
    """§ 3: "Reasons are a closed list, tested one after the other"; the record's bytes are untouched."""
    bad, reason, detail = REFUSED[case]
    replayed = run([bad, GOOD])
    assert [pick(letter, "offset reason detail") for letter in replayed.dead_letters] == [
        {"offset": 0, "reason": reason, "detail": detail}
    ]
    assert base64.b64decode(replayed.dead_letters[0]["record"]) == bad
    assert replayed.summary["accepted"] == 1


ACCEPTED = {
    "as large as may be": padded(1_048_576),
    "64 levels": nested(64),
    "spaces": b" \t\r{ \t" + GOOD[1:] + b" \r",
    "any order": b'{"event_time":1704067200000,"x":{"user_id":1},"event_type":"view","user_id":"u"}',
    "escapes": rb'{"\u0075ser_id":"\u0075","event_type":"vi\u0065w","event_time":1704067200000}',
    "unknown fields": record(extra=r',"a":[1e999,-0,1E+2,true,{"":null}],"b":"\ud83d\ude00\u0000\/"'),
    "noncharacters": record(x='"\ufffe\uffff\U0010ffff\u007f\u2028"'),
    "duplicate keys": b'{"user_id":1,' + GOOD[1:],
    "duplicate keys in the context": record(context='{"a":[],"a":1}'),
    "null is missing": record(item_id="null", event_id="null", value="null", position="null", context="null"),
    "empty means none": record(item_id='""', event_id='""', session_id='""', rec_id='""'),
    "context": record(context='{"a":"","b":-1.5e3,"c":false,"d":null,"":0}'),
    "position": record(position="-0"),
    "large position": record(position="123456789012345678901234567890"),
    "values": record(value="1e-999"),
    "large integer": record(value="9" * 300),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_rules_do_not_refuse_is_accepted(run: Run, case: str) -> None:
    """§ 3: "Unknown fields are ignored; of duplicate keys the last wins"; JSON is RFC 8259's."""
    replayed = run([ACCEPTED[case]])
    assert replayed.dead_letters == []
    assert pick(replayed.users[0], "user_id first_event_time lifecycle") == {
        "user_id": "u",
        "first_event_time": T0,
        "lifecycle": "new",
    }


@pytest.mark.parametrize("name", ["a\0", " ", "é" * 64, "\U0001f30a", "x" * 128])
def test_a_user_id_is_any_string_of_1_to_128_bytes(run: Run, name: str) -> None:
    """§ 3: "string, 1 to 128 bytes of UTF-8"."""
    text = '"' + name.replace("\0", r"\u0000") + '"'
    assert user(run([record(user_id=text)]), name)["events"] == 1


TIMES = {
    "2024-01-01T00:00:00Z": T0,
    "2024-01-01t00:00:00z": T0,
    "2024-01-01T00:00:00.000Z": T0,
    "2024-01-01T00:00:00.0019999999Z": T0 + 1,
    "2024-01-01T00:00:00.5Z": T0 + 500,
    "2024-01-01T00:00:00." + "9" * 40 + "Z": T0 + 999,
    "2024-01-01T05:30:00+05:30": T0,
    "2023-12-31T19:00:00-05:00": T0,
    "2024-01-01T00:00:00-00:00": T0,
    "2024-01-01T23:59:00+23:59": T0,
    "2024-02-29T00:00:00Z": T0 + 59 * 86_400_000,
    "2000-01-01T00:00:00Z": 946_684_800_000,
    "1999-12-31T23:30:00-00:30": 946_684_800_000,
    "9999-12-31T23:59:59.9999Z": 253_402_300_799_999,
}


@pytest.mark.parametrize("text", TIMES)
def test_event_time_as_rfc_3339(run: Run, text: str) -> None:
    """§ 3: "RFC 3339 string (digits below the millisecond are cut)"; "`t` and `z` in either case"."""
    assert user(run([record(event_time=f'"{text}"')]), "u")["first_event_time"] == TIMES[text]


NO_TIMES = [
    "",
    "2024-01-01",
    "2024-01-01T00:00:00",
    "2024-01-01 00:00:00Z",
    "2024-01-01T00:00Z",
    "2024-01-01T00:00:00.Z",
    "2024-01-01T00:00:00,5Z",
    "2024-01-01T00:00:60Z",
    "2016-12-31T23:59:60Z",
    "2024-01-01T24:00:00Z",
    "2024-01-01T00:60:00Z",
    "2024-13-01T00:00:00Z",
    "2024-00-01T00:00:00Z",
    "2024-04-31T00:00:00Z",
    "2023-02-29T00:00:00Z",
    "2100-02-29T00:00:00Z",
    "2024-01-01T00:00:00+0100",
    "2024-01-01T00:00:00+01",
    "2024-01-01T00:00:00+24:00",
    "2024-01-01T00:00:00+01:60",
    "2024-01-01T00:00:00 Z",
    " 2024-01-01T00:00:00Z",
    "2024-01-01T00:00:00Z ",
    "2024-1-1T00:00:00Z",
    "+2024-01-01T00:00:00Z",
    "20240101T000000Z",
    "2024-W01-1T00:00:00Z",
    "２０２４-01-01T00:00:00Z",
    "2024-01-01T00:00:00−01:00",
    "1999-12-31T23:59:59.999Z",
    "2000-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59.999-00:01",
    "0000-01-01T00:00:00Z",
]


@pytest.mark.parametrize("text", NO_TIMES)
def test_other_event_times_are_bad_fields(run: Run, text: str) -> None:
    """§ 3: "the zone required, second 60 refused", 2000 through 9999."""
    (letter,) = run([record(event_time=f'"{text}"')]).dead_letters
    assert pick(letter, "reason detail") == {"reason": "bad_field", "detail": "event_time"}


def test_field_names_can_be_mapped(run: Run) -> None:
    """§ 3: "Field names can be mapped"; detail is "the field's name in this table"."""
    good = b'{"who":"u","event_type":"view","timestamp":1704067200000,"event_time":"?","user_id":7}'
    bad = b'{"who":"u","event_type":"view","timestamp":"?"}'
    missing = GOOD
    replayed = run([good, bad, missing], fields={"event_time": "timestamp", "user_id": "who"})
    assert user(replayed, "u")["first_event_time"] == T0
    assert [(letter["reason"], letter["detail"]) for letter in replayed.dead_letters] == [
        ("bad_field", "event_time"),
        ("missing_field", "user_id"),
    ]


def test_a_file_never_has_a_record_time(run: Run) -> None:
    """§ 3: event_time missing is "in a file a dead letter"; `--now` stands in for the guard only."""
    (letter,) = run([record(event_time="")], now=T0).dead_letters
    assert pick(letter, "reason detail") == {"reason": "missing_field", "detail": "event_time"}


def test_dead_letters_are_in_the_order_of_the_file(run: Run) -> None:
    """§ 4: "a partition's events are applied in offset order": decoding, guard and lateness in one order."""
    records = [b"", record(event_time=str(T0 + 86_400_000)), b"{", record(event_time="null"), GOOD, b"[]"]
    replayed = run(records, now=T0)
    assert [(letter["offset"], letter["reason"]) for letter in replayed.dead_letters] == [
        (0, "empty"),
        (1, "from_future"),
        (2, "not_json"),
        (3, "missing_field"),
        (5, "not_json"),
    ]
