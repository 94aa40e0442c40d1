"""Putting a worker together: its parts from the config, its signals, and its HTTP server."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from prometheus_client import CollectorRegistry

from stream.broker import Broker, Identity
from stream.bundle import open_bundle
from stream.check import refuse_start
from stream.clock import Clock, SystemClock
from stream.config import Config
from stream.flight import Done, InAThread, Launch
from stream.garbage import settled
from stream.http import HttpServer
from stream.kafka_broker import KafkaBroker
from stream.log import log, log_to_stderr
from stream.observe import Observer
from stream.rehearsal import rehearse
from stream.topics import topic_names
from stream.worker import Worker
from stream.workshop import Workshop

#: What tells this worker from the others of its group, and stays the same when it is started again.
INSTANCE_VARIABLE: Final = "EBBTIDE_INSTANCE"
STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


def identify(config: Config) -> Identity:
    """Say who this worker is: its transactional id is the group's and the instance's name.

    The name is EBBTIDE_INSTANCE, or the group.instance.id of the client's settings. Without either it is made
    up, so that two workers of one host never fence each other; then the open transaction of one that was
    killed has to time out before its partitions go on.
    """
    named = os.environ.get(INSTANCE_VARIABLE) or config.kafka.client.get("group.instance.id")
    instance = named or f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    return Identity(
        config.kafka.group_id,
        f"{config.kafka.group_id}-{instance}",
        topic_names(config),
        exactly_once=config.worker.guarantee == "exactly-once",
    )


def connect(config: Config, identity: Identity | None = None) -> KafkaBroker:
    """Return Apache Kafka as the config names it, for a worker or for whoever else is named."""
    return KafkaBroker(config.kafka.bootstrap_servers, identity or identify(config), config.kafka.client)


def make_worker(
    config: Config,
    broker: Broker,
    *,
    clock: Clock | None = None,
    registry: CollectorRegistry | None = None,
    launch: Launch = Done,
) -> Worker:
    """Return a worker of production on any broker. Raises BundleError."""
    bundle = open_bundle(config.bundle.path) if config.bundle.path is not None else None
    observer = Observer(config, clock=clock, registry=registry)
    return Worker(config, broker, Workshop(config, bundle), clock=clock, observer=observer, launch=launch)


def run(config: Config) -> None:
    """Run a worker on Kafka until SIGTERM or SIGINT; then finish the batch, commit, and leave.

    Before it joins the group there is nothing to finish, and it is gone at once.
    """
    log_to_stderr()
    with signals_as_before():
        on_stop(_be_gone)
        refuse_start(config, connect(config), SystemClock())
        registry = CollectorRegistry()
        # At least once the consumer commits, which is the worker's own.
        launch = InAThread if config.worker.guarantee == "exactly-once" else Done
        worker = make_worker(config, connect(config), registry=registry, launch=launch)
        with HttpServer(config.http.host, config.http.port, registry, worker.observer.readiness) as http:
            log.info("metrics and health on http://%s:%d", config.http.host, http.port)
            log.info("rehearsing before joining the group: about a minute where nothing is compiled yet")
            rehearse(config, worker.workshop.bundle)
            on_stop(lambda *_: worker.stop())  # to the end: what failed must not end as if all were well
            with settled():
                worker.run()
    log.info("left the group")


@contextmanager
def signals_as_before() -> Iterator[None]:
    """Let SIGTERM and SIGINT do after the block what they did before it."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_stop(handler: Callable[[int, FrameType | None], None]) -> None:
    """Let SIGTERM and SIGINT call the handler."""
    for number in STOP_SIGNALS:
        signal.signal(number, handler)


def _be_gone(number: int, frame: FrameType | None) -> None:
    """End the process: an exception could be lost in a callback, or caught by what compiles."""
    log.disabled = False  # a rehearsal keeps the log still
    log.info("gone at once: there is nothing to finish")
    os._exit(0)
