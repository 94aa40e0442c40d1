"""What benchmarks/quality computes: laws of customers, ratings, mixtures, and a whole comparison."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.quality import buy_till_you_die as buying
from benchmarks.quality import journey, leave_one_out, lifetimes, members, ml1m, ratings, two_errors
from models import metrics
from models.sequences import from_lists


def customers(count: int, seed: int) -> buying.Known:
    """Return customers who buy with half a chance a week, and half of whom leave after ten weeks."""
    chance = np.random.default_rng(seed)
    days = []
    for number in range(count):
        weeks = np.flatnonzero(chance.random(10 if number % 2 else 40) < 0.5) + 1
        days.append(np.concatenate([[0], weeks * 7]))
    return buying.Known(days, np.full(count, 10.0), 40 * 7)


def test_purchases_until_a_customer_leaves_are_those_of_the_integral() -> None:
    law = buying.Law(np.array([[0.3]]), np.array([[0.1]]), np.array([[1.0]]))
    known = buying.Known([np.array([0, 70])], np.array([1.0]), 70)  # bought on the last day: there
    chances = buying.buy_till_you_die(known, law, 20.0)
    said = lifetimes.read_off(chances)
    t = np.linspace(0, 20, 200_001)
    assert chances.sum() == pytest.approx(1.0)
    assert said.forecast[0] == pytest.approx(np.trapezoid(0.3 * np.exp(-0.1 * t), t), rel=1e-6)
    first = np.trapezoid(0.3 * np.exp(-0.4 * t), t)  # the first purchase at t, still there
    assert said.none[0] == pytest.approx(1 - first, rel=1e-6)
    left = np.trapezoid(0.1 * np.exp(-0.1 * t) * (0.3 * t) ** 2 / 2 * np.exp(-0.3 * t), t)  # at t, after two
    stayed = np.exp(-0.1 * 20) * 6.0**2 / 2 * np.exp(-6.0)
    assert chances[0, 2] == pytest.approx(left + stayed, rel=1e-6)


def test_the_median_is_the_fewest_purchases_that_half_the_chance_does_not_pass() -> None:
    said = lifetimes.read_off(np.pad([[0.5, 0.2, 0.3], [0.4, 0.05, 0.55]], ((0, 0), (0, buying.MOST - 3))))
    assert said.median.tolist() == [0.0, 2.0]
    assert said.forecast == pytest.approx([0.8, 1.15])
    paths = np.array([[0, 3], [0, 1], [2, 3], [0, 3]])
    assert lifetimes.count_paths(paths)[:, :4].tolist() == [[0.75, 0, 0.25, 0], [0, 0.25, 0, 0.75]]


@pytest.mark.parametrize("weight", [0.0, 0.05, 0.4, 3.0, 1000.0])
def test_one_forecast_for_both_errors_is_what_costs_least(weight: float) -> None:
    chances = np.zeros((3, buying.MOST))
    chances[0, [0, 1, 5]] = 0.6, 0.3, 0.1
    chances[1, [0, 2, 3]] = 0.2, 0.5, 0.3
    chances[2, 0] = 1.0
    n = np.arange(buying.MOST)
    mean = chances @ n
    squared = (chances * (n - mean[:, None]) ** 2).sum()
    absolute = (chances * np.abs(n - mean[:, None])).sum()
    tried = np.linspace(0, 5, 5001)
    off = n - tried[:, None]
    for row, found in zip(chances, two_errors.between(chances, weight), strict=True):
        costs = (row * off**2).sum(1) / squared + weight * (row * np.abs(off)).sum(1) / absolute
        assert found == pytest.approx(tried[costs.argmin()], abs=2e-3)


def test_the_weight_of_the_absolute_error_is_the_one_with_the_largest_smaller_gain_over_others() -> None:
    """Half buy by chance and half never again: gamma laws only come near."""
    known = customers(300, 2)
    chance, gone = np.random.default_rng(5), np.arange(300) % 2 == 1
    law = buying.fit_law(known, buying.choose_rounds(known))
    others = [
        two_errors.ask(known, np.where(gone, 0, chance.binomial(10, 0.5, 300)), law, 10.0) for _ in range(2)
    ]
    chosen = two_errors.choose_weight(others)
    after = np.concatenate([asked.after for asked in others])
    rival = np.concatenate([asked.pareto for asked in others])
    gains = []
    for weight in two_errors.WEIGHTS.tolist():
        ours = np.concatenate([two_errors.between(asked.law, weight) for asked in others])
        mae = 1 - metrics.mae(ours, after) / metrics.mae(rival, after)
        gains.append((mae, 1 - metrics.rmse(ours, after) / metrics.rmse(rival, after)))
    smaller = np.array(gains).min(1)
    assert smaller.max() > 0
    assert chosen.weight == two_errors.WEIGHTS[smaller.argmax()]
    assert (chosen.mae, chosen.rmse) == pytest.approx(gains[int(smaller.argmax())])
    assert chosen.low <= chosen.weight <= chosen.high
    assert (chosen.both, chosen.expected) == (2, 2)


def test_what_helps_one_error_and_harms_the_other_is_weighed_where_both_gain_alike() -> None:
    absolute = np.array([[0.9, 1.3], [0.9, 1.1], [0.9, 0.9], [0.9, 0.7]])  # MAE gains −.1, 0, .1, .2
    squared = np.array([[0.3, 0.5], [0.6, 0.5], [0.6, 0.8], [1.0, 0.9]])  # RMSE gains .37, .26, .16, .03
    losses = two_errors.Losses(absolute, squared, np.ones(2), np.ones(2))
    assert losses.gains()[0] == pytest.approx([-0.1, 0.0, 0.1, 0.2])
    assert losses.gains()[1] == pytest.approx([1 - np.sqrt(v) for v in (0.4, 0.55, 0.7, 0.95)])
    assert losses.best() == 2
    assert losses.best(np.array([0, 0])) == 0  # of the first customer alone


def test_a_forecast_that_nearly_says_what_comes_is_not_beaten() -> None:
    known = customers(300, 2)
    asked = two_errors.ask(known, np.arange(300) % 7, buying.fit_law(known, 0), 10.0)
    chosen = two_errors.choose_weight([asked._replace(pareto=asked.after + 0.01)])
    assert (chosen.both, chosen.expected) == (0, 0)
    assert max(chosen.mae, chosen.rmse) < 0


def test_what_a_law_expects_of_its_mean_is_the_least_squared_error_and_not_the_least_absolute_one() -> None:
    known = customers(100, 4)
    asked = two_errors.ask(known, np.zeros(100, np.int64), buying.fit_law(known, 0), 10.0)
    losses = two_errors.expect(asked)
    rmse, mae = np.sqrt(losses.squared.mean(1)), losses.absolute.mean(1)
    assert (np.diff(rmse) >= 0).all()
    assert (np.diff(mae) <= 0).all()
    assert rmse[0] == pytest.approx(np.sqrt(losses.rival_squared.mean()))  # the same law: the same mean
    chances, n = asked.law[0], np.arange(buying.MOST)
    assert losses.squared[0, 0] == pytest.approx(chances @ n**2 - (chances @ n) ** 2)


def test_the_rest_of_a_cohort_is_dealt_out_in_turn_without_the_sample() -> None:
    rows = [(who, day) for who in range(1, 21) for day in ("19970101", "19970105", "19971005")]
    master = "\n".join(f" {who:05d} {day} 1 10.00" for who, day in rows)
    sample = "\n".join(f" {who:05d} {who} {day} 1 10.00" for who, day in rows if who in (3, 8))
    others = lifetimes.read_others(master, sample, "19970930")
    assert [len(after) for _, after in others] == [2] * 9
    for known, after in others:
        assert [d.tolist() for d in known.days] == [[0, 4]] * 2
        assert after.tolist() == [1, 1]


def test_gamma_laws_are_found_again_and_freeing_them_makes_what_is_known_likelier() -> None:
    """Customers whose rates are gamma: shape 1, 5 weeks, and shape 2, 40 weeks."""
    chance = np.random.default_rng(3)
    days = []
    for _ in range(1500):
        until = min(40.0, chance.exponential(1 / chance.gamma(2.0, 1 / 40.0)))
        times = np.cumsum(chance.exponential(1 / chance.gamma(1.0, 1 / 5.0), 400))
        days.append(np.concatenate([[0], np.unique(np.ceil(times[times < until] * 7).astype(np.int64))]))
    known = buying.Known(days, np.ones(len(days)), 40 * 7)
    law = buying.fit_law(known, 0)
    assert law.weight.sum() == pytest.approx(1.0)
    assert (law.weight * law.buy).sum() == pytest.approx(1 / 5, rel=0.15)
    alike = buying.take_together(buying.summary(known))
    likely, _ = buying.likelihood(law, *alike.summary)
    freed = buying.free(law, likely, alike.customers, 20)
    assert freed.weight.sum() == pytest.approx(1.0)
    gains = alike.customers @ (np.log(likely @ freed.weight[0]) - np.log(likely @ law.weight[0]))
    assert gains > 1.0


def test_both_models_know_who_has_left() -> None:
    known = customers(200, 1)
    gone = np.arange(200) % 2 == 1
    law = buying.buy_till_you_die(known, buying.fit_law(known, buying.choose_rounds(known)), 10.0)
    for said in lifetimes.say(known, law, 10).values():
        assert said.none[gone].mean() > 0.7 > 0.3 > said.none[~gone].mean()
        assert said.forecast[~gone].mean() == pytest.approx(5.0, abs=1.2)


def test_neighbours_say_what_those_who_agree_said() -> None:
    chance = np.random.default_rng(0)
    taste = chance.normal(size=(200, 1)) * np.ones((1, 160))
    there = (chance.random(taste.shape) < 0.6).astype(float)
    left = taste * there
    said = ratings.near(left, there)
    hidden = there == 0
    assert np.corrcoef(said[hidden], taste[hidden])[0, 1] > 0.7  # drawn together by the cut
    found = ratings.factorise(left, there, 2, 1.0, 0)
    assert np.corrcoef(found[hidden], taste[hidden])[0, 1] > 0.95


def test_weights_of_a_mixture_go_to_the_part_that_was_right() -> None:
    rows = [(0, np.array([0.9, 0.01])), (0, np.array([0.8, 0.02])), (1, np.array([0.0, 0.5]))]
    weight = journey.fit_weights(rows)
    assert weight[0, 0] > 0.95
    assert weight[1, 1] == pytest.approx(1.0)


def test_a_shop_tells_distributions_of_what_is_known() -> None:
    shop = journey.Shop(4, np.array([0, 0, 1, 1]))
    shop.sell("u", [0], journey.TEST_FROM_MS)
    shop.sell("v", [0, 2], journey.TEST_FROM_MS)
    shop.renew(journey.TEST_FROM_MS)
    popular, own, repeated, types, near = shop.tell("u")
    assert popular.argmax() == 0
    assert own.tolist() == repeated.tolist() == [1, 0, 0, 0]
    assert types[[2, 3]].sum() == 0
    assert near.tolist() == [0, 0, 1, 0]
    assert shop.tell("w")[1].sum() == 0


def ring() -> leave_one_out.Data:
    """Return users who go round twenty items, six steps each."""
    chance = np.random.default_rng(0)
    first = chance.integers(0, 20, 80)
    lists = [[str((start + step) % 20) for step in range(6)] for start in first.tolist()]
    return leave_one_out.Data("ring", "A ring", from_lists([f"u{n}" for n in range(80)], lists), {}, {})


def test_a_comparison_runs_from_sequences_to_rows() -> None:
    data = ring()
    settings = ["embedding_size=16", "encoder_config={hidden=16}", "dropout=0.0"]
    result = leave_one_out.compare(data, settings, "command", factors=False)
    found = {row.name: row.figures["NDCG@10"] for row in result.rows}
    assert result.rows[-1].source == "ours"
    assert float(found["gru"]) > 2 * float(found["popularity"])
    assert float(found["gru + co-occurrence"]) > 0.8
    assert float(found["gru + co-occurrence, retrained"]) > 0.8


def test_encoders_of_other_kinds_join_beside_the_seeds() -> None:
    data = ring()._replace(beside=(('encoder="transformer"', "encoder_config={width=8, heads=1}"),))
    settings = ["embedding_size=8", "dropout=0.0"]
    table = leave_one_out.Comparison(data._replace(members=2), settings)
    assert leave_one_out.name_ensemble(table.recipes) == "2 gru + transformer"
    assert [recipe.seed for recipe in table.recipes] == [0, 1, 0]
    result = leave_one_out.compare(data, settings, "command", factors=False)
    names = [row.name for row in result.rows]
    plain = ["co-occurrence", "gru", "transformer", "gru + transformer", "gru + transformer + co-occurrence"]
    assert names[1:] == [name + retrained for retrained in ("", ", retrained") for name in plain]


def test_attention_over_a_recurrence_and_other_seeds_have_names_of_their_own() -> None:
    over = ('encoder="transformer"', "encoder_config={width=8, heads=1, recurrent=8}")
    data = ring()._replace(beside=(over[:1], over, (*over, "seed=1")))
    table = leave_one_out.Comparison(data, ["embedding_size=8"])
    assert table.names == ["gru", "transformer", "transformer over a gru", "transformer over a gru, seed 1"]
    together = leave_one_out.name_ensemble(table.recipes)
    assert together == "gru + transformer + 2 transformer over a gru"


def test_what_is_set_stands_and_the_rest_fits_the_size_of_the_data() -> None:
    data = ring()._replace(beside=(('encoder="lru"', "encoder_config={}"),))

    def sizes(*settings: str) -> set[tuple[int, int]]:
        table = leave_one_out.Comparison(data, list(settings))
        return {(recipe.epochs, recipe.users_per_batch) for recipe in table.recipes}

    [(epochs, batch)] = sizes()
    assert epochs >= leave_one_out.EPOCHS[0]
    assert sizes("epochs=2") == {(2, batch)}
    assert sizes(" users_per_batch = 7 ") == {(int(np.clip(1400 * 7 / len(data.sequences.user), 8, 12)), 7)}
    assert sizes("epochs=2", "users_per_batch=7") == {(2, 7)}


def test_the_usual_order_of_two_items_is_told_from_chance() -> None:
    lists = [["a", "b"] if n < 30 else ["b", "a"] for n in range(40)] + [["c", "d"]] * 19
    usual, chance = ml1m.share_in_order(from_lists([str(n) for n in range(59)], lists))
    assert usual == 0.75
    assert 0.5 <= chance < 0.65


def test_members_of_an_ensemble_train_in_processes_of_their_own() -> None:
    data = ring()._replace(members=2)
    settings = ["embedding_size=8", "encoder_config={hidden=8}", "dropout=0.0"]
    table = leave_one_out.Comparison(data, settings)
    training = partial(leave_one_out.train, table.trial, {}, data.sequences.item_ids)
    first, second = members.train_all(training, members.with_seeds(table.recipe, 2))
    alone = members.train_all(training, [table.recipe])[0]
    with torch.no_grad():
        vectors = [one.model.items()[0] for one in (first, second, alone)]
    assert torch.equal(vectors[0], vectors[2])
    assert not torch.equal(vectors[0], vectors[1])
    assert members.join([first, second]).config.embedding_size == 16
    assert members.join([alone]) is alone.model


def test_a_training_is_resumed_only_if_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(members, "CHECKPOINTS", tmp_path)
    data = ring()
    table = leave_one_out.Comparison(data, ["embedding_size=8", "encoder_config={hidden=8}"])
    training = partial(leave_one_out.train, table.trial, {}, data.sequences.item_ids)

    def told() -> int:
        return capsys.readouterr().out.count("epoch")

    members.train_all(training, [table.recipe])
    assert told() == table.recipe.epochs
    assert not list(tmp_path.iterdir())
    whole = members.train_all(training, [table.recipe], resume=table.trial.train)[0]
    assert told() == table.recipe.epochs
    again = members.train_all(training, [table.recipe], resume=table.trial.train)[0]
    assert told() == 0
    assert again.epochs == whole.epochs
    assert torch.equal(again.model.items.own.weight, whole.model.items.own.weight)


def test_no_training_sees_what_is_asked_for() -> None:
    lists = [[f"a{n % 7}", f"a{n % 5}", f"chooses{n}", f"asked{n}"] for n in range(30)]
    data = from_lists([f"u{n}" for n in range(30)], lists)
    trial = leave_one_out.make_trial(data, seed=0)
    names = np.array(data.item_ids)
    learnt, again = (set(names[part.item].tolist()) for part in (trial.train, trial.retrain))
    assert {name for name in learnt if name[0] != "a"} == set()
    assert {name.rstrip("0123456789") for name in again} == {"a", "chooses"}
    assert {name.rstrip("0123456789") for name in names[trial.choose.answer].tolist()} == {"chooses"}
    assert {name.rstrip("0123456789") for name in names[trial.test.answer].tolist()} == {"asked"}
