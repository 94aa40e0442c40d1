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
from itertools import chain, pairwise, repeat
from typing import Any, Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from stream.core.effects import ALERT, BY_TIMER, LIST, TRANSITION
from stream.core.events import NEVER
from stream.core.lifecycle import STATES, STATUSES, TRIGGERS
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

_TOPICS: Final = {TRANSITION: LIFECYCLE, ALERT: CHURN_ALERTS, LIST: RECOMMENDATIONS}
#: By an effect's `what`: the topic, and the header that names its schema.
_KINDS: Final = {what: (topic, ("schema", SCHEMAS[topic])) for what, topic in _TOPICS.items()}

# The words of the fold (states, triggers, statuses) come from its own tables and are not checked here again;
# a test holds the types and the tables equal. A list's items are encoded before the list is.
_Recommendation: Final[Any] = Recommendation
_Transition: Final[Any] = Transition
_ChurnAlert: Final[Any] = ChurnAlert

#: Columns of an effect that say what the user's row was like then: what a transition or an alert rests on.
EVIDENCE: Final = ("first_event_time", "events", "sessions", "orders", "active_days")

_encode_lines = msgspec.json.Encoder().encode_lines


class Lists(NamedTuple):
    """The lists that effects read, and what made them. `catalogue` is the items topic's offset in force."""

    policies: Sequence[str]
    items: Sequence[bytes]  # of `encode_lists`
    bundle: str
    catalogue: int | None


class Risks(NamedTuple):
    """What the hazard head says: P(no event within horizon_ms) as of each alert, by its `read`."""

    risk: Sequence[float]
    horizon_ms: int


#: Digits of a risk behind the point: machines agree on them, and nobody acts on the seventh.
_RISK_DIGITS: Final = 6

NO_LISTS: Final = Lists((), (), "", None)


class Emitter:
    """Makes the outputs of one input partition; holds no state."""

    def __init__(self, topic: str, partition: int) -> None:
        self._partition = partition
        self._prefix = f"{topic}-{partition}-".encode()

    def source(self, offset: int) -> str:
        """Return `topic-partition-offset`; also the rec_id of a list that an event triggered."""
        return self._origin(offset).decode()

    def emit(
        self,
        effects: Any,
        ids: npt.NDArray[np.uint8],
        lists: Lists = NO_LISTS,
        risks: Risks | None = None,
    ) -> list[Output]:
        """Return the outputs of the effects, EFFECT[E], in their order; `ids` are those of `Users`."""
        effects = effects.view(np.ndarray)  # a record array looks each field up anew
        users = _cut_ids(effects, ids)
        origins = [self._origin(offset) for offset in effects["offset"].tolist()]
        lines = _encode_lines(_messages(effects, users, origins, lists, risks))
        values = lines.split(b"\n")[:-1]  # JSON has no line break of its own, and the last line ends with one
        outputs = []
        columns = zip(effects["what"].tolist(), effects["nth"].tolist(), origins, users, values, strict=True)
        for what, nth, origin, user, value in columns:
            topic, schema = _KINDS[what]
            name = b"%b/%d" % (origin, nth) if nth else origin
            headers = [schema, ("source", origin), ("id", name)]
            outputs.append(Output(topic, self._partition, user, value, headers))
        return outputs

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


# Each of these makes the messages of one kind from columns, in the order of the type's fields.


def _messages(
    effects: Any, users: list[bytes], origins: list[bytes], lists: Lists, risks: Risks | None
) -> list[Any]:
    """Return the message of each effect."""
    messages: list[Any] = [None] * len(effects)
    for what in (TRANSITION, ALERT, LIST):
        rows = np.flatnonzero(effects["what"] == what)
        if not len(rows):
            continue
        chosen, places = effects[rows], rows.tolist()
        whose = [users[i] for i in places]
        if what == TRANSITION:
            made = _transitions(chosen, whose)
        elif what == ALERT:
            made = _alerts(chosen, whose, risks)
        else:
            made = _recommendations(chosen, whose, [origins[i] for i in places], lists)
        for i, message in zip(places, made, strict=True):
            messages[i] = message
    return messages


def _transitions(effects: Any, users: list[bytes]) -> list[Any]:
    return list(
        map(
            _Transition,
            map(bytes.decode, users),
            _words(STATES, effects["before"]),
            _words(STATES, effects["to"]),
            _words(TRIGGERS, effects["trigger"]),
            effects["at"].tolist(),
            _times(effects["last_event_time"]),
            _times(effects["silent_ms"]),
            *(effects[name].tolist() for name in EVIDENCE),
        )
    )


def _alerts(effects: Any, users: list[bytes], risks: Risks | None) -> list[Any]:
    risk: list[Any] = [msgspec.UNSET] * len(users)
    if risks is not None:
        risk = [round(risks.risk[look], _RISK_DIGITS) for look in effects["read"].tolist()]
    horizon: Any = msgspec.UNSET if risks is None else risks.horizon_ms
    columns = zip(
        users,
        _words(STATUSES, effects["status"]),
        _words(STATES, effects["to"]),
        risk,
        *(effects[name].tolist() for name in ("at", "last_event_time", *EVIDENCE)),
        strict=True,
    )
    return [
        _ChurnAlert(
            alert_id=make_alert_id(user, last_event_time),
            user_id=user.decode(),
            status=status,
            stage=stage,
            at=at,
            last_event_time=last_event_time,
            risk=chance,
            horizon=horizon,
            first_event_time=first_event_time,
            events=events,
            sessions=sessions,
            orders=orders,
            active_days=active_days,
        )
        for (
            user, status, stage, chance, at, last_event_time,
            first_event_time, events, sessions, orders, active_days,
        ) in columns
    ]  # fmt: skip


def _recommendations(effects: Any, users: list[bytes], origins: list[bytes], lists: Lists) -> list[Any]:
    won_back = effects["event"] == BY_TIMER
    names = [origin.decode() for origin in origins]
    for i in np.flatnonzero(won_back).tolist():
        names[i] = make_alert_id(users[i], int(effects["last_event_time"][i]))
    reads = effects["read"].tolist()
    return list(
        map(
            _Recommendation,
            names,
            map(bytes.decode, users),
            effects["at"].tolist(),
            _words(STATES, effects["to"]),
            [lists.policies[read] for read in reads],
            _words(("event", "lifecycle"), won_back),
            repeat(lists.bundle),
            repeat(lists.catalogue),
            [msgspec.Raw(lists.items[read]) for read in reads],
        )
    )


def _words(words: Sequence[str], codes: Any) -> list[str]:
    return [words[code] for code in codes.tolist()]


def _times(times: Any) -> list[int | None]:
    """Return the times as JSON says them: null for NEVER."""
    return [None if time == NEVER else time for time in times.tolist()]


def _cut_ids(effects: Any, ids: npt.NDArray[np.uint8]) -> list[bytes]:
    """Return the ids of the effects' users."""
    data = memoryview(ids)  # type: ignore[arg-type]
    places = zip(effects["id_start"].tolist(), effects["id_length"].tolist(), strict=True)
    return [data[start : start + length].tobytes() for start, length in places]


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
