"""What the endpoints in a network are called."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster import codec
from cluster.codec import Record
from cluster.model.container import ContainerSpec
from cluster.model.node import Node, Session, SessionState
from cluster.model.service import ServiceMode, ServiceSpec
from manager.picture import ClusterState, Event
from manager.sessions.assignments import peer
from tests.manager.managers import description
from tests.manager.sessions.stage import service, shop, task

TASK = task(1, "id-1")
MEMBER: tuple[Record, ...] = (
    Node("id-1", "alpha", "worker", 1.0),
    Session("id-1", 1, "m1", SessionState.OPEN, 1.0, description("alpha", "10.0.0.1")),
)


def called(spec: ServiceSpec) -> tuple[str, str]:
    state = ClusterState()
    state.apply([Event(codec.key_of(r), codec.encode(r), 1) for r in (*MEMBER, *shop(spec), TASK)], 1)
    found = peer(state, "f1", TASK.id)
    assert found is not None
    return found.place, found.hostname


@pytest.mark.parametrize("mode", list(ServiceMode))
def test_tasks_of_global_services_are_told_apart_by_their_nodes(mode: ServiceMode) -> None:
    expected = "alpha" if mode in (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB) else ""
    assert called(replace(service(), mode=mode)) == (expected, "")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("db-1", "db-1"),
        ("{{.Service.Name}}-{{.Task.Slot}}.{{.Node.Hostname}}", "shop_web-1.alpha"),
        ("{{.Node.ID}}", "id-1"),
        ("{{.Nobody.Knows}}", ""),
    ],
)
def test_a_host_name_is_told_as_the_container_gets_it(written: str, expected: str) -> None:
    assert called(replace(service(), container=ContainerSpec("web", hostname=written))) == ("", expected)
