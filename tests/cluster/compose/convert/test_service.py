"""Services: how many, where, with what, how they are replaced, and what they wait for."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.model.service import (
    API,
    CLIENT_IP,
    INGRESS_ROUTING,
    LOCAL_FIRST,
    MANAGERS,
    STICKY,
    Dependency,
    FailureAction,
    OnDisconnect,
    Reservations,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    UpdateConfig,
)
from tests.cluster.compose.convert.plain import refused, service, stack


@pytest.mark.parametrize(
    ("fields", "mode", "replicas"),
    [
        ({}, "replicated", 1),
        ({"scale": 3}, "replicated", 3),
        ({"deploy": {"replicas": 0}}, "replicated", 0),
        ({"deploy": {"mode": "global"}}, "global", 1),
        ({"deploy": {"mode": "replicated-job", "replicas": 4}}, "replicated-job", 4),
        ({"deploy": {"mode": "global-job"}}, "global-job", 1),
    ],
    ids=str,
)
def test_modes(fields: dict[str, Any], mode: str, replicas: int) -> None:
    found = service(fields)
    assert (found.mode, found.replicas) == (ServiceMode(mode), replicas)


def test_resources_by_either_name() -> None:
    limits = {"cpus": 0.5, "memory": "52428800", "pids": 20}
    expected = Resources(nano_cpus=500_000_000, memory=52428800, pids=20)
    assert service({"deploy": {"resources": {"limits": limits}}}).resources == expected
    assert service({"cpus": 0.5, "mem_limit": "52428800", "pids_limit": 20}).resources == expected
    assert service({"pids_limit": -1, "cpus": 0}).resources == Resources()


def test_reservations() -> None:
    wanted = {
        "cpus": 0.25,
        "memory": "1024",
        "generic_resources": [
            {"discrete_resource_spec": {"kind": "gpu", "value": 2}},
            {"discrete_resource_spec": {"kind": "gpu", "value": 1}},
        ],
    }
    assert service({"deploy": {"resources": {"reservations": wanted}}}).reservations == Reservations(
        nano_cpus=250_000_000, memory=1024, generic={"gpu": 3}
    )
    assert service({"mem_reservation": "2048"}).reservations.memory == 2048


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ({}, RestartPolicy()),
        ({"restart": "no"}, RestartPolicy(RestartCondition.NONE)),
        ({"restart": "unless-stopped"}, RestartPolicy()),
        ({"restart": "on-failure:3"}, RestartPolicy(RestartCondition.ON_FAILURE, max_attempts=3)),
        (
            {"deploy": {"restart_policy": {"condition": "on-failure", "delay": "5s", "max_attempts": 2,
                                            "window": "2m0s"}}},
            RestartPolicy(RestartCondition.ON_FAILURE, delay=5.0, max_attempts=2, window=120.0),
        ),
        ({"restart": "no", "deploy": {"restart_policy": {"delay": "1s"}}}, RestartPolicy(delay=1.0)),
    ],
    ids=str,
)  # fmt: skip
def test_restarts(fields: dict[str, Any], policy: RestartPolicy) -> None:
    assert service(fields).restart == policy


def test_updates_and_rollbacks_have_a_swarms_defaults() -> None:
    told = {"parallelism": 0, "delay": "1m30s", "monitor": "500ms", "failure_action": "rollback",
            "max_failure_ratio": 0.3, "order": "start-first"}  # fmt: skip
    found = service({"deploy": {"update_config": told, "rollback_config": {"delay": "1s"}}})
    assert found.update == UpdateConfig(0, 90.0, 0.5, FailureAction.ROLLBACK, 0.3, "start-first")
    assert found.rollback == UpdateConfig(delay=1.0)
    assert service({}).update == UpdateConfig(1, 0.0, 5.0, FailureAction.PAUSE, 0.0, "stop-first")


def test_placement() -> None:
    told = {
        "constraints": ["node.role == manager", "node.labels.disk!=hdd"],
        "preferences": [{"spread": "node.labels.zone"}, {"spread": "engine.labels.rack"}],
        "max_replicas_per_node": 2,
    }
    found = service({"deploy": {"placement": told}})
    assert found.constraints == ("node.role == manager", "node.labels.disk!=hdd")
    assert (found.spread, found.max_replicas_per_node) == (("node.labels.zone", "engine.labels.rack"), 2)


def test_endpoint_mode() -> None:
    assert service({"deploy": {"endpoint_mode": "DNSRR"}}).endpoint_mode == "dnsrr"
    port = {"target": 80, "published": "80"}
    assert service({"deploy": {"endpoint_mode": "dnsrr"}, "ports": [{**port, "mode": "host"}]}).ports
    assert "without a virtual address" in refused({"deploy": {"endpoint_mode": "dnsrr"}, "ports": [port]}).reason


def test_labels_go_to_the_container_or_to_the_service() -> None:
    found = service({"labels": {"a": "1"}, "deploy": {"labels": {"b": "2"}}})
    assert (found.container.labels, found.labels) == ({"a": "1"}, {"b": "2"})


def test_dependencies() -> None:
    found = stack(
        {
            "a": {
                "image": "x",
                "depends_on": {
                    "b": {"condition": "service_healthy", "required": True, "restart": True},
                    "c": {"condition": "service_completed_successfully", "required": True},
                    "gone": {"condition": "service_started", "required": False},
                },
            },
            "b": {"image": "x"},
            "c": {"image": "x"},
        }
    )
    assert found.services["a"].depends_on == {
        "b": Dependency("service_healthy", restart=True),
        "c": Dependency("service_completed_successfully"),
        "gone": Dependency(required=False),
    }
    assert refused({"depends_on": {"gone": {"condition": "service_started"}}}).field == "services.a.depends_on.gone"


def test_what_becomes_of_tasks_on_a_lost_node() -> None:
    assert service({}).on_disconnect == OnDisconnect()
    assert service({}).max_concurrent is None
    assert service({"x-max-concurrent": 2, "deploy": {"mode": "replicated-job"}}).max_concurrent == 2
    told = {"replace_after": "1m", "stop_after": "30s"}
    assert service({"x-on-disconnect": told}).on_disconnect == OnDisconnect(60.0, True, 30.0)
    assert service({"x-on-disconnect": {"replace": False}}).on_disconnect == OnDisconnect(replace=False)


def test_which_tasks_answer_whom() -> None:
    assert service({}).labels == {}
    told = {
        "x-ingress": "local-first",
        "x-sticky": "client-ip",
        "x-managers": "api",
        "deploy": {"labels": {"tier": "web"}},
    }
    assert service(told).labels == {INGRESS_ROUTING: LOCAL_FIRST, STICKY: CLIENT_IP, MANAGERS: API, "tier": "web"}


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ({"target": 80, "published": "8080"}, [(80, 8080, "tcp", "ingress", "")]),
        ({"target": 53, "published": "53", "protocol": "UDP", "mode": "host", "host_ip": "127.0.0.1"},
         [(53, 53, "udp", "host", "127.0.0.1")]),
        ({"target": 90, "published": "8080-8082", "host_ip": "0.0.0.0"},
         [(90, n, "tcp", "ingress", "") for n in (8080, 8081, 8082)]),
        ({"target": 80}, [(80, 0, "tcp", "ingress", "")]),
        ({"target": 80, "published": "0", "protocol": "udp"}, [(80, 0, "udp", "ingress", "")]),
    ],
    ids=str,
)  # fmt: skip
def test_ports(port: dict[str, Any], expected: list[tuple[Any, ...]]) -> None:
    found = service({"ports": [port, port]}).ports
    assert [(p.target, p.published, p.protocol, p.mode, p.host_ip) for p in found] == expected


def test_services_and_ports_of_one_that_leave_the_number_to_the_cluster_do_not_clash() -> None:
    ports = [{"target": 80}, {"target": 81}]
    assert [p.target for p in service({"ports": ports}).ports] == [80, 81]
    both = stack({key: {"image": "x", "ports": ports} for key in ("a", "b")})
    assert both.services["a"].ports == both.services["b"].ports


def test_a_port_leads_to_one_place() -> None:
    ports = [{"target": 80, "published": "80"}, {"target": 81, "published": "80"}]
    assert refused({"ports": ports}).field == "services.a.ports.1"
    with pytest.raises(Exception, match="published by the service a too"):
        stack({key: {"image": "x", "ports": ports[:1]} for key in ("a", "b")})


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"deploy": {"mode": "global", "replicas": 2}}, "deploy.replicas"),
        ({"deploy": {"mode": "global"}, "scale": 2}, "scale"),
        ({"deploy": {"mode": "swarm"}}, "deploy.mode"),
        ({"deploy": {"replicas": -1}}, "deploy.replicas"),
        ({"deploy": {"endpoint_mode": "lvs"}}, "deploy.endpoint_mode"),
        ({"deploy": {"resources": {"limits": {"memory": "1024"}}}}, "deploy.resources.limits.memory"),
        ({"deploy": {"resources": {"limits": {"cpus": "many"}}}}, "deploy.resources.limits.cpus"),
        ({"deploy": {"resources": {"reservations": {"generic_resources": [{"discrete_resource_spec": {}}]}}}},
         "deploy.resources.reservations.generic_resources.0"),
        ({"deploy": {"restart_policy": {"condition": "sometimes"}}}, "deploy.restart_policy.condition"),
        ({"restart": "always:3"}, "restart"),
        ({"deploy": {"update_config": {"order": "both"}}}, "deploy.update_config.order"),
        ({"deploy": {"update_config": {"max_failure_ratio": 2}}}, "deploy.update_config.max_failure_ratio"),
        ({"deploy": {"update_config": {"delay": "soon"}}}, "deploy.update_config.delay"),
        ({"deploy": {"rollback_config": {"failure_action": "rollback"}}}, "deploy.rollback_config.failure_action"),
        ({"deploy": {"placement": {"constraints": ["node=foo"]}}}, "deploy.placement.constraints.0"),
        ({"deploy": {"placement": {"constraints": ["node.colour == red"]}}}, "deploy.placement.constraints.0"),
        ({"deploy": {"placement": {"preferences": [{"spread": "node.id"}]}}}, "deploy.placement.preferences.0.spread"),
        ({"deploy": {"placement": {"preferences": [{}]}}}, "deploy.placement.preferences.0"),
        ({"cpus": 1, "cpu_quota": 50000}, "cpu_quota"),
        ({"memswap_limit": "104857600"}, "memswap_limit"),
        ({"x-on-disconnect": {"replace_afer": "1s"}}, "x-on-disconnect.replace_afer"),
        ({"x-max-concurrent": 2}, "x-max-concurrent"),
        ({"x-ingress": "local"}, "x-ingress"),
        ({"x-sticky": "cookie"}, "x-sticky"),
        ({"x-managers": "all"}, "x-managers"),
        ({"x-max-concurrent": 0, "deploy": {"mode": "replicated-job"}}, "x-max-concurrent"),
        ({"x-on-disconnect": {"replace_after": "1s", "replace": False}}, "x-on-disconnect.replace_after"),
        ({"depends_on": {"a": {"condition": "service_ready"}}}, "depends_on.a.condition"),
        ({"ports": [{"published": "80"}]}, "ports.0"),
        ({"ports": [{"target": 80, "published": "90-80"}]}, "ports.0.published"),
        ({"ports": [{"target": 80, "published": "80", "mode": "host", "host_ip": "here"}]}, "ports.0.host_ip"),
    ],
    ids=lambda value: str(value)[:60],
)  # fmt: skip
def test_values_that_cannot_be(fields: dict[str, Any], field: str) -> None:
    assert refused(fields).field == f"services.a.{field}"


def test_a_stack_of_nothing() -> None:
    with pytest.raises(Exception, match="there are no services"):
        stack({})
