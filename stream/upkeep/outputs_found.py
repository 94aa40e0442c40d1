"""The outputs that were committed, read beside a fold that says what they should be.

Only what lies before a commit is looked at; workers that go on write more. An output topic may have dropped
its oldest by retention: what should be there before the first that is left is not asked for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from stream.broker import Broker
from stream.clock import Clock
from stream.config import Config
from stream.upkeep.logs import PAUSE_S, ranges, read_log
from stream.upkeep.outputs_differ import Comparison, Message
from stream.wire import RECOMMENDATIONS

#: How long outputs of a commit may stay unseen: its markers take a moment to reach every partition.
VISIBLE_S_MAX: Final = 15.0


class OwnHistory:
    """Restricts outputs to users whose whole history is folded: their own, since their rows began.

    How many outputs of other users an offset had is not known then, so an output is numbered among those of
    its own user at its offset. One side of a comparison each: `restrict` is called in their order.
    """

    def __init__(self, born: dict[bytes, int]) -> None:
        self._born = born
        self._counts: dict[tuple[str, str], Counter[bytes | None]] = {}
        self._offsets: dict[tuple[str, str], int] = {}

    def restrict(self, side: str, role: str, message: Message) -> Message | None:
        """Return the output with a number of its own, None if its user's history is older."""
        born_ms = self._born.get(message.key or b"")
        if born_ms is None or not self._is_own(role, message, born_ms):
            return None
        offset, stream = message.source_offset, (side, role)
        if self._offsets.get(stream) != offset:
            self._offsets[stream], self._counts[stream] = offset, Counter()
        n = self._counts[stream][message.key]
        self._counts[stream][message.key] += 1
        name = b"%d/%b/%d" % (offset, message.key or b"", n)
        headers = [(header, content) for header, content in message.headers if header != "id"]
        return message._replace(headers=[*headers, ("id", name)])

    def _is_own(self, role: str, message: Message, born_ms: int) -> bool:
        """Whether it is of the user's present row: an earlier one, forgotten since, is another history."""
        value: dict[str, Any] = msgspec.json.decode(message.value or b"{}")
        if role == RECOMMENDATIONS:
            return bool(value["event_time"] >= born_ms)
        return bool(value["first_event_time"] == born_ms)


class FoundOutputs:
    """Reads every output topic of one partition along with what is expected in it."""

    def __init__(
        self,
        config: Config,
        broker: Broker,
        partition: int,
        stop: int,
        history: OwnHistory | None,
        clock: Clock,
    ) -> None:
        self._config, self._broker, self._partition, self._clock = config, broker, partition, clock
        self._stop, self._history = stop, history
        self._streams: dict[str, Iterator[Message | None]] = {}
        self._next: dict[str, Message | None] = {}
        self._missing: dict[str, bool] = {}  # the topic's oldest outputs are gone, and none is met yet

    def meet(self, role: str, expected: Message, comparison: Comparison) -> None:
        """Take in an output that should be there, and one that is."""
        if role not in self._streams:
            self._open(role)
        if self._is_before_the_oldest(role, expected):
            return
        if self._history is not None:
            restricted = self._history.restrict("expected", role, expected)
            if restricted is None:
                return
            expected = restricted
        comparison.expect(expected)
        self._advance(role, comparison)

    def drain(self, role: str, comparison: Comparison) -> None:
        """All that should be there has been met: take in what else there is before the commit."""
        if role not in self._streams:
            self._open(role)
        until_s = self._clock.monotonic_s() + VISIBLE_S_MAX
        while True:
            while self._advance(role, comparison):
                pass
            if self._next[role] is not None or not comparison.awaits_any():
                return
            if self._clock.monotonic_s() >= until_s:
                return
            self._clock.sleep(PAUSE_S)
            self._next[role] = next(self._streams[role])

    def _open(self, role: str) -> None:
        topic = getattr(self._config.topics, role)
        numbers = range(self._partition, self._partition + 1)
        start = ranges(self._broker, topic, numbers, self._clock)[self._partition].start
        self._streams[role] = self._read(role, topic, start)
        self._next[role] = next(self._streams[role])
        self._missing[role] = start > 0

    def _read(self, role: str, topic: str, start: int) -> Iterator[Message | None]:
        """Yield what is in the topic, and None whenever it is read to its end as of now."""
        seen: set[bytes] = set()
        repeats = self._config.worker.guarantee == "at-least-once"
        numbers = range(self._partition, self._partition + 1)
        while True:
            end = ranges(self._broker, topic, numbers, self._clock)[self._partition].end
            for batch in read_log(self._broker, topic, self._partition, start, end, self._clock):
                for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True):
                    message = Message(key, value, list(headers or ()))
                    if repeats and message.id in seen:
                        continue
                    if repeats:
                        seen.add(message.id)
                    yield message
            start = max(start, end)
            yield None

    def _is_before_the_oldest(self, role: str, expected: Message) -> bool:
        if not self._missing[role]:
            return False
        oldest = self._next[role]
        if oldest is None or (oldest.id != expected.id and expected.source_offset <= oldest.source_offset):
            return True
        self._missing[role] = False
        return False

    def _advance(self, role: str, comparison: Comparison) -> bool:
        """Take in the next output that is there; return whether there was one before the commit."""
        message = self._next[role]
        if message is None:
            return False
        restricted: Message | None = message
        if self._history is not None:
            restricted = self._history.restrict("found", role, message)
        if message.source_offset >= self._stop and not (restricted and comparison.awaits(restricted)):
            return False
        if restricted is not None:
            comparison.find(restricted)
        self._next[role] = next(self._streams[role])
        return True
