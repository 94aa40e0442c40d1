"""Decoding of one record of a file, as DESIGN.md section 3 words it, in plain Python.

Part of the oracle (`tests/oracles.py`): written from the text and never from `stream/`, so that a misreading
in the one is not repeated in the other. It reads JSON by itself, strictly, because every library lets
something through that the text refuses. It is slow, and that is no defect here.
"""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

RECORD_BYTES_MAX = 1_048_576
LEVELS_MAX = 64
USER_ID_BYTES_MAX = 128

#: 2000-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z.
EVENT_TIME_MIN_MS = 946_684_800_000
EVENT_TIME_MAX_MS = 253_402_300_799_999


class Event(NamedTuple):
    """What the semantics need to know of a record that passed decoding."""

    user: bytes
    kind: str
    time: int
    item: str | None
    event_id: str | None
    value: float | None


class RefusedError(Exception):
    """The record is a dead letter."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def decode(record: bytes, kinds: Mapping[str, str], names: Mapping[str, str]) -> Event:
    """Return the event, or raise `RefusedError` with the first reason of the list that applies.

    kinds is the vocabulary (kind → role); names maps a field of the table to its name in the record.
    """
    if not record:
        raise RefusedError("empty")
    if len(record) > RECORD_BYTES_MAX:
        raise RefusedError("too_large")
    try:
        document = read_json(record)
    except NotJsonError:
        raise RefusedError("not_json") from None
    if not isinstance(document, dict):
        raise RefusedError("not_json")

    # "A JSON null is a missing field."
    raw = {field: document.get(names.get(field, field)) for field in FIELDS}
    raw = {field: value for field, value in raw.items() if value is not None}
    for field in ("user_id", "event_type", "event_time"):
        if field not in raw:
            raise RefusedError("missing_field", field)
    read: dict[str, Any] = {}
    for field, reader in FIELDS.items():
        try:
            read[field] = reader(raw[field]) if field in raw else None
        except ValueError:
            raise RefusedError("bad_field", field) from None
    if read["event_type"] not in kinds:
        raise RefusedError("unknown_event_type")
    return Event(
        user=read["user_id"],
        kind=read["event_type"],
        time=read["event_time"],
        item=read["item_id"] or None,
        event_id=read["event_id"] or None,
        value=read["value"],
    )


# The fields of the table, each with the function that reads its value or raises ValueError.


def _user_id(value: object) -> bytes:
    user = _string(value).encode()
    if not 1 <= len(user) <= USER_ID_BYTES_MAX:
        raise ValueError
    return user


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _integer(value: object) -> str:
    if not isinstance(value, Number) or not value.integral:
        raise ValueError
    return value.text


def _finite(value: object) -> float:
    if not isinstance(value, Number) or not math.isfinite(float(value.text)):
        raise ValueError
    return float(value.text)


def _context(value: object) -> None:
    if not isinstance(value, dict):
        raise ValueError
    for entry in value.values():
        if isinstance(entry, Number):
            _finite(entry)
        elif entry is not None and not isinstance(entry, str | bool):
            raise ValueError


_RFC_3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)


def _event_time(value: object) -> int:
    if isinstance(value, str):
        time = _instant(value)
    else:
        digits = _integer(value)
        if len(digits) > 20:  # out of range anyway, and too long for int() if it is very long
            raise ValueError
        time = int(digits)
    if not EVENT_TIME_MIN_MS <= time <= EVENT_TIME_MAX_MS:
        raise ValueError
    return time


def _instant(text: str) -> int:
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise ValueError
    year, month, day, hour, minute, second = (int(match[group]) for group in range(1, 7))
    zone_hour, zone_minute = int(match[9] or 0), int(match[10] or 0)
    if hour > 23 or minute > 59 or second > 59 or zone_hour > 23 or zone_minute > 59:
        raise ValueError
    days = datetime.date(year, month, day).toordinal() - datetime.date(1970, 1, 1).toordinal()
    east = (zone_hour * 60 + zone_minute) * (-1 if match[8] == "-" else 1)
    minutes = days * 1440 + hour * 60 + minute - east
    millisecond = int((match[7] or "").ljust(3, "0")[:3])
    return (minutes * 60 + second) * 1000 + millisecond


FIELDS: dict[str, Callable[[object], Any]] = {
    "user_id": _user_id,
    "event_type": _string,
    "event_time": _event_time,
    "item_id": _string,
    "event_id": _string,
    "value": _finite,
    "session_id": _string,
    "rec_id": _string,
    "position": _integer,
    "context": _context,
}


# A strict reader of JSON (RFC 8259).


class NotJsonError(Exception):
    """The bytes are not strict UTF-8 JSON within the limits of section 3."""


class Number(NamedTuple):
    """A JSON number as it was written: `1` and `1.0` are different fields to the text."""

    text: str
    integral: bool


_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)((?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)")
_STRING = re.compile(r'"((?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"')
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))")
_ESCAPED = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_WORDS = {"true": True, "false": False, "null": None}


def read_json(record: bytes) -> object:
    """Return the document: dict, list, str, bool, None or `Number`. Of duplicate keys the last wins."""
    try:
        text = record.decode("utf-8", "strict")
    except UnicodeDecodeError:
        raise NotJsonError from None
    value, end = _value(text, _skip(text, 0), level=1)
    if _skip(text, end) != len(text):
        raise NotJsonError
    return value


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    assert match is not None
    return match.end()


def _value(text: str, at: int, level: int) -> tuple[object, int]:
    """Read the value that starts at `at`; a container there would be on the given level."""
    first = text[at : at + 1]
    if first in ("{", "["):
        if level > LEVELS_MAX:
            raise NotJsonError
        return _object(text, at, level) if first == "{" else _array(text, at, level)
    if first == '"':
        return _text(text, at)
    if match := _NUMBER.match(text, at):
        return Number(match[0], integral=not match[1]), match.end()
    for word, meaning in _WORDS.items():
        if text.startswith(word, at):
            return meaning, at + len(word)
    raise NotJsonError


def _object(text: str, at: int, level: int) -> tuple[dict[str, object], int]:
    found: dict[str, object] = {}
    at = _skip(text, at + 1)
    if text[at : at + 1] == "}":
        return found, at + 1
    while True:
        key, at = _text(text, at)
        at = _skip(text, at)
        if text[at : at + 1] != ":":
            raise NotJsonError
        found[key], at = _value(text, _skip(text, at + 1), level + 1)
        at = _skip(text, at)
        if text[at : at + 1] == "}":
            return found, at + 1
        if text[at : at + 1] != ",":
            raise NotJsonError
        at = _skip(text, at + 1)


def _array(text: str, at: int, level: int) -> tuple[list[object], int]:
    found: list[object] = []
    at = _skip(text, at + 1)
    if text[at : at + 1] == "]":
        return found, at + 1
    while True:
        value, at = _value(text, at, level + 1)
        found.append(value)
        at = _skip(text, at)
        if text[at : at + 1] == "]":
            return found, at + 1
        if text[at : at + 1] != ",":
            raise NotJsonError
        at = _skip(text, at + 1)


def _text(text: str, at: int) -> tuple[str, int]:
    match = _STRING.match(text, at)
    if match is None:
        raise NotJsonError
    units = _ESCAPE.sub(lambda found: chr(int(found[1], 16)) if found[1] else _ESCAPED[found[2]], match[1])
    try:  # two escaped halves of a pair become one character; a half that is alone is refused
        return units.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "strict"), match.end()
    except UnicodeDecodeError:
        raise NotJsonError from None
