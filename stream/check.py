"""What is wrong with a config's bundle, broker and topics, all of it, each with its remedy.

The config itself was loaded without a fault, or there would be nothing to check. Asks the broker, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from stream.broker import Broker
from stream.config import Config
from stream.errors import EbbtideError, Fault
from stream.topics import Finding, judge, topic_names


def find_faults(
    config: Config, open_broker: Callable[[Config], Broker]
) -> Iterator[tuple[str, list[Finding]]]:
    """Yield what was looked at and what is wrong with it, in the order in which one would mend it."""
    yield "bundle", list(_check_bundle(config))
    if faults := check_client(config):
        yield "client", [Finding(*fault) for fault in faults]
        return
    yield "client", []
    admin = open_broker(config).admin()
    try:
        found = admin.describe(list(topic_names(config).values()))
    except EbbtideError as error:
        remedy = "is it up, and does [kafka.client] say how to connect?"
        yield "broker", [Finding(config.kafka.bootstrap_servers, error.what, error.remedy or remedy)]
        return
    finally:
        admin.close()
    yield "broker", []
    yield "topics", list(judge(config, found))


def _check_bundle(config: Config) -> Iterator[Finding]:
    place = "bundle.path"
    if config.bundle.path is None:
        what = "there is no bundle: windows, lifecycle and alerts go on, nothing is recommended"
        yield Finding(place, what, "set bundle.path once there is a model", note=True)
        if config.lifecycle.risk == "model":
            what = 'is "model", and there is no bundle to have a hazard head'
            yield Finding("lifecycle.risk", what, 'set bundle.path, or risk = "rhythm"')
        return
    # They load ONNX Runtime and the compiler, which takes its time.
    from stream.bundle import open_bundle
    from stream.items import ItemTable
    from stream.model import Model

    try:
        bundle = open_bundle(config.bundle.path)
        Model(bundle, config, ItemTable(bundle.item_ids))
    except EbbtideError as error:
        remedy = error.remedy or "export the bundle again, or name another"
        yield Finding(error.place or str(config.bundle.path), error.what, remedy)
        return
    if config.lifecycle.risk == "model" and bundle.manifest.hazard is None:
        what = 'is "model", and the bundle has no hazard head'
        yield Finding("lifecycle.risk", what, 'train one with a hazard head, or set risk = "rhythm"')


def check_client(config: Config) -> list[Fault]:
    """Return the settings of `[kafka.client]` that librdkafka refuses.

    It says so where a client is made, one at a time: what it named is left out, and the next try names the
    next. Nothing is sent to a broker.
    """
    from confluent_kafka import Consumer, Producer
    from confluent_kafka.admin import AdminClient

    from stream.kafka_settings import admin_settings, publisher_settings, source_settings

    servers, group = config.kafka.bootstrap_servers, config.kafka.group_id
    client = {**config.kafka.client, "log_level": 0}
    faults: list[Fault] = []
    clients: tuple[tuple[Callable[[Any], Any], Callable[[], Any]], ...] = (
        (Consumer, lambda: source_settings(servers, group, client)),
        (Producer, lambda: publisher_settings(servers, client)),
        (AdminClient, lambda: admin_settings(servers, client)),
    )
    for make, settings in clients:
        while what := _refusal(make, settings()):
            key = next((key for key in client if f'"{key}"' in what), None)
            full = f'kafka.client."{key}"' if key else "kafka.client"
            faults.append(Fault(full, what, "librdkafka's CONFIGURATION.md lists its settings"))
            if key is None:
                break
            del client[key]
    return faults


def _refusal(make: Callable[[dict[str, Any]], Any], settings: dict[str, Any]) -> str:
    """Make a client and say why librdkafka refused it, or nothing."""
    from confluent_kafka import KafkaException

    try:
        made = make(settings)
    except KafkaException as error:
        return str(error.args[0].str())
    if hasattr(made, "close"):
        made.close()
    return ""
