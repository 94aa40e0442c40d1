"""`ebbtide explain`: it says of one user what `replay` says of all, and what a log without an event says."""

from __future__ import annotations

import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from rich.console import Console
from typer.testing import CliRunner

from export.random_bundle import random_bundle
from stream import cli
from stream.config import Config
from stream.config_load import parse_config
from stream.errors import UsageError
from stream.explain import Explanation, explain_user
from stream.explain_page import page, span, when
from stream.replay import replay

KINDS = {"view": "engagement", "buy": "conversion", "mail": "contact"}
HOUR_MS, DAY_MS = 3_600_000, 86_400_000
START_MS = 1_700_000_000_000
NOW_MS = START_MS + 200 * DAY_MS
USERS = ["ann", "bob", 'c"ö', "dan", "eve"]

CONFIG: dict[str, Any] = {
    "events": {"kinds": KINDS, "recommend": ["view"], "fields": {"event_time": "t"}},
    "lifecycle": {
        "at_risk_min": "3d", "at_risk_max": "9d", "at_risk_default": "8d", "dormant_after": "15d",
        "churned_after": "25d", "forget_after": "60d",
    },
    "policies": {"default": {"k": 5, "exclude": "converted"}, "at_risk": {"k": 3}},
}  # fmt: skip


class Run(NamedTuple):
    """A log, and what `replay` makes of it."""

    config: Config
    bundle: Path
    input: Path
    outputs: dict[str, list[dict[str, Any]]]


def make_lines(seed: int, count: int) -> Iterator[bytes]:
    """Yield events of a few users over some months: in time, late, repeated, from the future, and broken."""
    rng = random.Random(seed)
    t = START_MS
    for i in range(count):
        t += rng.choice([1_000, 60_000, HOUR_MS, 5 * HOUR_MS, 20 * HOUR_MS, DAY_MS])
        # The later in the list, the earlier they fall silent for good; the last is forgotten by the end.
        user = rng.choice(USERS[: 5 - 4 * i // count])
        at = t - rng.choice([0, 0, 0, HOUR_MS, 3 * DAY_MS, 9 * DAY_MS])
        if rng.random() < 0.02:
            at = NOW_MS + DAY_MS
        event: dict[str, Any] = {"user_id": user, "event_type": rng.choice(["view", "view", "buy", "mail"])}
        event |= {"t": at, "event_id": f"e{rng.randrange(count)}"}
        if rng.random() < 0.9:
            event["item_id"] = f"item-{rng.randrange(40)}"
        if event["event_type"] == "buy":
            event["value"] = rng.randrange(1, 90)
        line = json.dumps(event).encode()
        yield line[:-3] if rng.random() < 0.02 else line
        if i % 90 == 89:
            t += 12 * DAY_MS


def run_replay(lines: list[bytes], folder: Path, config: Config, bundle: Path | None) -> Run:
    folder.mkdir()
    input = folder / "events.jsonl"
    input.write_bytes(b"\n".join(lines) + b"\n")
    replay(str(input), folder / "out", config, bundle, bundle is not None, NOW_MS)
    outputs = {
        path.name: [json.loads(line) for line in path.read_bytes().splitlines()]
        for path in (folder / "out").glob("*.jsonl")
    }
    return Run(config, bundle or Path(), input, outputs)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("explain")
    bundle = random_bundle(folder / "bundle", list(KINDS), {}, items=30)
    return run_replay(list(make_lines(7, 400)), folder / "log", parse_config(CONFIG), bundle.path)


def of_user(rows: list[dict[str, Any]], user: str) -> list[dict[str, Any]]:
    return [row for row in rows if row["user_id"] == user]


def explain(run: Run, user: str, **options: Any) -> Explanation:
    return explain_user(user, str(run.input), run.config, run.bundle, now_ms=NOW_MS, **options)


def test_the_log_has_what_it_takes(run: Run) -> None:
    assert {row["lifecycle"] for row in run.outputs["users.jsonl"]} >= {"churned", "loyal"}
    assert {row["trigger"] for row in run.outputs["recommendations.jsonl"]} == {"event", "lifecycle"}
    assert {row["to"] for row in run.outputs["lifecycle.jsonl"]} >= {"forgotten", "loyal", "converted"}
    reasons = {row["reason"] for row in run.outputs["dead-letters.jsonl"]}
    assert reasons == {"not_json", "from_future", "too_late"}


@pytest.mark.parametrize("user", USERS)
def test_it_says_of_one_user_what_replay_says_of_all(run: Run, user: str) -> None:
    told = json.loads(explain(run, user, left_out_max=0).to_json())
    assert [told["user"]] == (of_user(run.outputs["users.jsonl"], user) or [None])
    assert told["transitions"] == of_user(run.outputs["lifecycle.jsonl"], user)
    assert told["alerts"] == of_user(run.outputs["churn-alerts.jsonl"], user)
    last = of_user(run.outputs["recommendations.jsonl"], user)[-1]
    items = {name: [item.pop(name) for item in last.pop("items")] for name in ("item_id",)}
    made = told["last_list"].pop("items")
    assert told["last_list"] == last
    assert [item["item_id"] for item in made] == items["item_id"]
    summary = json.loads((run.input.parent / "out" / "summary.json").read_bytes())
    assert told["watermark"] == summary["watermark"]
    assert told["left_out"] == 0


def test_the_records_of_all_users_add_up(run: Run) -> None:
    told = [explain(run, user, left_out_max=0).records for user in USERS]
    summary = json.loads((run.input.parent / "out" / "summary.json").read_bytes())
    for name in ("accepted", "duplicates"):
        assert sum(records[name] for records in told) == summary[name]
    for reason in ("too_late", "from_future"):
        assert sum(records.get(reason, 0) for records in told) == summary["dead_letters"][reason]


@pytest.mark.parametrize("user", USERS)
def test_leaving_an_event_out_does_what_the_log_without_it_does(run: Run, user: str, tmp_path: Path) -> None:
    told = explain(run, user, left_out_max=5)
    last = told.last_list
    assert last is not None
    assert told.left_out == 5
    lines = run.input.read_bytes().splitlines()
    own = [i for i, line in enumerate(lines) if _user_of(line) == user]
    if last.trigger == "event":
        own = own[: own.index(int(last.rec_id.removeprefix("file-0-")))]
    ours = {item.item_id: item.score for item in last.items}
    moved = {influence.offset: influence for influence in told.moved_by}
    for offset in own[-5:]:
        # An empty line takes the record's place, so that all others keep their offsets.
        without = [b"" if i == offset else line for i, line in enumerate(lines)]
        other = run_replay(without, tmp_path / str(offset), run.config, run.bundle)
        lists = of_user(other.outputs["recommendations.jsonl"], user)
        if last.trigger == "event":
            lists = [made for made in lists if made["rec_id"] == last.rec_id]
        if not lists:
            assert moved[offset].made_the_list
            continue
        theirs = {item["item_id"]: item["score"] for item in lists[-1]["items"]}
        influence = moved.get(offset)
        if influence is None:
            assert theirs == pytest.approx(ours, abs=1e-4)
            continue
        assert influence.brought == [item for item in ours if item not in theirs]
        assert influence.kept_out == [item for item in theirs if item not in ours]
        for item, change in influence.raised.items():
            assert change == pytest.approx(ours[item] - theirs[item], abs=1e-4)
    assert moved, "an encoder that no event moves would prove nothing"


def test_a_contact_that_moved_the_watermark_made_the_win_back(run: Run, tmp_path: Path) -> None:
    events = [("view", 0, "item-1"), ("view", 60_000, "item-2"), ("mail", 14 * DAY_MS, "item-3")]
    lines = [
        json.dumps({"user_id": "u", "event_type": kind, "t": START_MS + t, "item_id": item}).encode()
        for kind, t, item in events
    ]
    told = explain(run_replay(lines, tmp_path / "log", run.config, run.bundle), "u")
    assert told.last_list is not None
    assert told.last_list.trigger == "lifecycle"
    assert {influence.event_type: influence.made_the_list for influence in told.moved_by} == {
        "mail": True, "view": False,
    }  # fmt: skip
    assert "there would be no list" in text_of(told, run.config)


def _user_of(line: bytes) -> str | None:
    try:
        return str(json.loads(line)["user_id"])
    except ValueError:
        return None


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"similarity": "cosine"},
        {"similarity": "euclid", "encoder": "cnn"},
        {"rerank_hidden": 4},
        {"neighbours": 9},
        {"repeats": 5},
    ],
    ids=["dot", "cosine", "euclid", "reranked", "co-occurrence", "repeats"],
)
def test_the_parts_of_a_score_sum_to_it(run: Run, options: dict[str, Any], tmp_path: Path) -> None:
    bundle = random_bundle(tmp_path / "b", list(KINDS), {}, items=30, **options)
    config = parse_config({**CONFIG, "policies": {"default": {"k": 5, "popularity": 0.3}}})
    told = explain_user("ann", str(run.input), config, bundle.path, now_ms=NOW_MS, left_out_max=1)
    assert told.last_list is not None
    assert [share.item_id for share in told.shares] == [item.item_id for item in told.last_list.items]
    for share, item in zip(told.shares, told.last_list.items, strict=True):
        parts = share.history, share.context, share.prior, share.popularity, share.reranked
        assert sum(parts) + share.co_occurrence + share.repeats == pytest.approx(item.score, abs=1e-4)
        row = bundle.item_ids.index(share.item_id)
        assert share.popularity == pytest.approx(0.3 * bundle.item_prior[row], rel=1e-5)
        assert (share.reranked != 0.0) == ("rerank_hidden" in options)
    for part, option in (("co_occurrence", "neighbours"), ("repeats", "repeats")):
        assert (sum(getattr(share, part) for share in told.shares) > 0.0) == (option in options)
    for share in told.shares:
        assert share.history != 0.0
        assert share.context != 0.0
    text = io.StringIO()
    Console(file=text, width=120).print(page(told, config))
    assert "history" in text.getvalue()
    assert ("reranked" in text.getvalue()) == ("rerank_hidden" in options)
    assert ("co-occurrence" in text.getvalue()) == ("neighbours" in options)
    assert ("repeats" in text.getvalue()) == ("repeats" in options)


def test_the_most_telling_comes_first(run: Run) -> None:
    weights = [influence.weight for influence in explain(run, "ann").moved_by]
    assert weights == sorted(weights, reverse=True)


def test_without_a_model_there_is_a_state_and_no_list(run: Run) -> None:
    told = explain_user("bob", str(run.input), run.config, None, now_ms=NOW_MS)
    assert told.last_list is None
    assert told.moved_by == []
    assert told.user is not None


def test_a_user_without_events_is_wrong_usage(run: Run) -> None:
    for user in ("nobody", "an", "\udcff"):
        with pytest.raises(UsageError, match="no event of this user"):
            explain(run, user)


def test_a_user_who_was_only_contacted_has_no_row(run: Run, tmp_path: Path) -> None:
    line = json.dumps({"user_id": "u", "event_type": "mail", "t": START_MS}).encode()
    only = run_replay([line], tmp_path / "log", run.config, run.bundle)
    told = explain(only, "u")
    assert (told.user, told.records["accepted"]) == (None, 1)
    assert "a contact makes no row" in text_of(told, run.config)


def text_of(told: Explanation, config: Config) -> str:
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(page(told, config))
    return console.export_text()


def test_the_page_says_it_in_words(run: Run) -> None:
    for user in USERS:
        told = explain(run, user, left_out_max=3)
        text = text_of(told, run.config)
        assert told.last_list is not None
        assert told.last_list.items[0].item_id in text
        if told.user is None:
            assert "forgotten" in text
            continue
        for words in (told.user.lifecycle, "Windows", "30d", "spend", "if nothing happens", "What moved it"):
            assert words in text
        if told.user.alert:
            assert told.user.alert in text


def test_the_command_prints_a_page_or_json(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text('[events]\nkinds = { view = "engagement", buy = "conversion", mail = "contact" }\n')
    lines = run.input.read_bytes().replace(b'"t":', b'"event_time":')
    input = tmp_path / "events.jsonl"
    input.write_bytes(lines)
    arguments = ["explain", "--user", "ann", "--input", str(input), "--config", str(config), "--no-model"]
    page_result = CliRunner().invoke(cli.app, arguments)
    assert page_result.exit_code == 0, page_result.output
    assert "Lifecycle" in page_result.output
    told = json.loads(CliRunner().invoke(cli.app, [*arguments, "--json"]).output)
    assert told["user"]["user_id"] == "ann"
    arguments[2] = "nobody"
    assert CliRunner().invoke(cli.app, arguments).exit_code == 2


def test_spans_and_instants_read_well() -> None:
    assert [span(ms) for ms in (500, 90_000, HOUR_MS, 36 * HOUR_MS)] == ["0.5 s", "1.5 min", "1.0 h", "1.5 d"]
    assert when(0) == "1970-01-01 00:00"
    assert when(253_402_300_799_999) == "9999-12-31 23:59"
