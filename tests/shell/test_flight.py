"""A commit on its way: what is folded meanwhile waits for it, and shares its fate if it fails."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from stream.assembly import identify
from stream.commits import read_commit
from stream.errors import AbortableError, FencedError, InvariantError
from stream.flight import AHEAD_OUTPUTS_MAX, Done, Flight, InAThread
from stream.records import Output
from stream.snapshot import COMMIT_KEY
from stream.testing import MemoryClient
from stream.worker import Worker
from stream.workshop import Workshop
from tests.upkeep.rig import OUTPUTS, Rig


class Held:
    """A call that is made when the test says so."""

    def __init__(self, call: Callable[[], None]) -> None:
        self.call, self.arrived = call, False

    def done(self) -> bool:
        return self.arrived

    def result(self) -> None:
        self.call()


class Tower:
    """Launches nothing by itself: every commit is on its way until it is let through."""

    def __init__(self) -> None:
        self.calls: list[Held] = []

    def __call__(self, call: Callable[[], None]) -> Held:
        self.calls.append(Held(call))
        return self.calls[-1]


def worker(rig: Rig, tower: Tower) -> Worker:
    client = MemoryClient(rig.broker, identify(rig.config))
    made = Worker(rig.config, client, Workshop(rig.config, None), clock=rig.clock, launch=tower)
    made.start()
    return made


def produced(rig: Rig) -> int:
    topics = rig.config.topics
    return sum(len(rig.broker.log(getattr(topics, role), 0).read(0, 9_999)[0].offsets) for role in OUTPUTS)


def flying(rig: Rig, tower: Tower) -> Worker:
    """Return a worker whose commit of the first records is on its way, with more of them folded since."""
    made = worker(rig, tower)
    rig.turn_until(made, lambda: bool(tower.calls))
    tower.calls[0].arrived = True  # of the moment of the first start
    rig.publish(30)
    rig.turn_until(made, lambda: len(tower.calls) == 2)
    folded = made.shares[0].next_offset
    rig.publish(30)
    rig.turn_until(made, lambda: made.shares[0].next_offset == 60)
    assert folded == 30
    return made


def test_what_is_folded_while_a_commit_is_on_its_way_goes_into_the_next() -> None:
    rig, tower = Rig(partitions=1), Tower()
    made = flying(rig, tower)
    assert produced(rig) == 0
    tower.calls[1].arrived = True
    rig.turn_until(made, lambda: made.shares[0].committed_offset == 30)
    first = produced(rig)
    assert first > 0
    rig.turn_until(made, lambda: len(tower.calls) == 3)
    tower.calls[2].arrived = True
    rig.turn_until(made, lambda: made.shares[0].committed_offset == 60)
    assert produced(rig) > first


def test_a_commit_that_fails_takes_back_what_was_folded_since() -> None:
    rig, tower = Rig(partitions=1), Tower()
    made = flying(rig, tower)

    def fail() -> None:
        raise AbortableError("a record could not be stored")

    tower.calls[1].call = fail
    tower.calls[1].arrived = True
    made.turn()
    assert made.shares[0].next_offset == made.shares[0].committed_offset == 0
    assert len(made.shares[0].engine.table) == 0
    rig.turn_until(made, lambda: made.shares[0].next_offset == 60)


def test_a_worker_that_leaves_lands_first_and_owes_no_row() -> None:
    rig, tower = Rig(partitions=1), Tower()
    made = flying(rig, tower)
    made.stop()
    made.close()
    batch, _ = rig.broker.log(rig.config.topics.user_state, 0).read(0, 9_999)
    last = [value for key, value in zip(batch.keys, batch.values, strict=True) if key == COMMIT_KEY][-1]
    commit = read_commit(last, place="user_state")
    assert commit.at.offset == commit.floor.offset == 60


def test_too_many_outputs_wait_for_no_longer_flight() -> None:
    flight = Flight([], Held(lambda: None))
    flight.add([Output("lifecycle", 0, None, b"", [])] * (AHEAD_OUTPUTS_MAX - 1))
    assert not flight.over
    flight.add([Output("lifecycle", 0, None, b"", [])])
    assert flight.over


@pytest.mark.parametrize("launch", [Done, InAThread])
def test_what_a_call_raises_is_raised_where_it_lands(launch: Callable[[Callable[[], None]], Held]) -> None:
    def fail() -> None:
        raise AbortableError("not stored")

    call = launch(fail)
    with pytest.raises(AbortableError, match="not stored"):
        call.result()
    assert call.done()


def wait_for(end: Event) -> None:
    end.wait()


def test_a_call_that_does_not_end_is_given_up() -> None:
    end = Event()
    call = InAThread(lambda: wait_for(end), limit_s=0.05)
    assert not call.done()
    with pytest.raises(FencedError, match="has not ended"):
        call.result()
    assert call.done()
    end.set()


def test_a_commit_that_is_given_up_is_refused_should_it_go_on_after_all() -> None:
    rig, tower = Rig(partitions=1), Tower()
    made = flying(rig, tower)
    hanging, first = tower.calls[1], made.sink
    goes_on = hanging.call

    def give_up() -> None:
        raise FencedError("the commit has not ended")

    hanging.call, hanging.arrived = give_up, True
    made.turn()
    assert made.sink is not first
    with pytest.raises(InvariantError, match="destroyed"):
        goes_on()
    land_all(made, rig, tower)

    calm, calm_tower = Rig(partitions=1), Tower()
    undisturbed = flying(calm, calm_tower)
    land_all(undisturbed, calm, calm_tower)
    assert produced(rig) == produced(calm) > 0


def land_all(made: Worker, rig: Rig, tower: Tower) -> None:
    """Let every commit through until all 60 records are committed."""

    def landed() -> bool:
        for call in tower.calls:
            call.arrived = True
        share = made.shares.get(0)
        return share is not None and share.committed_offset == 60

    rig.turn_until(made, landed)
