"""Commands to a running group, written to its control topic."""

from __future__ import annotations

import msgspec

from stream.broker import Broker
from stream.clock import Clock
from stream.config import Config
from stream.core.events import USER_ID_BYTES_MAX
from stream.errors import UsageError
from stream.upkeep.letters_replay import SCHEMA
from stream.upkeep.logs import count_partitions
from stream.wire import Control, Erasure, RollOut


def erase(broker: Broker, config: Config, user_id: str, clock: Clock) -> None:
    """Command that a user is forgotten. Raises UsageError for an id that no user can have."""
    user = user_id.encode(errors="surrogatepass")
    if not 1 <= len(user) <= USER_ID_BYTES_MAX:
        remedy = f"an id has 1 to {USER_ID_BYTES_MAX} bytes"
        raise UsageError(f"an id of {len(user)} bytes is nobody's", remedy=remedy)
    _command(broker, config, user, Erasure(user_id), clock)


def roll_out(broker: Broker, config: Config, version: str, clock: Clock) -> None:
    """Command that workers go over to a bundle."""
    _command(broker, config, None, RollOut(version), clock)


def _command(broker: Broker, config: Config, key: bytes | None, command: Control, clock: Clock) -> None:
    topic = config.topics.control
    count_partitions(broker, topic, clock)
    publisher = broker.publisher()
    try:
        value = msgspec.json.encode(command)
        publisher.publish(topic, [key], [value], partitions=[0], headers=[[("schema", SCHEMA)]])
        publisher.flush()
    finally:
        publisher.close()
