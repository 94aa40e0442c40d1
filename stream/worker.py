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
from stream.config import Config
from stream.engine import Slice
from stream.errors import AbortableError, FencedError, RetriableError
from stream.intake import DeadLetterShare
from stream.items_feed import ItemsFeed
from stream.log import log
from stream.observe import Observer
from stream.phases import Phase
from stream.records import RecordBatch
from stream.share import Share
from stream.transaction import Transaction
from stream.workshop import Workshop

#: How long a poll waits for the first record while nothing else is to be done.
POLL_S: Final = 0.1
#: Rest between two attempts to reach a broker that is away.
AWAY_PAUSE_S: Final = 1.0
#: How often the ends of the logs are asked for.
LAG_EVERY_S: Final = 5.0


class Worker:
    """One member of the group: folds its share of the events topic until it is told to stop.

    `until` is asked after every turn; `ebbtide run` gives it a signal, the demo an end of the log.
    """

    def __init__(
        self,
        config: Config,
        broker: Broker,
        workshop: Workshop,
        *,
        clock: Clock | None = None,
        observer: Observer | None = None,
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
        self._commit_s = self.clock.monotonic_s()
        self._dead_letters = DeadLetterShare(config)
        self._items: ItemsFeed | None = None
        self._full = False
        self._lag_s = self.clock.monotonic_s()
        self._stopping = False
        self._broken = False  # the rows may be half folded: nothing is committed any more

    # ------------------------------------------------------------------------------------ the main loop

    def run(self, until: Callable[[], bool] = lambda: False) -> None:
        """Work until `until` says so or `stop` is called; then commit and leave the group."""
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
        self.sink.destroy()
        if self._items is not None:
            self._items.close()

    def turn(self) -> None:
        """Go once around: whatever is to be read, restored, noticed and committed."""
        try:
            self._follow_items()
            self._hold_intake()
            for records in self._poll():
                self._apply(records)
            self._restore()
            self._begin()
            self._advance_idle()
            if self._commit_is_due():
                self.commit()
        except AbortableError as error:
            self._undo(error)
        except FencedError as error:
            self._start_over(error)
        self._measure_lag()
        self.observer.turn(self.shares)

    def stop(self) -> None:
        """Finish the turn, commit, and leave. May be called from a signal handler or another thread."""
        self._stopping = True

    def _follow_items(self) -> None:
        """Bring the catalogue up to date; it decides what may be listed."""
        if self.workshop.model is None:
            return
        with suppress(RetriableError):  # the catalogue that is known goes on
            if self._items is None:
                topic = self.config.topics.items
                self._items = ItemsFeed(self.broker, topic, self.workshop.model, self.workshop.items)
            self._items.poll()

    def _measure_lag(self) -> None:
        """Ask now and then how far the log reaches, for the metrics and the watchdog."""
        now_s = self.clock.monotonic_s()
        live = [partition for partition, share in self.shares.items() if share.phase is Phase.LIVE]
        if live and now_s >= self._lag_s + LAG_EVERY_S:
            self._lag_s = now_s
            with suppress(RetriableError):
                self.observer.measured(self.shares, self.source.end_offsets(live))

    def _hold_intake(self) -> None:
        """Take in nothing while there are as many users as may be; go on when some are forgotten."""
        full = self.observer.full(self.shares)
        if full == self._full:
            return
        self._full = full
        live = [partition for partition, share in self.shares.items() if share.phase is Phase.LIVE]
        (self.source.pause if full else self.source.resume)(live)
        log.warning("intake %s at users_max", "pauses" if full else "goes on")

    def _poll(self) -> Sequence[RecordBatch]:
        busy = any(share.phase is not Phase.LIVE and not share.waiting for share in self.shares.values())
        with self.observer.stage("poll"):
            try:
                return self.source.poll(self.config.worker.batch_records_max, 0.0 if busy else self._wait_s())
            except RetriableError as error:
                self.observer.broker_away(error)
                self.clock.sleep(AWAY_PAUSE_S)
                return []

    def _wait_s(self) -> float:
        """How long a poll may wait: no longer than to the next commit that has something to commit."""
        if not any(share.changed for share in self.shares.values()):
            return POLL_S
        due = self._commit_s + self.config.worker.commit_interval_ms / 1000.0
        return max(0.0, min(POLL_S, due - self.clock.monotonic_s()))

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
            if self._commit_is_due():
                self.commit()

    def _begin(self) -> None:
        """Finish what the last commit cut short in partitions that were restored or undone."""
        for share in self.shares.values():
            self._take(share, share.begin())

    def _produce(self, share: Share, part: Slice) -> None:
        self.observer.slice(share, part)
        self._dead_letters.note(part.tally, f"{self.source.topic}-{share.partition}")
        self.transaction.produce(part.outputs)

    def _restore(self) -> None:
        for share in list(self.shares.values()):
            if share.phase not in (Phase.RESTORING, Phase.REPLAYING):
                continue
            with suppress(RetriableError):  # not decided or not there yet: the next turn asks again
                if not share.restore_some():
                    continue
                self.source.seek(share.partition, share.next_offset)
                if not self._full:
                    self.source.resume([share.partition])

    def _advance_idle(self) -> None:
        """Let event time pass in partitions that are silent, if a deadline would fall due."""
        for share in self.shares.values():
            self._take(share, share.advance_idle(self.source, self.clock))

    # --------------------------------------------------------------------------------------- the commit

    def _commit_is_due(self) -> bool:
        if not any(share.changed for share in self.shares.values()):
            return False
        if not self._exactly_once and any(share.engine.ringing for share in self.shares.values()):
            return False  # a row written within a storm does not say how far into it; only a transaction may
        if any(share.is_new or share.undo_is_full for share in self.shares.values()):
            return True
        return self.clock.monotonic_s() - self._commit_s >= self.config.worker.commit_interval_ms / 1000.0

    def commit(self) -> None:
        """Make everything since the last commit final, in one transaction.

        1. Snapshot rows and a commit record of every changed partition join the outputs; without a
           transaction, only when those are stored, as a row says that they are.
        2. The group's offsets join them, with the record's number.
        3. The transaction commits; the sink says if it did.
        4. Only then the way back is forgotten and the rows count as written.
        """
        changed = [share for share in self.shares.values() if share.changed]
        self._commit_s = self.clock.monotonic_s()
        if not changed:
            return
        with self.observer.stage("commit"):
            offsets: dict[int, CommittedOffset] = {}
            if not self._exactly_once:
                self.sink.flush()
            for share in changed:
                outputs, offset = share.prepare_commit()
                self.transaction.produce(outputs)
                offsets[share.partition] = offset
            self.transaction.commit(self.source.topic, offsets, self.source.group())
            for share in changed:
                share.confirm_commit()
        self.observer.committed(self.shares)
        self.observer.lists(self.workshop)

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
        log.warning("producer lost, restoring all partitions: %s", error.what)
        self.observer.fenced()
        self.sink.destroy()
        self.sink = self.broker.sink()
        self.transaction = Transaction(self.sink, self.clock)
        self._open_sink()
        for partition in list(self.shares):
            self.source.pause([partition])
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
            self.shares[partition] = self._new_share(partition)

    def on_revoke(self, partitions: Sequence[int]) -> None:
        """Commit while it is still allowed, then drop the rows."""
        self.observer.rebalance("revoked", partitions)
        if not self._broken:
            try:
                self.commit()
            except AbortableError as error:
                self._undo(error)
            except FencedError as error:
                self._start_over(error)
        self._drop(partitions)

    def on_lost(self, partitions: Sequence[int]) -> None:
        """They may be someone else's already: undo, commit nothing of them."""
        self.observer.rebalance("lost", partitions)
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
        return Share(self.config, self.workshop, self.broker, self.source, partition, self.clock)
