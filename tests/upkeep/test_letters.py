"""`ebbtide dlq`: what is listed and shown is there, and what is sent again comes once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from stream import cli
from stream.broker import Identity
from stream.commands import options
from stream.errors import BrokerError
from stream.testing import FAULTS, Crash, FaultPlan
from stream.upkeep import letters_replay
from stream.upkeep.letters import Choice, Letter, read_letters, read_marks
from stream.upkeep.letters_replay import Sent, job_identity, replay_letters
from tests.upkeep.rig import Rig

ALL = Choice()


@pytest.fixture
def rig() -> Rig:
    rig = Rig()
    rig.publish(100)
    rig.work()
    return rig


def letters(rig: Rig, choice: Choice = ALL) -> list[Letter]:
    return list(read_letters(rig.client(), rig.config, choice, rig.clock))


def send_again(rig: Rig, choice: Choice = ALL, *, again: bool = False) -> Sent:
    broker = rig.client(job_identity(rig.config))
    return replay_letters(broker, rig.config, choice, rig.clock, again=again)


def test_a_letter_is_the_record_as_it_came_with_its_reason(rig: Rig) -> None:
    found = letters(rig)
    assert len(found) == 5
    for letter in found:
        topic, partition, offset = letter.source.rsplit("-", 2)
        events = rig.read(topic, int(partition))
        row = events.offsets.index(int(offset))
        assert (letter.key, letter.value) == (events.keys[row], events.values[row])
        assert letter.headers == []
        assert (letter.reason, letter.detail) == ("from_future", "")


def test_a_choice_restricts(rig: Rig) -> None:
    everything = letters(rig)
    first = everything[0]
    assert letters(rig, Choice(sources=frozenset({first.source}))) == [first]
    assert letters(rig, Choice(reason="poison")) == []
    by_partition = [letters(rig, Choice(partition=p)) for p in range(3)]
    assert [letter for part in by_partition for letter in part] == everything
    assert letters(rig, Choice(since_ms=max(letter.timestamp_ms for letter in everything) + 1)) == []


def test_letters_that_are_sent_again_count_exactly_once(rig: Rig) -> None:
    before = rig.read_all("events")
    bad = letters(rig)
    assert send_again(rig) == Sent(sent=5, before=0)
    assert send_again(rig) == Sent(sent=0, before=5)
    assert read_marks(rig.client(), rig.config, rig.clock) == {letter.source for letter in bad}
    come = [
        (batch.keys[row], batch.values[row], batch.partition)
        for batch, old in zip(rig.read_all("events"), before, strict=True)
        for row in range(len(old.offsets), len(batch.offsets))
    ]
    assert sorted(come) == sorted((letter.key, letter.value, letter.partition) for letter in bad)
    rig.work()  # their time has come meanwhile
    assert letters(rig) == bad


def test_a_record_takes_the_time_at_which_it_was_found_or_now_if_it_came_too_early(rig: Rig) -> None:
    publisher = rig.client().publisher()
    publisher.publish(rig.config.topics.events, [b"user-1"], [b"no json"])
    rig.work()
    found_ms = letters(rig, Choice(reason="not_json"))[0].timestamp_ms
    rig.clock.advance(5_000.0)
    send_again(rig)
    stamps = {
        value: timestamp_ms
        for batch in rig.read_all("events")
        for value, timestamp_ms in zip(batch.values, batch.timestamps_ms, strict=True)
    }
    assert stamps[b"no json"] == found_ms
    early = letters(rig, Choice(reason="from_future"))[0]
    assert stamps[early.value] == rig.clock.now_ms()


def test_what_is_still_bad_is_a_letter_anew_with_a_source_of_its_own(rig: Rig) -> None:
    rig.client().publisher().publish(rig.config.topics.events, [b"user-1"], [b"no json"])
    rig.work()
    send_again(rig)
    rig.work()
    found = letters(rig, Choice(reason="not_json"))
    assert len(found) == len({letter.source for letter in found}) == 2
    assert send_again(rig) == Sent(sent=1, before=6)
    first = Choice(sources=frozenset({found[0].source}))
    assert send_again(rig, first) == Sent(sent=0, before=1)
    assert send_again(rig, first, again=True) == Sent(sent=1, before=0)


def test_headers_of_the_producer_come_back_and_ours_do_not(rig: Rig) -> None:
    own = [("source", b"app"), ("trace", b"1")]
    publisher = rig.client().publisher()
    publisher.publish(rig.config.topics.events, [None], [b"no json"], partitions=[1], headers=[own])
    rig.work()
    choice = Choice(reason="not_json")
    assert [letter.headers for letter in letters(rig, choice)] == [own]
    send_again(rig, choice)
    events = rig.read(rig.config.topics.events, 1)
    assert (events.keys[-1], events.values[-1], events.headers[-1]) == (None, b"no json", own)


@pytest.mark.parametrize("seed", range(20))
def test_a_replay_that_dies_anywhere_can_be_run_again(rig: Rig, seed: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(letters_replay, "LETTERS_MAX", 2)
    count = sum(len(batch.offsets) for batch in rig.read_all("events"))
    faults = ("crash_before", "crash_after", "answer_lost", "end_delayed", "expired")
    assert set(faults) <= set(FAULTS)
    rig.broker.plan = rig.broker.transactions._plan = FaultPlan(seed=seed, rates=dict.fromkeys(faults, 0.05))
    for _ in range(200):
        try:
            send_again(rig)
            break
        except (Crash, BrokerError):
            rig.clock.advance(30_000.0)
    rig.broker.plan = rig.broker.transactions._plan = None
    rig.clock.advance(60_000.0)
    assert send_again(rig) == Sent(sent=0, before=5)
    assert sum(len(batch.offsets) for batch in rig.read_all("events")) == count + 5


def test_without_the_mark_in_the_transaction_letters_would_come_twice(rig: Rig, monkeypatch: Any) -> None:
    """The negative control: a mark that says nothing."""
    monkeypatch.setattr(letters_replay, "Replayed", lambda letters: {"command": "replayed", "letters": []})
    send_again(rig)
    assert send_again(rig) == Sent(sent=5, before=0)


# The command line.


@pytest.fixture
def ebbtide(rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    path = tmp_path / "c.toml"
    path.write_text("[events]\nkinds = { view = 'engagement', buy = 'conversion', mail = 'contact' }\n")
    monkeypatch.setattr(options, "open_broker", lambda config: rig.client())
    monkeypatch.setattr(options, "open_broker_as", lambda config, identity: rig.client(identity))

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(cli.app, ["dlq", *arguments, "--config", str(path)], prog_name="ebbtide")

    return run


def test_list_counts_by_reason_and_names_the_newest(rig: Rig, ebbtide: Callable[..., Any]) -> None:
    shown = ebbtide("list", "--limit", "2")
    assert shown.exit_code == 0, shown.output
    row = next(line for line in shown.output.splitlines() if line.startswith("from_future"))
    assert row.split()[1:3] == ["5", "0"]
    assert shown.output.count("bytes") == 2
    listed = json.loads(ebbtide("list", "--json").output)
    assert listed["reasons"]["from_future"]["count"] == 5
    assert {each["source"] for each in listed["newest"]} == {letter.source for letter in letters(rig)}
    assert "no dead letters" in ebbtide("list", "--reason", "poison").output


def test_show_says_why_and_what_to_do(rig: Rig, ebbtide: Callable[..., Any]) -> None:
    letter = letters(rig)[0]
    shown = ebbtide("show", letter.source)
    assert shown.exit_code == 0, shown.output
    assert (letter.value or b"").decode() in shown.output
    assert "clock" in shown.output
    assert "sent again no" in shown.output
    missing = ebbtide("show", "events-0-99999")
    assert missing.exit_code == 2
    assert "dlq list" in missing.output


def test_replay_sends_what_is_chosen_and_nothing_unasked(rig: Rig, ebbtide: Callable[..., Any]) -> None:
    assert ebbtide("replay").exit_code == 2
    assert ebbtide("replay", "--reason", "poisn").exit_code == 2
    assert ebbtide("replay", "--since", "yesterday").exit_code == 2
    source = letters(rig)[0].source
    assert "sent 1 again; 0 were sent before" in ebbtide("replay", source).output
    assert "sent 4 again; 1 were sent before" in ebbtide("replay", "--all", "--since", "1d").output
    assert "sent again yes" in ebbtide("show", source).output


def test_nothing_is_sent_without_a_topic_for_the_marks(rig: Rig) -> None:
    config = msgspec.structs.replace(
        rig.config, topics=msgspec.structs.replace(rig.config.topics, control="nowhere")
    )
    broker = rig.client(Identity("g", "t", {"events": "events", "control": "nowhere"}))
    with pytest.raises(Exception, match="topics --create"):
        replay_letters(broker, config, Choice(), rig.clock)
    assert read_marks(rig.client(), config, rig.clock) == set()
