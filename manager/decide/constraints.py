"""Placement constraints of the form `node.labels.disk == ssd` or `node.hostname != n1`."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

from cluster.model.node import Node, NodeDescription

_FORM = re.compile(r"\s*(?P<left>[\w.\-/]+)\s*(?P<operator>==|!=)\s*(?P<right>.+?)\s*")

Test = Callable[[Node, NodeDescription | None], bool]
Reading = Callable[[Node, NodeDescription | None], str]

_READINGS: dict[str, Reading] = {
    "node.id": lambda node, description: node.id,
    "node.hostname": lambda node, description: node.name,
    "node.role": lambda node, description: node.role,
    "node.platform.os": lambda node, description: description.os if description else "",
    "node.platform.arch": lambda node, description: description.architecture if description else "",
}


@functools.lru_cache(maxsize=1024)
def test_for(constraint: str) -> Test:
    """Give the test of whether a node meets a constraint; case does not matter.

    What cannot be read is met by no node; a label that a node does not have is like an empty one.
    """
    form = _FORM.fullmatch(constraint)
    reading = None if form is None else _reading(form["left"])
    if form is None or reading is None:
        return lambda node, description: False
    right, equal = form["right"].casefold(), form["operator"] == "=="
    return lambda node, description: (reading(node, description).casefold() == right) is equal


def _reading(attribute: str) -> Reading | None:
    """Give what reads an attribute of a node, None for one that nobody knows."""
    if attribute.startswith("node.labels."):
        label = attribute.removeprefix("node.labels.")
        return lambda node, description: node.labels.get(label, "")
    if attribute.startswith("engine.labels."):
        engine_label = attribute.removeprefix("engine.labels.")
        return lambda node, description: description.engine_labels.get(engine_label, "") if description else ""
    return _READINGS.get(attribute)
