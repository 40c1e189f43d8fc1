"""Published ports that ask for no number: which one they get, and for how long."""

from __future__ import annotations

import pytest

from cluster.model.service import GIVEN_PORTS, PortSpec, ServiceSpec
from manager.decide import allocator
from manager.decide.explain import explain
from manager.decide.ports import published
from tests.manager.decide.builders import Lab, a_service, a_stack

FIRST = GIVEN_PORTS[0]
ANY = PortSpec(80, 0)


def numbers(lab: Lab, name: str = "app_web") -> list[int]:
    [service] = [s for s in lab.state.services.values() if s.full_name == name]
    wanted = lab.state.wanted(service)
    assert wanted is not None
    return [port.published for port in published(lab.state, service.uid, wanted[0])]


def claimed(lab: Lab) -> list[tuple[str, int]]:
    return sorted((claim.name, claim.target) for claim in lab.state.claims.values() if claim.kind == "port")


def web(*ports: PortSpec, **fields: object) -> ServiceSpec:
    return a_service(ports=ports, **fields)  # type: ignore[arg-type]


def deployed(*ports: PortSpec) -> Lab:
    lab = Lab("n1")
    lab.deploy(a_stack("app", web(*ports)))
    lab.run_all()
    return lab


def test_each_port_gets_a_number_and_a_protocol_has_its_own() -> None:
    lab = deployed(ANY, PortSpec(81, 0), PortSpec(53, 0, "udp"), PortSpec(443, 8443))
    assert numbers(lab) == [FIRST, FIRST + 1, FIRST, 8443]
    assert claimed(lab) == [
        (f"tcp/{FIRST}", 80), (f"tcp/{FIRST + 1}", 81), ("tcp/8443", 0), (f"udp/{FIRST}", 53)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "after",
    [
        web(ANY, image="app:2"),
        web(ANY, replicas=3),
        web(PortSpec(79, 0), ANY, PortSpec(443, 8443)),
        web(PortSpec(80, FIRST)),
        web(ANY, PortSpec(53, 0, "udp")),
    ],
    ids=["another image", "scaled", "more ports", "now asked for", "another protocol"],
)
def test_a_number_is_kept_from_deploy_to_deploy(after: ServiceSpec) -> None:
    lab = deployed(ANY)
    lab.deploy(a_stack("app", after))
    lab.run_all()
    assert numbers(lab)[after.ports.index(next(port for port in after.ports if port.target == 80))] == FIRST
    lab.deploy(a_stack("app", web(ANY)))
    lab.run_all()
    assert numbers(lab) == [FIRST] and claimed(lab) == [(f"tcp/{FIRST}", 80)]


def test_running_tasks_stay_when_only_the_number_changes() -> None:
    lab = deployed(ANY)
    before = lab.task().id
    lab.deploy(a_stack("app", web(PortSpec(80, 8080))))
    lab.run_all()
    assert claimed(lab) == [("tcp/8080", 0)] and lab.task().id == before


def test_a_number_is_given_back_and_comes_last_to_the_next_one() -> None:
    lab = deployed(ANY)
    lab.deploy(a_stack("other", web(ANY)))
    lab.run_all()
    lab.deploy(a_stack("other", web()))
    lab.run_all()
    assert claimed(lab) == [(f"tcp/{FIRST}", 80)]
    lab.deploy(a_stack("third", web(ANY)))
    lab.run_all()
    assert numbers(lab, "third_web") == [FIRST + 2]
    for name in ("app", "third", "other"):
        lab.remove(name)
    lab.run_all()
    assert claimed(lab) == []


def test_a_number_that_somebody_asked_for_is_passed_over() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("first", web(PortSpec(80, FIRST), PortSpec(80, FIRST + 1))))
    lab.run_all()
    lab.deploy(a_stack("app", web(ANY)))
    lab.run_all()
    assert numbers(lab) == [FIRST + 2]


def test_one_number_does_not_lead_to_two_ports_of_a_service() -> None:
    lab = deployed(ANY)
    lab.deploy(a_stack("app", web(PortSpec(81, FIRST), ANY)))
    lab.run_all()
    assert numbers(lab) == [FIRST, FIRST + 1]


def test_when_all_are_taken_the_service_says_so_and_gets_the_first_that_comes_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(allocator, "GIVEN_PORTS", (30000, 30001))
    lab = Lab("n1")
    for name in ("first", "second", "app"):
        lab.deploy(a_stack(name, web(ANY)))
        lab.run_all()
    [service] = [s for s in lab.state.services.values() if s.full_name == "app_web"]
    why = "all tcp ports from 30000 to 30001 are taken"
    assert service.problem == f"port tcp/80 gets no number: {why}"
    [trouble] = explain(lab.state, service, lab.now).troubles
    assert (trouble.about, trouble.why) == ("port 80/tcp", why)
    assert "publish it as a port of your choice" in trouble.change
    lab.remove("first")
    lab.run_all()
    assert numbers(lab) == [30000]
    assert lab.state.services[service.uid].problem == ""
