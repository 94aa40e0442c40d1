"""What a source and a reader have in common: a librdkafka consumer, made and polled."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from stream.errors import StateError
from stream.kafka_errors import classify, kafka_error, refused_setting
from stream.kafka_settings import Settings

#: librdkafka's own log: connections, brokers and coordinators, never records.
LOG: Final = logging.getLogger("ebbtide.kafka")

#: A position that the log does not hold, with `auto.offset.reset=error`.
OUTSIDE_OF_LOG: Final = (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE)


def open_consumer(settings: Settings, note: Callable[[KafkaError], None]) -> Consumer:
    """Return a consumer. `note` hears of errors that belong to no record, within its polls.

    Raises UsageError if librdkafka refuses a setting.
    """
    try:
        return Consumer({**settings, "error_cb": note}, logger=LOG)
    except KafkaException as error:
        raise refused_setting(error) from error


def consume(consumer: Consumer, records_max: int, timeout_s: float, place: str) -> list[Message]:
    """Wait for the first message, then take what is there; librdkafka itself would wait for the last."""
    try:
        messages = consumer.consume(records_max, 0.0)
        if not messages and timeout_s > 0.0:
            messages = consumer.consume(1, timeout_s)
            if messages and records_max > 1:
                messages += consumer.consume(records_max - 1, 0.0)
    except KafkaException as error:
        raise classify(kafka_error(error), place=place) from error
    return messages


def outside_of_log(topic: str, partition: int, offset: int) -> StateError:
    """Return the error of a position that retention, or someone, has deleted or that never was."""
    return StateError(
        f"offset {offset} is not in the log",
        place=f"{topic}-{partition}",
        remedy="the log is too short for the committed state: raise the topic's retention; "
        "to start over, use a new group_id",
    )
