"""Outputs that should be there held against those that are, while both arrive; memory holds what differs.

An output is known by its `id` (a dead letter by its source), so a lost, doubled or strange one does not
disturb the comparison of the rest. Lists are compared by their items, and scores within a tolerance, where
the catalogue and the bundle that made them are still at hand; otherwise only that they are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from stream.records import Headers
from stream.wire import CHURN_ALERTS, RECOMMENDATIONS, ChurnAlert, Recommendation, ScoredItem

#: Scores, and risks, are equal within this.
TOLERANCE: Final = 1e-5

#: Differences of one topic that are told; the rest is counted.
TOLD_MAX: Final = 100

_decode_list = msgspec.json.Decoder(Recommendation).decode
_decode_alert = msgspec.json.Decoder(ChurnAlert).decode


class Message(NamedTuple):
    """An output, as it should be or as it is."""

    key: bytes | None
    value: bytes | None
    headers: Headers

    @property
    def id(self) -> bytes:
        """What a consumer knows it by; a dead letter, whose last header is its source, by that."""
        name, content = self.headers[-1]
        return content if name in ("id", "source") else b"without an id"

    @property
    def source_offset(self) -> int:
        """The offset of the record that caused it, −1 if it does not say."""
        source = dict(self.headers).get("source", b"")
        digits = source.rsplit(b"-", 1)[-1]
        return int(digits) if digits.isdigit() else -1


class OutputDifference(NamedTuple):
    """One output that is not what the log says: lost, repeated, strange, or different."""

    kind: str
    id: str
    what: str


class Scored(NamedTuple):
    """Which lists can be compared item by item: those of this bundle, and of a catalogue that it takes."""

    bundle: str | None
    catalogue: Callable[[int | None], bool]


class Comparison:
    """Compares one partition of one output topic. `expect` and `find` in their orders, then `finish`."""

    def __init__(self, role: str, scored: Scored) -> None:
        self._role, self._scored = role, scored
        self._expected: dict[bytes, tuple[int, Message]] = {}
        self._found: dict[bytes, tuple[int, Message]] = {}
        self._numbers = [0, 0]
        self._last = (-1, -1)  # the last pair, by its numbers
        self.compared = 0
        self.unscored = 0  # lists of another bundle or catalogue, whose items are not compared
        self.counts: Counter[str] = Counter()
        self.told: list[OutputDifference] = []

    def expect(self, message: Message) -> None:
        """This should be there."""
        number, name = self._count(0), message.id
        if name in self._found:
            found_number, found = self._found.pop(name)
            self._pair(message, found, (number, found_number))
        else:
            self._expected[name] = number, message

    def find(self, message: Message) -> None:
        """This is there."""
        number, name = self._count(1), message.id
        if name in self._expected:
            expected_number, expected = self._expected.pop(name)
            self._pair(expected, message, (expected_number, number))
        elif name in self._found:
            self._tell("repeated", message, "is there more than once")
        else:
            self._found[name] = number, message

    def awaits(self, message: Message) -> bool:
        """Whether this should be there and was not found yet."""
        return message.id in self._expected

    def awaits_any(self) -> bool:
        return bool(self._expected)

    def finish(self, may_be_missing: Callable[[Message], bool]) -> None:
        """All has come; what is left has no counterpart.

        may_be_missing: of an output that should be there, whether it need not be yet.
        """
        for _, message in self._expected.values():
            if not may_be_missing(message):
                self._tell("lost", message, "is not there")
        for _, message in self._found.values():
            self._tell("strange", message, "should not be there, or is there twice")
        self._expected, self._found = {}, {}

    def _count(self, side: int) -> int:
        self._numbers[side] += 1
        return self._numbers[side]

    def _pair(self, expected: Message, found: Message, numbers: tuple[int, int]) -> None:
        self.compared += 1
        if (numbers[0] < self._last[0]) != (numbers[1] < self._last[1]):
            self._tell("different", found, "is there out of its order")
        self._last = max(self._last, numbers)
        if what := self._differ(expected, found):
            self._tell("different", found, what)

    def _differ(self, expected: Message, found: Message) -> str:
        """Say in what two outputs differ; nothing if they are equal."""
        if expected.key != found.key:
            return "has another key"
        if expected.headers != found.headers:
            return "has other headers"
        if expected.value == found.value or expected.value is None or found.value is None:
            return "" if expected.value == found.value else "has another value"
        try:
            if self._role == RECOMMENDATIONS:
                return self._differ_as_lists(_decode_list(expected.value), _decode_list(found.value))
            if self._role == CHURN_ALERTS:
                return _differ_as_alerts(_decode_alert(expected.value), _decode_alert(found.value))
        except msgspec.MsgspecError as error:
            return f"cannot be read: {error}"
        return _name_fields(msgspec.json.decode(expected.value), msgspec.json.decode(found.value))

    def _differ_as_lists(self, expected: Recommendation, found: Recommendation) -> str:
        scored = found.bundle == self._scored.bundle and self._scored.catalogue(found.catalogue)
        self.unscored += not scored
        ours, theirs = (
            msgspec.structs.replace(made, items=[], bundle="", catalogue=None) for made in (found, expected)
        )
        if ours != theirs:
            return _name_fields(msgspec.to_builtins(theirs), msgspec.to_builtins(ours))
        return "" if not scored or _same_items(found.items, expected.items) else "lists other items or scores"

    def _tell(self, kind: str, message: Message, what: str) -> None:
        self.counts[kind] += 1
        if len(self.told) < TOLD_MAX:
            self.told.append(OutputDifference(kind, message.id.decode(errors="replace"), what))


def _same_items(ours: list[ScoredItem], theirs: list[ScoredItem]) -> bool:
    """Whether two lists have equal scores at each rank, and equal items but for ties within the tolerance."""
    if len(ours) != len(theirs):
        return False
    if any(abs(a.score - b.score) > TOLERANCE for a, b in zip(ours, theirs, strict=True)):
        return False
    scores = {item.item_id: item.score for item in theirs}
    last = theirs[-1].score if theirs else 0.0
    # At the end of a list an item may have a rival with its score that did not come in.
    return all(abs(item.score - scores.get(item.item_id, last)) <= TOLERANCE for item in ours)


def _differ_as_alerts(expected: ChurnAlert, found: ChurnAlert) -> str:
    """The risk comes out of the model, whose last digits another batching may change."""
    if isinstance(expected.risk, float) and isinstance(found.risk, float):
        if abs(expected.risk - found.risk) > TOLERANCE:
            return f"risk is {found.risk}, and should be {expected.risk}"
        found = msgspec.structs.replace(found, risk=expected.risk)
    if found == expected:
        return ""
    return _name_fields(msgspec.to_builtins(expected), msgspec.to_builtins(found))


def _name_fields(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """Name the fields that differ, and how."""
    names = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    told = [f"{name} is {found.get(name)}, and should be {expected.get(name)}" for name in names]
    return "; ".join(told) or "is written in another way"
