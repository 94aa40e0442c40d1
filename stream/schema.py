"""JSON Schemas of every topic and output file, made from the types that the codec uses.

They follow JSON Schema 2020-12. What a schema cannot say is said in its descriptions: that a user_id has at
most 128 bytes (a schema counts characters), that it equals the record's key, and which texts are times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import msgspec

from stream import wire
from stream.dead_letters import REASONS

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

#: What the outputs' types are called, and what they are. The events' depends on the config.
_TYPES: Final[dict[str, Any]] = {
    "recommendations": wire.Recommendation,
    "lifecycle": wire.Transition,
    "churn-alerts": wire.ChurnAlert,
    "output-headers": wire.OutputHeaders,
    "dead-letter-headers": wire.DeadLetterHeaders,
    "items": wire.Item,
    "control": wire.Control,
    "users.jsonl": wire.UserRow,
    "dead-letters.jsonl": wire.DeadLetterRow,
    "summary.json": wire.Summary,
}

_WITH_REASONS: Final = (wire.DeadLetterHeaders, wire.DeadLetterRow)


def schemas(kinds: Iterable[str] = (), fields: Mapping[str, str] | None = None) -> dict[str, dict[str, Any]]:
    """Return the schemas by topic or file.

    kinds: the vocabulary of event_type, any string if empty. fields: contract name → name in the records.
    Raises ValueError for a mapping that is none.
    """
    vocabulary = tuple(kinds)
    event = wire.event_type(vocabulary, fields or {}) if vocabulary or fields else wire.Event
    made = {"events": _schema("events", event)}
    made.update({name: _schema(name, type_) for name, type_ in _TYPES.items()})
    return made


def _schema(name: str, type_: Any) -> dict[str, Any]:
    schema = {"$schema": DIALECT, "$id": f"ebbtide:{name}", **msgspec.json.schema(type_)}
    if type_ in _WITH_REASONS:
        schema["$defs"][type_.__name__]["properties"]["reason"] = {"enum": list(REASONS)}
    return schema
