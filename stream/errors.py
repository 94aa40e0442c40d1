"""What can go wrong, in the words of the domain.

    EbbtideError                    exit 1
    ├── UsageError                  exit 2: the command cannot be carried out as it was asked
    │   └── ConfigError             the config file, with every fault that was found in it
    ├── InputError                  a file to read from breaks off or is no such file
    ├── BundleError                 the model bundle is missing, damaged or does not fit the config
    ├── BrokerError                 Kafka refused something, or cannot be reached
    │   ├── RetriableError          the same call may be made again
    │   ├── AbortableError          the transaction is lost: undo, abort, and go on with a new one
    │   └── FencedError             the producer is lost: never use it again, make a new one and restore
    ├── StateError                  the committed state and the log do not fit together any more
    └── InvariantError              the program contradicts itself; it stops before it writes nonsense

A bad record is no error: it becomes a dead letter. Whatever else a caller may expect to happen is one of
these. Each says what happened; where (file, key, topic, partition, offset); and what to do about it. None
ever carries a user's id or a record's content, so that every one of them may be logged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class EbbtideError(Exception):
    """Something that a caller may expect to go wrong: what, where, and what to do.

    `place` and `remedy` may be empty where `what` says it all.
    """

    #: What a command that ends with this error returns to the shell.
    exit_code: ClassVar[int] = 1

    def __init__(self, what: str, *, place: str = "", remedy: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        text = f"{self.place}: {self.what}" if self.place else self.what
        return f"{text}\n  → {self.remedy}" if self.remedy else text


class UsageError(EbbtideError):
    """The command cannot be carried out as it was asked."""

    exit_code: ClassVar[int] = 2


class Fault(NamedTuple):
    """One thing that is wrong with a config: the full key, what is wrong, and what to write instead."""

    key: str  # "lifecycle.dormant_after"; "" if the file as a whole is meant
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.key}: {self.what}" if self.key else self.what
        return f"{text} ({self.remedy})" if self.remedy else text


class ConfigError(UsageError):
    """The config file is wrong; `faults` lists everything that is, in the order of the keys' table."""

    def __init__(self, faults: Sequence[Fault], *, place: str) -> None:
        self.faults = tuple(faults)
        count = "1 fault" if len(self.faults) == 1 else f"{len(self.faults)} faults"
        lines = "".join(f"\n  {fault}" for fault in self.faults)
        super().__init__(f"{count} in the config{lines}", place=place)


class InputError(EbbtideError):
    """A file to read from breaks off or is no such file."""


class BundleError(EbbtideError):
    """The model bundle is missing, damaged or does not fit the config."""


class BrokerError(EbbtideError):
    """Kafka refused something, or cannot be reached."""


class RetriableError(BrokerError):
    """A passing fault: the same call may be made again, within a budget."""


class AbortableError(BrokerError):
    """The transaction is lost: undo it, abort it, and go on with a new one."""


class FencedError(BrokerError):
    """The producer is lost (fenced, fatal or timed out): destroy it, make a new one, restore."""


class StateError(EbbtideError):
    """The committed state and the log do not fit together any more."""


class InvariantError(EbbtideError):
    """The program contradicts itself; it stops before it writes nonsense."""
