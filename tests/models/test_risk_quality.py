"""What is said of a churn head, against a plain reading of it."""

from __future__ import annotations

import numpy as np
import pytest

from models.risk_quality import (
    allowed_by_rhythm,
    area_under_curve,
    ask,
    begun_in_span,
    judge_risk,
    lead_time,
    with_interval,
)
from models.targets import Silences, find_silences, latest_times
from stream.config_load import parse_config
from tests.models.test_targets import sequences

DAY = 86_400_000
KINDS = {"events": {"kinds": {"view": "engagement"}}}


def naive_auc(score: np.ndarray, positive: np.ndarray) -> float:
    pairs = [(a, b) for a in score[positive] for b in score[~positive]]
    return float(np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs]))


def test_the_area_is_the_share_of_pairs_in_order_ties_counting_half() -> None:
    random = np.random.default_rng(0)
    score = random.integers(0, 6, 60).astype(np.float64)
    positive = random.random(60) < 0.4
    assert area_under_curve(score, positive) == pytest.approx(naive_auc(score, positive))
    weight = random.integers(0, 4, 60).astype(np.float64)
    repeated = np.repeat(np.arange(60), weight.astype(int))
    expected = naive_auc(score[repeated], positive[repeated])
    assert area_under_curve(score, positive, weight) == pytest.approx(expected)
    assert np.isnan(area_under_curve(score, np.ones(60, np.bool_)))


def test_an_interval_resamples_users_and_not_questions() -> None:
    random = np.random.default_rng(1)
    whose = np.repeat(np.arange(12), 50)
    positive = np.repeat(random.random(12) < 0.5, 50)
    score = np.repeat(random.random(12), 50) + positive * 0.3
    value, low, high = with_interval(score, positive, whose)
    assert low <= value <= high
    assert high - low > 0.1  # 600 questions, but of twelve users only


def test_everyone_who_is_there_is_asked_about_once() -> None:
    data = sequences([(0, 0, 1), (5, 0, 1)], [(2, 0, 1), (40, 0, 1)], [(30, 0, 1)])
    silences, latest = find_silences(data, 100), latest_times(data)
    asked = ask(silences, latest, 10, 20)
    assert asked.event.tolist() == [1, 2]
    assert asked.silent_ms.tolist() == [5, 8]
    assert asked.stayed_away.tolist() == [True, True]  # until 30 nobody came
    assert ask(silences, latest, 10, 31).stayed_away.tolist() == [True, False]  # until 41 one did


def test_lead_time_counts_calls_that_came_true_and_those_in_vain() -> None:
    days = np.array([3, 8, 20, 20, 12, 2]) * DAY
    censored = np.array([False, False, False, True, True, True])
    silences = Silences(days, censored, np.ones(6, np.bool_))
    after = np.array([5, 5, 5, 16, 5, 5]) * DAY
    lead = lead_time(silences, np.ones(6, np.bool_), after, 15 * DAY)
    # Known are 3 and 8 (came back), 20 and the censored 20 (both dormant at 15); 12 and 2 are not decided.
    assert (lead.silences, lead.dormant) == (4, 2)
    assert lead.found == 0.5
    assert lead.lead_days == 10.0
    assert lead.wrong == 0.5  # of the calls at 5 days: one of 8 days came back, one of 20 did not


def test_silences_are_judged_that_began_in_the_span_and_were_watched_until_dormant() -> None:
    dormant = 15
    data = sequences(
        [
            (0, 0, 1),
            (20, 0, 1),
            (52, 0, 1),
            (60, 0, 1),
        ],  # before the span, into it, in it, to the end
        [(41, 0, 1), (58, 0, 1), (90, 0, 1), (91, 0, 1)],  # in it; 90 came back, but was not watched for 15
        [(40, 0, 1), (40, 0, 1), (85, 0, 1), (86, 0, 1)],  # one of two of an instant; 85 just long enough
    )
    silences, latest = find_silences(data, 100), latest_times(data)
    chosen = begun_in_span(silences, latest, 40, 100, dormant)
    assert data.time_ms[chosen].tolist() == [52, 60, 41, 58, 40, 85]
    assert not chosen[8]
    lead = lead_time(silences, chosen, np.full(12, 5), dormant)
    assert (lead.silences, lead.dormant) == (6, 4)
    assert lead.wrong == pytest.approx(1 / 5)  # 52 came back after 8


def test_how_often_a_call_is_wrong_does_not_depend_on_when_one_stops_looking() -> None:
    """Everyone comes back at chance, 20 days in the mean: after a call at 20 days 1 − e^−2 do within 60."""
    random, end, dormant = np.random.default_rng(0), 300 * DAY, 60 * DAY
    times = np.cumsum(random.exponential(20 * DAY, (3000, 50)).astype(np.int64) + 1, 1)
    data = sequences(*([(time, 0, 1) for time in row[row < end].tolist()] for row in times))
    silences, latest = find_silences(data, end), latest_times(data)
    chosen = begun_in_span(silences, latest, 210 * DAY, end, dormant)
    assert chosen.sum() == pytest.approx(3000 * 1.5, rel=0.05)  # 30 of 90 days
    lead = lead_time(silences, chosen, np.full(len(latest), 20 * DAY), dormant)
    assert lead.wrong == pytest.approx(1 - np.exp(-2), abs=0.02)


def test_a_share_of_no_silences_is_unknown() -> None:
    silences = Silences(np.array([DAY]), np.array([False]), np.ones(1, np.bool_))
    lead = lead_time(silences, np.zeros(1, np.bool_), np.array([DAY]), 15 * DAY)
    assert lead.silences == 0
    assert np.isnan([lead.found, lead.lead_days, lead.wrong]).all()


def test_who_was_forgotten_and_came_back_is_one_user_of_several_sequences() -> None:
    data = sequences(*([(n, 0, 1), (n + 30, 0, 1)] for n in range(6)))
    data = data._replace(user=["a", "a", "b", "c", "c", "c"])
    hazard = np.full((12, 1), 0.5, np.float32)
    risk = judge_risk(data, find_silences(data, 100), hazard, np.array([20]), 13, [12, 20])
    assert risk.users == 3


def test_the_rhythm_is_that_of_the_engine() -> None:
    config = parse_config(KINDS)
    days = [0, 2, 4, 4.1, 9]
    data = sequences([(int(day * DAY), 0, 1) for day in days])
    gaps = [2 * DAY, 2 * DAY, int(4.9 * DAY)]
    means = [np.mean(gaps[:2]), np.mean(gaps)]
    default, low = config.lifecycle.at_risk_default_ms, config.lifecycle.at_risk_min_ms
    expected = [default, default, max(low, 4 * means[0]), max(low, 4 * means[0]), max(low, 4 * means[1])]
    assert allowed_by_rhythm(data, config) == pytest.approx(expected, abs=2)
