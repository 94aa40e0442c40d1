"""Schemas: real outputs and hostile inputs against them, by a validator that knows nothing of msgspec."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator

from stream import wire
from stream.dead_letters import DeadLetter
from stream.emit import Emitter, Lists, encode_lists
from stream.items import ItemTable
from stream.records import Output, RecordBatch
from stream.schema import schemas
from tests import effects
from tests.hostile import HOSTILE, KINDS, OK, raw, record

SCHEMAS = schemas(KINDS)
EMITTER = Emitter("clicks", 3)
(LIST,) = encode_lists(ItemTable(["apple"]), [([0], [1.5])])


def validator(name: str, all_schemas: dict[str, dict[str, Any]] = SCHEMAS) -> Draft202012Validator:
    return Draft202012Validator(all_schemas[name])


def accepts(name: str, document: Any) -> bool:
    return bool(validator(name).is_valid(document))


def emit(effect: Any, catalogue: int | None = None) -> Output:
    table, ids = effects.of_users([b"u"], [effect])
    (output,) = EMITTER.emit(table, ids, Lists(["p"], [LIST], "v1", catalogue))
    return output


REAL = [
    ("recommendations", emit(effects.listed(read=0))),
    ("recommendations", emit(effects.listed(by_timer=True, read=0), catalogue=5)),
    ("lifecycle", emit(effects.transition("none", "new"))),
    ("lifecycle", emit(effects.transition("churned", "forgotten", "silence", last_event_time=3))),
    ("churn-alerts", emit(effects.alert())),
    ("churn-alerts", emit(effects.alert("expired", "forgotten"))),
]
ROWS: list[tuple[str, msgspec.Struct]] = [
    (
        "users.jsonl",
        wire.UserRow(
            "u", "loyal", 1, 2, 3, 4, 5, 6, 7, 0.0, 1, None, {"1h": {"view": 2}}, {"7d": 1.5}, ["a"], None
        ),
    ),
    ("dead-letters.jsonl", wire.DeadLetterRow(0, "poison", "", b"\xff\x00")),
    (
        "summary.json",
        wire.Summary(3, 1, 1, {"empty": 1}, 1, {"none>new": 1}, {"opened": 1}, None, 0.5, 6.0),
    ),
    (
        "churn-alerts",
        wire.ChurnAlert(
            alert_id="00ff00ff00ff00ff",
            user_id="u",
            status="opened",
            stage="at_risk",
            at=9,
            last_event_time=7,
            risk=0.5,
            horizon=86_400_000,
            first_event_time=1,
            events=2,
            sessions=3,
            orders=4,
            active_days=5,
        ),
    ),
    ("items", wire.Item("apple", {"name": "Apple", "tags": ["red"], "price": 1.5})),
    ("items", wire.Item("apple", None)),
    ("control", wire.RollOut("v2")),
    ("control", wire.Erasure("u")),
]


@pytest.mark.parametrize("name", SCHEMAS)
def test_it_is_a_schema(name: str) -> None:
    Draft202012Validator.check_schema(SCHEMAS[name])
    assert SCHEMAS[name]["$id"] == f"ebbtide:{name}"


@pytest.mark.parametrize(("name", "output"), REAL)
def test_real_outputs_fit(name: str, output: Output) -> None:
    assert output.value is not None
    document = json.loads(output.value)
    validator(name).validate(document)
    for field in document:  # every field of an output is required, and typed
        assert field in ("risk", "horizon") or not accepts(
            name, {k: v for k, v in document.items() if k != field}
        )
        assert not accepts(name, document | {field: ["?"]})


@pytest.mark.parametrize("output", [output for _, output in REAL])
def test_headers_fit(output: Output) -> None:
    headers = {name: value.decode() for name, value in output.headers}
    assert accepts("output-headers", headers)
    for name in headers:  # each of them is required
        assert not accepts("output-headers", {k: v for k, v in headers.items() if k != name})


def test_dead_letters_headers_fit() -> None:
    batch = RecordBatch("clicks", 3, [70], [None], [b""], [0], [None])
    output = EMITTER.dead_letter(batch, DeadLetter(0, "empty"))
    headers = {name: value.decode() for name, value in output.headers}
    validator("dead-letter-headers").validate(headers)
    assert not accepts("dead-letter-headers", headers | {"reason": "bored"})


@pytest.mark.parametrize(("name", "row"), ROWS)
def test_rows_fit(name: str, row: msgspec.Struct) -> None:
    document = json.loads(msgspec.json.encode(row))
    validator(name).validate(document)
    assert not accepts(name, document | {next(reversed(document)): {"?": [{}]}})


# A schema speaks of the parsed document: to it 1e12 is an integer, and any text may be a time.
FOR_THE_CODEC = {
    "event_time a float", "event_time an integral float", "event_time with an exponent",
    "event_time as digits",
    "event_time empty", "event_time without a zone", "no event_time", "position a float", "value not finite",
    "value of 400 digits", "context not finite", "user_id of 130 bytes, 65 letters",
    "user_id of 132 bytes, 33 letters",
}  # fmt: skip
# What Python's own parser does not read, and the one integer that is accepted without being carried.
BEYOND = ("5,000 digits", "huge number", "position of 30 digits")
OF_FIELDS = [
    case
    for case in HOSTILE
    if case[2][0] in ("", "missing_field", "bad_field", "unknown_event_type")
    and not any(words in case[0] for words in BEYOND)
]


@pytest.mark.parametrize(
    ("name", "value", "expected"), [pytest.param(*case, id=case[0]) for case in OF_FIELDS]
)
def test_the_events_schema_refuses_what_the_codec_refuses(
    name: str, value: bytes, expected: tuple[str, str]
) -> None:
    fits = accepts("events", json.loads(value))
    assert fits == (expected == OK or name in FOR_THE_CODEC)


def test_mapped_names_and_any_kind() -> None:
    mapped = validator("events", schemas(["nap"], {"event_time": "timestamp"}))
    assert mapped.is_valid({"user_id": "u", "event_type": "nap", "timestamp": 1_487_074_631_123})
    assert not mapped.is_valid({"user_id": "u", "event_type": "nap", "timestamp": 5})
    assert not mapped.is_valid(json.loads(record()))
    assert validator("events", schemas()).is_valid(json.loads(record(event_type="whatever")))
    assert not validator("events", schemas()).is_valid(json.loads(raw('"value":"1"')))
