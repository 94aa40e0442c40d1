"""Every metric Ebbtide has: its name, type, labels, meaning, and what to do when it moves.

`METRICS` is the whole list; docs/metrics.md is written from it. `Metrics` is what the worker calls, once a
batch and once a commit, never once an event. The caller hands in the registry and every time span: nothing
here reads a clock. No label ever carries a user, an item or anything else without a bound: most have a closed
list of values, and `partition` and `policy` are as many as the assignment and the config have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from stream.core.lifecycle import STATES, STATUSES
from stream.dead_letters import REASONS

#: The main loop's stages, in its order.
STAGES: Final = ("poll", "decode", "fold", "encode", "score", "emit", "commit")

# 1, 2.5, 5 in each decade from 100 µs (a small batch's fold) to 10 s (the transaction's own time-out).
SPANS_S: Final = (*(n * 10.0**e for e in range(-4, 1) for n in (1.0, 2.5, 5.0)), 10.0)
# From a millisecond to an hour: latency while a backlog is read belongs on the scale too.
LATENCIES_S: Final = (*(n * 10.0**e for e in range(-3, 3) for n in (1.0, 2.5, 5.0)), 1000.0, 3600.0)
SIZES: Final = tuple(float(2**n) for n in range(0, 14, 2))

OPEN: Final[tuple[str, ...]] = ()


class Metric(NamedTuple):
    """One metric. `labels` gives each label's closed list of values, or OPEN where the config bounds it."""

    name: str
    type: str  # counter, gauge, histogram
    labels: Mapping[str, Sequence[str]]
    meaning: str
    what_to_do: str
    bounds: tuple[float, ...] = ()


def _counter(name: str, meaning: str, what_to_do: str, **labels: Sequence[str]) -> Metric:
    return Metric(name, "counter", labels, meaning, what_to_do)


def _gauge(name: str, meaning: str, what_to_do: str, **labels: Sequence[str]) -> Metric:
    return Metric(name, "gauge", labels, meaning, what_to_do)


def _histogram(
    name: str, meaning: str, what_to_do: str, bounds: tuple[float, ...], **labels: Sequence[str]
) -> Metric:
    return Metric(name, "histogram", labels, meaning, what_to_do, bounds)


METRICS: Final = (
    # Records. records = accepted + duplicates + dead letters, at every commit.
    _counter(
        "ebbtide_records_total",
        "Records read from the events topic.",
        "None arriving while producers send: look at ebbtide_lag_records and /readyz.",
    ),
    _counter(
        "ebbtide_accepted_total",
        "Events that were applied.",
        "Falls against records: look at duplicates and dead letters.",
    ),
    _counter(
        "ebbtide_duplicates_total",
        "Events dropped because their user had one of the same event_id among the last 32.",
        "A jump means that a producer sends again; harmless here, but ask why.",
    ),
    _counter(
        "ebbtide_dead_letters_total",
        "Records moved to the dead-letter topic, by reason.",
        "Read the letters' `reason` and `detail` headers; a sudden share is usually one producer's release.",
        reason=tuple(REASONS),
    ),
    _counter(
        "ebbtide_late_total",
        "Accepted events older than their user's newest: they count, and move neither session nor rhythm.",
        "A rising share: a producer buffers. Above lateness_max they would be dead letters.",
    ),
    _counter(
        "ebbtide_untimed_total",
        "Events without event_time, which took their record's timestamp instead.",
        "Should be 0: map the field in [events] fields, or mend the producer.",
    ),
    _counter(
        "ebbtide_throttled_total",
        "Events of users above events_per_5min_max: counted, but not encoded and not answered.",
        "A bot or a broken client; nothing to do here unless real users are hit, then raise the limit.",
    ),
    # Where the worker stands.
    _gauge(
        "ebbtide_lag_records",
        "Records of the partition that were not read yet.",
        "Grows for minutes: too slow or stuck. Stage times say which; add workers, up to the partitions.",
        partition=OPEN,
    ),
    _gauge(
        "ebbtide_watermark_age_seconds",
        "Wall clock minus the partition's watermark: how far behind now its event time is.",
        "High with lag 0: its producers are silent or send old events. Timers of its users wait for it.",
        partition=OPEN,
    ),
    _gauge(
        "ebbtide_partitions",
        "Partitions of this worker by phase.",
        "Not live for minutes: a restore is slow or stuck; /readyz names the partition.",
        phase=("restoring", "replaying", "live", "draining"),
    ),
    _gauge(
        "ebbtide_ready",
        "1 if /readyz says ready, else 0.",
        "0 for more than a restore takes: read /readyz, it gives the reasons in words.",
    ),
    # How fast.
    _histogram(
        "ebbtide_batch_records",
        "Records in a batch.",
        "Always at batch_records_max: the worker is behind. Always 1: it has nothing to do.",
        SIZES,
    ),
    _histogram(
        "ebbtide_stage_seconds",
        "Time a batch spent in a stage of the main loop.",
        "The stage that grew names the part: score grows with the catalogue, commit with the brokers.",
        SPANS_S,
        stage=STAGES,
    ),
    _histogram(
        "ebbtide_latency_seconds",
        "From an event record's timestamp to the hand-over of its outputs to the producer.",
        "Readers under read_committed see them up to one commit_interval_ms and one commit later.",
        LATENCIES_S,
    ),
    _gauge(
        "ebbtide_queue_depth",
        "Outputs that wait: produced and not stored yet; folded ahead while a commit is on its way.",
        "Either stays high: the brokers acknowledge slowly, and the worker waits for them.",
        queue=("produced", "ahead"),
    ),
    # What is in memory.
    _gauge(
        "ebbtide_users",
        "Users in memory.",
        "At users_max intake pauses: add workers, raise the limit, or shorten forget_after.",
    ),
    _gauge(
        "ebbtide_users_bytes",
        "Bytes of the user table, encoder states included.",
        "Plan memory by it: bytes / users is what one more user costs.",
    ),
    _gauge(
        "ebbtide_lifecycle_users",
        "Users by lifecycle state.",
        "A funnel to watch, not an error. A cliff into at_risk: look for an outage of the producers first.",
        state=STATES[1:-1],
    ),
    # What comes out.
    _counter(
        "ebbtide_transitions_total",
        "Lifecycle transitions by the state that was reached.",
        "See ebbtide_lifecycle_users.",
        to=STATES[1:],
    ),
    _counter(
        "ebbtide_alerts_total",
        "Churn alerts by status.",
        "opened far above the usual: an outage upstream looks like churn. Check the input first.",
        status=STATUSES,
    ),
    _counter(
        "ebbtide_recommendations_total",
        "Lists written, by the policy that shaped them.",
        "None while events are accepted: look at `recommend` in the config, min_gap, and throttling.",
        policy=OPEN,
    ),
    # How good.
    _gauge(
        "ebbtide_catalogue_coverage",
        "Share of the catalogue that was in at least one list since the start.",
        "Falls towards 0: everyone gets the same list. Look at the bundle and the policies' popularity.",
    ),
    _counter(
        "ebbtide_tests_total",
        "Events whose item was held against their user's last list, before the list was renewed.",
        "The denominator of hit rate and NDCG.",
    ),
    _counter(
        "ebbtide_hits_total",
        "Tests whose item was among the list's first ten.",
        "Hit rate = rate(hits) / rate(tests). A fall after a roll-out: go back to the bundle before.",
    ),
    _counter(
        "ebbtide_ndcg_sum_total",
        "Sum over tests of 1 / log2(rank + 1), 0 for a miss: NDCG at 10 with one relevant item.",
        "NDCG = rate(ndcg_sum) / rate(tests).",
    ),
    # Kafka.
    _counter(
        "ebbtide_commits_total",
        "Transactions by outcome.",
        "Aborts now and then are rebalances. Many: read the log, each names its cause.",
        outcome=("committed", "aborted"),
    ),
    _counter(
        "ebbtide_rebalances_total",
        "Partitions gained and lost by this worker.",
        "lost should be 0: the worker was away longer than the session timeout (a pause, a stalled stage).",
        kind=("assigned", "revoked", "lost"),
    ),
    _gauge(
        "ebbtide_stalled_partitions",
        "Partitions whose stage is behind the one before it and has not moved for `stall_after`.",
        "applied: the worker heals itself, see ebbtide_healed_total. committed: look at the brokers.",
        stage=("applied", "committed"),
    ),
    _counter(
        "ebbtide_healed_total",
        "What the worker tried about a partition that stood: to seek it anew, to join the group anew.",
        "Now and then is harmless. Again and again: look at the brokers and at the worker's log.",
        remedy=("seek", "rejoin"),
    ),
    _counter(
        "ebbtide_broker_errors_total",
        "Errors of the brokers by what they meant for the worker.",
        "retriable ones pass; fatal ones cost a restore: often two processes share a transactional id.",
        kind=("retriable", "abortable", "fatal"),
    ),
)


class Histogram(Collector):
    """A histogram that takes a whole array at a time, which prometheus-client's own does not."""

    def __init__(self, spec: Metric) -> None:
        self._spec = spec
        self._values = next(iter(spec.labels.values()), OPEN)
        rows = max(1, len(self._values))
        self._bounds = np.array(spec.bounds)  # [N]
        self._counts = np.zeros((rows, len(spec.bounds) + 1), np.int64)  # [rows, N + 1]
        self._sums = np.zeros(rows)

    def observe(self, values: npt.ArrayLike, label: str | None = None) -> None:
        row = self._values.index(label) if label is not None else 0
        array = np.atleast_1d(np.asarray(values, np.float64))
        cell = np.searchsorted(self._bounds, array, side="left")  # le: a value on a bound belongs to it
        self._counts[row] += np.bincount(cell, minlength=self._counts.shape[1])
        self._sums[row] += array.sum()

    def describe(self) -> Iterable[Family]:
        return [self._family()]

    def collect(self) -> Iterable[Family]:
        family = self._family()
        names = [*map(floatToGoString, self._spec.bounds), "+Inf"]
        for row, label in enumerate(self._values or ("",)):
            buckets = list(zip(names, self._counts[row].cumsum().tolist(), strict=True))
            family.add_metric([label] if self._values else [], buckets, float(self._sums[row]))
        return [family]

    def _family(self) -> HistogramMetricFamily:
        return HistogramMetricFamily(self._spec.name, self._spec.meaning, labels=list(self._spec.labels))


class Metrics:
    """The metrics of one worker, registered in `registry`.

    Series with closed labels exist from the start, at 0: a rate over the first dead letter is then a rate.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        self._histograms: dict[str, Histogram] = {}
        for spec in METRICS:
            self._make(spec)

    def _make(self, spec: Metric) -> None:
        short = spec.name.removeprefix("ebbtide_").removesuffix("_total")
        made: Counter | Gauge
        if spec.type == "histogram":
            self._histograms[short] = Histogram(spec)
            self.registry.register(self._histograms[short])
            return
        if spec.type == "counter":
            made = self._counters[short] = Counter(
                spec.name, spec.meaning, list(spec.labels), registry=self.registry
            )
        else:
            made = self._gauges[short] = Gauge(
                spec.name, spec.meaning, list(spec.labels), registry=self.registry
            )
        for label, values in spec.labels.items():
            for value in values:
                made.labels(**{label: value})

    # After a batch.

    def batch(
        self, *, records: int, accepted: int, duplicates: int, late: int, untimed: int, throttled: int
    ) -> None:
        """Count what became of a batch; its dead letters are counted by `dead_letters`."""
        self._counters["records"].inc(records)
        self._counters["accepted"].inc(accepted)
        self._counters["duplicates"].inc(duplicates)
        self._counters["late"].inc(late)
        self._counters["untimed"].inc(untimed)
        self._counters["throttled"].inc(throttled)
        self._histograms["batch_records"].observe(records)

    def dead_letters(self, reason: str, n: int = 1) -> None:
        self._counters["dead_letters"].labels(reason).inc(n)

    def transitions(self, to: str, n: int = 1) -> None:
        self._counters["transitions"].labels(to).inc(n)

    def alerts(self, status: str, n: int = 1) -> None:
        self._counters["alerts"].labels(status).inc(n)

    def recommendations(self, policy: str, n: int = 1) -> None:
        self._counters["recommendations"].labels(policy).inc(n)

    def stage(self, stage: str, seconds: float) -> None:
        """Note how long a batch was in one of STAGES."""
        self._histograms["stage_seconds"].observe(seconds, stage)

    def latency(self, seconds: npt.ArrayLike) -> None:
        """Note the latencies of a batch's events."""
        self._histograms["latency_seconds"].observe(seconds)

    def tested(self, *, tests: int, hits: int, ndcg_sum: float) -> None:
        self._counters["tests"].inc(tests)
        self._counters["hits"].inc(hits)
        self._counters["ndcg_sum"].inc(ndcg_sum)

    # After a commit, or when asked.

    def partition(self, partition: int, *, lag: int, watermark_age_s: float) -> None:
        self._gauges["lag_records"].labels(str(partition)).set(lag)
        self._gauges["watermark_age_seconds"].labels(str(partition)).set(watermark_age_s)

    def forget_partition(self, partition: int) -> None:
        """Drop the series of a partition that went to another worker."""
        for name in ("lag_records", "watermark_age_seconds"):
            with suppress(KeyError):  # it had none yet
                self._gauges[name].remove(str(partition))

    def phases(self, partitions: Mapping[str, int]) -> None:
        self._set_all("partitions", partitions)

    def population(self, by_state: Mapping[str, int], *, users_bytes: int) -> None:
        """Set the users in memory by lifecycle state; a state that is left out has none."""
        self._set_all("lifecycle_users", by_state)
        self._gauges["users"].set(sum(by_state.values()))
        self._gauges["users_bytes"].set(users_bytes)

    def coverage(self, share: float) -> None:
        self._gauges["catalogue_coverage"].set(share)

    def ready(self, ready: bool) -> None:
        self._gauges["ready"].set(ready)

    def queue(self, queue: str, depth: int) -> None:
        self._gauges["queue_depth"].labels(queue).set(depth)

    def commit(self, outcome: str) -> None:
        self._counters["commits"].labels(outcome).inc()

    def rebalance(self, kind: str, partitions: int = 1) -> None:
        self._counters["rebalances"].labels(kind).inc(partitions)

    def stalled(self, by_stage: Mapping[str, int]) -> None:
        self._set_all("stalled_partitions", by_stage)

    def healed(self, remedy: str) -> None:
        self._counters["healed"].labels(remedy).inc()

    def broker_error(self, kind: str) -> None:
        self._counters["broker_errors"].labels(kind).inc()

    def _set_all(self, short: str, given: Mapping[str, int]) -> None:
        """Set a gauge for every value of its label; one that is left out is 0."""
        (values,) = _spec(f"ebbtide_{short}").labels.values()
        for value in values:
            self._gauges[short].labels(value).set(given.get(value, 0))


def _spec(name: str) -> Metric:
    return next(spec for spec in METRICS if spec.name == name)
