"""Dead letters: the closed list of reasons why a record is not an event that counts.

The reasons are tested one after the other in the order of the table, each over all fields in the order of the
events topic's table. Up to `key_mismatch` the codec decides from the record alone; `from_future` and
`too_late` are the fold's, `poison` is the worker's. `detail` names a field for `missing_field` and
`bad_field`, by its name in the contract even where the config maps it to another, and is empty otherwise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

EMPTY: Final = "empty"
TOO_LARGE: Final = "too_large"
NOT_JSON: Final = "not_json"
MISSING_FIELD: Final = "missing_field"
BAD_FIELD: Final = "bad_field"
UNKNOWN_EVENT_TYPE: Final = "unknown_event_type"
KEY_MISMATCH: Final = "key_mismatch"
FROM_FUTURE: Final = "from_future"
TOO_LATE: Final = "too_late"
POISON: Final = "poison"

#: A record longer than this is `too_large`: one MiB, what a Kafka broker takes by default.
RECORD_BYTES_MAX: Final = 1_048_576

#: Arrays and objects inside each other; the record itself is the first level.
LEVELS_MAX: Final = 64

#: What each reason means, in the order of the tests.
REASONS: Final = {
    EMPTY: "no value, or a value of no bytes",
    TOO_LARGE: f"more than {RECORD_BYTES_MAX:,} bytes",
    NOT_JSON: f"not strict UTF-8 JSON, not an object, or more than {LEVELS_MAX} levels deep",
    MISSING_FIELD: "a field that every event needs is absent or null",
    BAD_FIELD: "a field has another type than the contract's, or is out of its range",
    UNKNOWN_EVENT_TYPE: "event_type is not in the configured vocabulary",
    KEY_MISMATCH: "the record's key is not the user_id in UTF-8",
    FROM_FUTURE: "event_time is later than the record's timestamp by more than future_max",
    TOO_LATE: "event_time is earlier than the watermark by more than lateness_max",
    POISON: "the core refused the record; the others of its batch went on",
}

#: What to do about each.
REMEDIES: Final = {
    EMPTY: "find out who publishes records without a value; sent again, it stays empty",
    TOO_LARGE: "let the producer send less; sent again, it stays too large",
    NOT_JSON: "let the producer send strict JSON in UTF-8; sent again, it stays what it is",
    MISSING_FIELD: "map the field's name in events.fields of the config, restart the workers, and replay",
    BAD_FIELD: "mend the producer; if the field goes by another name, events.fields maps it",
    UNKNOWN_EVENT_TYPE: "publish it under a kind of events.kinds, or take the kind into the config, which "
    "gives rows another shape: begin anew with another group, user_state and journal, and emit_from = now",
    KEY_MISMATCH: "let the producer key by user_id; `ebbtide rekey` mends a whole topic",
    FROM_FUTURE: "set the producer's clock right; once its time has come, replay",
    TOO_LATE: "if it must count after all, raise time.lateness_max, restart the workers, and replay",
    POISON: "see with `ebbtide check` whether the bundle is whole; after a roll-out of a sound one, replay",
}


class Refusal(NamedTuple):
    """Why a record is not an event."""

    reason: str
    detail: str = ""


class DeadLetter(NamedTuple):
    """A refused record, by its row in the `RecordBatch` that it came in."""

    row: int
    reason: str
    detail: str = ""
