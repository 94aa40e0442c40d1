"""What the worker shows of itself: metrics, the log's lines, readiness. It watches and never decides.

The worker's thread writes; the HTTP thread reads `readiness`, which only looks at values that were written
whole. Latencies and populations are noted once a batch or once a commit, never once an event.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry

from stream.clock import Clock, SystemClock
from stream.config import Config
from stream.core.events import NEVER
from stream.core.lifecycle import STATES
from stream.engine import Slice
from stream.errors import EbbtideError
from stream.http import Reason
from stream.log import log
from stream.metrics import Metrics
from stream.phases import Phase
from stream.records import RecordBatch
from stream.share import Share
from stream.watchdog import STAGES, Watchdog
from stream.workshop import Workshop

#: The reason while a broker does not answer.
AWAY: Final = "broker_away"
#: How often the users of each state are counted, at most: it looks at every one of them.
COUNT_EVERY_S: Final = 1.0


class Observer:
    """Watches one worker."""

    def __init__(
        self, config: Config, *, clock: Clock | None = None, registry: CollectorRegistry | None = None
    ) -> None:
        self.clock = clock or SystemClock()
        self.metrics = Metrics(registry or CollectorRegistry())
        self.watchdog = Watchdog(config.worker.stall_after_ms, self.clock)
        self._users_max = config.worker.users_max
        self._listed: set[int] = set()
        self._away = ""  # what a broker that is away said last
        self._counted_s = -COUNT_EVERY_S
        self._reasons: tuple[Reason, ...] = (Reason("starting", "no partition is assigned yet"),)

    def readiness(self) -> Sequence[Reason]:
        """Return why the worker is not ready; nothing if it is."""
        return self._reasons

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = self.clock.monotonic_s()
        yield
        self.metrics.stage(name, self.clock.monotonic_s() - started)

    def slice(self, share: Share, part: Slice) -> None:
        tally = part.tally
        for stage, seconds in tally.seconds.items():
            self.metrics.stage(stage, seconds)
        for reason, n in tally.dead_letters.items():
            self.metrics.dead_letters(reason, n)
        for change, n in tally.transitions.items():
            self.metrics.transitions(change.split(">")[1], n)
        for status, n in tally.alerts.items():
            self.metrics.alerts(status, n)
        for policy, n in tally.lists.items():
            self.metrics.recommendations(policy, n)
        self._listed |= tally.listed
        self.metrics.batch(
            records=tally.records_in,
            accepted=tally.accepted,
            duplicates=tally.duplicates,
            late=tally.late,
            untimed=tally.times_missing,
            throttled=tally.throttled,
        )

    def applied(self, share: Share, records: RecordBatch) -> None:
        """Note how old the records were when their outputs were handed over."""
        ages_ms = self.clock.now_ms() - np.array(records.timestamps_ms, np.int64)
        self.metrics.latency(np.maximum(ages_ms, 0) / 1000.0)
        self.watchdog.applied(share.partition, share.next_offset)
        self._away = ""

    def measured(self, shares: Mapping[int, Share], ends: Mapping[int, int]) -> None:
        """Note how far the log reaches beyond what was read, for the partitions in `ends`."""
        for partition, end in ends.items():
            if partition in shares:
                shares[partition].lag = max(0, end - shares[partition].next_offset)
                self.watchdog.fetched(partition, end)
        self._away = ""

    def lists(self, workshop: Workshop) -> None:
        """Note how good the lists were: tested by what came next, and how much of the catalogue they show."""
        tests, hits, ndcg_sum = workshop.tested.take()
        self.metrics.tested(tests=tests, hits=hits, ndcg_sum=ndcg_sum)
        if workshop.model is not None:
            self.metrics.coverage(len(self._listed) / max(1, workshop.model.candidates.scorer.items))

    def committed(self, shares: Mapping[int, Share]) -> None:
        self.metrics.commit("committed")
        for share in shares.values():
            self.watchdog.committed(share.partition, share.committed_offset)
        now_s = self.clock.monotonic_s()
        if now_s >= self._counted_s + COUNT_EVERY_S:
            self._counted_s = now_s
            self._count([share for share in shares.values() if share.phase is Phase.LIVE])

    def _count(self, shares: Sequence[Share]) -> None:
        users: Counter[str] = Counter()
        users_bytes = 0
        for share in shares:
            table = share.engine.table
            states = np.bincount(table.users.rows.lifecycle[table.slots()], minlength=len(STATES))
            users.update(dict(zip(STATES[1:-1], states[1:-1].tolist(), strict=True)))
            users_bytes += table.nbytes
            watermark = share.engine.watermark
            age_s = 0.0 if watermark == NEVER else (self.clock.now_ms() - watermark) / 1000.0
            self.metrics.partition(share.partition, lag=share.lag, watermark_age_s=age_s)
        self.metrics.population(users, users_bytes=users_bytes)

    def flown(self, seconds: float) -> None:
        """Note how long a commit took from its first row until the worker knew that it was done."""
        self.metrics.stage("commit", seconds)

    def queues(self, produced: int, ahead: int) -> None:
        """Note what waits: outputs that the brokers have not stored, and outputs behind a commit."""
        self.metrics.queue("produced", produced)
        self.metrics.queue("ahead", ahead)

    def turn(self, shares: Mapping[int, Share]) -> None:
        """Say what is not ready, once a turn."""
        phases = Counter(share.phase.value for share in shares.values())
        self.metrics.phases(phases)
        reasons = [
            Reason(share.phase.value, f"partition {share.partition}: {share.progress}")
            for share in shares.values()
            if share.phase is not Phase.LIVE
        ]
        if self._away:
            reasons.append(self._is_away())
        if not shares:
            reasons.append(Reason("unassigned", "no partition is assigned"))
        if self.full(shares):
            reasons.append(
                Reason("full", f"users_max = {self._users_max:,} users are reached; intake pauses")
            )
        stalls = self.watchdog.stalls()
        self.metrics.stalled(Counter(STAGES[stall.stage] for stall in stalls))
        reasons += [Reason("stalled", str(stall)) for stall in stalls]
        self._reasons = tuple(reasons)
        self.metrics.ready(not reasons)

    def _is_away(self) -> Reason:
        return Reason(AWAY, f"waiting for the broker: {self._away}")

    def full(self, shares: Mapping[int, Share]) -> bool:
        """Whether the worker holds as many users as it may."""
        return sum(len(share.engine.table) for share in shares.values()) >= self._users_max

    @property
    def away(self) -> bool:
        """Whether the broker did not answer when it was last asked."""
        return bool(self._away)

    def aborted(self) -> None:
        self.metrics.commit("aborted")
        self.metrics.broker_error("abortable")

    def fenced(self) -> None:
        self.metrics.broker_error("fatal")

    def broker_away(self, error: EbbtideError) -> None:
        self.metrics.broker_error("retriable")
        self._away = error.what
        others = [reason for reason in self._reasons if reason.reason != AWAY]
        self._reasons = (self._is_away(), *others)  # at once: a call that is repeated ends no turn
        log.warning("waiting for the broker: %s", error.what)

    def rebalance(self, kind: str, partitions: Sequence[int]) -> None:
        self.metrics.rebalance(kind, len(partitions))
        log.info("partitions %s: %s", kind, ", ".join(map(str, sorted(partitions))) or "none")

    def dropped(self, partition: int) -> None:
        self.metrics.forget_partition(partition)
        self.watchdog.dropped(partition)
