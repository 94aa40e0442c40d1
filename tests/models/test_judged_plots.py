"""What `evaluate` shows: a plot for each table, and a dash for what is unknown."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.evaluate import StateQuality
from models.judge_last import LastQuality
from models.judged_plots import plot_last, plot_lists, plot_risk, plot_values
from models.list_quality import ListQuality, RivalQuality
from models.metrics import Bin
from models.plots import plot_bars
from models.risk_quality import LeadTime, RiskQuality
from models.show import show_last, show_plots, show_quality, show_risk
from stream.demo.quality import Estimate

NAN = float("nan")
NDCG = {"ndcg10": 0.2, "ndcg10_low": 0.1, "ndcg10_high": 0.3}
RISK = RiskQuality(3, 2, 0.4, (0.7, 0.6, 0.8), (NAN, NAN, NAN), 0.6, NAN, 0.2, 0.24, [Bin(0.2, 0.3, 5)])
LEADS = {"hazard head": LeadTime(0, 0, NAN, NAN, NAN), "own rhythm": LeadTime(4, 2, 0.5, 10.0, 0.25)}


def row(value: float) -> RivalQuality:
    sure = Estimate(value, value / 2, value * 1.5)
    return RivalQuality(sure, sure, *[value] * 7)


def drawn(paths: list[Path]) -> set[str]:
    assert all(path.read_text().startswith("<?xml") for path in paths)
    return {path.name for path in paths}


def test_each_table_has_its_plot(tmp_path: Path) -> None:
    last = LastQuality({"gru, all items": NDCG}, {"active, all items": NDCG}, [])
    assert drawn(plot_last(tmp_path, last)) == {"leave-one-out.svg", "leave-one-out-by-state.svg"}
    assert drawn(plot_last(tmp_path, last._replace(states={}))) == {"leave-one-out.svg"}
    lists = ListQuality(4, 2, {"ebbtide": row(0.2), "recency": row(NAN)})
    states = {"new": StateQuality(4, (0.1, 0.2), (0.3, 0.1))}
    assert drawn(plot_lists(tmp_path, lists, states)) == {"lists.svg", "lists-by-state.svg"}
    assert drawn(plot_lists(tmp_path, lists, {})) == {"lists.svg", "lists-by-state.svg"}
    assert drawn(plot_risk(tmp_path, RISK, LEADS)) == {"risk.svg", "reliability.svg", "lead-time.svg"}
    values = {"value head": {"values": 3, "MAE": 0.5, "RMSE": 0.7}}
    assert drawn(plot_values(tmp_path, values)) == {"values.svg"}


def test_equal_figures_draw_equal_files(tmp_path: Path) -> None:
    for name in ("one.svg", "other.svg"):
        plot_bars(tmp_path / name, {"": {"a": (0.2, 0.1, 0.3), "b": NAN, "c": 0.5}}, "NDCG@10", "lists")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_what_is_unknown_is_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    show_risk(RISK, LEADS)
    shown = capsys.readouterr().out
    assert "nan" not in shown
    cells = [cell.strip() for line in shown.splitlines() for cell in line.split("│") if "hazard head" in line]
    assert cells.count("-") == 3
    assert "50.0%" in shown
    show_quality(ListQuality(0, 0, {"ebbtide": row(NAN)}), {})
    assert "nan" not in capsys.readouterr().out


def test_tables_show_all_measures_and_where_their_plots_are(capsys: pytest.CaptureFixture[str]) -> None:
    show_quality(ListQuality(4, 2, {"ebbtide": row(0.2)}), {})
    shown = capsys.readouterr().out
    for name in ("HR@10", "NDCG@10", "MRR@10", "precision@10", "recall@10"):
        assert name in shown
    for name in ("coverage", "Gini", "novelty", "diversity", "0.2000  [0.1000, 0.3000]"):
        assert name in shown
    show_last(LastQuality({"gru, all items": NDCG}, {"new, all items": NDCG}, []))
    show_plots([Path("run/lists.svg")])
    shown = capsys.readouterr().out
    assert "ndcg10_low" in shown
    assert "by the user's state" in shown
    assert f"plot: {Path('run/lists.svg')}" in shown
