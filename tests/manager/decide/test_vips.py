"""Who gets a virtual address, and until when."""

from __future__ import annotations

import dataclasses

from cluster.model.network import INGRESS, NetworkSpec
from cluster.model.service import PortSpec, ServiceMode, ServiceSpec
from cluster.model.task import TaskState
from tests.manager.decide.builders import Lab, a_service, a_stack


def addresses(lab: Lab, service: str = "web") -> dict[str, tuple[str, ...]]:
    """The virtual addresses of a service by the name of the network."""
    [uid] = [uid for uid, state in lab.state.services.items() if state.name == service]
    return {lab.state.networks[n].name: found for n, found in lab.state.virtual_addresses(uid).items()}


def deployed(lab: Lab, *services: ServiceSpec, networks: tuple[NetworkSpec, ...] = ()) -> None:
    lab.deploy(a_stack("app", *services, networks=networks))
    lab.run_all()


def test_a_service_has_one_address_in_each_of_its_networks_but_not_among_published_ports() -> None:
    lab = Lab("n1")
    deployed(lab, a_service(networks=("back", "front"), ports=(PortSpec(80, 8080),)))
    held = addresses(lab)
    assert set(held) == {"app_back", "app_front"} and all(len(found) == 1 for found in held.values())
    assert INGRESS in {endpoint.network for endpoint in lab.task().endpoints}
    own = {address for endpoint in lab.task().endpoints for address in endpoint.addresses}
    assert own.isdisjoint(address for found in held.values() for address in found)


def test_a_network_of_both_kinds_gives_an_address_of_each() -> None:
    lab = Lab("n1")
    deployed(lab, a_service(), networks=(NetworkSpec("default", "app_default", subnets=("10.9.0.0/24", "fd00::/64")),))
    assert addresses(lab) == {"app_default": ("10.9.0.2", "fd00::2")}


def test_the_address_stays_over_updates_failures_and_no_task_at_all() -> None:
    lab = Lab("n1")
    deployed(lab, a_service(replicas=2))
    before = addresses(lab)
    lab.report(lab.tasks()[0], TaskState.FAILED, exit_code=1)
    lab.run_all()
    deployed(lab, a_service(replicas=2, image="app:2"))
    deployed(lab, a_service(replicas=0, image="app:2"))
    assert before and addresses(lab) == before


def test_dnsrr_and_jobs_have_none_and_a_change_to_dnsrr_gives_it_up() -> None:
    lab = Lab("n1")
    deployed(lab, a_service())
    assert addresses(lab)
    task = lab.task()
    deployed(lab, dataclasses.replace(a_service(), endpoint_mode="dnsrr"))
    assert addresses(lab) == {} and lab.task() == task, "no task is replaced for it"
    deployed(lab, dataclasses.replace(a_service(), endpoint_mode="vip"))
    assert addresses(lab)
    job = Lab("n1")
    job.deploy(a_stack("app", dataclasses.replace(a_service("job"), mode=ServiceMode.REPLICATED_JOB)))
    job.settle()
    assert addresses(job, "job") == {}


def test_a_network_that_is_left_keeps_the_address_until_the_last_task_is_gone() -> None:
    lab = Lab("n1")
    deployed(lab, a_service(networks=("back", "front")), a_service("other", networks=("back",)))
    lab.deploy(a_stack("app", a_service(networks=("front",)), a_service("other", networks=("back",))))
    lab.settle()
    assert set(addresses(lab)) == {"app_back", "app_front"}
    lab.run_all()
    assert set(addresses(lab)) == {"app_front"}


def test_nothing_is_left_when_the_stack_is_gone() -> None:
    lab = Lab("n1")
    deployed(lab, a_service(ports=(PortSpec(80, 8080),)))
    lab.remove("app")
    lab.run_all()
    assert not lab.state.claims and not lab.state.networks


def test_a_network_without_room_leaves_the_names_to_the_tasks_until_there_is_room() -> None:
    lab = Lab("n1")
    small = (NetworkSpec("default", "app_default", subnets=("10.9.0.0/29",)),)
    deployed(lab, a_service("a", replicas=4), a_service("b", replicas=0), networks=small)
    assert sorted(map(len, (addresses(lab, "a"), addresses(lab, "b")))) == [0, 1]
    deployed(lab, a_service("a", replicas=2), a_service("b", replicas=0), networks=small)
    assert addresses(lab, "a") and addresses(lab, "b")
