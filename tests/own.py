"""What of the machine is this process's own, so that neither two runs of the tests nor the workers of one meet.

STACKYARD_TEST_LAB names a run (up to six characters count), STACKYARD_TEST_SUBNET is the first of its networks: each
worker of pytest-xdist takes five from there on.
"""

from __future__ import annotations

import ipaddress
import os

RUN = os.environ.get("STACKYARD_TEST_LAB", "itest")[:6]
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
NAME = f"{RUN}{WORKER or ''}"
_FIRST = ipaddress.IPv4Network(os.environ.get("STACKYARD_TEST_SUBNET", "10.78.0.0/24"))
_KINDS = ("", "l", "k", "h", "c")
CLUSTER, LAB, KILLED, HOSTS, CHAOS = _KINDS


def place(kind: str) -> tuple[str, str]:
    """The name and the subnet of this process's lab of that kind."""
    nth = len(_KINDS) * WORKER + _KINDS.index(kind)
    network = ipaddress.IPv4Network((int(_FIRST.network_address) + 256 * nth, 24))
    return f"{RUN}{kind}{WORKER or ''}", str(network)
