"""Chaos: real brokers and workers, a steady producer, faults by a seeded schedule; then all must add up.

    python -m tests.kafka.chaos --seed 1 --minutes 10        (KAFKA_HOME names an Apache Kafka; `make chaos`)

Three brokers, three workers, four partitions. Every few seconds something breaks: a worker or a broker is
killed, a worker is stopped for longer than the session timeout and wakes up again, workers come and go, a
broker is restarted. Then all is healed, the log is worked off, and a fold of the same log in one process says
what must be there under `read_committed`: every list, transition, alert and dead letter exactly once, in
order; the group at the end of the log; every user's row as the fold has it.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread
from typing import Any

from stream.broker import Publisher
from stream.config import Config
from stream.errors import FencedError, RetriableError
from stream.kafka_broker import KafkaBroker
from stream.rows import user_rows
from tests.kafka.broker import own_kafka
from tests.kafka.running import (
    OUTPUTS,
    Process,
    connect,
    create_topics,
    fold_partition,
    load,
    read_partition,
    readiness,
    restored_rows,
    write_config,
)

PARTITIONS = 4
WORKERS = 3
SESSION_S = 6.0
HEALED_S = 180.0
EVENTS_PER_S = 200
SETTINGS = {
    "group.consumer.heartbeat.interval.ms": "1000",
    "group.consumer.session.timeout.ms": str(int(SESSION_S * 1000)),
    # On a machine under load a node that starts while others are away gives up after the default minute.
    "initial.broker.registration.timeout.ms": "300000",
}


class Producer:
    """Publishes known events at a steady pace, one in a hundred of them bad, until it is told to stop."""

    def __init__(self, broker: KafkaBroker, config: Config, seed: int) -> None:
        self._publisher: Publisher = broker.publisher()
        self._topic, self._random = config.topics.events, random.Random(seed)
        self._stop = Event()
        self.sent = 0
        self.thread = Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            n = EVENTS_PER_S // 10
            users = [f"user-{self._random.randrange(500)}" for _ in range(n)]
            values = [self._event(user, self.sent + i) for i, user in enumerate(users)]
            self._publisher.publish(self._topic, [user.encode() for user in users], values)
            self.sent += n
            time.sleep(0.1)
        self._flush()

    def _flush(self) -> None:
        """Wait until everything is stored, for as long as brokers may take to come back."""
        until = time.monotonic() + HEALED_S
        while True:
            try:
                self._publisher.flush()
            except FencedError as error:
                if "are not stored" not in str(error) or time.monotonic() > until:
                    raise
            else:
                return

    def _event(self, user: str, i: int) -> bytes:
        if i % 100 == 7:
            return b"no event at all"
        kind = self._random.choice(("purchase", "coupon", "campaign"))
        item = f"item-{self._random.randrange(200)}"
        now_ms = time.time_ns() // 1_000_000 - self._random.choice((0, 0, 0, 500, 90_000))
        return json.dumps(
            {"user_id": user, "event_type": kind, "event_time": now_ms, "item_id": item, "event_id": f"e{i}"}
        ).encode()

    def stop(self) -> None:
        self._stop.set()
        self.thread.join()


class Chaos:
    """The schedule of faults over a cluster and its workers."""

    def __init__(self, seed: int, folder: Path) -> None:
        self._random = random.Random(seed)
        self._folder = folder
        self.cluster = own_kafka(nodes=3, settings=SETTINGS)
        # Even seeds restore from files.
        files = {} if seed % 2 else {"checkpoint_dir": f'"{folder / "saved"}"'}
        self.config_path = write_config(folder, self.cluster.bootstrap_servers, f"chaos-{seed}", **files)
        text = self.config_path.read_text() + '\n[time]\nidle_after = "1h"\n'
        self.config_path.write_text(text)
        self.config = load(self.config_path)
        self.broker = connect(self.config)
        create_topics(self.config, self.broker, PARTITIONS)
        self.workers: list[Process] = []
        self.injected: Counter[str] = Counter()
        self._started = 0

    def start_worker(self) -> None:
        log = self._folder / f"worker-{self._started}.log"
        name = f"w{self._started}"
        self._started += 1
        self.workers.append(Process(self.config_path, log, {"EBBTIDE_INSTANCE": name}))

    def count_logged(self, words: str) -> int:
        """Return how often the workers have said so."""
        return sum(log.read_text().count(words) for log in self._folder.glob("worker-*.log"))

    def strike(self) -> None:
        """Break something, and say what."""
        faults: tuple[Callable[[], str], ...] = (
            self._kill_worker, self._kill_worker, self._freeze_worker, self._leave_and_join,
            self._kill_broker, self._restart_broker,
        )  # fmt: skip
        fault = self._random.choice(faults)
        began_s = time.monotonic()
        said = fault()
        self.injected[fault.__name__.strip("_")] += 1
        print(f"{time.strftime('%H:%M:%S')} {said} ({time.monotonic() - began_s:.1f} s)", flush=True)

    def _kill_worker(self) -> str:
        victim = self.workers.pop(self._random.randrange(len(self.workers)))
        victim.kill()
        self.start_worker()
        return f"kill -9 of worker {victim.process.pid}, another starts"

    def _freeze_worker(self) -> str:
        victim = self._random.choice(self.workers)
        victim.process.send_signal(signal.SIGSTOP)
        time.sleep(SESSION_S * self._random.choice((0.5, 2.5)))
        victim.process.send_signal(signal.SIGCONT)
        return f"worker {victim.process.pid} stood still and woke up"

    def _leave_and_join(self) -> str:
        victim = self.workers.pop(self._random.randrange(len(self.workers)))
        code = victim.stop()
        self.start_worker()
        return f"worker {victim.process.pid} left with {code}, another joins"

    def _kill_broker(self) -> str:
        node = self._random.choice(self.cluster.nodes)
        node.kill()
        time.sleep(self._random.choice((0.5, 5.0)))
        node.start()
        self.cluster.wait()
        return f"kill -9 of broker {node.number}, started again"

    def _restart_broker(self) -> str:
        node = self._random.choice(self.cluster.nodes)
        node.stop()
        node.start()
        self.cluster.wait()
        return f"broker {node.number} was restarted"

    def revive(self) -> None:
        """A worker that stopped by itself is started again, as a supervisor would; that is no violation."""
        for worker in [w for w in self.workers if w.process.poll() is not None]:
            last = worker.log.read_text().strip().splitlines()[-2:]
            said = " | ".join(last)
            print(f"worker {worker.process.pid} ended with {worker.process.poll()}: {said}", flush=True)
            self.injected["ended by itself"] += 1
            self.workers.remove(worker)
            self.start_worker()

    def heal(self) -> dict[int, int]:
        """Wait until the group has committed the end of the log; return the ends."""
        found = self.broker.admin().ranges(self.config.topics.events, range(PARTITIONS))
        ends = {p: part.end for p, part in found.items()}
        source = self.broker.source()
        until = time.monotonic() + HEALED_S
        committed: Any = None
        while time.monotonic() < until:
            self.revive()
            try:
                committed = source.committed(list(ends))
                if all(c is not None and c.offset >= ends[p] for p, c in committed.items()):
                    source.close()
                    return ends
            except RetriableError as error:
                committed = error
            time.sleep(0.5)
        for worker in self.workers:
            print(f"worker {worker.process.pid}, {worker.log.name}: {readiness(worker) or 'ready'}")
        raise AssertionError(f"lag does not reach 0: {committed}, the log ends at {ends}")

    def close(self) -> None:
        for worker in self.workers:
            worker.kill()
        self.cluster.close()


def run(seed: int, minutes: float) -> int:
    """Run one seed; return how many violations there were."""
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        chaos = Chaos(seed, Path(folder))
        try:
            return _run(chaos, seed, minutes)
        except BaseException:
            for log in sorted(Path(folder).glob("worker-*.log")):
                print(f"--- {log.name}\n{log.read_text()[-6000:]}")
            raise
        finally:
            chaos.close()


def _run(chaos: Chaos, seed: int, minutes: float) -> int:
    files = "" if chaos.config.worker.checkpoint_dir is None else ", with checkpoints"
    print(f"seed {seed}, {minutes:g} minutes, {WORKERS} workers, {PARTITIONS} partitions{files}", flush=True)
    producer = Producer(chaos.broker, chaos.config, seed)
    producer.thread.start()
    for _ in range(WORKERS):
        chaos.start_worker()
    rest = random.Random(seed + 1)
    until = time.monotonic() + 60 * minutes
    time.sleep(10)
    while time.monotonic() < until:
        chaos.strike()
        chaos.revive()
        time.sleep(rest.uniform(1, 8))
    producer.stop()
    began_s = time.monotonic()
    chaos.heal()
    print(f"healed in {time.monotonic() - began_s:.1f} s; comparing {producer.sent:,} events", flush=True)
    for worker in chaos.workers:
        worker.stop()
    chaos.workers = []
    violations = sum(compare(chaos, partition) for partition in range(PARTITIONS))
    print("fault                    times")
    for fault, times in sorted(chaos.injected.items()):
        print(f"{fault:24} {times:5}")
    if files:
        print(f"restores from a file     {chaos.count_logged('rows from the checkpoint'):5}")
    print(f"{producer.sent:,} events, {violations} violations", flush=True)
    return violations


def compare(chaos: Chaos, partition: int) -> int:
    """Hold one partition against a clean fold of its log; return the violations."""
    config, broker = chaos.config, chaos.broker
    events = read_partition(broker, config.topics.events, partition)
    expected, clean = fold_partition(config, events)
    violations = 0
    for role in OUTPUTS:
        came = read_partition(broker, getattr(config.topics, role), partition)
        wanted = [output.value for output in expected if output.topic == role]
        lost = Counter(wanted) - Counter(came.values)
        doubled = Counter(came.values) - Counter(wanted)
        if lost or doubled or came.values != wanted:
            print(f"{role}-{partition}: {lost.total()} lost, {doubled.total()} doubled or wrong")
            violations += max(1, lost.total() + doubled.total())
    ours = restored_rows(config, broker, partition, PARTITIONS)
    theirs = set(user_rows(clean, config, clean.items))
    if ours != theirs:
        print(f"users of partition {partition}: {len(ours ^ theirs)} rows differ")
        violations += len(ours ^ theirs)
    return violations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    sys.exit(1 if run(given.seed, given.minutes) else 0)


if __name__ == "__main__":
    main()
