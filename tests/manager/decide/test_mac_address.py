"""A hardware address that a service asks for."""

from __future__ import annotations

from dataclasses import replace

from tests.manager.decide.builders import Lab, a_service, a_stack


def test_a_task_has_the_address_asked_for_in_the_first_network_and_its_own_in_others() -> None:
    lab = Lab("n1")
    service = a_service("web", networks=("front", "back"))
    container = replace(service.container, mac_address="02:00:5e:00:53:01")
    lab.deploy(a_stack("app", replace(service, container=container)))
    lab.run_all()
    first, second = lab.task("web").endpoints
    assert (first.mac, second.mac[:5]) == ("02:00:5e:00:53:01", "02:42")
