"""The lab's network: one bridge in a network namespace of its own, and a cable to it from each node and the machine.

Every step looks at what the kernel has and makes what is missing, so a half-made network is completed, not refused.
"""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any

from cli.lab.layout import MACHINE_HOST, Layout
from cli.lab.processes import run
from cluster.errors import Conflict, Failed

_NAMESPACES = Path("/run/netns")
_BRIDGE = "br0"


class Switch:
    """The bridge and its ports; a port's other end is `eth0` of the namespace that it leads to."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._namespace = layout.namespace("switch")

    def up(self) -> None:
        """Bring up the bridge and the machine's own cable; ports come with `plug`."""
        self._refuse_taken_subnet()
        if not is_namespace(self._namespace):
            remove_namespace(self._namespace)
            run(["ip", "netns", "add", self._namespace])
        links = _links(self._namespace)
        if _BRIDGE not in links:
            self._ip(f"link add {_BRIDGE} type bridge")
            self._check_vxlan()
        # frames that cross the switch are no business of netfilter, which would see every packet twice
        silence = "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done"
        run(["nsenter", f"--net={_NAMESPACES / self._namespace}", "sh", "-c", silence])
        self._ip("link set lo up", f"link set {_BRIDGE} up")
        self._machine_cable("machine" in links)

    def plug(self, what: str, port: str, address: str) -> None:
        """A new network namespace for `what`, cabled to the switch; an old one of that name is thrown away."""
        self.unplug(what, port)
        namespace = self._layout.namespace(what)
        run(["ip", "netns", "add", namespace])
        # the same hardware address each time, as a host has: neighbours still have it in their ARP tables
        hardware = "02:53:" + ":".join(f"{byte:02x}" for byte in ipaddress.IPv4Address(address).packed)
        self._ip(
            f"link add {port} type veth peer name eth0 address {hardware} netns {namespace}",
            f"link set {port} master {_BRIDGE} up",
        )
        _batch(namespace, "link set lo up", f"addr add {address}/24 dev eth0", "link set eth0 up")

    def unplug(self, what: str, port: str) -> None:
        # both ends go now; with the namespace they would go some time later
        self._change_port(port, f"link del {port}")
        remove_namespace(self._layout.namespace(what))

    def set_port(self, port: str, up: bool) -> None:
        """Pull the cable out of the switch or put it back in; a port that is not there is as good as pulled."""
        if not self._change_port(port, f"link set {port} {'up' if up else 'down'}") and up:
            raise Failed(f"the lab's switch has no port {port}", hint="`stack lab up` mends the lab.")

    def _change_port(self, port: str, command: str) -> bool:
        """Whether the port is there to be changed: the kernel may be taking it away, as its other end has gone."""
        if port not in _links(self._namespace):
            return False
        try:
            self._ip(command)
        except Failed:
            if port in _links(self._namespace):
                raise
            return False
        return True

    def ports_up(self) -> set[str]:
        """The ports with their cable in."""
        return {name for name, link in _links(self._namespace).items() if "UP" in link["flags"]}

    def down(self) -> None:
        """Remove every namespace and link of the lab, also those that no present node accounts for."""
        if self._layout.machine_link in _links(None):
            run(["ip", "link", "del", self._layout.machine_link])
        if _NAMESPACES.is_dir():
            for path in sorted(_NAMESPACES.glob(self._layout.prefix + "*")):
                remove_namespace(path.name)

    def _machine_cable(self, switch_end: bool) -> None:
        link, address = self._layout.machine_link, self._layout.address(MACHINE_HOST)
        if link in _links(None) and not switch_end:
            run(["ip", "link", "del", link])  # its other end is in a namespace that has lost its name
        if link not in _links(None):
            run(["ip", "link", "add", link, "type", "veth", "peer", "name", "machine", "netns", self._namespace])
        self._ip(f"link set machine master {_BRIDGE} up")
        run(["ip", "addr", "replace", f"{address}/24", "dev", link])
        run(["ip", "link", "set", link, "up"])

    def _refuse_taken_subnet(self) -> None:
        subnet = ipaddress.IPv4Network(self._layout.subnet)
        for route in json.loads(run(["ip", "-4", "-j", "route", "show", "table", "main"]) or "[]"):
            if route["dst"] == "default" or route.get("dev") == self._layout.machine_link:
                continue
            if ipaddress.IPv4Network(route["dst"]).overlaps(subnet):
                raise Conflict(
                    f"this machine already has a route to {route['dst']} by {route.get('dev', '?')}, "
                    f"which overlaps the lab's network {subnet}",
                    hint="Give the lab another one with --subnet, or take down the other lab.",
                )

    def _check_vxlan(self) -> None:
        try:
            self._ip("link add vxlan-check type vxlan id 1 dstport 4789", "link del vxlan-check")
        except Failed as error:
            raise Failed(
                f"this kernel cannot make VXLAN devices, which overlay networks need: {error.message}",
                hint="Load the module with `modprobe vxlan`, or use a kernel that has it.",
            ) from error

    def _ip(self, *commands: str) -> None:
        _batch(self._namespace, *commands)


def is_namespace(name: str) -> bool:
    """Whether a network namespace of that name exists: an empty file is left where the kernel's mount has gone."""
    try:
        return (_NAMESPACES / name).stat().st_dev != _NAMESPACES.stat().st_dev
    except FileNotFoundError:
        return False


def remove_namespace(name: str) -> None:
    if (_NAMESPACES / name).exists():
        run(["ip", "netns", "del", name])


def _links(namespace: str | None) -> dict[str, dict[str, Any]]:
    if namespace is not None and not is_namespace(namespace):
        return {}
    where = [] if namespace is None else ["-n", namespace]
    return {link["ifname"]: link for link in json.loads(run(["ip", *where, "-j", "link", "show"]))}


def _batch(namespace: str, *commands: str) -> None:
    run(["ip", "-n", namespace, "-batch", "-"], stdin="\n".join(commands) + "\n")
