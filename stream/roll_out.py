"""Roll-outs: a worker goes over to another bundle while it stays in its group.

    wanted   a command of the control topic named a version, and it is not the one that runs
    found    the folder of the config holds it, whole, and it fits the config
    over     every partition is live and no row waits to be written: nothing is left that the old bundle must
             replay. Then all partitions are restored, with the new one (`renew.py` makes the users' states)

Who rolls out puts the new folder there first, by a rename or a link that is turned, as a worker reads the
files of the one that runs. A bundle that is missing or will not do is refused, and the worker stays as it is.
"""

from __future__ import annotations

from stream.bundle import open_bundle
from stream.config import Config
from stream.errors import EbbtideError
from stream.log import log
from stream.workshop import Workshop


class RollOut:
    """What one worker has been told, and has not done yet."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._wanted: str | None = None
        self._found: Workshop | None = None

    def want(self, version: str) -> None:
        """Note a command; the last one holds."""
        self._wanted, self._found = version, None

    def find(self, running: Workshop) -> Workshop | None:
        """Return what to go over to, None if nothing is wanted, or it runs, or it is not there."""
        if self._wanted is None:
            return None
        if running.model is not None and running.model.version == self._wanted:
            self._wanted = self._found = None
        elif self._found is None:
            self._found = self._open(self._wanted)
            if self._found is None:
                self._wanted = None
        return self._found

    def _open(self, wanted: str) -> Workshop | None:
        path = self._config.bundle.path
        if path is None:
            log.warning("a roll-out is refused: the config names no bundle, and users have no states for one")
            return None
        try:
            bundle = open_bundle(path)
            if bundle.version != wanted:
                log.warning("a roll-out is refused: it is of %s; %s holds %s", wanted, path, bundle.version)
                return None
            found = Workshop(self._config, bundle)
        except EbbtideError as error:
            log.warning("a roll-out is refused: %s", error)
            return None
        log.info("going over to the bundle %s", wanted)
        return found
