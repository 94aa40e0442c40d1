"""What is wrong with a config's bundle, broker and topics, all of it, each with its remedy.

The config itself was loaded without a fault, or there would be nothing to check. Asks the broker, changes
nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from stream.broker import Broker
from stream.config import Config
from stream.errors import EbbtideError
from stream.topics import Finding, judge, topic_names


def find_faults(
    config: Config, open_broker: Callable[[Config], Broker]
) -> Iterator[tuple[str, list[Finding]]]:
    """Yield what was looked at and what is wrong with it, in the order in which one would mend it."""
    yield "bundle", list(_check_bundle(config))
    admin = None
    try:
        admin = open_broker(config).admin()
        found = admin.describe(list(topic_names(config).values()))
    except EbbtideError as error:
        yield "broker", [_finding(error, config.kafka.bootstrap_servers)]
        return
    finally:
        if admin is not None:
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
        yield _finding(error, str(config.bundle.path))
        return
    if config.lifecycle.risk == "model" and bundle.manifest.hazard is None:
        what = 'is "model", and the bundle has no hazard head'
        yield Finding("lifecycle.risk", what, 'train one with a hazard head, or set risk = "rhythm"')


def _finding(error: EbbtideError, place: str) -> Finding:
    return Finding(error.place or place, error.what, error.remedy)
