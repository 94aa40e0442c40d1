"""What the demo shows, as values: fed with messages of the output topics, read by the screen.

Owns no terminal, no broker and no clock, so that a test can feed it recorded messages. It knows what any
consumer of the topics could know, what the demo's own producer sent, and the worker's counters: that the
records add up at the end is found by counting on both sides.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec

from stream import wire
from stream.demo.quality import Lists

SHOWN: Final = 3
ALERTS: Final = 8


class Seen(NamedTuple):
    """A message of an output topic, by the topic's role."""

    role: str
    value: bytes
    headers: Mapping[str, str]


class Shown(NamedTuple):
    """A household's basket beside the list that answered it. `foreseen` items were in the list before."""

    user: str
    at_ms: int
    state: str
    bought: Sequence[str]
    foreseen: frozenset[str]
    answer: Sequence[str]


@dataclass
class View:
    """The state of the screen. `baskets` maps (user, time) to the items bought then."""

    baskets: Mapping[tuple[str, int], Sequence[str]]
    to_send: int
    sent: int = 0
    records: int = 0  # by the worker's own count, as the two below
    accepted: int = 0
    duplicates: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    now_ms: int = 0  # how far the year has got
    events_per_s: float = 0.0
    seconds: float = 0.0
    waited_s: float = 0.0  # for the first batch
    states: Counter[str] = field(default_factory=Counter)
    transitions: Counter[tuple[str, str]] = field(default_factory=Counter)
    alerts: Counter[str] = field(default_factory=Counter)
    lists: dict[str, Lists] = field(default_factory=lambda: defaultdict(lambda: Lists([], [])))
    recommendations: int = 0
    shown: deque[Shown] = field(default_factory=lambda: deque(maxlen=SHOWN))
    latest_alerts: deque[wire.ChurnAlert] = field(default_factory=lambda: deque(maxlen=ALERTS))

    @property
    def alerts_open(self) -> int:
        return self.alerts["opened"] - self.alerts["resolved"] - self.alerts["expired"]

    @property
    def adds_up(self) -> bool:
        """All that was sent was read, and all that was read is accounted for."""
        return self.sent == self.records == self.accepted + self.duplicates + self.dead_letters.total()

    def observe(self, messages: Iterable[Seen]) -> None:
        """Take in messages in the order of their topics; the last answered basket goes on show."""
        last: wire.Recommendation | None = None
        for role, value, headers in messages:
            match role:
                case wire.RECOMMENDATIONS:
                    answered = self._recommendation(_RECOMMENDATION.decode(value))
                    last = answered or last
                case wire.LIFECYCLE:
                    self._transition(_TRANSITION.decode(value))
                case wire.CHURN_ALERTS:
                    self._alert(_ALERT.decode(value))
                case wire.DEAD_LETTERS:
                    self.dead_letters[headers["reason"]] += 1
        if last is not None:
            self._show(last)

    def _recommendation(self, answer: wire.Recommendation) -> wire.Recommendation | None:
        self.recommendations += 1
        self.now_ms = max(self.now_ms, answer.event_time)
        lists = self.lists[answer.user_id]
        lists.at_ms.append(answer.event_time)
        lists.items.append(tuple(item.item_id for item in answer.items))
        return answer if (answer.user_id, answer.event_time) in self.baskets else None

    def _transition(self, moved: wire.Transition) -> None:
        self.transitions[moved.from_, moved.to] += 1
        self.states[moved.from_] -= 1
        self.states[moved.to] += 1

    def _alert(self, alert: wire.ChurnAlert) -> None:
        self.alerts[alert.status] += 1
        self.latest_alerts.append(alert)

    def _show(self, answer: wire.Recommendation) -> None:
        lists, at_ms = self.lists[answer.user_id], answer.event_time
        bought = self.baskets[answer.user_id, at_ms]
        before = next((n for n in reversed(range(len(lists.at_ms))) if lists.at_ms[n] < at_ms), None)
        foreseen = frozenset() if before is None else frozenset(bought).intersection(lists.items[before])
        self.shown.append(Shown(answer.user_id, at_ms, answer.lifecycle, bought, foreseen, lists.items[-1]))


_RECOMMENDATION: Final = msgspec.json.Decoder(wire.Recommendation)
_TRANSITION: Final = msgspec.json.Decoder(wire.Transition)
_ALERT: Final = msgspec.json.Decoder(wire.ChurnAlert)
