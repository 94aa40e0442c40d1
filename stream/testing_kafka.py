"""Apache Kafka from its jars, for tests, measurements and `ebbtide demo --kafka-home`.

One Java process a node, each broker and controller at once, on free ports of the loopback, its log in a
folder of its own. A node can be stopped cleanly, killed, frozen and started again, as a machine would be.

Nothing outlives the program that started it: the kernel kills a node when its parent dies (on Linux;
elsewhere a normal exit still does), and `close` removes the folder, or else the next cluster to be started.
Start clusters from the main thread, as the kernel takes the end of the starting thread for the parent's.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from stream.errors import BrokerError, UsageError

#: Of the folder's name; the program's process id follows.
_PREFIX: Final = "ebbtide-kafka-"

#: Any id will do: no two clusters here ever meet.
_CLUSTER_ID: Final = "RWJidGlkZVRlc3RDbHVzdA"

#: Starting takes about 3 s a cluster on a quiet machine, formatting 0.7 s a node.
START_TIMEOUT_S: Final = 90.0

#: A clean stop moves leaders away first; a node that cannot find another waits for its own timeouts.
STOP_TIMEOUT_S: Final = 30.0

#: Becomes the Java process after asking the kernel to kill it when the parent dies (prctl(2),
#: PR_SET_PDEATHSIG = 1). Between fork and exec in Python itself, threads could make this hang.
_LAUNCH: Final = """
import os, signal, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execvp(sys.argv[2], sys.argv[2:])
"""

_LOG4J: Final = """
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = OUT
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
"""

#: Small internal topics, as creating the default 50 partitions of each takes seconds; no wait for members
#: to gather; a member may be declared dead, and a transaction swept up, sooner than in production.
_SETTINGS: Final[Mapping[str, str]] = {
    "auto.create.topics.enable": "false",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.min.session.timeout.ms": "1000",
    "group.initial.rebalance.delay.ms": "0",
    "num.partitions": "4",
    "offsets.topic.num.partitions": "4",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "transaction.state.log.num.partitions": "4",
}


class KafkaNode:
    """One node of a cluster: its settings, its folder and, while it runs, its process."""

    def __init__(self, number: int, folder: Path, command: list[str], settings: Mapping[str, str]) -> None:
        self.number = number
        self._command = command
        self._settings_file = folder / f"node{number}.properties"
        self._output_file = folder / f"node{number}.log"
        self._process: subprocess.Popen[bytes] | None = None
        lines = [f"{key}={value}\n" for key, value in settings.items()]
        self._settings_file.write_text("".join(lines))

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return None if self._process is None or self._process.poll() is not None else self._process.pid

    def format(self) -> None:
        """Prepare the empty log folder; once, before the first start."""
        tool = [*self._command, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c"]
        result = subprocess.run(
            [*tool, str(self._settings_file)], capture_output=True, text=True, check=False
        )
        if result.returncode != 0:
            story = [line for line in (result.stdout + result.stderr).splitlines() if "\tat " not in line]
            raise BrokerError(
                f"Kafka cannot format its log folder: {' '.join(story)}", place=str(self._settings_file)
            )

    def start(self) -> None:
        """Start the process; `KafkaCluster.wait` tells when it answers."""
        if self.pid is not None:
            return
        kafka = [*self._command, "kafka.Kafka", str(self._settings_file)]
        with self._output_file.open("ab") as output:
            self._process = self._spawn(kafka, output)

    def _spawn(self, kafka: list[str], output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCH, str(os.getpid()), *kafka],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C in a terminal is for the program, which then stops the node
        )

    def stop(self) -> None:
        """Stop cleanly (SIGTERM), or by force if that takes too long."""
        if self._process is None or self.pid is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Crash it (SIGKILL): nothing is written or said any more."""
        if self._process is not None and self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def freeze(self) -> None:
        """Hold it still (SIGSTOP): connections stay open and nobody answers."""
        if self._process is not None and self.pid is not None:
            os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let a frozen node go on."""
        if self._process is not None and self.pid is not None:
            os.killpg(self._process.pid, signal.SIGCONT)

    def tail(self) -> str:
        """Return the last lines of its log."""
        if not self._output_file.exists():
            return ""
        return "\n".join(self._output_file.read_text(errors="replace").splitlines()[-20:])


class KafkaCluster:
    """A running cluster of one or more nodes; a context manager.

    home: a folder with Kafka's jars in `libs/`, as in Kafka's own download.
    settings: broker settings that override those chosen here.
    Raises UsageError if home holds no Kafka or there is no Java, BrokerError if it does not start.
    """

    def __init__(
        self,
        home: Path,
        *,
        nodes: int = 1,
        settings: Mapping[str, str] | None = None,
        heap_mb_max: int = 512,
    ) -> None:
        command = _find_java(home, heap_mb_max)
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        atexit.register(self.close)
        (self._folder / "log4j2.properties").write_text(_LOG4J)
        command.append(f"-Dlog4j2.configurationFile={self._folder / 'log4j2.properties'}")
        ports = _free_ports(2 * nodes)
        self.bootstrap_servers = ",".join(f"127.0.0.1:{port}" for port in ports[:nodes])
        self.nodes = [
            KafkaNode(
                number,
                self._folder,
                command,
                {**_SETTINGS, **_node_settings(number, self._folder, ports), **(settings or {})},
            )
            for number in range(1, nodes + 1)
        ]
        try:
            for node in self.nodes:
                node.format()
                node.start()
            self.wait()
        except BaseException:
            self.close()
            raise

    def wait(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when every running node is part of the cluster. Raises BrokerError if that does not come."""
        deadline_s = time.monotonic() + timeout_s
        expected = {node.number for node in self.nodes if node.pid is not None}
        client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
        while time.monotonic() < deadline_s:
            for node in self.nodes:
                if node.number in expected and node.pid is None:
                    raise BrokerError(f"Kafka's node {node.number} ended: {node.tail()}")
            with suppress(KafkaException):
                if expected <= client.list_topics(timeout=1.0).brokers.keys():
                    return
        raise BrokerError(
            f"nodes {sorted(expected)} do not answer within {timeout_s:.0f} s: {self.nodes[0].tail()}",
            place=self.bootstrap_servers,
            remedy="see whether the machine has memory and processor time left",
        )

    def close(self) -> None:
        """Kill every node and remove what they stored."""
        for node in self.nodes if hasattr(self, "nodes") else []:
            node.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
        atexit.unregister(self.close)

    def __enter__(self) -> KafkaCluster:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _sweep() -> None:
    """Remove the folders of programs that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not _lives(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _find_java(home: Path, heap_mb_max: int) -> list[str]:
    """Return the command line up to the main class."""
    libs = home / "libs"
    if not list(libs.glob("kafka_*.jar")):
        raise UsageError(
            "no Apache Kafka here: libs/kafka_*.jar is missing",
            place=str(home),
            remedy="unpack Kafka's download and name its folder",
        )
    java = shutil.which("java")
    if java is None:
        raise UsageError("Java is not on the PATH", remedy="install a Java runtime, version 17 or later")
    return [java, f"-Xmx{heap_mb_max}m", "-cp", f"{libs}/*"]


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now; all are held until the last is known, so that none comes twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _node_settings(number: int, folder: Path, ports: list[int]) -> dict[str, str]:
    """Return what makes a node this one; the first half of `ports` is for clients, the other for voters."""
    nodes = len(ports) // 2
    replicas = min(nodes, 3)
    voters = [f"{n}@127.0.0.1:{port}" for n, port in enumerate(ports[nodes:], start=1)]
    client, controller = ports[number - 1], ports[nodes + number - 1]
    return {
        "process.roles": "broker,controller",
        "node.id": str(number),
        "controller.quorum.voters": ",".join(voters),
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{client},CONTROLLER://127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(folder / f"data{number}"),
        "default.replication.factor": str(replicas),
        "min.insync.replicas": str(min(replicas, 2)),
        "offsets.topic.replication.factor": str(replicas),
        "transaction.state.log.replication.factor": str(replicas),
        "transaction.state.log.min.isr": str(min(replicas, 2)),
        "share.coordinator.state.topic.replication.factor": str(replicas),
        "share.coordinator.state.topic.min.isr": str(min(replicas, 2)),
    }
