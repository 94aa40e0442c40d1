"""Metrics: every metric of the table is reached, and the array histogram counts like the library's."""

from __future__ import annotations

import math

import numpy as np
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from stream.metrics import METRICS, Histogram, Metric, Metrics


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def work(metrics: Metrics) -> None:
    """Call everything once, each with a value that shows."""
    metrics.batch(records=9, accepted=5, duplicates=1, late=1, untimed=2, throttled=1)
    metrics.dead_letters("not_json", 3)
    metrics.transitions("converted", 2)
    metrics.alerts("opened")
    metrics.recommendations("default", 4)
    metrics.stage("fold", 0.002)
    metrics.latency([0.1, 0.2])
    metrics.tested(tests=4, hits=1, ndcg_sum=0.5)
    metrics.partition(3, lag=17, watermark_age_s=60.5)
    metrics.phases({"live": 2})
    metrics.population({"new": 3, "loyal": 4}, users_bytes=17_000)
    metrics.coverage(0.25)
    metrics.ready(True)
    metrics.queue("ahead", 12)
    metrics.commit("committed")
    metrics.rebalance("assigned", 2)
    metrics.broker_error("retriable")
    metrics.stalled({"applied": 1})
    metrics.healed("seek")


def test_every_metric_of_the_table_moves_when_the_worker_works() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    before = samples(registry)
    work(metrics)
    moved = {
        name for (name, labels), value in samples(registry).items() if before.get((name, labels)) != value
    }
    for spec in METRICS:
        series = f"{spec.name}_count" if spec.type == "histogram" else spec.name
        assert series in moved, f"nothing sets {spec.name}"


def test_nothing_is_exposed_that_the_table_does_not_name() -> None:
    registry = CollectorRegistry()
    work(Metrics(registry))
    names = {spec.name.removesuffix("_total") for spec in METRICS}
    assert {family.name for family in registry.collect()} == names


@pytest.mark.parametrize("spec", METRICS, ids=lambda spec: spec.name)
def test_a_metric_says_what_it_means_and_what_to_do(spec: Metric) -> None:
    assert spec.meaning.endswith(".")
    assert spec.what_to_do.endswith(".")
    assert spec.name.endswith("_total") == (spec.type == "counter")
    assert (spec.type == "histogram") == bool(spec.bounds)


def test_no_label_can_carry_a_user_or_an_item() -> None:
    open_labels = {label for spec in METRICS for label, values in spec.labels.items() if not values}
    assert open_labels == {"partition", "policy"}


def test_series_with_closed_labels_exist_at_zero_from_the_start() -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    assert registry.get_sample_value("ebbtide_dead_letters_total", {"reason": "poison"}) == 0
    assert registry.get_sample_value("ebbtide_lifecycle_users", {"state": "churned"}) == 0


def test_a_population_that_is_left_out_is_nobody() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.population({"new": 3}, users_bytes=1)
    metrics.population({"loyal": 2}, users_bytes=1)
    assert registry.get_sample_value("ebbtide_lifecycle_users", {"state": "new"}) == 0
    assert registry.get_sample_value("ebbtide_users") == 2


def test_a_partition_that_left_leaves_no_series_behind() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    metrics.partition(7, lag=1, watermark_age_s=2.0)
    metrics.forget_partition(7)
    metrics.forget_partition(8)
    assert registry.get_sample_value("ebbtide_lag_records", {"partition": "7"}) is None


def test_the_array_histogram_counts_like_one_value_at_a_time() -> None:
    bounds = (0.001, 0.01, 0.1, 1.0)
    values = np.concatenate([np.random.default_rng(1).lognormal(-3, 2, 500), bounds, [0.0]])
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    many = Histogram(Metric("h", "histogram", {}, "m", "w", bounds))
    ours.register(many)
    one = prometheus_client.Histogram("h", "m", buckets=bounds, registry=theirs)
    many.observe(values[:200])
    many.observe(values[200:])
    for value in values:
        one.observe(value)
    for bound in ("0.001", "0.01", "0.1", "1.0", "+Inf"):
        wanted = theirs.get_sample_value("h_bucket", {"le": bound})
        assert ours.get_sample_value("h_bucket", {"le": bound}) == wanted, bound
    assert ours.get_sample_value("h_count") == len(values)
    total = ours.get_sample_value("h_sum")
    assert total is not None
    assert math.isclose(total, values.sum())


def test_the_exposition_is_valid_openmetrics() -> None:
    registry = CollectorRegistry()
    work(Metrics(registry))
    families = list(text_string_to_metric_families(openmetrics(registry).decode()))
    assert len(families) == len(METRICS)
