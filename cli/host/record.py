"""What this host was asked to be, kept on disk: what a second run goes on from, and what `leave` has to undo."""

from __future__ import annotations

from pathlib import Path

import msgspec

from cluster.errors import Failed
from cluster.files import write_private

DATA = Path("/var/lib/stackyard")
"""Where all of a member's own files are, unless it is told otherwise."""


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """`manager` is the address at which this host's own manager listens, "" where there is none.

    `managers` are the URLs by which the agent reaches managers, `configuration` the engine's file that has our runtime,
    `context` the name that the cluster has in the file of contexts of who typed here. `complete`: all steps were done.
    """

    name: str
    advertise: str
    engine: str
    managers: tuple[str, ...]
    manager: str = ""
    etcd: tuple[str, ...] = ()
    systemd: bool = True
    configuration: str = ""
    context: str = ""
    complete: bool = False


class Home:
    """The directory of a member's files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.manager = directory / "manager"
        self.agent = directory / "agent"
        self.wrapper = directory / "stackyard-runtime"
        self._record = directory / "host.json"

    def is_node(self) -> bool:
        """Whether this host has a certificate as a node of a cluster."""
        return (self.agent / "node.pem").exists()

    def read(self) -> Record | None:
        """What the host was asked to be; None when it is no member."""
        try:
            return msgspec.json.decode(self._record.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError as error:
            raise Failed(f"{self._record} cannot be read: {error}", hint="Mend it or remove it.") from error

    def write(self, record: Record) -> None:
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        write_private(self._record, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")

    def forget(self) -> None:
        self._record.unlink(missing_ok=True)
