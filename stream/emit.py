"""Encoding: what the core asks for, as messages to produce.

An `Emitter` belongs to one input partition. Its outputs go to the partition of the same number, keyed by the
user, and say where they come from:

    schema   name/version of the value's type
    source   topic-partition-offset of the record that caused it; of a file `file-0-LINE`
    id       the source, then `/n` for the n-th further output to that topic at that offset

With at-least-once delivery a consumer drops repeats by `id`, so it depends on the log alone: `nth` is counted
by the fold, and goes on where a storm of timers is cut by a commit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain, pairwise
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET

from stream.dead_letters import DeadLetter
from stream.errors import InvariantError
from stream.items import ItemTable
from stream.lists import write_lists
from stream.records import Headers, Output, RecordBatch
from stream.wire import (
    CHURN_ALERTS,
    DEAD_LETTERS,
    LIFECYCLE,
    RECOMMENDATIONS,
    ChurnAlert,
    Recommendation,
    Transition,
)

#: name/version of each output's type. The version goes up when a consumer would have to change.
SCHEMAS: Final = {
    RECOMMENDATIONS: b"recommendations/1",
    LIFECYCLE: b"lifecycle/1",
    CHURN_ALERTS: b"churn-alerts/1",
}

_SCHEMA_HEADERS: Final = {topic: ("schema", schema) for topic, schema in SCHEMAS.items()}

# The words of the fold (states, triggers, statuses) come from its own tables and are not checked here again;
# a test holds the types and the tables equal. A list's items are encoded before the list is.
_Recommendation: Final[Any] = Recommendation
_Transition: Final[Any] = Transition
_ChurnAlert: Final[Any] = ChurnAlert

_encode = msgspec.json.Encoder().encode


class Evidence(NamedTuple):
    """The user's row at the moment of an effect: what a transition or an alert rests on."""

    first_event_time: int
    events: int
    sessions: int
    orders: int
    active_days: int


class Emitter:
    """Makes the outputs of one input partition; holds no state."""

    def __init__(self, topic: str, partition: int) -> None:
        self._partition = partition
        self._prefix = f"{topic}-{partition}-".encode()

    def source(self, offset: int) -> str:
        """Return `topic-partition-offset`; also the rec_id of a list that an event triggered."""
        return self._origin(offset).decode()

    def recommendation(
        self,
        offset: int,
        nth: int,
        user: bytes,
        items: bytes,
        *,
        event_time: int,
        lifecycle: str,
        policy: str,
        bundle: str,
        catalogue: int | None,
        alert_id: str | None = None,
    ) -> Output:
        """Return a list for a user; `items` is one of `encode_lists`. With an alert's id it is a win-back."""
        origin = self._origin(offset)
        value = _Recommendation(
            alert_id or origin.decode(),
            user.decode(),
            event_time,
            lifecycle,
            policy,
            "lifecycle" if alert_id else "event",
            bundle,
            catalogue,
            msgspec.Raw(items),
        )
        return self._output(RECOMMENDATIONS, origin, nth, user, _encode(value))

    def transition(
        self,
        offset: int,
        nth: int,
        user: bytes,
        evidence: Evidence,
        *,
        from_: str,
        to: str,
        trigger: str,
        at: int,
        last_event_time: int | None,
    ) -> Output:
        """Return a change of state; last_event_time is that before the event, None for the first."""
        value = _Transition(
            user.decode(),
            from_,
            to,
            trigger,
            at,
            last_event_time,
            None if last_event_time is None else at - last_event_time,
            *evidence,
        )
        return self._output(LIFECYCLE, self._origin(offset), nth, user, _encode(value))

    def alert(
        self,
        offset: int,
        nth: int,
        user: bytes,
        evidence: Evidence,
        *,
        status: str,
        stage: str,
        at: int,
        last_event_time: int,
        risk: float | None = None,
        horizon: int | None = None,
    ) -> Output:
        """Return what happened to an alert; last_event_time is the one that it was opened with."""
        value = _ChurnAlert(
            alert_id=make_alert_id(user, last_event_time),
            user_id=user.decode(),
            status=status,
            stage=stage,
            at=at,
            last_event_time=last_event_time,
            risk=UNSET if risk is None else risk,
            horizon=UNSET if horizon is None else horizon,
            **evidence._asdict(),
        )
        return self._output(CHURN_ALERTS, self._origin(offset), nth, user, _encode(value))

    def dead_letter(self, batch: RecordBatch, dead: DeadLetter) -> Output:
        """Return the bad record untouched, its own headers first: ours are the last of their names."""
        headers: Headers = [
            *(batch.headers[dead.row] or ()),
            ("reason", dead.reason.encode()),
            ("detail", dead.detail.encode()),
            ("source", self._origin(batch.offsets[dead.row])),
        ]
        return Output(DEAD_LETTERS, self._partition, batch.keys[dead.row], batch.values[dead.row], headers)

    def _origin(self, offset: int) -> bytes:
        return b"%b%d" % (self._prefix, offset)

    def _output(self, topic: str, origin: bytes, nth: int, user: bytes, value: bytes) -> Output:
        name = b"%b/%d" % (origin, nth) if nth else origin
        return Output(
            topic, self._partition, user, value, [_SCHEMA_HEADERS[topic], ("source", origin), ("id", name)]
        )


def make_alert_id(user: bytes, last_event_time: int) -> str:
    """Return the id of the alert that was opened with this last_event_time.

    BLAKE2b with 8 bytes of digest (RFC 7693) over user_id, a zero byte, and the time in decimal; as hex.
    """
    return hashlib.blake2b(b"%b\0%d" % (user, last_event_time), digest_size=8).hexdigest()


def encode_lists(table: ItemTable, lists: Sequence[tuple[Sequence[int], Sequence[float]]]) -> list[bytes]:
    """Return each list (item indices, their scores, best first) as the JSON of `Recommendation.items`.

    Raises InvariantError if a score is not finite: JSON has no word for that.
    """
    first = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(items) for items, _ in lists], out=first[1:])
    items = np.fromiter(chain.from_iterable(items for items, _ in lists), np.int64, int(first[-1]))
    scores = np.fromiter(chain.from_iterable(scores for _, scores in lists), np.float32, int(first[-1]))
    if not np.isfinite(scores).all():
        raise InvariantError("a score is not a finite number", remedy="check the bundle with `ebbtide check`")
    texts = table.texts(items)
    written, edges = write_lists(texts.data, texts.start, texts.row, scores, first)
    data = written.tobytes()
    return [data[start:stop] for start, stop in pairwise(edges.tolist())]
