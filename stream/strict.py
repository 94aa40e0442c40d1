"""The slow path of decoding: one record, test by test in the contract's order, until a reason is found.

It is the judge: the fast path may accept only what this one accepts, with an equal result, and every dead
letter's reason comes from here. It may cost a hundred times as much, because producers send few such records.

The JSON is RFC 8259 to the letter. Python's parser is more generous; each of its gaps is closed below by
name: other encodings and the byte-order mark, NaN and Infinity, lone surrogates, levels without end, and
integers of so many digits that it gives up on them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NoReturn

import numpy as np

from stream.core.events import USER_ID_BYTES_MAX
from stream.dead_letters import (
    BAD_FIELD,
    EMPTY,
    KEY_MISMATCH,
    LEVELS_MAX,
    MISSING_FIELD,
    NOT_JSON,
    RECORD_BYTES_MAX,
    TOO_LARGE,
    UNKNOWN_EVENT_TYPE,
    Refusal,
)
from stream.scan import deepest_level
from stream.times import TIME_MS_MAX, TIME_MS_MIN, parse_time
from stream.wire import EVENT_FIELDS, Event, event_type

#: Python refuses to read integers of more than 4,300 digits. The largest double has 309, so that the first
#: 400 digits of a longer number decide everything that is asked of it: an integer, and beyond every range.
_DIGITS_MAX: Final = 400

_INT64_MIN: Final = -(2**63)
_INT64_MAX: Final = 2**63 - 1

_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


class Strict:
    """Reads one record at a time, for a vocabulary of kinds and a mapping of field names."""

    def __init__(self, kinds: Sequence[str], names: Mapping[str, str]) -> None:
        self._kinds = frozenset(kinds)
        self._names = {field: names.get(field, field) for field in EVENT_FIELDS}
        self._event = event_type(kinds, names)

    def read(
        self, value: bytes | None, key: bytes | None, *, timestamp_ms: int, in_file: bool
    ) -> Event | Refusal:
        """Return the event, or the first reason of the list that applies.

        A line of a file (`in_file`) has no key that is tested and no timestamp to fall back on.
        """
        if not value:
            return Refusal(EMPTY)
        if len(value) > RECORD_BYTES_MAX:
            return Refusal(TOO_LARGE)
        parsed = parse_object(value)
        if parsed is None:
            return Refusal(NOT_JSON)
        fields: dict[str, Any] = {field: parsed.get(name) for field, name in self._names.items()}
        optional_time = not in_file and is_event_time(timestamp_ms)
        for field in ("user_id", "event_type") if optional_time else ("user_id", "event_type", "event_time"):
            if fields[field] is None:
                return Refusal(MISSING_FIELD, field)
        for field, allows in _ALLOWS.items():
            if fields[field] is not None and not allows(fields[field]):
                return Refusal(BAD_FIELD, field)
        if fields["event_type"] not in self._kinds:
            return Refusal(UNKNOWN_EVENT_TYPE)
        if not in_file and key != fields["user_id"].encode():
            return Refusal(KEY_MISMATCH)
        return self._event(**_normalise(fields))


def parse_object(value: bytes) -> dict[str, Any] | None:
    """Return the JSON object that the bytes are, or None if they are not strictly that."""
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if deepest_level(np.frombuffer(value, np.uint8)) > LEVELS_MAX or has_lone_surrogate(text):
        return None
    try:
        parsed = json.loads(text, parse_int=_integer, parse_constant=_refuse)
    except ValueError:
        return None
    return parsed if type(parsed) is dict else None


def has_lone_surrogate(text: str) -> bool:
    """Whether JSON text escapes half a surrogate pair, in any string: a value, a key, or one overwritten.

    Not the parsed strings are asked but the text, because of duplicate keys only the last is parsed into.
    """
    if "\\u" not in text:
        return False
    high_end = -1  # where a high half ended; its low half must begin there
    for escape in _ESCAPE.finditer(text):
        code = int(escape[1], 16) if escape[1] else 0
        is_low = 0xDC00 <= code <= 0xDFFF
        if is_low != (high_end >= 0) or (is_low and escape.start() != high_end):
            return True
        high_end = escape.end() if 0xD800 <= code <= 0xDBFF else -1
    return high_end >= 0


def is_event_time(time_ms: int) -> bool:
    return TIME_MS_MIN <= time_ms <= TIME_MS_MAX


def _integer(digits: str) -> int:
    return int(digits[:_DIGITS_MAX])


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _is_string(value: Any) -> bool:
    return type(value) is str


def _is_user_id(value: Any) -> bool:
    return type(value) is str and 1 <= len(value.encode()) <= USER_ID_BYTES_MAX


def _is_time(value: Any) -> bool:
    if type(value) is str:
        return parse_time(value) is not None
    return type(value) is int and is_event_time(value)


def _is_number(value: Any) -> bool:
    """A number that a double can hold; true and false are none."""
    if type(value) is int:
        try:
            float(value)
        except OverflowError:
            return False
        return True
    return type(value) is float and math.isfinite(value)


def _is_integer(value: Any) -> bool:
    return type(value) is int


def _is_context(value: Any) -> bool:
    return type(value) is dict and all(
        entry is None or type(entry) in (str, bool) or _is_number(entry) for entry in value.values()
    )


#: What a field's value must be where it is present, in the order of the events topic's table.
_ALLOWS: Final[dict[str, Callable[[Any], bool]]] = {
    "user_id": _is_user_id,
    "event_type": _is_string,
    "event_time": _is_time,
    "item_id": _is_string,
    "event_id": _is_string,
    "value": _is_number,
    "session_id": _is_string,
    "rec_id": _is_string,
    "position": _is_integer,
    "context": _is_context,
}


def _normalise(fields: dict[str, Any]) -> dict[str, Any]:
    """Give the values the types that the fast path gives them: doubles for numbers, 64 bits for positions.

    Nobody shows a list of 2⁶³ items: such a position is an integer, so it is accepted, and carried as none.
    """
    if fields["value"] is not None:
        fields["value"] = float(fields["value"])
    if fields["position"] is not None and not _INT64_MIN <= fields["position"] <= _INT64_MAX:
        fields["position"] = None
    if fields["context"] is not None:
        fields["context"] = {
            name: float(entry) if type(entry) is int else entry for name, entry in fields["context"].items()
        }
    return fields
