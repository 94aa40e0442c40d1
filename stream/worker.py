"""The worker: the main loop, and what the group, the brokers and a signal do to it.

    poll → decode → fold → encode → score → emit → commit if due

`Worker.turn` is that line; decode to emit are `Partition.apply`. Each assigned partition is a `Share` with a
phase (`stream/phases.py`): only live ones are polled, those that are being restored take a few steps a turn.
All of it runs in one thread, which alone uses the consumer. What can fail has three fates: a bad record is a
dead letter; a fault of the broker is waited out, undone, or answered with a new producer and a restore; a
broken invariant stops the worker with the story, and leaves the committed state valid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final

from stream.broker import Broker, CommittedOffset, Sink
from stream.clock import Clock, SystemClock
from stream.compaction import Compaction
from stream.config import Config
from stream.control import ControlFeed
from stream.drain import drain
from stream.engine import Slice
from stream.errors import AbortableError, FencedError, RetriableError, StateError
from stream.fencing import Losses
from stream.flight import Done, Flight, Launch
from stream.healing import Healer
from stream.intake import DeadLetterShare, Intake
from stream.items_feed import ItemsFeed
from stream.lag import LagMeter
from stream.leaving import Leaving
from stream.log import log
from stream.observe import Observer
from stream.pace import Pace
from stream.phases import Phase
from stream.records import RecordBatch
from stream.roll_out import RollOut
from stream.share import Share
from stream.transaction import Transaction
from stream.workshop import Workshop

#: How long a poll waits for the first record while nothing else is to be done.
POLL_S: Final = 0.1
#: Rest between two attempts to reach a broker that is away.
AWAY_PAUSE_S: Final = 1.0
#: The same while a commit is on its way: what it said is wanted soon.
FLIGHT_POLL_S: Final = 0.005


class Worker:
    """One member of the group: folds its share of the events topic until it is told to stop.

    launch: how a transaction ends: at once, or on its way while the worker folds on (`flight.py`).
    """

    def __init__(
        self,
        config: Config,
        broker: Broker,
        workshop: Workshop,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
        launch: Launch = Done,
    ) -> None:
        self.config, self.broker = config, broker
        self.clock = clock or SystemClock()
        self.observer = observer or Observer(config)
        self.workshop = workshop
        self.shares: dict[int, Share] = {}
        self._exactly_once = config.worker.guarantee == "exactly-once"
        self.source = broker.source()
        self.sink: Sink = broker.sink()
        self.transaction = Transaction(self.sink, self.clock)
        self._launch = launch
        self._losses = Losses(f"group {config.kafka.group_id}")
        self._flight: Flight | None = None
        self._pace = Pace(config, self.clock)
        self._healer = Healer(config.worker.stall_after_ms, self.observer, self.clock)
        self._dead_letters = DeadLetterShare(config)
        self._compaction = Compaction(workshop)
        self._items = ItemsFeed(broker, config.topics.items, workshop, self.clock)
        self._leaving = Leaving(config, broker, self.clock)
        self._roll_out = RollOut(config)
        self._control = ControlFeed(
            broker, config.topics.control, self.clock,
            roll_out=self._roll_out.want, erased=self._leaving.forget,
        )  # fmt: skip
        self._intake = Intake(self.source)
        self._lag = LagMeter(self.source, self.observer, self.clock)
        self._stopping = False
        self._broken = False  # the rows may be half folded: nothing is committed any more

    # ------------------------------------------------------------------------------------ the main loop

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Work until `until`, asked after every turn, or `stop` says so; then commit and leave the group."""
        self.start()
        try:
            while not self._stopping and not until():
                self.turn()
        except BaseException:
            self._broken = True
            raise
        finally:
            self.close()

    def start(self) -> None:
        """Become the one producer of this worker's transactional id, and join the group."""
        self._open_sink()
        self.source.subscribe(self)

    def close(self) -> None:
        """Leave the group; what is still assigned is committed on the way out, unless something broke."""
        self.source.close()
        self._leaving.finish(write=not self._broken)
        if self._flight is not None:  # something broke meanwhile
            with suppress(AbortableError, FencedError):
                self._flight.land()
        self.sink.destroy()
        self._items.close()
        self._control.close()

    def turn(self) -> None:
        """Go once around: whatever is to be read, restored, noticed and committed."""
        try:
            self._items.poll()
            self._intake.hold(self.observer.full(self.shares), self._live())
            for records in self._poll():
                self._apply(records)
            self._drop_items()
            self._leaving.step()
            self._restore()
            self._go_on()
            self._obey()
            self._go_over()
            self._commit_if_due()
            self._heal()
        except (AbortableError, FencedError) as error:
            self._recover(error)
        self._lag.measure(self.shares, self._live())
        self.observer.queues(self.sink.waiting, self._flight.waiting if self._flight else 0)
        self.observer.turn(self.shares)

    def stop(self) -> None:
        """Finish the turn, commit, and leave. May be called from a signal handler or another thread."""
        self._stopping = True

    def _live(self) -> list[int]:
        return [partition for partition, share in self.shares.items() if share.phase is Phase.LIVE]

    def _poll(self) -> Sequence[RecordBatch]:
        busy = any(share.phase is not Phase.LIVE and not share.waiting for share in self.shares.values())
        wait_s = self._pace.wait_s(self.shares.values(), POLL_S) if self._flight is None else FLIGHT_POLL_S
        with self.observer.stage("poll"):
            try:
                return self.source.poll(self.config.worker.batch_records_max, 0.0 if busy else wait_s)
            except RetriableError as error:
                self.observer.broker_away(error)
                self.clock.sleep(AWAY_PAUSE_S)
                return []
            except StateError as error:
                if not any(share.is_outdated for share in self.shares.values()):
                    raise
                raise FencedError(f"others went on meanwhile: {error.what}", place=error.place) from error

    def _apply(self, records: RecordBatch) -> None:
        """Fold one partition's records and produce what comes of them, slice by slice."""
        share = self.shares.get(records.partition)
        if share is None or share.phase is not Phase.LIVE:
            return
        self._take(share, share.apply(records))
        self.observer.applied(share, records)

    def _take(self, share: Share, parts: Iterable[Slice]) -> None:
        """Produce what is folded, slice by slice; a commit may fall between any two."""
        for part in parts:
            self._produce(share, part)
            self._commit_if_due()

    def _go_on(self) -> None:
        """Finish what the last commit cut short, and let event time pass where the log is silent."""
        for share in self.shares.values():
            self._take(share, share.begin())
            self._take(share, share.advance_idle(self.source, self.clock))

    def _produce(self, share: Share, part: Slice) -> None:
        self.observer.slice(share, part)
        self._dead_letters.note(part.tally, f"{self.source.topic}-{share.partition}")
        (self._flight.add if self._flight else self.transaction.produce)(part.outputs)

    def _drop_items(self) -> None:
        """Keep the item table bounded: between batches, and while no partition is half restored."""
        if self._compaction.due and not self._leaving.busy and len(self._live()) == len(self.shares):
            self._compaction.run([share.engine for share in self.shares.values()])

    def _restore(self) -> None:
        for share in list(self.shares.values()):
            if share.phase not in (Phase.RESTORING, Phase.REPLAYING):
                continue
            with suppress(RetriableError):  # not decided or not there yet: the next turn asks again
                try:
                    restored = share.restore_some()
                except StateError:
                    if not share.is_outdated:
                        raise
                    restored = False
                    self._renew([share.partition])
                if restored:
                    self.source.seek(share.partition, share.next_offset)
                if restored and not self._intake.paused:
                    self.source.resume([share.partition])

    def _obey(self) -> None:
        """Carry out what the control topic commands, each partition for its own users."""
        for share, parts in self._control.poll(self.shares):
            self._take(share, parts)

    def _go_over(self) -> None:
        """Go over to the bundle that was commanded, once nothing is left to do for the old one."""
        workshop = self._roll_out.find(self.workshop)
        if workshop is None or any(share.phase is not Phase.LIVE for share in self.shares.values()):
            return
        if not drain(self.commit, list(self.shares.values()), self.clock):
            return
        self.workshop, self._compaction = workshop, Compaction(workshop)
        self._items.close()
        self._items = ItemsFeed(self.broker, self.config.topics.items, workshop, self.clock)
        self._renew(list(self.shares))

    def _heal(self) -> None:
        """Get a partition going that stands although there is something to fold."""
        if self.observer.away or self._intake.paused or not self._healer.heal(self.shares, self.source):
            return
        self.source.close()  # commits what is folded, and lets go of the partitions
        self.source = self.broker.source()
        self._intake, self._lag = Intake(self.source), LagMeter(self.source, self.observer, self.clock)
        self.source.subscribe(self)

    # --------------------------------------------------------------------------------------- the commit

    def _commit_if_due(self) -> None:
        """Land the commit that is on its way if it has ended; start the next if it is time."""
        self._land_if_over()
        full = self._undo_is_full() or self.transaction.full
        if self._flight is None and self._pace.due(self.shares.values(), full=full):
            self._depart(self._pace.rows)
            self._land_if_over()

    def _land_if_over(self) -> None:
        if self._flight and (self._flight.over or self._undo_is_full()):
            self._land()

    def _undo_is_full(self) -> bool:
        return any(share.undo_is_full for share in self.shares.values())

    def commit(self) -> None:
        """Make everything since the last commit final, in one transaction, and wait for it."""
        self._land()
        self._depart(self.config.worker.snapshot_rows_max)
        self._land()

    def _depart(self, rows_max: int) -> None:
        """Ask the broker to make everything since the last commit final.

        1. Snapshot rows and a commit record of every changed partition join the outputs; without a
           transaction, only when those are stored, as a row says that they are.
        2. The group's offsets join them, with the record's number.
        3. The transaction commits; the sink says if it did.
        4. Only then, in `_land`, the way back is forgotten and the rows count as written.
        """
        changed = [share for share in self.shares.values() if share.changed]
        self._pace.begin()
        if not changed:
            return
        offsets: dict[int, CommittedOffset] = {}
        if not self._exactly_once:
            self.sink.flush()
        for share in changed:
            outputs, offset = share.prepare_commit(max(1, rows_max // len(changed)))
            self.transaction.produce(outputs)
            offsets[share.partition] = offset
        topic, group, commit = self.source.topic, self.source.group(), self.transaction.commit
        self._flight = Flight(changed, self._launch(lambda: commit(topic, offsets, group)))

    def _land(self) -> None:
        """Wait for the commit that is on its way, if any, and produce what was folded meanwhile."""
        flight, self._flight = self._flight, None
        if flight is None:
            return
        flight.land()
        for share in flight.shares:
            share.confirm_commit()
        self.observer.flown(self._pace.elapsed_s)
        self.observer.committed(self.shares)
        self.observer.lists(self.workshop)
        for outputs in flight.ahead:
            self.transaction.produce(outputs)

    def _recover(self, error: AbortableError | FencedError) -> None:
        """Undo, or start over. First a commit on its way lands: the broker has the last word on it."""
        try:
            self._land()
        except AbortableError as worse:
            log.warning("and the commit on its way failed: %s", worse.what)
        except FencedError as worse:
            error = worse
        if isinstance(error, FencedError):
            self._start_over(error)
        else:
            self._undo(error)

    def _undo(self, error: AbortableError) -> None:
        """Take back what was not committed, and read it again from the last commit on."""
        log.warning("transaction aborted, going on from the last commit: %s", error.what)
        self.observer.aborted()
        try:
            self.transaction.abort()
        except FencedError as worse:
            self._start_over(worse)
            return
        for share in self.shares.values():
            if share.phase is Phase.LIVE:  # what was polled and not applied is to be polled again, too
                share.undo()
                self.source.seek(share.partition, share.next_offset)

    def _start_over(self, error: FencedError) -> None:
        """Never use a fenced or timed-out producer again: a new one, and every partition restored."""
        self._losses.note(error, self.clock.monotonic_s())
        self.observer.fenced()
        self.sink.destroy()
        self.sink = self.broker.sink()
        self.transaction = Transaction(self.sink, self.clock)
        self._open_sink()
        self._renew(list(self.shares))

    def _renew(self, partitions: Sequence[int]) -> None:
        """Restore partitions from their last commit."""
        self.source.pause(partitions)
        for partition in partitions:
            self.shares[partition].close()
            self.shares[partition] = self._new_share(partition)

    def _open_sink(self) -> None:
        while not self._stopping:
            try:
                self.sink.open()
                return
            except RetriableError as error:
                self.observer.broker_away(error)
                self.clock.sleep(AWAY_PAUSE_S)

    # ----------------------------------------------------------------------- what the group decides

    def on_assign(self, partitions: Sequence[int]) -> None:
        self.observer.rebalance("assigned", partitions)
        for partition in partitions:
            self._leaving.come_back(partition)
            self.shares[partition] = self._new_share(partition)

    def on_revoke(self, partitions: Sequence[int]) -> None:
        """Commit while it is still allowed, then drop the rows."""
        self.observer.rebalance("revoked", partitions)
        if not self._broken:
            try:
                self._land()
                self._leaving.drain([self.shares[p] for p in partitions if p in self.shares], self.commit)
            except (AbortableError, FencedError) as error:
                self._recover(error)
        self._drop(partitions)

    def on_lost(self, partitions: Sequence[int]) -> None:
        """They may be someone else's already: undo, commit nothing of them."""
        self.observer.rebalance("lost", partitions)
        try:
            self._land()  # it left when they were this worker's
        except (AbortableError, FencedError) as error:
            self._recover(error)
        lost = [self.shares[partition] for partition in partitions if partition in self.shares]
        self._drop(partitions)
        if any(share.changed for share in lost):  # their outputs share a transaction with all others
            self._undo(AbortableError("partitions were lost before their commit"))

    def _drop(self, partitions: Sequence[int]) -> None:
        for partition in partitions:
            share = self.shares.pop(partition, None)
            if share is not None:
                share.close()
                self.observer.dropped(partition)

    def _new_share(self, partition: int) -> Share:
        checkpoints, clock = self._leaving.checkpoints, self.clock
        return Share(self.config, self.workshop, self.broker, self.source, partition, clock, checkpoints)
