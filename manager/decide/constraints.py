"""Placement constraints of the form `node.labels.disk == ssd` or `node.hostname != n1`, and what they read."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Callable
from typing import NamedTuple

from cluster.model.node import Node, NodeDescription

_FORM = re.compile(r"\s*(?P<left>[\w.\-/]+)\s*(?P<operator>==|!=)\s*(?P<right>.+?)\s*")

Test = Callable[[Node, NodeDescription | None], bool]
Reading = Callable[[Node, NodeDescription | None], str]

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "i686": "386",
    "i386": "386",
}

_READINGS: dict[str, Reading] = {
    "node.id": lambda node, description: node.id,
    "node.hostname": lambda node, description: node.name,
    "node.role": lambda node, description: node.role,
    "node.ip": lambda node, description: description.address if description else "",
    "node.platform.os": lambda node, description: description.os if description else "",
    "node.platform.arch": lambda node, description: architecture(description.architecture) if description else "",
}


class Constraint(NamedTuple):
    """`attribute` has its fixed parts in lower case, `value` is wholly in lower case."""

    attribute: str
    equal: bool
    value: str

    @property
    def groups(self) -> bool:
        """Tell whether it chooses the nodes with one value of an attribute."""
        return self.equal and not (self.attribute == "node.ip" and "/" in self.value)


@functools.lru_cache(maxsize=1024)
def parsed(constraint: str) -> Constraint | None:
    """Read a constraint, None when it cannot be read or asks for what nobody knows of nodes."""
    form = _FORM.fullmatch(constraint)
    if form is None:
        return None
    attribute = _attribute(form["left"])
    if reading_of(attribute) is None:
        return None
    value = form["right"].casefold()
    if attribute == "node.platform.arch":
        value = architecture(value)
    return Constraint(attribute, form["operator"] == "==", value)


@functools.lru_cache(maxsize=1024)
def test_for(constraint: str) -> Test:
    """Give the test of whether a node meets a constraint; case does not matter.

    What cannot be read is met by no node; a label that a node does not have is like an empty one. An address may be
    compared with a whole subnet.
    """
    found = parsed(constraint)
    reading = None if found is None else reading_of(found.attribute)
    if found is None or reading is None:
        return lambda node, description: False
    _, equal, value = found
    if not found.groups and found.attribute == "node.ip" and "/" in value:
        return lambda node, description: _within(reading(node, description), value) is equal
    return lambda node, description: (reading(node, description).casefold() == value) is equal


def reading_of(attribute: str) -> Reading | None:
    """Give what reads an attribute of a node, None for one that nobody knows."""
    if attribute.startswith("node.labels."):
        label = attribute.removeprefix("node.labels.")
        return lambda node, description: node.labels.get(label, "")
    if attribute.startswith("engine.labels."):
        engine_label = attribute.removeprefix("engine.labels.")
        return lambda node, description: description.engine_labels.get(engine_label, "") if description else ""
    return _READINGS.get(attribute)


def architecture(name: str) -> str:
    """Call an architecture what images call it: engines say x86_64 of amd64."""
    return _ARCHITECTURES.get(name.casefold(), name.casefold())


def _attribute(written: str) -> str:
    """Put the fixed parts of an attribute's name into lower case, and leave the name of a label as it is."""
    for prefix in ("node.labels.", "engine.labels."):
        if written.casefold().startswith(prefix):
            return prefix + written[len(prefix) :]
    return written.casefold()


def _within(address: str, subnet: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(subnet, strict=False)
    except ValueError:
        return False
