"""The demo's producer: all at once, or at the pace of the year."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Thread
from typing import Any

from stream.demo.journey import Sent
from stream.demo.producer import DAY_MS, NEW_YEAR_MS, RECORDS_MAX, Producer


class Taker:
    """A broker that keeps what it is sent."""

    def __init__(self) -> None:
        self.taken: list[bytes] = []
        self.closed = False

    def publisher(self) -> Taker:
        return self

    def publish(self, topic: str, keys: Sequence[bytes | None], values: Sequence[Any], **_: Any) -> None:
        assert len(keys) == len(values) <= RECORDS_MAX
        self.taken += values

    def flush(self) -> None: ...

    def close(self) -> None:
        self.closed = True


def records(days: Sequence[float]) -> list[Sent]:
    return [Sent(int(NEW_YEAR_MS + day * DAY_MS), b"u", str(n).encode()) for n, day in enumerate(days)]


def test_without_a_pace_everything_is_sent_in_order() -> None:
    broker = Taker()
    producer = Producer(broker, "events", records([0.0] * (RECORDS_MAX + 1)), None)  # type: ignore[arg-type]
    producer.run()
    assert producer.done
    assert broker.closed
    assert broker.taken == [str(n).encode() for n in range(RECORDS_MAX + 1)]


def test_what_is_not_due_yet_waits_and_leaving_ends_the_wait() -> None:
    broker = Taker()
    producer = Producer(broker, "events", records([-40.0, 0.0, 1e9]), 1.0)  # type: ignore[arg-type]
    thread = Thread(target=producer.run)
    thread.start()
    while producer.sent < 2:
        pass
    producer.leave()
    thread.join()
    assert producer.sent == 2
    assert not producer.done


def test_the_pace_brings_due_what_the_days_have_reached() -> None:
    producer = Producer(Taker(), "events", records([0.0, 5.0, 11.0]), 2.0)  # type: ignore[arg-type]
    assert len(producer._due(passed_s=5.0)) == 2
