"""What stands between a group's committed state and a worker that would go on from it.

A restore refuses the same things, partition by partition, when it comes to them; here they are looked for
all at once, before a start, and without joining the group.
"""

from __future__ import annotations

from collections.abc import Iterator

from stream.broker import Broker, CommittedOffset, LogRange
from stream.clock import Clock
from stream.commits import Commit, read_commit, read_metadata
from stream.config import Config
from stream.errors import RetriableError
from stream.snapshot import COMMIT_KEY
from stream.topics import Finding
from stream.upkeep.logs import ask, ranges, read_log


def check_group(
    config: Config, broker: Broker, known: int, partitions: int, clock: Clock
) -> Iterator[Finding]:
    """Yield what a worker would refuse in the first `known` of the events topic's partitions."""
    source = broker.source()
    try:
        committed = ask(lambda: source.committed(range(known)), clock)
    except RetriableError as error:
        remedy = "wait until its time-out is over, some 15 s, and check again"
        yield Finding(f"group {config.kafka.group_id}", error.what, remedy)
        return
    finally:
        source.close()
    topic = config.topics.user_state
    logs = ranges(broker, config.topics.events, range(known), clock)
    for partition, kept in ranges(broker, topic, range(known), clock).items():
        commit = _newest(broker, topic, partition, kept, clock)
        yield from judge_commit(config, partition, partitions, commit, committed[partition], logs[partition])


def _newest(broker: Broker, topic: str, partition: int, kept: LogRange, clock: Clock) -> Commit | None:
    """Return the last commit record of a partition.

    It is near the end, as the rows of a commit lie before it. Compaction keeps one, wherever that is.
    """
    for start in (max(kept.start, kept.end - 10_000), kept.start):
        found = None
        for batch in read_log(broker, topic, partition, start, kept.end, clock):
            for key, value in zip(batch.keys, batch.values, strict=True):
                found = value if key == COMMIT_KEY else found
        if found is not None:
            return read_commit(found, place=f"{topic}-{partition}")
    return None


def judge_commit(
    config: Config,
    partition: int,
    partitions: int,
    commit: Commit | None,
    committed: CommittedOffset | None,
    log: LogRange,
) -> Iterator[Finding]:
    """Yield what is wrong with the last commit of one partition, seen from the config and the log of now."""
    place, anew = f"{config.topics.events}-{partition}", "another group, user_state and journal"
    if committed is not None and read_metadata(committed.metadata) is None:
        what = f"the group's offset {committed.offset} was not committed by ebbtide"
        yield Finding(place, what, f"set it back to what it was, or begin with {anew}")
    if commit is None:
        return
    if commit.terms.group != config.kafka.group_id:
        what = f'its rows are those of the group "{commit.terms.group}"'
        yield Finding(f"{config.topics.user_state}-{partition}", what, f"give each group {anew} of its own")
        return
    if commit.terms.partitions != partitions:
        what = f"was committed with {commit.terms.partitions} partitions, now there are {partitions}"
        yield Finding(place, what, "`ebbtide repartition` moves users to where they belong now")
    if log.start > commit.floor.offset and commit.floor.offset < commit.at.offset:
        what = f"the log begins at {log.start}; a restore needs it from {commit.floor.offset} on"
        yield Finding(place, what, f"raise the topic's retention; now begin with {anew}")
    if commit.floor.applied < commit.at.applied and commit.terms.meaning != config.meaning:
        what = "the config means something else than at the last commit, which left records to be replayed"
        remedy = "start the workers once more with the config that they had, and stop them with SIGTERM"
        yield Finding(place, what, remedy)
