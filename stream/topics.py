"""The topics as they should be: how many partitions, what is kept, for how long; and what is wrong with them.

Pure functions over what an `Admin` describes; `ebbtide topics` and `ebbtide check` do the asking. An output
goes to the partition of the same number as its input, so those topics have as many as the events. Items and
control have one: `catalogue` is an offset, and roll-outs happen one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from stream.broker import Topic
from stream.config import Config

#: Partitions of an events topic that does not exist yet: as many workers can share it at most.
PARTITIONS_DEFAULT: Final = 8

#: Kafka's own default since 4.0; a clock that is wrong by more is wrong in days, not in minutes.
AFTER_MAX_MS: Final = 3_600_000

#: What a dead letter is larger than its record by: our headers, and the batch around them.
DEAD_LETTER_EXTRA_BYTES: Final = 65_536

#: What a group's state is made of: with another cleanup policy it is lost. For others there may be reasons.
_STATE: Final = ("events", "user_state", "journal")

#: Kafka's default for max.message.bytes.
MESSAGE_BYTES_DEFAULT: Final = 1_048_588

#: Kafka's default for retention.ms: a week.
RETENTION_DEFAULT_MS: Final = 604_800_000

_FOREVER: Final = -1


_KEPT: Final = {"retention.ms": str(_FOREVER), "retention.bytes": str(_FOREVER)}


class Shape(NamedTuple):
    """What the topic of one role should be like. `partitions` 0 means: as many as the events."""

    role: str
    partitions: int
    cleanup: str
    configs: Mapping[str, str]
    #: A worker starts without it.
    optional: bool = False


SHAPES: Final = (
    Shape("events", 0, "delete", {"message.timestamp.after.max.ms": str(AFTER_MAX_MS)}),
    Shape("recommendations", 0, "delete", {}),
    Shape("lifecycle", 0, "delete", {}),
    Shape("churn_alerts", 0, "delete", {}),
    Shape("dead_letters", 0, "delete", {}),
    # A restore reads it whole: small segments are compacted early, and little of it is there twice.
    Shape("user_state", 0, "compact", {"segment.bytes": str(1 << 26), "min.cleanable.dirty.ratio": "0.1"}),
    # A few entries a day, and without one of them the log means something else.
    Shape("journal", 0, "delete", _KEPT),
    Shape("items", 1, "compact", {}, optional=True),
    Shape("control", 1, "delete", _KEPT, optional=True),
)


class Finding(NamedTuple):
    """One thing that is wrong, where, and what to do. A `note` stops no worker."""

    place: str
    what: str
    remedy: str
    note: bool = False


def topic_names(config: Config) -> dict[str, str]:
    """Return the topics' names by role, in the order of SHAPES."""
    return {shape.role: getattr(config.topics, shape.role) for shape in SHAPES}


def plan(
    config: Config, found: Mapping[str, Topic | None], *, partitions: int | None = None, replication: int = -1
) -> list[Topic]:
    """Return the topics to create: those of the config that were not found.

    `partitions` counts only where the events topic is missing too.
    """
    names = topic_names(config)
    events = found.get(names["events"])
    count = events.partitions if events else partitions or PARTITIONS_DEFAULT
    missing = []
    for shape in SHAPES:
        if found.get(names[shape.role]) is None:
            configs = {"cleanup.policy": shape.cleanup, **shape.configs}
            if shape.role == "dead_letters":
                configs["max.message.bytes"] = str(_message_bytes(events) + DEAD_LETTER_EXTRA_BYTES)
            missing.append(Topic(names[shape.role], shape.partitions or count, replication, configs))
    return missing


def judge(config: Config, found: Mapping[str, Topic | None]) -> Iterator[Finding]:
    """Yield what is wrong with the topics of a config, as they were found."""
    names = topic_names(config)
    events = found.get(names["events"])
    for shape in SHAPES:
        name = names[shape.role]
        topic = found.get(name)
        if topic is None:
            what = f"there is no such topic, for {shape.role}"
            yield Finding(name, what, "`ebbtide topics --create` makes it", note=shape.optional)
            continue
        yield from _judge_partitions(shape, topic, events)
        yield from _judge_cleanup(shape, topic)
        if shape.role == "events":
            yield from _judge_timestamps(topic)
        if shape.role == "dead_letters" and events:
            yield from _judge_room(topic, events)
        if shape.role == "journal" and events:
            yield from _judge_retention(topic, events)


def _judge_partitions(shape: Shape, topic: Topic, events: Topic | None) -> Iterator[Finding]:
    if shape.partitions == 0 and events and topic.partitions != events.partitions:
        what = f"has {topic.partitions} partitions; {events.name} has {events.partitions}"
        remedy = "outputs go to the partition of their input: make it anew with as many"
        if shape.role in ("user_state", "journal"):
            remedy = "the state of a partition lies under its number: `ebbtide repartition` moves it"
        yield Finding(topic.name, what, remedy)
    if shape.partitions == 1 and topic.partitions != 1:
        what = f"has {topic.partitions} partitions; {shape.role} needs one order, so one"
        yield Finding(topic.name, what, "make it anew with one partition")


def _judge_cleanup(shape: Shape, topic: Topic) -> Iterator[Finding]:
    cleanup = topic.configs.get("cleanup.policy", "delete")
    if cleanup != shape.cleanup:
        loss = "what is still in force is deleted by age, or kept in every version"
        if shape.cleanup == "delete":
            loss = "one record of a key is kept, and the rest dropped"
        what = f"cleanup.policy is {cleanup}: {loss}"
        remedy = f"set cleanup.policy={shape.cleanup}"
        yield Finding(topic.name, what, remedy, note=shape.role not in _STATE)


def _judge_timestamps(topic: Topic) -> Iterator[Finding]:
    """A producer with a wrong clock must not be able to move the watermark by years."""
    if topic.configs.get("message.timestamp.type") == "LogAppendTime":
        return
    limit = int(topic.configs.get("message.timestamp.after.max.ms", 2**63 - 1))
    if limit > AFTER_MAX_MS:
        what = "nothing guards against record timestamps from the future, and one moves every user's silence"
        remedy = f"set message.timestamp.after.max.ms={AFTER_MAX_MS}, or message.timestamp.type=LogAppendTime"
        yield Finding(topic.name, what, remedy)


def _judge_room(topic: Topic, events: Topic) -> Iterator[Finding]:
    room, need = _message_bytes(topic), _message_bytes(events)
    if room <= need:
        what = f"max.message.bytes is {room}; a dead letter is larger than its record, of up to {need}"
        remedy = f"set max.message.bytes={need + DEAD_LETTER_EXTRA_BYTES}, or the first one stops a worker"
        yield Finding(topic.name, what, remedy, note=True)


def _judge_retention(topic: Topic, events: Topic) -> Iterator[Finding]:
    kept, needed = _retention_ms(topic), _retention_ms(events)
    if kept != _FOREVER and (needed == _FOREVER or kept < needed):
        what = f"keeps entries for {kept} ms, less than {events.name} keeps events"
        yield Finding(topic.name, what, f"set retention.ms={_FOREVER}", note=True)
    size = topic.configs.get("retention.bytes", str(_FOREVER))
    if size != str(_FOREVER):
        remedy = f"set retention.bytes={_FOREVER}"
        yield Finding(topic.name, f"drops entries beyond {size} bytes", remedy, note=True)


def _retention_ms(topic: Topic) -> int:
    return int(topic.configs.get("retention.ms", RETENTION_DEFAULT_MS))


def _message_bytes(topic: Topic | None) -> int:
    if topic is None:
        return MESSAGE_BYTES_DEFAULT
    return int(topic.configs.get("max.message.bytes", MESSAGE_BYTES_DEFAULT))
