"""Published ports in all forms."""

from __future__ import annotations

import pytest

from cluster.model.service import PortSpec
from tests.cluster.compose.loading import refused, refused_service, service


@pytest.mark.parametrize(
    ("written", "ports"),
    [
        pytest.param("'8080:80'", [PortSpec(80, 8080)], id="published and target"),
        pytest.param("22:22", [PortSpec(22, 22)], id="without quotes it is no base-60 number"),
        pytest.param("'53:53/udp'", [PortSpec(53, 53, "udp")], id="a protocol"),
        pytest.param("'3000-3001:4000-4001'", [PortSpec(4000, 3000), PortSpec(4001, 3001)], id="ranges go in pairs"),
        pytest.param("'8080-8081:90'", [PortSpec(90, 8080), PortSpec(90, 8081)], id="a range to one target"),
        pytest.param("'8080:80', '8080:80/tcp'", [PortSpec(80, 8080)], id="repeats collapse"),
        pytest.param("'0.0.0.0:8080:80', '[::]:8080:80'", [PortSpec(80, 8080)], id="any address is every node"),
        pytest.param("{target: 80, published: 8080}", [PortSpec(80, 8080)], id="long"),
        pytest.param("{target: 80, published: '8080', mode: host}", [PortSpec(80, 8080, mode="host")], id="mode host"),
        pytest.param(
            "{target: 80, published: 8080, mode: host, host_ip: 127.0.0.1, protocol: UDP}",
            [PortSpec(80, 8080, "udp", "host", "127.0.0.1")],
            id="all fields",
        ),
        pytest.param(
            "'81:80', '80:80'", [PortSpec(80, 80), PortSpec(80, 81)], id="sorted, so that order changes nothing"
        ),
    ],
)
def test_ports(written: str, ports: list[PortSpec]) -> None:
    assert service(f"ports: [{written}]").ports == tuple(ports)


@pytest.mark.parametrize(
    ("written", "told"),
    [
        pytest.param("80", "port 80 is published without saying as what", id="a target alone"),
        pytest.param("':80'", "without saying as what", id="nothing before the colon"),
        pytest.param("'3000-3005:4000-4001'", "differ in length", id="ranges of different length"),
        pytest.param("'81-80:81-80'", "runs backwards", id="a range backwards"),
        pytest.param("'80:80/foo'", "neither tcp nor udp", id="another protocol"),
        pytest.param("'80:80/sctp'", "neither tcp nor udp", id="a protocol that we do not have"),
        pytest.param("'70000:80'", "'70000' is not a port number", id="too high"),
        pytest.param("'0:80'", "'0' is not a port number", id="zero"),
        pytest.param("'a:80'", "'a:80' is not a port", id="a word"),
        pytest.param("'127.0.0.1:80:80'", "cannot be bound to 127.0.0.1", id="an address on every node"),
        pytest.param("'::1:80:80'", "cannot be bound to ::1", id="an IPv6 address without brackets"),
        pytest.param("'localhost:80:80'", "'localhost' is not an IP address", id="a name as address"),
        pytest.param("{published: 80}", "the port has no target", id="long without target"),
        pytest.param("{target: 80, published: 8000-8010}", "a whole number is wanted", id="long with a range"),
        pytest.param("{target: 80, published: 80, mode: local}", "'local' is none of ingress, host", id="another mode"),
        pytest.param("{target: 80, publish: 80}", "the key is unknown", id="a wrong key"),
        pytest.param("'80:80', '80:81'", "port 80/tcp is published twice, to 80 and 81", id="one port to two targets"),
        pytest.param("[80]", "text is wanted here, not a list", id="a list in the list"),
    ],
)
def test_refused(written: str, told: str) -> None:
    error = refused_service(f"ports: [{written}]")
    assert told in error.reason
    assert error.line == 2
    assert error.field.startswith("services.a.ports.0") or error.field == "services.a.ports.1"


def test_two_services_cannot_publish_one_port() -> None:
    error = refused("services:\n  a: {image: x, ports: ['80:1']}\n  b:\n    image: x\n    ports: ['80:2']\n")
    assert (error.line, error.field) == (5, "services.b.ports")
    assert error.reason == "port 80/tcp is published by the service a too"


def test_two_services_may_publish_one_port_each_on_its_own_node() -> None:
    host = "ports: [{target: 1, published: 80, mode: host}]"
    assert service(host, top=f"  b: {{image: x, {host}}}\n").ports == (PortSpec(1, 80, mode="host"),)
