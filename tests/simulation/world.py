"""The scheduler: a group of workers over one broker, one step at a time, everything drawn from one seed.

Two phases. Under faults, anything may happen in any order, and nothing is asked but that no worker stops
with an error. Then the world heals: no fault strikes any more, everyone who is down comes up, and the lag
must reach 0 within a bounded number of rounds. What was produced, and every user's row, must equal the truth;
so must the rows of workers that start afresh, and what those make of a storm.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from pathlib import Path
from secrets import token_hex
from shutil import rmtree
from tempfile import gettempdir
from typing import Final

import msgspec

from stream import share as share_module
from stream.config_load import parse_config
from stream.errors import FencedError, RetriableError
from stream.phases import Phase
from stream.records import Output
from stream.testing import FAULTS, Crash, FaultPlan, MemoryBroker
from stream.topics import SHAPES, topic_names
from tests.simulation.cleaner import Cleaner
from tests.simulation.clicks import WRITTEN, Producers
from tests.simulation.options import SHOCKS, Options
from tests.simulation.processes import Process, SlowClock
from tests.simulation.truth import Truth, ViolationError

#: Time that passes between two steps, in milliseconds.
PASSES_MS: Final = (1, 10, 100, 1_000, 5_000)
#: Steps that the others take while one process stands still, at most.
MEANWHILE_MAX: Final = 40
#: Processes that stand still at once, at most.
DEPTH_MAX: Final = 3
STEPS_MAX: Final = 5_000
#: Rounds of one turn a worker within which the lag must be 0 after healing; half a second each.
ROUNDS_MAX: Final = 1_500
ROUND_MS: Final = 500
STORY_LINES: Final = 120

#: What came of it all; a batch is what was polled since the last commit.
OUTCOMES: Final = (
    "starts", "from a file", "zombies", "assigned", "revoked", "revoked in batch", "lost", "lost in batch",
    "undone", "started over", "commits", "commits in storm", "idle steps",
)  # fmt: skip
#: What is counted, in the order of the table that it is printed as.
HAPPENINGS: Final = (*FAULTS, *SHOCKS, *WRITTEN, *OUTCOMES)


class ToldPlan(FaultPlan):
    """A plan that tells the story of what it did."""

    def __init__(self, options: Options, tell: Callable[[str], None]) -> None:
        super().__init__(options.seed, options.rates)
        self._tell = tell

    def strikes(self, fault: str, point: str) -> bool:
        hit = super().strikes(fault, point)
        if hit:
            self._tell(f"    fault: {fault} at {point}")
        return hit


class World:
    """One run. `happened` counts faults and what came of them, by name."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.config = parse_config(options.tree)
        if options.checkpoint:
            folder = Path(gettempdir()) / f"ebbtide-{token_hex(8)}"  # made with the first file in it
            where = msgspec.structs.replace(self.config.worker, checkpoint_dir=folder)
            self.config = msgspec.structs.replace(self.config, worker=where)
        self.happened: Counter[str] = Counter()
        self.story: deque[str] = deque(maxlen=STORY_LINES)
        self._chance = random.Random(options.seed ^ 0x5EED)
        self._clock = SlowClock(options.look_ms)
        self._plan = ToldPlan(options, self._tell)
        self._broker = MemoryBroker(
            self._clock,
            self._plan,
            session_timeout_ms=options.session_timeout_ms,
            transaction_sweep_ms=options.sweep_ms,
        )
        self._names = topic_names(self.config)
        for shape in SHAPES:
            partitions = shape.partitions or options.partitions
            self._broker.create_topic(self._names[shape.role], partitions, shape.configs)
        self._producers = Producers(self._chance, options, self.config, self._broker, self._clock)
        self._truth = Truth(options, self.config, self._broker)
        self._cleaner = Cleaner(self._chance, self.config, self._broker, self._truth.keep)
        self._processes = [self._process(i) for i in range(options.workers)]
        self._shocks = dict(options.shocks)
        self._depth = 0

    # ------------------------------------------------------------------------------------ the two phases

    def run(self) -> None:
        """Live through both phases. Raises ViolationError."""
        usual = share_module.UNDO_ROWS_MAX
        try:
            self._live()
        finally:
            share_module.UNDO_ROWS_MAX = usual  # type: ignore[misc]
            if self.config.worker.checkpoint_dir is not None:
                rmtree(self.config.worker.checkpoint_dir, ignore_errors=True)

    def _live(self) -> None:
        share_module.UNDO_ROWS_MAX = self.options.undo_rows_max  # type: ignore[misc]
        while self._producers.left > self.options.records - self.options.preloaded:
            self._producers.burst(self._producers.left - self.options.records + self.options.preloaded)
        self._suffer()
        self._heal()
        self._check("after healing")
        self._restart()
        self._check("restored")
        self._producers.night(self.options.partitions * 3)
        self._producers.night(1)
        self._producers.settle()
        self._converge()
        self._check("after the storm")
        self.happened.update(self._plan.totals())
        self.happened.update(self._producers.written)
        self.happened["idle steps"] = self._truth.entries

    def _suffer(self) -> None:
        for _ in range(STEPS_MAX):
            self._step()
            if not self._producers.left and self._chance.random() < 0.02:
                break

    def _heal(self) -> None:
        self._tell("the world heals")
        self._plan.heal()
        self._shocks.clear()
        while self._producers.left:
            self._producers.burst()
        self._producers.settle()
        first: dict[str, Process] = {}
        for process in self._processes:  # of two with one transactional id, one goes
            if first.setdefault(process.transactional_id, process) is not process:
                process.end()
        self._processes = list(first.values())
        self._converge()

    def _restart(self) -> None:
        """Let every worker leave, and as many come up that know nothing."""
        for process in self._processes:
            if process.running:
                self._do(process, process.leave)
        self._converge()

    def _converge(self) -> None:
        """Go round until everything that is written is folded and committed. Raises ViolationError."""
        for _ in range(ROUNDS_MAX):
            for process in self._processes:
                if process.running:
                    self._do(process, process.turn)
                else:
                    self._start(process)
            self._clock.advance(ROUND_MS)
            if not self._unrest():
                return
        raise ViolationError(f"no rest after {ROUNDS_MAX} rounds without faults: {self._unrest()}")

    # ------------------------------------------------------------------------------------------ one step

    def _step(self) -> None:
        for shock in self._shocks:
            if shock not in ("stand_still", "pause") and self._strikes(shock):
                self.happened[shock] += getattr(self, f"_{shock}")()
                return
        running = [process for process in self._processes if process.running]
        down = [process for process in self._processes if process.worker is None and not process.standing]
        dice = self._chance.random()
        if self._producers.left and dice < 0.12:
            self._tell("producers write")
            self._producers.burst()
        elif dice < 0.22 or not (running or down):
            self._clock.advance(self._chance.choice(PASSES_MS))
        elif down and (dice < 0.3 or not running):
            self._start(self._chance.choice(down))
        elif running:
            process = self._chance.choice(running)
            self._tell(f"{process.name} turns")
            self._do(process, process.turn)

    def _start(self, process: Process) -> None:
        self._tell(f"{process.name} starts")
        self.happened["starts"] += 1
        try:
            self._do(process, lambda: process.start(self.config, self._broker, self.options, self))
        except FencedError:
            self._tell(f"{process.name} is fenced before it began")
            process.end()

    def _do(self, process: Process, act: Callable[[], None]) -> None:
        """Let a process act; it may die of it, and must not stop with an error of its own."""
        try:
            act()
        except Crash as crash:
            self._tell(f"    {crash}")
            process.end()
        except (ViolationError, FencedError):
            raise
        except Exception as error:
            raise ViolationError(f"{process.name} stopped: {type(error).__name__}: {error}") from error

    # ---------------------------------------------------------------------------------- what may happen

    def _strikes(self, shock: str) -> bool:
        rate = self._shocks.get(shock)
        if rate is None or self._chance.random() >= rate:
            return False
        self._tell(f"    shock: {shock}")
        return True

    def cross(self, process: Process, point: str) -> None:
        """A process is about to call; it may stand still first, and the others go on."""
        if not self._shocks or self._depth >= DEPTH_MAX or process.client is None or process.client.dead:
            return
        if self._strikes("stand_still"):
            shock, steps, sleep_ms = "stand_still", MEANWHILE_MAX, 1.2 * self.options.session_timeout_ms
        elif self._strikes("pause"):
            shock, steps, sleep_ms = "pause", self._chance.randint(1, 8), 0.0
        else:
            return
        self.happened[shock] += 1
        self._tell(f"    {process.name} stands still before {point}")
        client, standing = process.client, process.standing
        process.standing = True
        client.freeze()
        self._depth += 1
        for _ in range(steps):
            self._step()
            self._clock.advance(sleep_ms / steps)
        self._depth -= 1
        process.standing = standing
        if not client.dead:
            client.thaw()
            self.happened["zombies"] += client.is_expelled()
        self._tell(f"    {process.name} goes on with {point}")

    def choose(self, limit: int) -> int:
        return self._chance.randrange(limit)

    def tell(self, process: Process, text: str, outcome: str, times: int = 1) -> None:
        self._tell(f"    {process.name}: {text}")
        self.happened[outcome] += times

    def divide(self, outputs: Sequence[Output]) -> Sequence[Sequence[Output]]:
        """Cut outputs into calls: partition by partition of each topic, in any order of these."""
        if not self.options.pieces or not outputs:
            return [outputs]
        lines: dict[str, list[Output]] = {}
        for output in outputs:
            lines.setdefault(f"{output.topic}-{output.partition}", []).append(output)
        pieces = []
        for line in lines.values():
            cut = self._chance.randint(0, len(line))
            pieces.append([line[:cut], line[cut:]])
        self._chance.shuffle(pieces)
        return [piece for i in (0, 1) for pair in pieces if (piece := pair[i])]

    # Each returns whether there was anything to do it to.

    def _kill(self) -> bool:
        alive = [process for process in self._processes if process.worker is not None]
        if not alive:
            return False
        process = self._chance.choice(alive)
        self._tell(f"    {process.name} is killed")
        process.end()
        return True

    def _replace(self) -> bool:
        """Bring up a second process with the transactional id of one that stands still."""
        standing = [process for process in self._processes if process.standing]
        if not standing or len(self._processes) >= self.options.workers + 2:
            return False
        twin = Process(f"{standing[0].name}'", standing[0].transactional_id)
        self._processes.append(twin)
        self._start(twin)
        return True

    def _leave(self) -> bool:
        running = [process for process in self._processes if process.running]
        if len(running) < 2:
            return False
        process = self._chance.choice(running)
        self._tell(f"    {process.name} leaves")
        self._do(process, process.leave)
        return True

    def _join(self) -> bool:
        if len(self._processes) > self.options.workers:
            return False
        self._processes.append(self._process(len(self._processes)))
        self._start(self._processes[-1])
        return True

    def _jump(self) -> bool:
        self._clock.jump(self._chance.choice((-86_400_000, -60_000, 60_000, 3_600_000)))
        return True

    def _night(self) -> bool:
        self._producers.night(self._chance.randint(1, 4))
        return True

    def _trim(self) -> bool:
        return self._cleaner.trim()

    def _compact(self) -> bool:
        reading = any(each.restoring for each in self._processes)
        return self._cleaner.compact(drop_nulls=not reading and not self.options.checkpoint)

    def _process(self, number: int) -> Process:
        return Process(f"worker-{number}", f"{self.config.kafka.group_id}-{number}")

    def _tell(self, line: str) -> None:
        self.story.append(line)

    # ------------------------------------------------------------------------------------------- the end

    def _unrest(self) -> str:
        """Return in words what is not yet folded, committed and visible, or nothing."""
        held: set[int] = set()
        for process in self._processes:
            worker = process.worker
            if worker is None or worker.transaction.open:
                return f"{process.name} is down or in a transaction"
            for partition, share in worker.shares.items():
                if share.phase is not Phase.LIVE or share.changed or partition in held:
                    return f"{process.name} has partition {partition} {share.phase.value}, {share.progress}"
                held.add(partition)
        if len(held) < self.options.partitions:
            return f"of {self.options.partitions} partitions {sorted(held)} are held"
        for name in self._names.values():
            if undecided := [log.partition for log in self._broker.topic(name).logs if log.open]:
                return f"a transaction is open in {name}-{undecided[0]}"
        return self._lag()

    def _lag(self) -> str:
        """Return in words which partition is not committed to its end, or nothing."""
        group = self._broker.group(self.config.kafka.group_id, self._names["events"])
        for partition in range(self.options.partitions):
            log = self._broker.log(self._names["events"], partition)
            batch, _ = log.read(log.start, 1 << 60)
            end = batch.offsets[-1] + 1 if batch.offsets else log.start
            try:
                committed = group.committed(self._names["events"], [partition])[partition]
            except RetriableError as error:
                return str(error)
            at = committed.offset if committed is not None else 0
            if at < end:
                return f"partition {partition} is committed to {at} of {end}"
            if at > log.end:
                raise ViolationError(f"partition {partition} is committed to {at}, beyond its end {log.end}")
        return ""

    def _check(self, when: str) -> None:
        try:
            self._truth.check_outputs()
            for process in self._processes:
                assert process.worker is not None
                for partition, share in process.worker.shares.items():
                    self._truth.check_users(partition, share.engine)
        except ViolationError as violation:
            raise ViolationError(f"{when}: {violation}") from None

    def digest(self) -> str:
        """Return a hash of everything that lies in the topics: equal runs, equal digests."""
        digest = hashlib.sha256()
        for name in self._names.values():
            for log in self._broker.topic(name).logs:
                digest.update(repr(log.read(log.start, 1 << 60)).encode())
        return digest.hexdigest()


def run_seed(options: Options) -> Counter[str]:
    """Run one seed and return what happened. Raises ViolationError, with the story."""
    world = World(options)
    try:
        world.run()
    except ViolationError as violation:
        violation.add_note("\n".join(world.story))
        raise
    return world.happened
