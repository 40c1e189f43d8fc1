"""What is said of the difference between two revisions."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.model.container import ContainerSpec
from cluster.model.network import NetworkSpec
from cluster.model.service import PortSpec, ServiceSpec, UpdateConfig
from cluster.model.stack import ServiceVersion, StackRevision, StackSpec
from manager.api.changes import changes

WEB = ServiceSpec("web", ContainerSpec("web:1", environment={"A": "1"}))


def revision(*services: ServiceSpec, version: int = 1, **networks: NetworkSpec) -> StackRevision:
    spec = StackSpec("shop", {service.name: service for service in services}, networks)
    versions = {service.name: ServiceVersion(service.name, version) for service in services}
    return StackRevision("s1", version, spec, versions, "ann", "", 1.0, "op")


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (revision(WEB), ()),
        (revision(replace(WEB, container=replace(WEB.container, image="web:2"))), ("web: image web:1 -> web:2",)),
        (revision(replace(WEB, replicas=5)), ("web: replicas 1 -> 5",)),
        (
            revision(replace(WEB, container=ContainerSpec("web:1"), ports=(PortSpec(80, 8080),))),
            ("web: environment, ports",),
        ),
        (revision(replace(WEB, update=UpdateConfig(parallelism=2))), ("web: update_config",)),
        (revision(WEB, replace(WEB, name="db")), ("db: added",)),
        (revision(), ("web: removed",)),
        (revision(WEB, front=NetworkSpec("front", "shop_front")), ("network front: added",)),
        (revision(WEB, version=2), ("web: new tasks",)),
    ],
)
def test_changes_are_told_in_few_words(after: StackRevision, told: tuple[str, ...]) -> None:
    assert changes(revision(WEB), after) == told
