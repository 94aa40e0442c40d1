"""What is wrong with a config's bundle, broker and topics, all of it, each with its remedy.

The config itself was loaded without a fault, or there would be nothing to check. Asks the broker, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from stream.broker import Broker, Topic
from stream.clock import Clock, SystemClock
from stream.config import Config
from stream.errors import BrokerError, EbbtideError, Fault, RetriableError, UsageError
from stream.group_check import check_group
from stream.log import log
from stream.sampling import judge_keys, sample_keys
from stream.topics import Finding, judge, topic_names
from stream.upkeep.logs import ask, count_partitions

#: How long a start waits for an answer about its topics; the worker itself waits without a limit.
START_PATIENCE_S: Final = 10.0


def find_faults(
    config: Config, open_broker: Callable[[Config], Broker]
) -> Iterator[tuple[str, list[Finding]]]:
    """Yield what was looked at and what is wrong with it, in the order in which one would mend it."""
    yield "bundle", list(_check_bundle(config))
    if faults := check_client(config):
        yield "client", [Finding(*fault) for fault in faults]
        return
    yield "client", []
    broker = open_broker(config)
    try:
        found = _describe(config, broker)
    except EbbtideError as error:
        remedy = "is it up, and does [kafka.client] say how to connect?"
        yield "broker", [Finding(config.kafka.bootstrap_servers, error.what, error.remedy or remedy)]
        return
    yield "broker", []
    yield "topics", list(judge(config, found))
    events, state = found[config.topics.events], found[config.topics.user_state]
    if events is not None:
        clock = SystemClock()
        yield "keys", list(judge_keys(sample_keys(broker, events.name, events.partitions, clock)))
        if state is not None:
            known = min(events.partitions, state.partitions)
            yield "group", list(check_group(config, broker, known, events.partitions, clock))


def refuse_start(config: Config, broker: Broker, clock: Clock) -> None:
    """Raise UsageError if a worker would lose or misplace state on the topics as they are; warn of the rest.

    What cannot be found out now (the broker is away, or gives no account of its topics) is left to the
    worker. Keys are looked at before the first commit only: afterwards a start changes nothing about them.
    """
    try:
        found = ask(lambda: _describe(config, broker), clock, patience_s=START_PATIENCE_S)
        findings = list(judge(config, found))
        if all(finding.note for finding in findings):
            findings += _judge_first_keys(config, broker, clock)
    except BrokerError as error:
        log.warning("the topics are not checked: %s", error.what)
        return
    for place, what, remedy, note in findings:
        if note:
            log.warning("%s: %s (%s)", place, what, remedy)
    if wrong := [finding for finding in findings if not finding.note]:
        lines = "".join(f"\n  {place}: {what}\n    → {remedy}" for place, what, remedy, _ in wrong)
        raise UsageError(f"the topics will not do{lines}", remedy="`ebbtide check` looks at everything")


def _judge_first_keys(config: Config, broker: Broker, clock: Clock) -> list[Finding]:
    """Return what is wrong with the keys if nobody has committed yet; only split ones are no note."""
    topic = config.topics.events
    partitions = range(count_partitions(broker, topic, clock))
    source = broker.source()
    try:
        committed = ask(lambda: source.committed(partitions), clock, patience_s=1.0)
    except RetriableError:
        return []  # somebody's commit is pending, or nobody answers
    finally:
        source.close()
    if any(at is not None for at in committed.values()):
        return []
    sample = sample_keys(broker, topic, len(partitions), clock)
    return [finding._replace(note=not sample.split) for finding in judge_keys(sample)]


def _describe(config: Config, broker: Broker) -> dict[str, Topic | None]:
    admin = broker.admin()
    try:
        return admin.describe(list(topic_names(config).values()))
    finally:
        admin.close()


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
