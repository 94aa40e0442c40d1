"""A worker as a process: it dies, it stands still and wakes up, it leaves, and another takes its place.

A worker touches the world only through its client's calls, so a death between any two of its steps is, for
everyone else, a death before or after one of its calls. At each call the process may also stand still: then
the scheduler goes on with the others, as long as it likes, and comes back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from stream.broker import CommittedOffset, GroupToken, Identity, Sink
from stream.checkpoint import Checkpoints, Saved
from stream.clock import VirtualClock
from stream.codec import Decoder
from stream.compaction import Compaction
from stream.config import Config
from stream.flight import Done, Launch
from stream.items import ItemTable
from stream.observe import Observer
from stream.phases import Phase
from stream.reading import Home, Steps
from stream.records import Output
from stream.share import Share
from stream.snapshot_format import SnapshotFormat
from stream.testing import MemoryBroker, MemoryClient, MemoryPlainSink
from stream.testing_line import Call, Line
from stream.topics import topic_names
from stream.worker import Worker
from stream.workshop import Workshop
from tests.simulation.options import T0_MS, Options
from tests.simulation.tiny_model import KNOWN, TinyModel

if TYPE_CHECKING:
    from stream.model import Model


class SlowClock(VirtualClock):
    """A look at it takes time, too: so commits fall due and transactions time out within a batch."""

    def __init__(self, look_ms: float) -> None:
        super().__init__(T0_MS)
        self._look_ms = look_ms

    def monotonic_s(self) -> float:
        if self._look_ms:
            self.advance(self._look_ms)
        return super().monotonic_s()


class Street(Protocol):
    """What a process asks at each of its calls: whether something else happens first."""

    def cross(self, process: Process, point: str) -> None: ...

    def choose(self, limit: int) -> int:
        """Draw a number in [0, limit)."""
        ...

    def tell(self, process: Process, text: str, outcome: str, times: int = 1) -> None:
        """Note what a process did, for the story and for the table of outcomes."""
        ...

    def divide(self, outputs: Sequence[Output]) -> Sequence[Sequence[Output]]:
        """Cut outputs into what reaches the broker in one call."""
        ...


class WatchedLine(Line):
    """A line that tells the scheduler before each call."""

    def __init__(self, broker: MemoryBroker, name: str, cross: Callable[[str], None]) -> None:
        super().__init__(broker, name)
        self._cross = cross

    def call(self, point: str, *, refusable: bool = False) -> Call:
        self._cross(point)
        return super().call(point, refusable=refusable)


class ToldCheckpoints(Checkpoints):
    """Files that tell when one of them is used."""

    def __init__(self, folder: Path, config: Config, clock: VirtualClock, tell: Callable[[], None]) -> None:
        super().__init__(folder, config, clock)
        self._tell = tell

    def find(self, partition: int, layout: str, n: int, home: Home) -> Steps[Saved | None]:
        saved = yield from super().find(partition, layout, n, home)
        if saved is not None:
            self._tell()
        return saved


class Errand:
    """A commit on its way: the broker does it early or late, and the worker hears of it later."""

    def __init__(self, call: Callable[[], None], choose: Callable[[int], int]) -> None:
        self._call, self._choose = call, choose
        self._done = Done(call) if choose(2) else None

    def done(self) -> bool:
        if self._choose(3):
            return False
        self._make()
        return True

    def result(self) -> None:
        self._make().result()

    def _make(self) -> Done:
        if self._done is None:
            self._done = Done(self._call)
        return self._done


class Client(MemoryClient):
    """The connection of one process."""

    def __init__(self, broker: MemoryBroker, identity: Identity, process: Process, street: Street) -> None:
        super().__init__(broker, identity, process.name)
        self._line = WatchedLine(broker, process.name, lambda point: street.cross(process, point))
        self._street = street

    def sink(self) -> Sink:
        return PiecewiseSink(super().sink(), self._street)

    def is_expelled(self) -> bool:
        """Whether the group has given up a member of this process, which does not know it yet."""
        groups = list(self._broker.groups())
        return any(all(member.id not in g.members for g in groups) for member in self._line.members)


class Teller:
    """An observer without metrics, which were a fifth of a run: it tells the story of its worker.

    It still says when a worker is full.
    """

    def __init__(self, config: Config, process: Process, street: Street) -> None:
        self._users_max = config.worker.users_max
        self._process, self._street = process, street

    def full(self, shares: Mapping[int, Share]) -> bool:
        return sum(len(share.engine.table) for share in shares.values()) >= self._users_max

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        yield

    def rebalance(self, kind: str, partitions: Sequence[int]) -> None:
        worker = self._process.worker
        shares = [] if worker is None else [worker.shares.get(p) for p in partitions]
        in_batch = any(share is not None and share.changed for share in shares)
        self._tell(f"{kind} {sorted(partitions)}", kind)
        if in_batch and kind != "assigned":
            self._tell("in mid-batch", f"{kind} in batch")

    def committed(self, shares: Mapping[int, Share]) -> None:
        offsets = {p: share.committed_offset for p, share in sorted(shares.items())}
        self._tell(f"committed {offsets}", "commits")
        ringing = sum(share.engine.ringing for share in shares.values())
        self._street.tell(self._process, f"{ringing} storms go on", "commits in storm", ringing)

    def aborted(self) -> None:
        self._tell("undoes", "undone")

    def fenced(self) -> None:
        self._tell("starts over", "started over")

    def _tell(self, text: str, outcome: str) -> None:
        self._street.tell(self._process, text, outcome)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class PiecewiseSink:
    """Hands outputs over in several calls, partition by partition, as a producer's batches would go.

    Without transactions they wait in the producer's queue for an uncertain time, and die with it.
    """

    def __init__(self, sink: Sink, street: Street) -> None:
        self._sink, self._street = sink, street
        self._queues = isinstance(sink, MemoryPlainSink)
        self._queue: list[Output] = []

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def produce(self, outputs: Sequence[Output]) -> None:
        if not self._queues:
            self._deliver(self._street.divide(outputs))
            return
        pieces = self._street.divide([*self._queue, *outputs])
        sent = self._street.choose(len(pieces) + 1)
        self._queue = [output for piece in pieces[sent:] for output in piece]
        self._deliver(pieces[:sent])

    def _deliver(self, pieces: Sequence[Sequence[Output]]) -> None:
        for piece in pieces:
            self._sink.produce(piece)

    def _empty_queue(self) -> None:
        queue, self._queue = self._queue, []
        self._deliver(self._street.divide(queue) if queue else [])

    def open(self) -> None:
        self._sink.open()

    def begin(self) -> None:
        self._sink.begin()

    def flush(self) -> None:
        self._empty_queue()
        self._sink.flush()

    def send_offsets(self, topic: str, offsets: Mapping[int, CommittedOffset], group: GroupToken) -> None:
        self._sink.send_offsets(topic, offsets, group)

    def commit(self) -> None:
        self._empty_queue()
        self._sink.commit()

    def abort(self) -> None:
        self._sink.abort()

    def destroy(self) -> None:
        self._sink.destroy()


class TinyWorkshop(Workshop):
    """A workshop whose model, if any, is the tiny one."""

    def __init__(self, config: Config, model: bool) -> None:
        super().__init__(config, None)
        if model:
            self.items = ItemTable(KNOWN)
            self.format = SnapshotFormat(config, self.items)
            self.decoder = Decoder(config.events.kinds, self.items)
            self.model = cast("Model", TinyModel(config))


class Process:
    """One process of the group. It may be started again after its end, as an orchestrator would."""

    def __init__(self, name: str, transactional_id: str) -> None:
        self.name = name
        self.transactional_id = transactional_id
        #: In the middle of a call, while others go on.
        self.standing = False
        self.client: Client | None = None
        self.worker: Worker | None = None

    def start(self, config: Config, broker: MemoryBroker, options: Options, street: Street) -> None:
        """Come up as a new worker that knows nothing, and join the group. Raises what a worker raises."""
        identity = Identity(
            config.kafka.group_id,
            self.transactional_id,
            topic_names(config),
            exactly_once=config.worker.guarantee == "exactly-once",
        )
        self.client = Client(broker, identity, self, street)
        observer = None if options.watched else cast(Observer, Teller(config, self, street))
        launch: Launch = Done
        if options.ahead and options.exactly_once:
            launch = lambda call: Errand(call, street.choose)  # noqa: E731
        workshop = TinyWorkshop(config, bool(options.model))
        self.worker = Worker(
            config, self.client, workshop, clock=broker.clock, observer=observer, launch=launch
        )
        self.worker._compaction = Compaction(workshop, options.spare_items)
        if config.worker.checkpoint_dir is not None:
            self.worker._leaving.checkpoints = ToldCheckpoints(
                config.worker.checkpoint_dir, config, cast(VirtualClock, broker.clock),
                lambda: street.tell(self, "reads rows from a file", "from a file"),
            )  # fmt: skip
        self.worker.start()

    @property
    def running(self) -> bool:
        return self.worker is not None and not self.standing

    @property
    def restoring(self) -> bool:
        """Whether it is reading rows; one that stands still may be."""
        shares = self.worker.shares.values() if self.worker is not None else ()
        return any(share.phase is Phase.RESTORING for share in shares)

    def turn(self) -> None:
        assert self.worker is not None
        self.worker.turn()

    def leave(self) -> None:
        """Commit and leave the group, as on SIGTERM."""
        assert self.worker is not None
        self.worker.stop()
        self.worker.close()
        self.worker = None

    def end(self) -> None:
        """The process is no more, and leaves no word."""
        if self.client is not None and not self.client.dead:
            self.client.kill()
        self.worker = None
