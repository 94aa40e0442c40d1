"""Buy till you die: customers buy at a rate of their own until they leave, at another of their own, unseen.

Both rates lie on a grid, and a law says how common each pair of them is (Schmittlein, Morrison and Colombo,
1987). U customers, C kinds of them, G points of the grid, N numbers of purchases.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

WEEK: Final = 7.0
#: Between what rates the cells of the grid lie, and how many: of buying and of leaving, a week.
GRID: Final = ((2e-3, 2.0, 40), (5e-4, 3.0, 40))
#: Shape and weeks of both gamma laws, where the search for them begins: as published for CDNOW's customers
#: until 1997-09-30 (Fader, Hardie and Lee, 2005).
GAMMAS: Final = (0.55, 10.6, 0.6, 11.7)
ROUNDS: Final = (0, 10, 30, 100, 300)  # of EM: stopping early smooths
FOLDS: Final = 5
MOST: Final = 200  # N: nobody is expected to buy as often
TINY: Final = 1e-300


class Known(NamedTuple):
    """What is known of U customers at the end of calibration; days are counted from the first of all."""

    days: list[npt.NDArray[np.int64]]  # of purchases, each once, rising
    spend: Floats  # [U] mean of a purchase
    until: int  # the last day that was seen


def summary(known: Known) -> tuple[Floats, Floats, Floats]:
    """Return repeats, week of the last purchase and weeks seen, both counted from the first, [U] each."""
    repeats = np.array([len(d) - 1 for d in known.days], np.float64)
    last = np.array([d[-1] - d[0] for d in known.days]) / WEEK
    seen = np.array([known.until - d[0] for d in known.days]) / WEEK
    return repeats, last, seen


class Law(NamedTuple):
    """Weights [1, G] of rates of buying and leaving, a week."""

    buy: Floats
    leave: Floats
    weight: Floats


class Alike(NamedTuple):
    """Customers taken together who are alike in repeats, last purchase and weeks seen: C kinds of them."""

    summary: tuple[Floats, Floats, Floats]  # [C] each
    customers: Floats  # [C]


def take_together(parts: tuple[Floats, Floats, Floats]) -> Alike:
    alike, count = np.unique(np.stack(parts), axis=1, return_counts=True)
    return Alike((alike[0], alike[1], alike[2]), count.astype(np.float64))


def likelihood(law: Law, x: Floats, last: Floats, seen: Floats) -> tuple[Floats, Floats]:
    """Return the likelihood of what is known, and the same together with being there still, [U, G] each."""
    both = law.buy + law.leave
    bought = law.buy ** x[:, None]
    alive = bought * np.exp(-both * seen[:, None])
    left = law.leave / both * (np.exp(-both * last[:, None]) - np.exp(-both * seen[:, None]))
    return bought * left + alive, alive


def gamma_law(shape_buy: float, weeks_buy: float, shape_leave: float, weeks_leave: float) -> Law:
    """Return the grid with gamma laws of both rates: what lies in a cell is at its middle."""
    from scipy.stats import gamma

    rates, shares = [], []
    for (low, high, cells), shape, weeks in zip(
        GRID, (shape_buy, shape_leave), (weeks_buy, weeks_leave), strict=True
    ):
        edges = np.geomspace(low, high, cells)
        rates.append(np.concatenate([[low / 2], np.sqrt(edges[1:] * edges[:-1]), [high * 1.2]]))
        shares.append(np.diff(gamma.cdf(np.concatenate([[0.0], edges, [np.inf]]), shape, scale=1 / weeks)))
    buy, leave = (axis.ravel()[None] for axis in np.meshgrid(*rates, indexing="ij"))
    return Law(buy, leave, np.outer(*shares).ravel()[None])


def fit_gammas(alike: Alike) -> Law:
    """Return the gamma laws under which what is known is likeliest."""
    from scipy.optimize import minimize

    likely, _ = likelihood(gamma_law(*GAMMAS), *alike.summary)

    def unlikely(logs: Floats) -> float:
        return -float(alike.customers @ np.log(likely @ gamma_law(*np.exp(logs)).weight[0] + TINY))

    found = minimize(unlikely, np.log(GAMMAS), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 0.05})
    return gamma_law(*np.exp(found.x))


def free(law: Law, likely: Floats, count: Floats, rounds: int) -> Law:
    """Move the weights to where what is known is likelier, by rounds of EM: likely [C, G], count [C]."""
    weight = law.weight[0]
    for _ in range(rounds):
        weight = weight * ((count / (likely @ weight)) @ likely) / count.sum()
    return law._replace(weight=weight[None])


def fit_law(known: Known, rounds: int) -> Law:
    """Find gamma laws, and free them by rounds of EM."""
    alike = take_together(summary(known))
    law = fit_gammas(alike)
    return free(law, likelihood(law, *alike.summary)[0], alike.customers, rounds) if rounds else law


def choose_rounds(known: Known, seed: int = 0) -> int:
    """Return the rounds after which held-out customers are likeliest, fold by fold."""
    fold = np.random.default_rng(seed).integers(0, FOLDS, len(known.days))
    parts = summary(known)
    likeliest = np.zeros(len(ROUNDS))
    for held in range(FOLDS):
        learn, asked = (
            take_together((parts[0][chosen], parts[1][chosen], parts[2][chosen]))
            for chosen in (fold != held, fold == held)
        )
        law, done = fit_gammas(learn), 0
        likely, _ = likelihood(law, *learn.summary)
        theirs, _ = likelihood(law, *asked.summary)
        for number, rounds in enumerate(ROUNDS):
            law, done = free(law, likely, learn.customers, rounds - done), rounds
            likeliest[number] += asked.customers @ np.log(theirs @ law.weight[0] + TINY)
    return ROUNDS[int(likeliest.argmax())]


def count_purchases(law: Law, weeks: float) -> Floats:
    """Return P(n purchases in so many weeks) of one who is there when they begin, [G, N].

    Who stays all the time buys by a Poisson law. Who leaves before has bought n times if n events of buying
    came before the one of leaving, and all n + 1 within the weeks (Fader and Hardie, 2006).
    """
    from scipy.special import gammainc
    from scipy.stats import poisson

    buy, leave, n = law.buy.T, law.leave.T, np.arange(MOST)
    both = buy + leave
    stays = np.exp(-leave * weeks) * poisson.pmf(n, buy * weeks)
    leaves = leave / both * (buy / both) ** n * gammainc(n + 1, both * weeks)
    chances: Floats = stays + leaves
    return chances


def buy_till_you_die(known: Known, law: Law, weeks: float) -> Floats:
    """Return P(n purchases to come), [U, N]."""
    alike, kind = np.unique(np.stack(summary(known)), axis=1, return_inverse=True)
    likely, alive = likelihood(law, *alike)
    there = alive * law.weight / (likely * law.weight).sum(1, keepdims=True)
    chances: Floats = there @ count_purchases(law, weeks)
    chances[:, 0] += 1.0 - there.sum(1)
    return chances[kind]
