"""Containers that nobody changes: which of them a blow gives a reason to touch, and which were touched without one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cli.client.transport import UnixConnection
from cli.lab import Lab
from cli.lab.programs import AGENT, ENGINE
from tests.chaos.blows import Blow, Kind

STACK = "calm"
FILE = """
services:
  sleeper:
    image: "busybox:1"
    command: ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"]
    deploy: {replicas: 6}
"""

LABEL_STACK, LABEL_TASK = "com.stackyard.stack", "com.stackyard.task"
TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class Container:
    """A container that runs, since when: another start of the same one differs."""

    ident: str
    task: str
    stack: str
    started_at: str


def running(lab: Lab, node: str) -> list[Container]:
    """List what runs of the cluster on a node, as its engine says."""
    shown = _engine(lab, node, f'/containers/json?filters={{"label":["{LABEL_TASK}"],"status":["running"]}}')
    found = []
    for one in shown:
        labels = one["Labels"]
        state = _engine(lab, node, f"/containers/{one['Id']}/json")["State"]
        found.append(Container(one["Id"], labels[LABEL_TASK], labels[LABEL_STACK], state["StartedAt"]))
    return found


def _engine(lab: Lab, node: str, path: str) -> Any:
    connection = UnixConnection(str(lab.engine_socket(node)), TIMEOUT)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the engine of {node} answered {answer.status} to {path}: {body[:200]!r}")
        return json.loads(body)
    finally:
        connection.close()


def with_cause(blows: Iterable[Blow], grace: float) -> set[str]:
    """Give the nodes whose containers these blows are a reason to touch.

    Without its power or its engine a node loses containers; one that was cut off for long is replaced, and ends what it
    ran when it comes back; and so is one without an agent, when that was away for the `grace` of an agent.
    """
    return {
        blow.node
        for blow in blows
        if blow.kind in (Kind.POWER, Kind.CUT)
        or (blow.program == ENGINE and blow.kind is Kind.KILL)
        or (blow.program == AGENT and blow.seconds > grace)
    }


def disturbed(
    before: Mapping[str, list[Container]], after: Mapping[str, list[Container]], touchable: set[str]
) -> Iterator[str]:
    """Tell which calm containers ended or began anew on nodes where nothing gave a reason to."""
    for node in sorted(before.keys() - touchable):
        kept = set(after[node])
        for container in before[node]:
            if container.stack == STACK and container not in kept:
                yield f"{container} on {node} was disturbed; there are now {after[node]}"
