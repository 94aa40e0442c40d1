"""The wire contracts as types: one struct per topic and output file, fields in the order of the contract.

JSON is encoded from these, decoded into these, and its schemas (`stream.schema`) are made from these. Times
are epoch milliseconds. In `Event` null and absent are the same; in the outputs null is said where the
contract says it, and a field is left out only where it says "where the bundle has" (`UNSET`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, cast, get_type_hints

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from stream.core.events import USER_ID_BYTES_MAX
from stream.times import TIME_MS_MAX, TIME_MS_MIN

#: Topic roles, as in `[topics]` of the config, with the names that their schemas go by.
EVENTS: Final = "events"
RECOMMENDATIONS: Final = "recommendations"
LIFECYCLE: Final = "lifecycle"
CHURN_ALERTS: Final = "churn_alerts"
DEAD_LETTERS: Final = "dead_letters"
ITEMS: Final = "items"
CONTROL: Final = "control"

Milliseconds = Annotated[int, Meta(description="epoch milliseconds")]
EventMilliseconds = Annotated[int, Meta(ge=TIME_MS_MIN, le=TIME_MS_MAX, description="epoch milliseconds")]
UserId = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=USER_ID_BYTES_MAX,
        description=f"1 to {USER_ID_BYTES_MAX} bytes of UTF-8; the key of the record",
    ),
]
Int64 = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Count = Annotated[int, Meta(ge=0)]
Scalar = str | float | bool | None

Stage = Literal["new", "retained", "active", "converted", "loyal", "at_risk", "dormant", "churned"]
SilentStage = Literal["at_risk", "dormant", "churned", "forgotten"]


# ---------------------------------------------------------------------------------------------- inputs


class Event(Struct, gc=False):
    """One thing that a user did, or that was done to the user. The key is the user_id."""

    user_id: UserId
    event_type: str
    event_time: (
        EventMilliseconds
        | Annotated[str, Meta(description="RFC 3339 with a zone, or epoch milliseconds")]
        | None
    ) = None
    item_id: str | None = None
    event_id: str | None = None
    value: float | None = None
    session_id: str | None = None
    rec_id: str | None = None
    position: Int64 | None = None
    context: dict[str, Scalar] | None = None


EVENT_FIELDS: Final = Event.__struct_fields__


def event_type(kinds: Sequence[str], names: Mapping[str, str]) -> type[Event]:
    """Return `Event` for a vocabulary (any kind if it is empty), its fields read by their mapped names.

    Raises ValueError if `names` maps a field that is none, or two fields to one name.
    """
    unknown = [field for field in names if field not in EVENT_FIELDS]
    if unknown:
        raise ValueError(f"no such field of an event: {', '.join(unknown)}")
    if len({names.get(field, field) for field in EVENT_FIELDS}) < len(EVENT_FIELDS):
        raise ValueError("two fields of an event are mapped to one name")
    hints = get_type_hints(Event, include_extras=True)
    if kinds:
        hints["event_type"] = Literal[tuple(kinds)]
    fields = [
        (field, hints[field]) if field in ("user_id", "event_type") else (field, hints[field], None)
        for field in EVENT_FIELDS
    ]
    made = msgspec.defstruct(
        "Event", fields, rename=dict(names), gc=False, namespace={"__doc__": Event.__doc__}
    )
    return cast("type[Event]", made)


#: A list of numbers is a vector that another model made, of a picture or a text.
Attributes = dict[str, Scalar | list[str | float]]


class Item(Struct):
    """What is known of an item; a line of the file of `--items`.

    On the topic the key is the item_id, and the value is `attributes` alone; null withdraws the item.
    """

    item_id: Annotated[str, Meta(min_length=1)]
    attributes: Attributes | None


class RollOut(Struct, tag_field="command", tag="bundle"):
    """Go over to another bundle."""

    version: str


class Erasure(Struct, tag_field="command", tag="erase"):
    """Forget a user. The key is the user_id."""

    user_id: UserId


class Replayed(Struct, tag_field="command", tag="replayed"):
    """Dead letters were sent again, in the transaction of this record: `ebbtide dlq replay` writes it."""

    letters: Annotated[list[str], Meta(description="their sources, topic-partition-offset")]


Control = RollOut | Erasure | Replayed


# --------------------------------------------------------------------------------------------- outputs


class ScoredItem(Struct):
    item_id: str
    score: float


class Recommendation(Struct, gc=False):
    """A list of items for a user, best first. The key is the user_id."""

    rec_id: Annotated[str, Meta(description="the source, or of a win-back the alert's id")]
    user_id: UserId
    event_time: Annotated[int, Meta(description="of the event, or of a win-back the deadline")]
    lifecycle: Stage
    policy: str
    trigger: Literal["event", "lifecycle"]
    bundle: Annotated[str, Meta(description="the version of the model bundle")]
    catalogue: Annotated[int | None, Meta(description="offset of the items topic that was in force")]
    items: list[ScoredItem]


class Transition(Struct, gc=False):
    """A user's lifecycle state changed. The key is the user_id."""

    user_id: UserId
    from_: Literal["none"] | Stage = msgspec.field(name="from")
    to: Stage | Literal["forgotten"]
    trigger: Literal["engagement", "order", "silence"]
    at: Annotated[int, Meta(description="the event's time, or the deadline")]
    last_event_time: Annotated[int | None, Meta(description="before this event; null for the first")]
    silent_ms: Annotated[int | None, Meta(description="at − last_event_time; null for the first")]
    first_event_time: Milliseconds
    events: Count
    sessions: Count
    orders: Count
    active_days: Count


class ChurnAlert(Struct, kw_only=True, gc=False):
    """A user fell silent, stayed so, came back, or was forgotten. The key is the user_id."""

    alert_id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    user_id: UserId
    status: Literal["opened", "escalated", "resolved", "expired"]
    stage: Annotated[SilentStage, Meta(description="the state reached; of resolved the state left")]
    at: Milliseconds
    last_event_time: Annotated[int, Meta(description="that the alert was opened with")]
    risk: float | UnsetType = UNSET
    horizon: Annotated[int, Meta(ge=0, description="milliseconds that risk looks ahead")] | UnsetType = UNSET
    first_event_time: Milliseconds
    events: Count
    sessions: Count
    orders: Count
    active_days: Count


class DeadLetterHeaders(Struct):
    """What a dead letter's headers say beside its own; value, key and headers are the bad record's."""

    reason: str
    detail: str
    source: str


class OutputHeaders(Struct):
    """The headers of recommendations, transitions and alerts."""

    schema: Annotated[str, Meta(description="name/version")]
    source: Annotated[str, Meta(description="topic-partition-offset")]
    id: Annotated[str, Meta(description="the source, /n for the n-th further output to a topic")]


# ------------------------------------------------------------------------------------ files of `replay`


class DeadLetterRow(Struct):
    """A line of dead-letters.jsonl."""

    offset: Annotated[int, Meta(ge=0, description="the line's number, from 0")]
    reason: str
    detail: str
    record: Annotated[bytes, Meta(description="base64")]


class UserRow(Struct):
    """A line of users.jsonl: a user as of the own last_event_time."""

    user_id: UserId
    lifecycle: Stage
    first_event_time: Milliseconds
    last_event_time: Milliseconds
    events: Count
    sessions: Count
    conversions: Count
    orders: Count
    gaps: Count
    gap_mean: Annotated[float, Meta(description="milliseconds")]
    active_days: Count
    deadline: int | None
    windows: dict[str, dict[str, int]]
    spend: Annotated[dict[str, float | None], Meta(description="null for a sum beyond float64")]
    recent_items: Annotated[list[str], Meta(description="oldest first")]
    alert: Annotated[str | None, Meta(description="the open alert's id")]


class Summary(Struct):
    """summary.json: what a replay did, so that it adds up."""

    records_in: Count
    accepted: Count
    duplicates: Count
    dead_letters: dict[str, int]
    users: Count
    transitions: Annotated[dict[str, int], Meta(description="by from>to")]
    alerts: Annotated[dict[str, int], Meta(description="by status")]
    watermark: Annotated[int | None, Meta(description="null before the first event")]
    seconds: float
    events_per_second: float
