"""How good the churn head is: at set instants, whom of the silent does it expect to stay silent?

At each origin T every user who has had an event is asked about: silent for s, does anything come within the
horizon? The risk is P(nothing | silent for s); what came is known, as T + horizon lies within the data.

    AUC, PR-AUC     does who stays away rank above who comes back; PR-AUC stands beside the base rate
    Brier           mean (risk − outcome)², beside that of saying the base rate to everyone
    reliability     of those who are given a risk of about p, the share that stays away
    lead time       how long before `dormant` users who became that were called at risk, and how often wrongly

Rivals: recency (the silence itself) for the ranks, the user's own rhythm (DESIGN of `at_risk_after`) for lead
time. U users, P questions.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from models.dataset import Sequences
from models.metrics import Bin, brier, pr_auc, reliability
from models.targets import Silences, latest_times
from models.validate import number_users
from stream.config import Config
from stream.core.risk import risk_of_silence, silence_at_risk
from stream.core.rules import RHYTHM_GAPS_MAX, RHYTHM_GAPS_MIN

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

RESAMPLES: Final = 200


class Questions(NamedTuple):
    event: Ints  # [P] the user's last event
    silent_ms: Ints
    stayed_away: Bools


class RiskQuality(NamedTuple):
    users: int
    origins: int
    base_rate: float
    auc: tuple[float, float, float]  # value and the ends of the 95 % interval, resampled by user
    auc_recency: tuple[float, float, float]
    pr_auc: float
    pr_auc_recency: float
    brier: float
    brier_base_rate: float
    reliability: list[Bin]


def ask(silences: Silences, latest_ms: Ints, origin_ms: int, horizon_ms: int) -> Questions:
    """Return the questions of one origin, one for each user who is there."""
    next_ms = np.where(silences.censored, np.iinfo(np.int64).max, latest_ms + silences.silence_ms)
    event = np.flatnonzero(silences.known & (latest_ms < origin_ms) & (next_ms >= origin_ms))
    return Questions(event, origin_ms - latest_ms[event], next_ms[event] >= origin_ms + horizon_ms)


def judge_risk(
    data: Sequences,
    silences: Silences,
    hazard: npt.NDArray[np.float32],
    bins_ms: Ints,
    horizon_ms: int,
    origins_ms: list[int],
) -> RiskQuality:
    """Judge hazards [N, K], one row an event of the data, at the origins."""
    latest, owner = latest_times(data), data.per_event(number_users(data))
    asked = [ask(silences, latest, origin, horizon_ms) for origin in origins_ms]
    event, silent, away = (np.concatenate(part) for part in zip(*asked, strict=True))
    risk = risk_of_silence(np.ascontiguousarray(hazard[event]), bins_ms, silent, horizon_ms)
    base = float(away.mean())
    whose = np.unique(owner[event], return_inverse=True)[1]
    return RiskQuality(
        users=int(whose.max(initial=-1)) + 1,
        origins=len(origins_ms),
        base_rate=base,
        auc=with_interval(risk, away, whose),
        auc_recency=with_interval(silent.astype(np.float64), away, whose),
        pr_auc=pr_auc(risk, away),
        pr_auc_recency=pr_auc(silent.astype(np.float64), away),
        brier=brier(risk, away),
        brier_base_rate=base * (1 - base),
        reliability=reliability(risk, away),
    )


def area_under_curve(score: Floats, positive: Bools, weight: Floats | None = None) -> float:
    """Return P(a positive scores above a negative), ties counting half; NaN if there is only one kind."""
    weight = np.ones(len(score)) if weight is None else weight
    _, place = np.unique(score, return_inverse=True)
    of_positive = np.bincount(place, weight * positive)
    of_negative = np.bincount(place, weight * ~positive)
    below = np.cumsum(of_negative) - of_negative
    pairs = of_positive.sum() * of_negative.sum()
    return float((of_positive * (below + 0.5 * of_negative)).sum() / pairs) if pairs else float("nan")


def with_interval(score: Floats, positive: Bools, whose: Ints) -> tuple[float, float, float]:
    """Return the AUC and a 95 % percentile bootstrap over users, whose questions resemble each other."""
    users = int(whose.max(initial=-1)) + 1
    random = np.random.default_rng(1993)
    draws = random.multinomial(users, np.full(users, 1 / users), RESAMPLES)
    found = [area_under_curve(score, positive, draw[whose].astype(np.float64)) for draw in draws]
    low, high = np.nanpercentile(found, (2.5, 97.5))
    return area_under_curve(score, positive), float(low), float(high)


class LeadTime(NamedTuple):
    """Of the silences that began in the span: how those that ended in `dormant` were told from the others.

    NaN for a share of none.
    """

    silences: int
    dormant: int
    found: float  # share of the dormant that were called at risk before
    lead_days: float  # median of dormant_after − the silence at which they were called
    wrong: float  # share of the calls after which the user came back before being dormant


def begun_in_span(
    silences: Silences, latest_ms: Ints, from_ms: int, until_ms: int, dormant_after_ms: int
) -> Bools:
    """Say which silences [N] began in the span, and early enough to be watched for `dormant_after`.

    Both look at the beginning alone: training knows those that ended before the span, and of those that began
    late one would see only who came back.
    """
    return silences.known & (latest_ms >= from_ms) & (latest_ms + dormant_after_ms <= until_ms)


def lead_time(silences: Silences, asked: Bools, after_ms: Ints, dormant_after_ms: int) -> LeadTime:
    """Judge how long each user may stay silent, after_ms [N], by the silences of the events `asked` [N]."""
    silence = silences.silence_ms
    sure = asked & silences.known & (~silences.censored | (silence >= dormant_after_ms))
    dormant = sure & (silence >= dormant_after_ms)
    called = sure & (after_ms < np.minimum(silence, dormant_after_ms))
    found = called & dormant
    lead = (dormant_after_ms - after_ms[found]) / 86_400_000
    return LeadTime(
        silences=int(sure.sum()),
        dormant=int(dormant.sum()),
        found=float(found.sum() / dormant.sum()) if dormant.any() else float("nan"),
        lead_days=float(np.median(lead)) if len(lead) else float("nan"),
        wrong=float((called & ~dormant).sum() / called.sum()) if called.any() else float("nan"),
    )


def allowed_by_model(hazard: npt.NDArray[np.float32], bins_ms: Ints, config: Config) -> Ints:
    """Return how long each user may stay silent after each event by the hazard head, as the engine has it."""
    rules = config.lifecycle
    return silence_at_risk(
        np.ascontiguousarray(hazard),
        bins_ms,
        rules.horizon_ms,
        float(rules.risk_threshold),
        rules.at_risk_max_ms,
    )


def allowed_by_rhythm(data: Sequences, config: Config) -> Ints:
    """Return the same by the user's own rhythm, as the engine has it without the model."""
    rules, visit_gap_ms = config.lifecycle, config.time.visit_gap_ms
    after = np.empty(len(data.item), np.int64)
    latest = latest_times(data)
    for start, stop in zip(data.start[:-1].tolist(), data.start[1:].tolist(), strict=True):
        gaps, mean, allowed = 0, 0.0, rules.at_risk_default_ms
        before = int(latest[start])
        for event, time in enumerate(latest[start:stop].tolist(), start):
            if time - before >= visit_gap_ms:
                gaps += 1
                mean += (time - before - mean) / min(gaps, RHYTHM_GAPS_MAX)
                if gaps >= RHYTHM_GAPS_MIN:
                    allowed = int(rules.cadence * mean)
                    allowed = min(max(allowed, rules.at_risk_min_ms), rules.at_risk_max_ms)
            before = time
            after[event] = allowed
    return after
