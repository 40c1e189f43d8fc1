"""The file by which the node itself asks for names, read again when it changed."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.resolv_conf import ResolvConf, parse

log = logging.getLogger(__name__)

PLACE = Path("/etc/resolv.conf")


class NodeDns:
    """What the file says. One that cannot be read counts as empty."""

    def __init__(self, path: Path = PLACE) -> None:
        self._path = path
        self._changed_at = 0
        self._held = ResolvConf()

    def read(self) -> ResolvConf:
        try:
            changed_at = self._path.stat().st_mtime_ns
            if changed_at != self._changed_at:
                self._held, self._changed_at = parse(self._path.read_text(errors="replace")), changed_at
        except OSError as error:
            log.debug("the node's %s cannot be read: %s", self._path, error)
            return ResolvConf()
        return self._held
