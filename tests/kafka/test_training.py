"""`ebbtide-train fit --kafka` on Apache Kafka learns what a file of the same records teaches, bit for bit."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import pytest
import torch
from typer.testing import CliRunner

from models import cli
from models.sources import read_partition
from stream.broker import Identity, Sink, Topic
from stream.kafka_broker import KafkaBroker
from stream.records import Output
from tests.kafka.broker import own_kafka, shared_kafka

pytestmark = pytest.mark.kafka

PARTITIONS = 2
USERS = 12
START_MS = 1_700_000_000_000
RECIPE = """
encoder_config = { hidden = 8 }
embedding_size = 8
step_features = ["gap_log", "kind=view", "kind=buy"]
epochs = 2
"""


class Click(NamedTuple):
    user: int
    line: bytes

    @property
    def output(self) -> Output:
        return Output("events", self.user % PARTITIONS, f"user-{self.user}".encode(), self.line, [])


class Place(NamedTuple):
    """A folder with a config and a recipe, and a topic that holds what `file` holds."""

    folder: Path
    topic: str
    file: Path

    def fit(self, out: str, *source: Any) -> Any:
        fixed = ("--recipe", self.folder / "recipe.toml", "--config", self.folder / "ebbtide.toml")
        words = ["fit", *fixed, "--threads", 1, "--out", self.folder / out, *source]
        return CliRunner().invoke(cli.app, [str(word) for word in words])

    def run_of(self, out: str) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
        """Return a run's record and its weights."""
        record = json.loads((self.folder / out / "record.json").read_text())
        return record, torch.load(self.folder / out / "model.pt", weights_only=True)["weights"]


def make_clicks(count: int, item: str, seed: int) -> list[Click]:
    """Return clicks within an hour: a file that has the partitions one after the other is not late then."""
    chance = random.Random(seed)
    clicks = []
    for n in range(count):
        user = chance.randrange(USERS)
        event = {
            "user_id": f"user-{user}",
            "event_type": chance.choice(["view", "buy"]),
            "event_time": START_MS + 5_000 * n,
            "item_id": f"{item}-{(user + n) % 9}",
        }
        clicks.append(Click(user, json.dumps(event).encode()))
    return clicks


def send(sink: Sink, clicks: Sequence[Click]) -> None:
    """Begin a transaction with these clicks; they are in the log when this returns."""
    sink.begin()
    sink.produce([click.output for click in clicks])
    sink.flush()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Clicks in transactions and outside; one is aborted in the middle, one at the end, one stays open."""
    folder, topic = tmp_path_factory.mktemp("training"), f"clicks-{uuid4().hex[:8]}"
    servers = shared_kafka().bootstrap_servers
    broker = KafkaBroker(servers, Identity(topic, topic, {"events": topic}))
    broker.admin().create([Topic(topic, PARTITIONS)])
    clicks, ghosts = make_clicks(400, "item", 1), make_clicks(60, "ghost", 2)
    sink = broker.sink()
    sink.open()
    send(sink, clicks[:150])
    sink.commit()
    send(sink, ghosts[:20])
    sink.abort()
    publisher = broker.publisher()
    outputs = [click.output for click in clicks[150:]]
    publisher.publish(
        topic,
        [output.key for output in outputs],
        [output.value for output in outputs],
        partitions=[output.partition for output in outputs],
    )
    publisher.flush()
    publisher.close()
    send(sink, ghosts[20:40])
    sink.abort()
    send(sink, ghosts[40:])
    by_partition = [click.line for p in range(PARTITIONS) for click in clicks if click.user % PARTITIONS == p]
    (folder / "clicks.jsonl").write_bytes(b"".join(line + b"\n" for line in by_partition))
    (folder / "recipe.toml").write_text(RECIPE)
    (folder / "ebbtide.toml").write_text(
        '[events]\nkinds = { view = "engagement", buy = "conversion" }\n'
        f'[kafka]\ngroup_id = "{topic}"\n[topics]\nevents = "{topic}"\n'
    )
    yield Place(folder, topic, folder / "clicks.jsonl")
    sink.destroy()  # what is open is aborted by the broker, if it was not already


def test_a_topic_teaches_what_a_file_of_its_records_teaches(place: Place) -> None:
    ran = place.fit("topic", "--kafka", shared_kafka().bootstrap_servers)
    assert ran.exit_code == 0, ran.output
    ran = place.fit("file", "--input", place.file)
    assert ran.exit_code == 0, ran.output
    (filed, filed_weights), (read, read_weights) = (place.run_of(out) for out in ("file", "topic"))
    assert (read["users"], read["events"]) == (USERS, 400)
    assert "ghost" not in (place.folder / "topic" / "items.json").read_text()
    assert read["fingerprint"] == filed["fingerprint"]
    assert read["loss"] == filed["loss"]
    assert len(read["loss"]) == 2
    assert read_weights.keys() == filed_weights.keys()
    for name, weight in read_weights.items():
        assert torch.equal(weight, filed_weights[name]), name


def test_a_topic_that_is_not_there_is_a_clear_error(place: Place) -> None:
    ran = place.fit("none", "--kafka", shared_kafka().bootstrap_servers, "--topic", "no-such-clicks")
    assert ran.exit_code == 1
    assert "no-such-clicks: there is no such topic" in ran.output
    assert not (place.folder / "none").exists()


def test_a_topic_that_holds_nothing_is_a_clear_error(place: Place) -> None:
    servers, topic = shared_kafka().bootstrap_servers, f"{place.topic}-empty"
    broker = KafkaBroker(servers, Identity(topic, topic, {"events": topic}))
    broker.admin().create([Topic(topic, PARTITIONS)])
    ran = place.fit("none", "--kafka", servers, "--topic", topic)
    assert ran.exit_code == 1
    assert "holds no event" in ran.output


def test_a_broker_that_comes_back_is_waited_for() -> None:
    with own_kafka() as cluster:
        broker = KafkaBroker(cluster.bootstrap_servers, Identity("g", "t", {"events": "clicks"}))
        broker.admin().create([Topic("clicks", 1)])
        clicks = make_clicks(50, "item", 3)
        publisher = broker.publisher()
        publisher.publish("clicks", [None] * 50, [click.line for click in clicks])
        publisher.flush()
        publisher.close()
        (node,) = cluster.nodes
        node.kill()
        returns = threading.Timer(3.0, node.start)
        returns.start()
        batches = list(read_partition(broker, "clicks", 0, 0, 50, 20))
        returns.join()
    assert [value for batch in batches for value in batch.values] == [click.line for click in clicks]
