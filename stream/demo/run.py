"""`ebbtide demo`: a broker, a producer, the worker of production, and somebody who watches.

    producer → events → worker → output topics → feed → view → screen

The worker knows nothing of the demo: it is started on the demo's config as `ebbtide run` would start it, and
stopped as SIGTERM would stop it. The view is fed with what any consumer of the output topics can read.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any, Final

import msgspec
from prometheus_client import CollectorRegistry
from rich.console import Console
from rich.live import Live

from stream.assembly import make_worker
from stream.config_load import load_config
from stream.demo import journey, quality
from stream.demo.brokers import CONFIG, PARTITIONS, Place, open_place
from stream.demo.feed import Feed
from stream.demo.producer import Producer
from stream.demo.screen import WARMING_UP, progress_line, screen, summary
from stream.demo.view import Seen, View
from stream.errors import EbbtideError
from stream.replay import FILES, SUMMARY_FILE
from stream.topics import topic_names

FRAME_S: Final = 0.12
LINE_S: Final = 2.0
#: How long a watcher who goes early waits for the others: a compiler cannot be interrupted.
LEAVE_S: Final = 3.0
#: Of the lines where there is no terminal to ask.
LINE_WIDTH: Final = 110


def run_demo(*, out: Path, kafka: str | None, kafka_home: Path | None, speed: float | None) -> None:
    """Run the demo to its end; see `ebbtide demo --help`. Raises EbbtideError."""
    console = Console()
    if not console.is_terminal:
        console.width = LINE_WIDTH
    events = journey.events(journey.lines())
    records = list(journey.records(journey.lines()))
    view = View(baskets_of(events), to_send=len(records))
    with ExitStack() as stack:
        place = open_place(stack, load_config(CONFIG), kafka, kafka_home)
        console.print(place.words, highlight=False)
        feed = stack.enter_context(Feed(place.watcher, topic_names(place.config), PARTITIONS, out))
        producer = Producer(place.watcher, place.config.topics.events, records, speed)
        with Screen(console, journey.product_names()) as shown:
            play(place, view, feed, producer, shown.show)
    judged = quality.measure(purchases_of(events), view.lists)
    (out / SUMMARY_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(totals(view, judged))) + b"\n")
    console.print(summary(view, judged, [out / name for name in (*FILES.values(), SUMMARY_FILE)]))
    if not view.adds_up:
        raise EbbtideError("the records do not add up", place=str(out / SUMMARY_FILE))


def play(place: Place, view: View, feed: Feed, producer: Producer, show: Callable[[View], None]) -> None:
    """Let producer and worker work, and watch until all that was sent is answered and committed."""
    registry = CollectorRegistry()
    worker = make_worker(place.config, place.worker, registry=registry)
    tasks = [Task("producer", producer.run), Task("worker", worker.run)]
    pace = Pace()
    try:
        for task in tasks:
            task.start()
        while not (producer.done and view.records >= producer.sent):
            for task in tasks:
                task.check()
            look(view, feed.poll(), producer, registry, pace)
            show(view)
            time.sleep(FRAME_S)
        worker.stop()
        tasks[-1].join()
        tasks[-1].check()
        look(view, feed.drain(), producer, registry, pace)
        show(view)
    finally:
        producer.leave()
        worker.stop()
        for task in tasks:
            task.join(LEAVE_S)


def look(
    view: View, messages: Sequence[Seen], producer: Producer, registry: CollectorRegistry, pace: Pace
) -> None:
    """Bring the view up to date: what came out, what went in, and the worker's own count."""
    view.observe(messages)
    view.sent = producer.sent
    view.records = counted(registry, "records")
    view.accepted = counted(registry, "accepted")
    view.duplicates = counted(registry, "duplicates")
    view.seconds, view.events_per_s = pace.since_first(view.records)
    view.waited_s = pace.waited_s


def counted(registry: CollectorRegistry, name: str) -> int:
    return int(registry.get_sample_value(f"ebbtide_{name}_total") or 0)


class Pace:
    """Events per second from the first batch on: before it the core is compiled, which is not its speed."""

    def __init__(self) -> None:
        self._began_s = time.monotonic()
        self._first_s: float | None = None
        self._first_records = self._records = 0
        self._last_s = 0.0

    @property
    def waited_s(self) -> float:
        """Seconds until the first batch, or until now."""
        return (self._first_s or time.monotonic()) - self._began_s

    def since_first(self, records: int) -> tuple[float, float]:
        """Return (seconds, events per second) up to the last change of the count."""
        now_s = time.monotonic()
        if self._first_s is None:
            if records == 0:
                return 0.0, 0.0
            self._first_s, self._first_records = now_s, records
        if records != self._records:
            self._records, self._last_s = records, now_s
        seconds = self._last_s - self._first_s
        return seconds, (records - self._first_records) / seconds if seconds > 0 else 0.0


class Screen:
    """Shows the view: on a terminal as frames, elsewhere as a line now and then."""

    def __init__(self, console: Console, names: Mapping[str, str]) -> None:
        self._console, self._names = console, names
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._line, self._next_line_s = "", time.monotonic() + LINE_S

    def show(self, view: View) -> None:
        if self._live is not None:
            width, height = self._console.size
            self._live.update(screen(view, self._names, width, height), refresh=True)
        elif time.monotonic() >= self._next_line_s:
            line = progress_line(view) if view.records else WARMING_UP
            if line != self._line:
                self._console.print(line, soft_wrap=True, highlight=False)
            self._line, self._next_line_s = line, time.monotonic() + LINE_S

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()


class Task(Thread):
    """Work beside the watching; an error of it is raised where the watcher asks."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._work = work
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._work()
        except BaseException as error:  # the watcher raises it
            self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise self._error


def baskets_of(events: Iterable[journey.Event]) -> dict[tuple[str, int], list[str]]:
    """Return what each household bought at each moment."""
    baskets: dict[tuple[str, int], list[str]] = defaultdict(list)
    for event in events:
        if event.item_id:
            baskets[event.user_id, event.at_ms].append(event.item_id)
    return dict(baskets)


def purchases_of(events: Iterable[journey.Event]) -> Iterable[tuple[str, int, str]]:
    return ((event.user_id, event.at_ms, event.item_id) for event in events if event.item_id)


def totals(view: View, judged: quality.Quality) -> dict[str, Any]:
    """Return what summary.json says."""
    return {
        "records_in": view.records,
        "accepted": view.accepted,
        "duplicates": view.duplicates,
        "dead_letters": dict(view.dead_letters),
        "lists": view.recommendations,
        "transitions": {f"{before}>{to}": n for (before, to), n in sorted(view.transitions.items())},
        "alerts": dict(sorted(view.alerts.items())),
        "seconds": round(view.seconds, 3),
        "events_per_second": round(view.events_per_s, 1),
        "quality": judged._asdict(),
    }
