"""Risk from a hazard head: the chance that a silent user stays silent, and when it becomes too large.

The head gives discrete-time hazards h_k = P(next event in bin k | none before it) for bins of silence with
upper edges b_k (Singer and Willett, J. Educational Statistics 18, 1993). Within a bin the hazard rate is
taken as constant, so the survival S(t) falls exponentially from one edge to the next; beyond the last edge it
goes on at the last bin's rate. Plain loops, one user at a time: the bits do not depend on the batch.
"""

from __future__ import annotations

from math import exp, log1p
from typing import Final

import numpy as np
import numpy.typing as npt

from stream.core.compiled import kernel, leaf
from stream.core.rules import HOUR_MS

Floats = npt.NDArray[np.float32]
Times = npt.NDArray[np.int64]

#: A hazard of 1 would make every later silence impossible.
_HAZARD_MAX: Final = 1.0 - 1e-6


def silence_at_risk(
    hazard: Floats, bins_ms: Times, horizon_ms: int, threshold: float, after_max_ms: int
) -> Times:
    """Return the first silence, in whole hours, at which P(no event within `horizon`) ≥ `threshold`.

    hazard: [B, K] in [0, 1]; bins_ms: [K] rising. At least an hour, at most after_max_ms; i64[B].
    """
    after = np.zeros(len(hazard), np.int64)
    find_silence(hazard, bins_ms, horizon_ms, threshold, after_max_ms, after)
    return after


def risk_of_silence(
    hazard: Floats, bins_ms: Times, silent_ms: Times, horizon_ms: int
) -> npt.NDArray[np.float64]:
    """Return P(no event within `horizon` | silent for silent_ms), f64[B]."""
    risk = np.zeros(len(hazard), np.float64)
    find_risk(hazard, bins_ms, silent_ms, horizon_ms, risk)
    return risk


@kernel
def find_silence(
    hazard: Floats, bins_ms: Times, horizon_ms: int, threshold: float, after_max_ms: int, after: Times
) -> None:
    for i in range(len(hazard)):
        silence = HOUR_MS
        while silence + HOUR_MS <= after_max_ms:
            log_stay = log_survival(hazard[i], bins_ms, silence + horizon_ms)
            log_stay -= log_survival(hazard[i], bins_ms, silence)
            if exp(log_stay) >= threshold:
                break
            silence += HOUR_MS
        after[i] = silence


@kernel
def find_risk(
    hazard: Floats, bins_ms: Times, silent_ms: Times, horizon_ms: int, risk: npt.NDArray[np.float64]
) -> None:
    for i in range(len(hazard)):
        log_stay = log_survival(hazard[i], bins_ms, silent_ms[i] + horizon_ms)
        risk[i] = exp(log_stay - log_survival(hazard[i], bins_ms, silent_ms[i]))


@leaf
def log_survival(hazard: Floats, bins_ms: Times, t_ms: int) -> float:
    """Return ln S(t) of one user."""
    total = 0.0
    start = 0
    rate = 0.0
    for k in range(len(bins_ms)):
        width = bins_ms[k] - start
        rate = -log1p(-min(float(hazard[k]), _HAZARD_MAX)) / width
        if t_ms < bins_ms[k]:
            return total - rate * (t_ms - start)
        total -= rate * width
        start = bins_ms[k]
    return total - rate * (t_ms - start)
