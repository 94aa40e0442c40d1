"""How the programs read what they are given: what is refused is counted, and what is wrong is a sentence."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from models.dataset import fold_events
from models.options import read_catalogue
from models.run import load_run
from models.sequences import read_atomic, read_sequences
from models.validate import end_of
from stream.errors import InputError
from tests.models.clicks import CONFIG, START_MS
from tests.models.reading import HEAD, RECIPE, fit, run, write_place

DAY_MS = 86_400_000


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return write_place(tmp_path)


def event(**keys: Any) -> str:
    given = {"user_id": "a", "event_type": "view", "event_time": START_MS, "item_id": "x"} | keys
    return json.dumps({key: value for key, value in given.items() if value is not None}) + "\n"


# ------------------------------------------------------------------------------------------- dead letters


def spoil(at: Path, every: int) -> tuple[int, int]:
    """Give every n-th event a type that the config does not know; return how many events there are, and how
    many of them are spoilt.
    """
    lines = (at / "clicks.jsonl").read_text().splitlines()
    for number in range(0, len(lines), every):
        lines[number] = lines[number].replace('"view"', '"viewed"').replace('"buy"', '"viewed"')
    (at / "clicks.jsonl").write_text("\n".join(lines) + "\n")
    return len(lines), len(range(0, len(lines), every))


def test_dead_letters_are_counted_said_and_kept_in_the_record(at: Path) -> None:
    events, dead = spoil(at, 3)
    ran = fit(at)
    assert ran.exit_code == 0, ran.output
    said = f"read {events:,} events: {events - dead:,} accepted, {dead:,} dead letters"
    assert f"{said} (unknown_event_type {dead:,})" in ran.stderr
    assert "ebbtide replay" in ran.stderr
    read = json.loads((at / "run" / "record.json").read_text())["read"]
    assert read == {
        "accepted": events - dead,
        "duplicates": 0,
        "dead_letters": {"unknown_event_type": dead},
    }


def test_where_all_is_well_nothing_is_said_of_dead_letters(at: Path) -> None:
    ran = fit(at)
    assert "dead letters" not in ran.output
    read = load_run(at / "run").record.read
    assert read["dead_letters"] == {}
    assert read["accepted"] > 100


def test_a_record_from_before_says_nothing_of_it_and_is_read(at: Path) -> None:
    fit(at)
    record = json.loads((at / "run" / "record.json").read_text())
    del record["read"]
    (at / "run" / "record.json").write_text(json.dumps(record))
    assert load_run(at / "run").record.read == {}


def test_duplicates_and_what_comes_too_late_are_counted(tmp_path: Path) -> None:
    lines = [
        event(event_id="1"),
        event(event_id="1"),
        event(user_id="b", event_time=START_MS + 30 * DAY_MS),
        event(user_id="c"),
        "no event\n",
    ]
    (tmp_path / "e.jsonl").write_text("".join(lines))
    read = fold_events(str(tmp_path / "e.jsonl"), CONFIG).read
    assert read is not None
    assert (read.total, read.accepted, read.duplicates) == (5, 2, 1)
    assert read.dead_letters == {"not_json": 1, "too_late": 1}


def test_where_everything_is_refused_it_says_how_many_why_and_where_to_look(at: Path) -> None:
    events, dead = spoil(at, 1)
    assert events == dead
    ran = fit(at)
    assert ran.exit_code == 1
    said = " ".join(ran.stderr.split())
    assert f"{dead:,} dead letters (unknown_event_type {dead:,})" in said
    assert f"ebbtide replay --input {at / 'clicks.jsonl'} --no-model" in said
    assert "dead-letters.jsonl" in said


def test_contacts_alone_are_no_sequences(tmp_path: Path) -> None:
    (tmp_path / "ebbtide.toml").write_text('[events]\nkinds = { view = "engagement", mail = "contact" }\n')
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "clicks.jsonl").write_text(event(event_type="mail"))
    ran = fit(tmp_path)
    assert ran.exit_code == 1
    assert "1 accepted" in ran.stderr
    assert "contact" in ran.stderr


# --------------------------------------------------------------------------------------- nothing to learn


def test_an_empty_file_holds_no_event(at: Path) -> None:
    (at / "empty").write_text("")
    for form in ((), ("--format", "sequences"), ("--format", "bare")):
        ran = fit(at, *form, input="empty")
        assert ran.exit_code == 1
        assert "empty: holds no event" in ran.stderr
        assert "support" not in ran.stderr


def test_until_before_everything_leaves_no_event_and_says_so(at: Path) -> None:
    ran = fit(at, "--until", "2001-01-01")
    assert ran.exit_code == 2
    assert "no event before" in ran.stderr
    assert "2023-11" in ran.stderr, "the first event's time"
    assert "cleaning" not in ran.stderr


def test_events_without_any_item_are_refused_in_a_sentence(at: Path) -> None:
    (at / "clicks.jsonl").write_text("".join(event(item_id=None, user_id=f"u{n}") for n in range(9)))
    ran = fit(at)
    assert ran.exit_code == 1
    assert "no event has an item" in ran.stderr


# ------------------------------------------------------------------------------------------ broken files


def test_a_file_that_is_not_there_or_breaks_off_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_sequences(tmp_path / "none.txt")
    packed = gzip.compress(b"u a b\n" * 1000)
    (tmp_path / "s.txt.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(InputError, match=r"s\.txt\.gz"):
        read_sequences(tmp_path / "s.txt.gz")


@pytest.mark.parametrize("bare", [True, False])
def test_a_line_that_is_not_utf_8_is_named(tmp_path: Path, bare: bool) -> None:
    (tmp_path / "s.txt").write_bytes(b"u a b\nv a \xff\xfe b\n")
    with pytest.raises(InputError, match=r"s\.txt:2: no UTF-8"):
        read_sequences(tmp_path / "s.txt", bare=bare)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("u\ti\t1\t3\n\nu\tj\t2\n", r"d\.inter:4: 3 columns"),
        ("", r"d\.inter: holds no event"),
        ("u\ti\t1\t3\nu\tj\tabc\t3\n", r"d\.inter:3: timestamp is no number"),
        ("u\ti\t1\t3\nu\tj\tnan\t3\n", r"d\.inter:3: timestamp is no number"),
        ("u\ti\t-inf\t3\nu\tj\t1\t3\n", r"d\.inter:2: timestamp is no number"),
        ("u\ti\t1700000000000\t3\n", r"d\.inter:2: timestamp lies outside the years 1 to 9999"),
        ("u\ti\t-1e30\t3\n", r"d\.inter:2: timestamp lies outside"),
        ("u\ti\t1\t3\nu\tj\t2\tNaN\n", r"d\.inter:3: rating is no number"),
        ("u\ti\t1\t\n", r"d\.inter:2: rating is no number"),
    ],
)
def test_an_atomic_file_that_is_wrong_is_refused_with_the_line(tmp_path: Path, rows: str, said: str) -> None:
    (tmp_path / "d.inter").write_text(HEAD + rows)
    with pytest.raises(InputError) as caught:
        read_atomic(tmp_path / "d.inter")
    assert caught.match(said)
    assert caught.value.remedy


def test_lines_may_end_as_on_windows(tmp_path: Path) -> None:
    rows = "u\ti\t1\t3\nv\tj\t2\t4\n"
    (tmp_path / "d.inter").write_text(HEAD + rows)
    (tmp_path / "w.inter").write_bytes((HEAD + rows).replace("\n", "\r\n").encode())
    one, other = read_atomic(tmp_path / "d.inter"), read_atomic(tmp_path / "w.inter")
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"item_id": "a", "attributes": {}}\nx\n', "line 2"),
        (b'{"item_id": "a\xff", "attributes": {}}\n', "line 1"),
    ],
)
def test_lines_of_items_are_counted_from_one(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "items.jsonl").write_bytes(content)
    with pytest.raises(InputError, match=said):
        read_catalogue(tmp_path / "items.jsonl")


def test_packed_items_that_break_off_are_named(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl.gz").write_bytes(gzip.compress(b"{}" * 1000)[:20])
    with pytest.raises(InputError, match=r"items\.jsonl\.gz"):
        read_catalogue(tmp_path / "items.jsonl.gz")


@pytest.mark.parametrize(
    ("attributes", "items", "said"),
    [
        ('["colour"]', True, "size"),
        ('["size", "colour"]', True, "colour"),
        ('["colour"]', False, "--items"),
        ('["*"]', False, "--items"),
    ],
)
def test_attributes_that_no_item_has_are_refused_in_a_sentence(
    at: Path, attributes: str, items: bool, said: str
) -> None:
    rows = [{"item_id": f"item-{i}", "attributes": {"size": i, "brand": f"b{i % 2}"}} for i in range(12)]
    (at / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("--items", at / "items.jsonl") if items else ()
    ran = fit(at, *given, "--set", f"attributes={attributes}")
    assert ran.exit_code == 2
    assert "attributes: " in ran.stderr
    assert said in ran.stderr
    assert ("brand, size" in ran.stderr) == items


# ------------------------------------------------------------------------------ times, made up and too far


def test_what_has_no_times_is_explained_without_any(at: Path) -> None:
    (at / "s.txt").write_text("".join(f"u{n} a b c d\n" for n in range(9)))
    form = ("--format", "sequences")
    assert fit(at, *form, input="s.txt").exit_code == 0
    words = ("explain", at / "run", "--user", "u3", "--input", at / "s.txt", *form, "--threads", 1)
    page = run(*words)
    assert page.exit_code == 0, page.output
    assert "1970" not in page.stdout
    assert "the list after 4 events" in page.stdout
    said = json.loads(run(*words, "--json").stdout)
    assert said["event_time"] is None
    assert {each["event_time"] for each in said["influences"]} == {None}


def test_what_has_times_is_explained_with_them(at: Path) -> None:
    rows = "".join(f"u{n}\ti{k}\t{880_000_000 + 86_400 * k}\t3\n" for n in range(9) for k in range(4))
    (at / "d.inter").write_text(HEAD + rows)
    form = ("--format", "atomic")
    assert fit(at, *form, input="d.inter").exit_code == 0
    ran = run("explain", at / "run", "--user", "u3", "--input", at / "d.inter", *form)
    assert "the list after 4 events, at 1997-11-23" in ran.stdout


def test_an_event_of_a_far_year_is_named_and_until_leaves_it_out(at: Path) -> None:
    with (at / "clicks.jsonl").open("a") as file:
        file.write(event(user_id="z", item_id="item-3", event_time="9999-12-31T00:00:00Z"))
    ran = fit(at)
    assert ran.exit_code == 0, ran.output
    said = " ".join(ran.stderr.split())
    assert "9999-12-31" in said
    assert "view of item-3" in said
    assert "--until 2023-12" in said
    ran = fit(at, "--until", "2024-01-01", out="other")
    assert ran.exit_code == 0, ran.output
    assert "9999" not in ran.stderr


def test_the_end_of_ordinary_events_is_their_last_and_raises_no_doubt(at: Path) -> None:
    data = fold_events(str(at / "clicks.jsonl"), CONFIG)
    assert end_of(data) == data.time_ms.max() + 1
    assert "999" not in fit(at).stderr
