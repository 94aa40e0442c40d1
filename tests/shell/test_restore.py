"""Restore: whatever happened before, the state is that of the last commit, and what follows is the same."""

from __future__ import annotations

import json
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st

from stream.config import Config
from stream.config_load import parse_config
from tests.lives import OUTPUTS, Life, Photo, World, check_table, fold_whole, take_photo

MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
T0: Final = 1_704_067_200_000

#: Stages that follow each other within days, late events older than a whole life, and storms cut by every
#: second timer: every few records somebody is forgotten, comes back, or is due in the middle of a commit.
SETTINGS: Final[dict[str, Any]] = {
    "events": {
        "kinds": {"view": "engagement", "buy": "conversion", "mail": "contact"},
        "recommend": ["view"],
    },
    "time": {"lateness_max": "25d", "future_max": "2h"},
    "windows": {
        "rings": [{"bucket": "1h", "buckets": 3}, {"bucket": "1d", "buckets": 30}],
        "windows": {"2h": "1h", "7d": "1d"},
    },
    "lifecycle": {
        "at_risk_min": "1d",
        "at_risk_max": "3d",
        "at_risk_default": "2d",
        "dormant_after": "5d",
        "churned_after": "8d",
        "forget_after": "12d",
    },
    "policies": {"default": {"min_gap": "2h"}, "at_risk": {"k": 3}},
    "worker": {"timers_max": 2, "emit_from": "earliest", "events_per_5min_max": 3},
}


def make_config(**changes: Any) -> Config:
    return parse_config({**SETTINGS, **changes})


USERS: Final = ("a", "a\0", "b", "ü", "user-5")

events = st.tuples(
    st.sampled_from(USERS),
    st.sampled_from(("view", "view", "buy", "mail")),
    st.sampled_from((0, 0, 0, MINUTE, HOUR, DAY, 2 * DAY, 5 * DAY, 13 * DAY)),  # since the event before
    st.sampled_from((0, 0, 0, 3 * HOUR, 3 * DAY, 13 * DAY, 26 * DAY)),  # late by
    st.sampled_from((None, None, "e1", "e2")),
    st.integers(0, 3),
)
actions = st.one_of(
    st.tuples(st.just("publish"), st.lists(events, min_size=1, max_size=8)),
    st.tuples(st.just("work"), st.integers(1, 6)),
    st.tuples(st.just("commit"), st.integers(0, 3)),
    st.tuples(st.just("idle"), st.sampled_from((HOUR, DAY, 4 * DAY, 13 * DAY))),
    st.tuples(st.just("abort"), st.none()),
    st.tuples(st.just("crash"), st.integers(1, 9)),
    st.tuples(st.just("compact"), st.integers(0, 40)),
)


class Story:
    """Plays actions, and after each death compares what was restored with what was committed."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now_ms = T0
        self.life = Life(world)

    def play(self, action: str, argument: Any) -> None:
        getattr(self, action)(argument)
        check_table(self.life.partition)

    def publish(self, batch: list[tuple[str, str, int, int, str | None, int]]) -> None:
        for user, kind, gap_ms, late_ms, event_id, item in batch:
            self.now_ms += gap_ms
            event = {"user_id": user, "event_type": kind, "event_time": self.now_ms - late_ms, "value": item}
            event |= {"item_id": f"item-{item}"} if item else {}
            event |= {"event_id": event_id} if event_id else {}
            self.world.publish([user.encode()], [json.dumps(event).encode()], [self.now_ms])

    def work(self, slices: int) -> None:
        self.life.work(slices)

    def commit(self, rows_max: int) -> None:
        self.life.commit(rows_max)

    def idle(self, ms: int) -> None:
        self.life.idle(ms)

    def abort(self, _: None) -> None:
        self.life.abort()
        assert self.life.take_photo() == self.life.photo

    def crash(self, records_max: int) -> None:
        photo = self.life.photo
        self.life.kill()
        self.life = Life(self.world, records_max)
        assert self.life.photo == photo

    def compact(self, before: int) -> None:
        self.world.compact(self.world.config.topics.user_state, before)

    def drain(self) -> None:
        while self.life.work(100):
            pass

    def end(self) -> tuple[Photo, Photo]:
        """Fold what is left and die once more; return the end of this story, and of one life that saw it all.

        The outputs of both are compared on the way.
        """
        self.drain()
        self.life.commit(2)
        self.crash(5)
        self.drain()
        for _ in range(2 * self.life.partition.table.users.counts[0].slots + 2):
            self.life.commit(1)
        assert not self.life.commits.owing
        whole, outputs = fold_whole(self.world)
        photo = take_photo(whole, self.life.format.__class__(self.world.config, whole.items))
        for topic in OUTPUTS:
            log = self.world.read(getattr(self.world.config.topics, topic))
            expected = [(o.key, o.value, o.headers) for o in outputs if o.topic == topic]
            assert list(zip(log.keys, log.values, log.headers, strict=True)) == expected
        state = self.world.read(self.world.config.topics.user_state)
        last = dict(zip(state.keys, state.values, strict=True))
        assert {key[1:] for key, value in last.items() if key and value and key[0] == ord("u")} == set(
            photo[0]
        )
        return self.life.photo, photo


@settings(max_examples=300)
@given(st.lists(actions, max_size=40))
def test_a_restored_partition_is_what_was_committed(story: list[tuple[str, Any]]) -> None:
    told = Story(World(make_config()))
    for action, argument in story:
        told.play(action, argument)
    restored, whole = told.end()
    assert restored == whole
