"""The demo from end to end, on the first weeks of the year and without a model: what comes out adds up."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from stream.config import BundlePlace
from stream.config_load import load_config
from stream.demo import journey
from stream.demo.brokers import CONFIG, PARTITIONS, Place, in_memory
from stream.demo.feed import Feed
from stream.demo.producer import Producer
from stream.demo.run import Pace, Task, baskets_of, play
from stream.demo.view import View
from stream.topics import plan, topic_names

WEEKS = 6_000


@pytest.fixture
def place() -> Place:
    config = msgspec.structs.replace(load_config(CONFIG), bundle=BundlePlace(path=None))
    made = in_memory(config)
    names = topic_names(config).values()
    made.watcher.admin().create(plan(config, dict.fromkeys(names), partitions=PARTITIONS))
    return made


def test_all_that_is_sent_is_read_answered_and_kept(place: Place, tmp_path: Path) -> None:
    year = journey.lines()[:WEEKS]
    records = list(journey.records(year))
    view = View(baskets_of(journey.events(year)), to_send=len(records))
    frames: list[int] = []
    with ExitStack() as stack:
        feed = stack.enter_context(Feed(place.watcher, topic_names(place.config), PARTITIONS, tmp_path))
        producer = Producer(place.watcher, place.config.topics.events, records, None)
        play(place, view, feed, producer, lambda shown: frames.append(shown.records))
    assert view.adds_up
    assert view.records == len(records)
    assert view.duplicates > 0
    assert {reason: 1 for *_, reason in journey.BROKEN} == dict(view.dead_letters)
    assert frames[-1] == len(records)
    users = {event.user_id for event in journey.events(year) if event.event_type != "campaign"}
    assert sum(n for state, n in view.states.items() if state != "none") == len(users)
    kept = [json.loads(line) for line in (tmp_path / "lifecycle.jsonl").read_text().splitlines()]
    assert len(kept) == view.transitions.total()
    buried = [json.loads(line) for line in (tmp_path / "dead-letters.jsonl").read_text().splitlines()]
    assert {row["reason"] for row in buried} == set(view.dead_letters)


def test_an_error_of_a_task_reaches_the_watcher() -> None:
    def fail() -> None:
        raise RuntimeError("the worker is broken")

    task = Task("worker", fail)
    task.start()
    task.join()
    with pytest.raises(RuntimeError, match="the worker is broken"):
        task.check()


def test_the_pace_leaves_out_what_came_before_the_first_batch() -> None:
    pace = Pace()
    assert pace.since_first(0) == (0.0, 0.0)
    assert pace.since_first(100) == (0.0, 0.0)
    seconds, rate = pace.since_first(300)
    assert seconds > 0
    assert rate == pytest.approx(200 / seconds)
    assert pace.since_first(300) == (seconds, rate)
