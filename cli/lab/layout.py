"""Where everything of a lab is: names, addresses and paths, all derived from the lab's name and subnet."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import UserError

REGISTRY_HOST = 253  # the address in the subnet of the image registry,
MACHINE_HOST = 254  # and of the machine that the lab runs on
REGISTRY_PORT = 5000
API_PORT = 2377
MAX_NODES = 200

_NAME = re.compile(r"[a-z][a-z0-9]{0,7}\Z")
_NODE = re.compile(r"n([1-9][0-9]{0,2})\Z")


@dataclass(frozen=True, slots=True)
class Layout:
    """The names of one lab. Labs of different names and subnets live side by side; only images are shared."""

    name: str = "lab"
    subnet: str = "10.77.0.0/24"

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            # no hyphen, so that the prefix of one lab is never the beginning of another's; short, as it names a link
            raise UserError(
                f"{self.name!r} cannot be the name of a lab",
                hint="Use up to eight lower-case letters and digits, a letter first.",
            )
        try:
            network = ipaddress.IPv4Network(self.subnet)
        except ValueError as error:
            raise UserError(f"the lab's subnet {self.subnet!r} is no IPv4 network: {error}") from error
        if network.prefixlen != 24:
            raise UserError(f"the lab's subnet {self.subnet} is not a /24", hint="Give one like 10.77.0.0/24.")

    @property
    def prefix(self) -> str:
        """Begins the name of each thing that the lab makes on the machine."""
        return f"stackyard-{self.name}-"

    @property
    def run_dir(self) -> Path:
        return Path("/run") / f"stackyard-{self.name}"

    @property
    def data_dir(self) -> Path:
        return Path("/var/lib") / f"stackyard-{self.name}"

    @property
    def state_file(self) -> Path:
        return self.data_dir / "lab.json"

    @property
    def hosts_file(self) -> Path:
        """The /etc/hosts of all nodes."""
        return self.data_dir / "hosts"

    @property
    def lock_file(self) -> Path:
        return Path("/run/lock") / f"stackyard-{self.name}.lock"

    @property
    def cache_dir(self) -> Path:
        """Images, shared by all labs of the machine and kept when they go down."""
        return Path("/var/cache/stackyard-lab")

    def address(self, host: int) -> str:
        return str(ipaddress.IPv4Network(self.subnet)[host])

    @property
    def registry(self) -> str:
        return f"{self.address(REGISTRY_HOST)}:{REGISTRY_PORT}"

    @property
    def machine_link(self) -> str:
        return f"sy-{self.name}"

    def namespace(self, what: str) -> str:
        return self.prefix + what

    def namespace_path(self, what: str) -> Path:
        return Path("/run/netns") / self.namespace(what)

    def node(self, name: str) -> NodeLayout:
        match = _NODE.match(name)
        if not match or int(match[1]) > MAX_NODES:
            raise UserError(
                f"{name!r} is no node of a lab", hint="Nodes are called n1, n2, ...: see `stack lab status`."
            )
        return NodeLayout(self, int(match[1]))

    def nodes(self, count: int) -> list[NodeLayout]:
        if not 1 <= count <= MAX_NODES:
            raise UserError(f"a lab has 1 to {MAX_NODES} nodes, not {count}")
        return [NodeLayout(self, number) for number in range(1, count + 1)]


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """The names of one node: `n1` has the first address of the subnet."""

    lab: Layout
    number: int

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def address(self) -> str:
        return self.lab.address(self.number)

    @property
    def namespace(self) -> str:
        return self.lab.namespace(self.name)

    @property
    def switch_port(self) -> str:
        return f"p{self.number}"

    @property
    def cgroup(self) -> str:
        return self.lab.namespace(self.name)

    @property
    def run_dir(self) -> Path:
        """The node's /run, as the machine sees it."""
        return self.lab.run_dir / self.name

    @property
    def data_dir(self) -> Path:
        return self.lab.data_dir / self.name

    @property
    def engine_socket(self) -> Path:
        return self.run_dir / "docker.sock"

    @property
    def manager_socket(self) -> Path:
        return self.run_dir / "stackyard" / "manager.sock"

    @property
    def api_url(self) -> str:
        return f"https://{self.address}:{API_PORT}"
