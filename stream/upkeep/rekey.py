"""Rekeying: a topic whose keys are missing, wrong, or in other partitions than murmur2 says, made anew.

The state of a user lives in one partition, so all events of a user must. What producers have sent already is
mended by a copy that is keyed by the user_id in the records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stream.broker import Broker, Topic
from stream.clock import Clock
from stream.config import Config
from stream.errors import UsageError
from stream.topics import AFTER_MAX_MS
from stream.upkeep.alone import WAIT_S, Alone
from stream.upkeep.copying import copy, copy_identity, key_by_user
from stream.upkeep.job import Job
from stream.upkeep.logs import ask, count_partitions, find_topic, ranges, read_log

#: Settings that the new topic takes over from the old one.
TAKEN_OVER = ("retention.ms", "retention.bytes", "max.message.bytes")


def rekey(
    broker: Broker,
    config: Config,
    source: str,
    target: str,
    clock: Clock,
    *,
    partitions: int | None = None,
    wait_s: float = WAIT_S,
    told: Callable[[int, int], None] = lambda *_: None,
) -> int:
    """Copy the topic `source` into `target`, keyed by user; return how many records were copied now.

    broker: of `copy_identity`. partitions: of a target that does not exist yet, if not as many as the source
    has. Run it again to copy what has come since. Raises UsageError for topics that will not do.
    """
    if source == target:
        raise UsageError("a topic cannot be copied into itself", place=source, remedy="name another --to")
    count = count_partitions(broker, source, clock)
    count_to = prepare_target(broker, source, target, partitions or count, clock)
    group = copy_identity(source, target).group_id
    with Job(broker, clock) as job, Alone(broker.source(), group, count, clock, wait_s=wait_s) as alone:
        if all(at is None for at in alone.committed().values()):
            expect_empty(broker, target, count_to, clock)
        return copy(broker, job, alone, source, count_to, key_by_user(config), clock, told)


def prepare_target(broker: Broker, source: str, target: str, partitions: int, clock: Clock) -> int:
    """Create the target if it does not exist; return how many partitions it has.

    Raises UsageError if it would not keep the records' timestamps.
    """
    found = find_topic(broker, target, clock)
    if found is None:
        like = find_topic(broker, source, clock)
        configs = _configs({} if like is None else like.configs)
        admin = broker.admin()
        try:
            ask(lambda: admin.create([Topic(target, partitions, configs=configs)]), clock)
        finally:
            admin.close()
        return partitions
    if found.configs.get("message.timestamp.type") == "LogAppendTime":
        what = "gives records new timestamps, and which event is too early would be judged by those"
        raise UsageError(what, place=target, remedy="set message.timestamp.type=CreateTime for the copy")
    return found.partitions


def _configs(like: Mapping[str, str]) -> dict[str, str]:
    taken = {name: like[name] for name in TAKEN_OVER if name in like}
    return {"cleanup.policy": "delete", "message.timestamp.after.max.ms": str(AFTER_MAX_MS), **taken}


def expect_empty(broker: Broker, target: str, partitions: int, clock: Clock) -> None:
    """Raise UsageError if the target holds anything that this copy has not written."""
    kept = ranges(broker, target, range(partitions), clock)  # markers of what was aborted are in there, too
    if any(next(read_log(broker, target, p, *part, clock), None) for p, part in kept.items()):
        remedy = "name a topic that does not exist yet, and let producers write to it after the copy"
        raise UsageError("holds records of somebody else already", place=target, remedy=remedy)
