"""Values of a config that are tables or lists: event kinds, field names, rings, windows, client settings.

Each reader reports everything that is wrong inside its table, with the keys below it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from stream.config_values import Duration, RefusedError, Whole, parse_duration, refuse, suggest
from stream.core.events import KINDS_MAX, ROLES
from stream.errors import Fault

#: Fields of an event, by the names that the wire contract gives them.
EVENT_FIELDS: Final = (
    "user_id", "event_type", "event_time", "item_id", "event_id", "value", "session_id", "rec_id", "position",
    "context",
)  # fmt: skip

#: What a kind's name may look like: it becomes part of feature names and metric labels.
_NAME: Final = re.compile(r"[^\x00-\x1f\x7f]{1,64}")

RINGS_MAX: Final = 8
#: Buckets of all rings together. At six kinds this is 48 KB a user, sixty times the default.
BUCKETS_MAX: Final = 4_096
WINDOWS_MAX: Final = 16

_OFFSETS: Final = "offsets are committed inside the transaction of the outputs that they belong to"
_IDEMPOTENCE: Final = "transactions need it on"
_ASSIGNMENT: Final = "partitions must move without disturbing those that stay; choose with group.protocol"

#: librdkafka settings that exactly-once depends on, or that have a key of their own: why they are refused.
CLIENT_RESERVED: Final = {
    "bootstrap.servers": "write kafka.bootstrap_servers",
    "metadata.broker.list": "write kafka.bootstrap_servers",
    "group.id": "write kafka.group_id",
    "enable.auto.commit": _OFFSETS,
    "auto.commit.enable": _OFFSETS,
    "auto.commit.interval.ms": _OFFSETS,
    "enable.auto.offset.store": _OFFSETS,
    "auto.offset.reset": "a log that no longer reaches the last commit is refused, never skipped",
    "isolation.level": "state is restored from committed records only",
    "transactional.id": "each worker has its own, from kafka.group_id and EBBTIDE_INSTANCE",
    "enable.idempotence": _IDEMPOTENCE,
    "acks": _IDEMPOTENCE,
    "request.required.acks": _IDEMPOTENCE,
    "enable.gapless.guarantee": _IDEMPOTENCE,
    "partitioner": "keys go by murmur2_random, outputs to the partition number of their input",
    "partition.assignment.strategy": _ASSIGNMENT,
    "enable.partition.eof": "idle partitions are known by it",
    "delivery.report.only.error": "failures are reported, and each is acted on",
    "transaction.timeout.ms": "the bounds of calls and how soon another worker takes over rest on it",
}


class Ring(NamedTuple):
    """A ring of buckets: `buckets` cells of `bucket_ms` each."""

    bucket_ms: int
    buckets: int


class Span(NamedTuple):
    """A window as the file has it: its length, and the bucket size of the ring that it is read from."""

    span_ms: int
    bucket_ms: int


def dotted(name: str) -> str:
    """Write a name as a part of a TOML key."""
    return f".{name}" if re.fullmatch(r"[A-Za-z0-9_-]+", name) else f'."{name}"'


@dataclass(frozen=True)
class Kinds:
    """The vocabulary of event kinds, each with its role."""

    expected: str = f"a table of 1 to {KINDS_MAX} event kinds, each one of {', '.join(ROLES)}"

    def read(self, value: object) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise refuse(self.expected, value)
        faults = []
        if not 1 <= len(value) <= KINDS_MAX:
            faults.append(Fault("", f"expected 1 to {KINDS_MAX} kinds, not {len(value)}"))
        for kind, role in value.items():
            if not _NAME.fullmatch(kind):
                faults.append(
                    Fault(dotted(kind), "a kind's name has 1 to 64 characters, none of them control")
                )
            if role not in ROLES:
                near = suggest(role, ROLES)
                faults.append(Fault(dotted(kind), f'expected one of {", ".join(ROLES)}, not "{role}"', near))
        if not faults and all(role == "contact" for role in value.values()):
            what = "every kind is a contact, so that no user would ever get a row"
            faults.append(Fault("", what, "give at least one kind the role engagement or conversion"))
        if faults:
            raise RefusedError(*faults)
        return {kind: str(role) for kind, role in value.items()}


@dataclass(frozen=True)
class Names:
    """A list of distinct names."""

    expected: str = "a list of distinct names"

    def read(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise refuse(self.expected, value)
        if len(set(value)) < len(value):
            raise RefusedError(Fault("", f"expected {self.expected}; one is named twice"))
        return tuple(value)


@dataclass(frozen=True)
class FieldNames:
    """What a producer calls the fields of an event, where it differs from the contract."""

    expected: str = "a table from a field of the contract to the producer's name for it"

    def read(self, value: object) -> dict[str, str]:
        if not isinstance(value, Mapping):
            raise refuse(self.expected, value)
        faults = []
        for field, name in value.items():
            if field not in EVENT_FIELDS:
                remedy = suggest(field, EVENT_FIELDS) or f"fields: {', '.join(EVENT_FIELDS)}"
                faults.append(Fault(dotted(field), "an event has no such field", remedy))
            if not isinstance(name, str) or not name:
                faults.append(Fault(dotted(field), "expected the producer's name for the field, a string"))
        names = [value.get(field, field) for field in EVENT_FIELDS]
        for field in EVENT_FIELDS:
            if field in value and names.count(value[field]) > 1:
                what = f'another field is read from "{value[field]}" already'
                faults.append(Fault(dotted(field), what, "each field needs a name of its own"))
        if faults:
            raise RefusedError(*faults)
        return dict(value)


@dataclass(frozen=True)
class Rings:
    """The rings of buckets that every window is read from."""

    expected: str = f'a list of 1 to {RINGS_MAX} rings such as {{ bucket = "5m", buckets = 12 }}'

    def read(self, value: object) -> tuple[Ring, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= RINGS_MAX:
            raise refuse(self.expected, value)
        faults: list[Fault] = []
        rings = [self._read_ring(f"[{i}]", table, faults) for i, table in enumerate(value)]
        sizes = [ring.bucket_ms for ring in rings]
        if not faults and len(set(sizes)) < len(sizes):
            faults.append(
                Fault("", "two rings have buckets of one size; a window could not say which it means")
            )
        if not faults and sum(ring.buckets for ring in rings) > BUCKETS_MAX:
            faults.append(Fault("", f"more than {BUCKETS_MAX} buckets in all: every user has them in memory"))
        if faults:
            raise RefusedError(*faults)
        return tuple(rings)

    def _read_ring(self, at: str, table: object, faults: list[Fault]) -> Ring:
        if not isinstance(table, Mapping):
            faults.append(Fault(at, 'expected a table such as { bucket = "5m", buckets = 12 }'))
            return Ring(0, 0)
        read = {}
        for name, reader in (("bucket", Duration(min_ms=1)), ("buckets", Whole(1, BUCKETS_MAX))):
            try:
                read[name] = reader.read(table[name]) if name in table else None
            except RefusedError as refused:
                faults.extend(Fault(f"{at}.{name}", fault.what, fault.remedy) for fault in refused.faults)
                continue
            if read[name] is None:
                faults.append(Fault(f"{at}.{name}", f"is missing; expected {reader.expected}"))
        for name in table.keys() - {"bucket", "buckets"}:
            faults.append(Fault(at + dotted(name), "no such key", suggest(name, ("bucket", "buckets"))))
        return Ring(read.get("bucket") or 0, read.get("buckets") or 0)


@dataclass(frozen=True)
class Windows:
    """The windows: each a length, and the bucket size of the ring that it is read from."""

    expected: str = (
        f'a table of 1 to {WINDOWS_MAX} windows such as {{ "1h" = "5m" }}: an hour of 5-minute buckets'
    )

    def read(self, value: object) -> dict[str, Span]:
        if not isinstance(value, Mapping) or not 1 <= len(value) <= WINDOWS_MAX:
            raise refuse(self.expected, value)
        faults = []
        spans = {}
        for name, bucket in value.items():
            span_ms, bucket_ms = parse_duration(name), parse_duration(bucket)
            if span_ms is None or span_ms <= 0:
                faults.append(Fault(dotted(name), 'a window is named by its length, such as "1h" or "7d"'))
            elif bucket_ms is None or bucket_ms <= 0:
                faults.append(Fault(dotted(name), 'expected the bucket size of a ring, such as "5m"'))
            else:
                spans[name] = Span(span_ms, bucket_ms)
        if faults:
            raise RefusedError(*faults)
        return spans


@dataclass(frozen=True)
class ClientSettings:
    """Settings that go to librdkafka as they are; nested tables are flattened with dots.

    Values never appear in an error: passwords are among them.
    """

    expected: str = 'librdkafka settings, such as "sasl.mechanism" = "PLAIN"'

    def read(self, value: object) -> dict[str, str | int | float | bool]:
        if not isinstance(value, Mapping):
            raise refuse(self.expected, value)
        settings: dict[str, str | int | float | bool] = {}
        faults: list[Fault] = []
        self._flatten("", value, settings, faults)
        if faults:
            raise RefusedError(*faults)
        return settings

    def _flatten(
        self,
        prefix: str,
        table: Mapping[str, object],
        settings: dict[str, str | int | float | bool],
        faults: list[Fault],
    ) -> None:
        for name, value in table.items():
            key = prefix + name
            if isinstance(value, Mapping):
                self._flatten(f"{key}.", value, settings, faults)
            elif key in CLIENT_RESERVED:
                faults.append(Fault(f'."{key}"', "cannot be set here", CLIENT_RESERVED[key]))
            elif key.endswith("_cb"):
                faults.append(Fault(f'."{key}"', "cannot be set here", "a file cannot hold a callback"))
            elif key in settings:
                faults.append(Fault(f'."{key}"', "is given twice, once dotted and once as a table"))
            elif isinstance(value, str | int | float | bool):
                settings[key] = str(value) if isinstance(value, str) else value
            else:
                faults.append(
                    Fault(f'."{key}"', "expected a string, a number or a bool", "join lists with commas")
                )
