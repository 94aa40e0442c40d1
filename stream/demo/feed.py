"""The demo's eyes: follows the output topics as any consumer would, and keeps what it sees as files.

Reads committed messages only, each partition of each topic in offset order.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final

from stream.broker import Broker, Reader
from stream.demo.view import Seen
from stream.records import Output, RecordBatch
from stream.replay import FILES, Outputs

#: Messages taken from one partition at a time.
MESSAGES_MAX: Final = 5_000
#: A reader that is opened with this end follows its partition for ever.
NO_END: Final = 2**62


class Feed:
    """Follows the outputs of all `partitions` and writes them to files in `folder`.

    `topics` maps the roles of the output topics to their names.
    """

    def __init__(self, broker: Broker, topics: Mapping[str, str], partitions: int, folder: Path) -> None:
        self._readers: dict[tuple[str, int], Reader] = {
            (role, partition): broker.reader(topics[role], partition, 0, NO_END)
            for role in FILES
            for partition in range(partitions)
        }
        self._broker, self._topics, self._partitions = broker, topics, partitions
        folder.mkdir(parents=True, exist_ok=True)
        self._outputs = Outputs(folder)

    def poll(self) -> list[Seen]:
        """Return what has come since, without waiting for more."""
        seen: list[Seen] = []
        for (role, partition), reader in self._readers.items():
            while (batch := reader.read(MESSAGES_MAX, 0.0)).values:
                seen += self._keep(role, partition, batch)
        return seen

    def drain(self) -> list[Seen]:
        """Return the rest, up to what is committed now."""
        admin = self._broker.admin()
        seen: list[Seen] = []
        for (role, partition), reader in self._readers.items():
            (found,) = admin.ranges(self._topics[role], [partition]).values()
            while reader.position() < found.end:
                seen += self._keep(role, partition, reader.read(MESSAGES_MAX, 1.0))
        return seen

    def _keep(self, role: str, partition: int, batch: RecordBatch) -> list[Seen]:
        outputs = [
            Output(role, partition, key, value, headers or [])
            for key, value, headers in zip(batch.keys, batch.values, batch.headers, strict=True)
        ]
        self._outputs.write(outputs)
        return [Seen(role, output.value or b"", _texts(role, output)) for output in outputs]

    def __enter__(self) -> Feed:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._outputs.__exit__(kind, error, trace)
        for reader in self._readers.values():
            reader.close()


def _texts(role: str, output: Output) -> Mapping[str, str]:
    """Return the headers that the view reads: those of dead letters."""
    return {name: value.decode() for name, value in output.headers} if role == "dead_letters" else {}
