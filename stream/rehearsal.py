"""A rehearsal: a worker's first minute, on a broker in memory, before it joins its group.

What Ebbtide compiles, it compiles at first use: about a minute on a machine that has never run it, seconds
where a bundle brings what no bundle had before. Within the group that would be lag of every partition that
the worker has just taken over; before it joins, others hold them still. What was compiled stays on disk, and
later starts only load it.

    python -m stream.rehearsal      compiles what workers run, whatever their config: for an image's build
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import msgspec
import numpy as np

from stream.broker import Identity
from stream.bundle import Bundle, open_bundle
from stream.clock import VirtualClock
from stream.co_occurrence import Near
from stream.config import Config
from stream.config_load import load_config
from stream.core.table import SLOTS_AT_FIRST
from stream.log import log
from stream.observe import Observer
from stream.testing import MemoryBroker, MemoryClient
from stream.topics import plan, topic_names
from stream.worker import Worker
from stream.workshop import Workshop

#: More than a table has room for at first.
USERS: Final = SLOTS_AT_FIRST + 1
#: Of a worker's main loop: more than a config with the smallest batches takes.
TURNS_MAX: Final = 20 * USERS
#: Before the last event: longer than any silence that a config waits for.
SILENT_MS: Final = 20 * 365 * 86_400_000


def rehearse(config: Config, bundle: Bundle | None) -> None:
    """Rehearse with this config and bundle. What goes wrong is only logged: it must not stop a start."""
    try:
        with _unlogged():
            play(config, bundle)
    except Exception:  # whatever it is, the real worker will meet it where it counts
        log.warning("the rehearsal failed, so the first batch may have to compile", exc_info=True)
    # The broker in memory is a cycle, with all its records; `settled` would keep it for good.
    gc.collect()


def play(config: Config, bundle: Bundle | None) -> None:
    """Let a worker fold events of users who are nobody, and another restore them and ring their timers.

    Raises whatever a worker raises, and TimeoutError if it does not come to the end.
    """
    config = _without_guards(config)
    clock, names = VirtualClock(), topic_names(config)
    exactly_once = config.worker.guarantee == "exactly-once"
    identity = Identity(config.kafka.group_id, "rehearsal", names, exactly_once=exactly_once)
    client = MemoryClient(MemoryBroker(clock), identity)
    client.admin().create(plan(config, dict.fromkeys(names.values()), partitions=1))
    publisher = client.publisher()
    published = 0
    for users, silent_ms in ((USERS, SILENT_MS), (1, 0)):
        time_ms = clock.now_ms() - silent_ms
        keys = [b"%d" % user for user in range(users)]
        values = [_event(config, bundle, key.decode(), time_ms) for key in keys]
        values.append(_event(config, bundle, "0", "some day"))  # a dead letter
        times_ms = [time_ms] * len(values)
        publisher.publish(names["events"], [*keys, b"0"], values, timestamps_ms=times_ms)
        published += len(values)
        _fold(config, bundle, client, clock, published)


def _without_guards(config: Config) -> Config:
    """Return the config of a worker that emits, leaves nothing behind, and that no limit stops."""
    worker = msgspec.structs.replace(
        config.worker,
        emit_from_ms=0,
        checkpoint_dir=None,
        users_max=2 * USERS,
        dead_letters_share_max=1.0,
        alerts_share_per_hour_max=1.0,
    )
    return msgspec.structs.replace(config, worker=worker)


def _fold(config: Config, bundle: Bundle | None, client: MemoryClient, clock: VirtualClock, end: int) -> None:
    """Run a worker until it has folded so many records."""
    observer = Observer(config, clock=clock)
    worker = Worker(config, client, Workshop(config, bundle), clock=clock, observer=observer)
    turns = iter(range(TURNS_MAX))

    def is_over() -> bool:
        if next(turns, None) is None:
            raise TimeoutError(f"{end} records are not folded after {TURNS_MAX:,} turns")
        return any(share.next_offset >= end for share in worker.shares.values())

    worker.run(is_over)


def _event(config: Config, bundle: Bundle | None, user: str, time: int | str) -> bytes:
    """Return an event as the config's producers write it; one that asks for a list, if any does."""
    kind = next(iter(config.events.recommend or config.events.kinds))
    event = {"user_id": user, "event_type": kind, "event_time": time}
    if bundle:
        event["item_id"] = bundle.item_ids[0]
    return msgspec.json.encode({config.events.fields.get(name, name): value for name, value in event.items()})


@contextmanager
def _unlogged() -> Iterator[None]:
    """Keep out of the log what a worker says that is not the real one."""
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


def main() -> None:
    """Play with the demo's bundle, then with neighbours of no item, so that all searches are compiled."""
    from stream.demo.brokers import CONFIG

    config = load_config(CONFIG)
    bundle = open_bundle(CONFIG.parent / "bundle")
    none = np.empty(0, np.int32), np.empty(0, np.float32)
    near = Near(np.zeros(len(bundle.item_ids) + 1, np.int64), *none, decay=1.0, strength=1.0)
    play(config, bundle)
    play(config, bundle._replace(near=near))


if __name__ == "__main__":
    main()
