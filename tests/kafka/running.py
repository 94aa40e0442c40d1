"""`ebbtide run` as a process of its own, and what a consumer of its topics can read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from stream.broker import Broker, Identity
from stream.clock import SystemClock
from stream.config import Config
from stream.config_load import load_config
from stream.engine import Partition
from stream.errors import EbbtideError, RetriableError
from stream.kafka_broker import KafkaBroker
from stream.records import Output, RecordBatch
from stream.restore import Restore
from stream.rows import user_rows
from stream.topics import plan, topic_names
from stream.workshop import Workshop

OUTPUTS: Final = ("recommendations", "lifecycle", "churn_alerts", "dead_letters")
DEADLINE_S: Final = 180.0


def write_config(
    folder: Path,
    servers: str,
    name: str,
    *,
    events: str | None = None,
    client: Mapping[str, str] | None = None,
    **worker: object,
) -> Path:
    """Write a config with topics and a group of its own, and return its path.

    events: a topic that several groups read; client: settings of librdkafka.
    """
    roles = (*OUTPUTS, "user_state", "journal", "items", "control")
    topics = "\n".join(f'{role} = "{name}-{role.replace("_", "-")}"' for role in roles)
    topics += f'\nevents = "{events or f"{name}-events"}"'
    given = "\n".join(f'"{key}" = "{value}"' for key, value in (client or {}).items())
    settings = {"commit_interval_ms": 200, "emit_from": '"earliest"', **worker}
    lines = "\n".join(f"{key} = {value}" for key, value in settings.items())
    path = folder / f"{name}.toml"
    path.write_text(
        '[events]\nkinds = { purchase = "conversion", coupon = "engagement", campaign = "contact" }\n'
        f'[kafka]\nbootstrap_servers = "{servers}"\ngroup_id = "{name}"\n[kafka.client]\n{given}\n'
        f"[topics]\n{topics}\n[worker]\n{lines}\n[http]\nport = 0\n"
    )
    return path


def connect(config: Config, name: str = "watcher") -> KafkaBroker:
    identity = Identity(config.kafka.group_id, f"{config.kafka.group_id}-{name}", topic_names(config))
    return KafkaBroker(config.kafka.bootstrap_servers, identity)


def create_topics(config: Config, broker: Broker, partitions: int) -> None:
    broker.admin().create(plan(config, dict.fromkeys(topic_names(config).values()), partitions=partitions))


class Process:
    """A worker that runs until it is told to stop, or is killed."""

    def __init__(self, config: Path, log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.log = log
        self._log = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "stream", "run", "--config", str(config)],
            stderr=self._log,
            env={**os.environ, **(environment or {})},
        )

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_S)
        self._log.close()
        return code

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._log.close()


@contextmanager
def running(config: Path, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[Process]:
    """Run a worker for as long as the block takes; it must leave with exit code 0."""
    process = Process(config, log, environment)
    try:
        yield process
        assert process.stop() == 0, log.read_text()
    finally:
        if process.process.poll() is None:
            process.kill()


def wait_for_offset(broker: KafkaBroker, config: Config, reached: Mapping[int, int], worker: Process) -> None:
    """Wait until the group has committed at least these offsets; the worker must live meanwhile."""
    source = broker.source()
    committed: object = None
    until = time.monotonic() + DEADLINE_S
    while time.monotonic() < until and worker.process.poll() is None:
        with suppress(RetriableError):  # a transaction is pending, or the coordinator is loading
            committed = source.committed(list(reached))
            if all(found is not None and found.offset >= reached[p] for p, found in committed.items()):
                source.close()
                return
        time.sleep(0.2)
    raise AssertionError(f"the group has not come to {reached}: {committed}")


def read_partition(broker: Broker, topic: str, partition: int) -> RecordBatch:
    """Return all committed records of a partition."""
    end = broker.admin().ranges(topic, [partition])[partition].end
    reader = broker.reader(topic, partition, 0, end)
    parts = []
    while not reader.done():
        parts.append(reader.read(10_000, 1.0))
    reader.close()
    columns = [[value for part in parts for value in part[i]] for i in range(2, 7)]
    return RecordBatch(topic, partition, *columns)


def fold_partition(config: Config, records: RecordBatch) -> tuple[list[Output], Partition]:
    """Fold a partition's records in one process, without a broker: what must come out of it."""
    partition = Workshop(config, None).partition(
        records.topic, records.partition, undo=False, snapshots=False
    )
    outputs = []
    for start in range(0, len(records.offsets), 1000):
        for part in partition.apply(records.slice(start, start + 1000)):
            outputs += part.outputs
            partition.table.commit()
    return outputs, partition


def restored_rows(config: Config, broker: KafkaBroker, partition: int, partitions: int) -> set[bytes]:
    """Restore a partition as a worker would, and return its users as lines of JSON."""
    workshop = Workshop(config, None)
    engine = workshop.partition(config.topics.events, partition, undo=True, snapshots=True)
    restore = Restore(
        engine, workshop.format, config, broker, broker.source(), SystemClock(), partitions=partitions
    )
    until = time.monotonic() + DEADLINE_S
    while not restore.step(10_000):
        if time.monotonic() > until:
            raise EbbtideError("the state cannot be restored", place=str(restore.progress))
    return set(user_rows(engine, config, workshop.items))


def readiness(worker: Process) -> dict[str, str]:
    """Return why a worker is not ready, by /readyz: word and sentence; "silent" while nobody answers."""
    found = re.search(r"metrics and health on (\S+)", worker.log.read_text())
    if found is None:
        return {"silent": ""}
    try:
        with urllib.request.urlopen(f"{found[1]}/readyz", timeout=5.0) as answer:
            body = answer.read()
    except urllib.error.HTTPError as error:
        body = error.read()
    except OSError:
        return {"silent": ""}
    return {reason["reason"]: reason["detail"] for reason in json.loads(body)["reasons"]}


def load(path: Path) -> Config:
    return load_config(path)
