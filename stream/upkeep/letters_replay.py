"""Dead letters sent again: chosen ones go back to the events topic as they came, exactly once.

    fence    the job's transactional id is taken over: no other replay gets anything done any more
    marks    the control topic says which letters were sent again before
    send     letters, up to a limit, and a mark that names them, in one transaction; and again

Whoever dies in between leaves letters either sent and marked, or neither: the same command can be run again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from stream.broker import EVENTS, Broker, Identity
from stream.clock import Clock
from stream.config import Config
from stream.dead_letters import FROM_FUTURE
from stream.partitioner import partition_of
from stream.records import Output
from stream.upkeep.job import Job, cut
from stream.upkeep.letters import Choice, Letter, read_letters, read_marks
from stream.upkeep.logs import count_partitions
from stream.wire import CONTROL, Replayed

#: What one transaction sends: a mark names all of its letters, and a dead letter may be a mebibyte.
LETTERS_MAX: Final = 500
LETTERS_BYTES_MAX: Final = 8 * 2**20

SCHEMA: Final = b"control/1"


class Sent(NamedTuple):
    """What a replay came to."""

    sent: int
    before: int  # were sent again by an earlier replay, and are not now


def job_identity(config: Config) -> Identity:
    """Say who replays dead letters: one at a time for a group."""
    topics = {EVENTS: config.topics.events, CONTROL: config.topics.control}
    return Identity(config.kafka.group_id, f"ebbtide-dlq-{config.kafka.group_id}", topics)


def replay_letters(
    broker: Broker,
    config: Config,
    choice: Choice,
    clock: Clock,
    *,
    again: bool = False,
    told: Callable[[int], None] = lambda sent: None,
) -> Sent:
    """Send the chosen letters again that were not before, or all of them if `again`.

    broker: of `job_identity`. told: hears how many are sent, transaction by transaction.
    """
    partitions = count_partitions(broker, config.topics.events, clock)
    count_partitions(broker, config.topics.control, clock)  # without it nothing can be marked
    sent = 0
    with Job(broker, clock) as job:
        marks = read_marks(broker, config, clock)
        letters = list(read_letters(broker, config, choice, clock))
        fresh = letters if again else [letter for letter in letters if letter.source not in marks]
        before = len(letters) - len(fresh)
        for part in cut(fresh, LETTERS_MAX, LETTERS_BYTES_MAX):
            records = [_record(letter, partitions) for letter in part]
            stamps = [_stamp(letter, clock) for letter in part]
            job.commit([*records, _mark(part)], timestamps_ms=[*stamps, clock.now_ms()])
            sent += len(part)
            told(sent)
    return Sent(sent, before)


def _record(letter: Letter, partitions: int) -> Output:
    """Return the record as it came: to its key's partition, or without a key to where it was."""
    if letter.key is None:
        partition = int(letter.source.rsplit("-", 2)[1]) % partitions
    else:
        partition = partition_of(letter.key, partitions)
    return Output(EVENTS, partition, letter.key, letter.value, letter.headers)


def _stamp(letter: Letter, clock: Clock) -> int:
    """Return the record's new timestamp: when it was found to be bad, which is close to when it came.

    An event without a time of its own takes it. One that came from the future is measured by now.
    """
    return clock.now_ms() if letter.reason == FROM_FUTURE else letter.timestamp_ms


def _mark(letters: list[Letter]) -> Output:
    value = msgspec.json.encode(Replayed([letter.source for letter in letters]))
    return Output(CONTROL, 0, None, value, [("schema", SCHEMA)])
