"""Placement constraints of the form `node.labels.disk == ssd` or `node.hostname != n1`."""

from __future__ import annotations

import re

from cluster.model.node import Node, NodeDescription

_FORM = re.compile(r"\s*(?P<left>[\w.\-/]+)\s*(?P<operator>==|!=)\s*(?P<right>.+?)\s*")


def matches(constraint: str, node: Node, description: NodeDescription | None) -> bool:
    """Tell whether a node meets a constraint; case does not matter, and what cannot be read is met by no node."""
    form = _FORM.fullmatch(constraint)
    if form is None:
        return False
    value = _value(form["left"], node, description)
    if value is None:
        return False
    return (value.casefold() == form["right"].casefold()) is (form["operator"] == "==")


def _value(attribute: str, node: Node, description: NodeDescription | None) -> str | None:
    """Give what a node has for an attribute, "" for a label that it does not have, None for an unknown attribute."""
    if attribute.startswith("node.labels."):
        return node.labels.get(attribute.removeprefix("node.labels."), "")
    engine_labels = {} if description is None else description.engine_labels
    if attribute.startswith("engine.labels."):
        return engine_labels.get(attribute.removeprefix("engine.labels."), "")
    return {
        "node.id": node.id,
        "node.hostname": node.name,
        "node.role": node.role,
        "node.platform.os": "" if description is None else description.os,
        "node.platform.arch": "" if description is None else description.architecture,
    }.get(attribute)
