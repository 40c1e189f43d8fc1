"""Containers of real engines in sandboxes of the wiring, through the wrapper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agent.network.wiring import Wiring
from cluster.assignments import NetworkItem
from tests.agent.network.underlay import BACK, FRONT, endpoint
from tests.engines import ADDRESS, BOX, EngineHost

pytestmark = [pytest.mark.root, pytest.mark.engine]

TASK = "a" * 25


class Machine:
    def __init__(self, host: EngineHost, wiring: Wiring) -> None:
        self.host, self.wiring = host, wiring

    def create(self, *command: str, disabled: bool = True, **host_config: Any) -> str:
        config = {"Runtime": "stackyard", **host_config}
        body = {"Image": BOX, "Cmd": command, "NetworkDisabled": disabled, "HostConfig": config}
        created: str = self.host.call("POST", "/containers/create", body)["Id"]
        return created

    def start(self, container: str) -> None:
        self.host.call("POST", f"/containers/{container}/start")

    def output(self, container: str) -> str:
        self.host.call("POST", f"/containers/{container}/wait")
        logs = self.host.call("GET", f"/containers/{container}/logs?stdout=1&stderr=1")
        return str(logs.decode(errors="replace")) if isinstance(logs, bytes) else str(logs)


@pytest.fixture(params=["20.10", "26.1"])
async def machine(request: pytest.FixtureRequest) -> AsyncIterator[Machine]:
    host = EngineHost(request.param, "runtime")
    host.boot()
    try:
        host.start_engine()
        host.load_box()
        wiring = Wiring("n1", ADDRESS, netns=host.netns, links=host.links, home=host.network_namespace())
        await wiring.open()
        try:
            yield Machine(host, wiring)
        finally:
            await wiring.close()
    finally:
        host.end()


async def test_a_container_finds_its_whole_network_at_its_first_instruction(machine: Machine) -> None:
    await machine.wiring.apply([NetworkItem(FRONT), NetworkItem(BACK)])
    await machine.wiring.create_sandbox(TASK, (endpoint(FRONT, 1), endpoint(BACK, 1)))
    container = machine.create("ip", "address", Sysctls={"net.core.somaxconn": "100"})
    await machine.wiring.link_container(container, TASK)

    machine.start(container)

    shown = machine.output(container)
    assert "10.101.1.1/16" in shown and "10.102.1.1/16" in shown and "eth2" not in shown
    assert shown.count("LOWER_UP") == 3

    # A restart in place: a fresh namespace under the same name, and the same container started again.
    await machine.wiring.create_sandbox(TASK, (endpoint(FRONT, 1),))
    machine.start(container)
    again = machine.output(container).removeprefix(shown)
    assert "10.101.1.1/16" in again and "10.102.1.1/16" not in again


async def test_a_container_without_a_sandbox_does_not_start_and_the_engine_says_why(machine: Machine) -> None:
    container = machine.create("true")

    with pytest.raises(AssertionError, match="has wired no network"):
        machine.start(container)

    state = machine.host.call("GET", f"/containers/{container}/json")["State"]
    assert not state["Running"] and "has wired no network" in state["Error"]


async def test_a_container_with_the_hosts_network_is_refused(machine: Machine) -> None:
    await machine.wiring.create_sandbox(TASK, ())
    container = machine.create("true", disabled=False, NetworkMode="host")
    await machine.wiring.link_container(container, TASK)

    with pytest.raises(AssertionError, match="exactly one new network namespace"):
        machine.start(container)
