"""What services join, under which names, and how networks, volumes, secrets and configs are called."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.model.network import NetworkSpec
from cluster.model.secret import ConfigSpec, SecretSpec
from cluster.model.volume import VolumeSpec
from tests.cluster.compose.convert.plain import container, refused, service, stack


def aliases(services: dict[str, Any], **top: Any) -> dict[str, dict[str, tuple[str, ...]]]:
    converted = stack({key: {"image": "x", **fields} for key, fields in services.items()}, **top).services
    return {key: {a.network: a.aliases for a in spec.networks} for key, spec in converted.items()}


@pytest.mark.parametrize(
    "fields", [{}, {"networks": {"default": None}}, {"network_mode": "bridge"}, {"network_mode": ""}], ids=str
)
def test_the_default_network(fields: dict[str, Any]) -> None:
    found = stack({"a": {"image": "x", **fields}})
    assert found.networks == {"default": NetworkSpec("default", "shop_default")}
    assert [(a.network, a.aliases) for a in found.services["a"].networks] == [("default", ("a",))]


@pytest.mark.parametrize("mode", ["host", "none"])
def test_the_network_of_the_node_and_none(mode: str) -> None:
    assert (service({"network_mode": mode}).networks, container({"network_mode": mode}).network_mode) == ((), mode)
    external = {"n": {"name": mode, "external": True}}
    assert container({"networks": {"n": None}}, networks=external).network_mode == mode
    assert "joins no other" in refused({"networks": {"n": None, "default": None}}, networks=external).reason
    assert "publishes no ports" in refused({"network_mode": mode, "ports": [{"target": 1, "published": "1"}]}).reason


def test_the_bridge_of_the_node_is_the_default_network() -> None:
    assert aliases({"a": {"networks": {"n": None}}}, networks={"n": {"name": "bridge", "external": True}}) == {
        "a": {"default": ("a",)}
    }


def test_a_network_that_is_not_declared() -> None:
    assert refused({"networks": {"back": None}}).field == "services.a.networks.back"


def test_a_container_name_is_a_name_on_the_networks() -> None:
    found = aliases({"a": {"container_name": "old", "networks": {"n": {"aliases": ["b"]}}}}, networks={"n": {}})
    assert found == {"a": {"n": ("a", "b", "old")}}
    assert aliases({"a": {"container_name": "b"}, "b": {}})["a"] == {"default": ("a",)}


def test_a_link_gives_the_other_service_a_name() -> None:
    found = aliases({"a": {"links": ["db:database", "db"]}, "db": {}})
    assert found["db"] == {"default": ("db", "database")}
    assert refused({"links": ["zebra"]}).field == "services.a.links.0"


@pytest.mark.parametrize(
    ("link", "other", "told"),
    [("b:c", {}, "is the name of another service"), ("b:d", {"network_mode": "none"}, "no network that a and b share")],
    ids=["taken", "apart"],
)
def test_links_that_cannot_be(link: str, other: dict[str, Any], told: str) -> None:
    with pytest.raises(Exception, match=told):
        aliases({"a": {"links": [link]}, "b": other, "c": {}})


def test_names_as_a_swarm_gives_them() -> None:
    fields = {
        "networks": {"n": None, "m": None, "e": None, "f": None},
        "volumes": [{"type": "volume", "source": key, "target": f"/{key}"} for key in ("v", "w", "x")],
        "secrets": [{"source": "s"}, {"source": "t"}],
        "configs": [{"source": "c"}],
    }
    found = stack(
        {"a": {"image": "x", **fields}},
        networks={
            "n": {"internal": True, "labels": {"a": "b"}, "ipam": {"config": [{"subnet": "10.1.0.0/24"}]}},
            "m": {"name": "mine", "driver_opts": {"com.docker.network.driver.mtu": "1400"}},
            "e": {"external": True},
            "f": {"external": True, "name": "theirs"},
        },
        volumes={"v": {"driver": "local"}, "w": {"name": "w-1", "driver": "nfs", "driver_opts": {"o": "1"}},
                 "x": {"external": True}, "unused": {}},
        secrets={"s": {"file": "/s", "labels": {"a": "b"}}, "t": {"external": True, "name": "top"}},
        configs={"c": {"content": "hi", "template_driver": "golang"}},
    )  # fmt: skip
    assert found.networks == {
        "n": NetworkSpec("n", "shop_n", internal=True, subnets=("10.1.0.0/24",), labels={"a": "b"}),
        "m": NetworkSpec("m", "mine", mtu=1400),
        "e": NetworkSpec("e", "e", external=True),
        "f": NetworkSpec("f", "theirs", external=True),
    }
    assert found.volumes == {
        "v": VolumeSpec("v", "shop_v"),
        "w": VolumeSpec("w", "w-1", driver="nfs", driver_options={"o": "1"}),
        "x": VolumeSpec("x", "x", external=True),
    }
    assert found.secrets == {"s": SecretSpec("s", "shop_s", labels={"a": "b"}), "t": SecretSpec("t", "top", True)}
    assert found.configs == {"c": ConfigSpec("c", "shop_c", template_driver="golang")}


@pytest.mark.parametrize(
    ("network", "ipv6"),
    [
        ({"enable_ipv6": True}, True),
        ({"enable_ipv6": False}, False),
        ({"ipam": {"config": [{"subnet": "fd09::/64"}]}}, True),
        ({"ipam": {"config": [{"subnet": "10.9.0.0/24"}]}}, False),
    ],
    ids=str,
)
def test_ipv6_is_had_when_asked_for(network: dict[str, Any], ipv6: bool) -> None:
    found = stack({"a": {"image": "x", "networks": {"n": None}}}, networks={"n": network})
    assert found.networks["n"].ipv6 is ipv6


def with_gateway(address: str) -> dict[str, Any]:
    return {"networks": {"n": {"ipam": {"config": [{"subnet": "10.1.0.0/24", "gateway": address}]}}}}


@pytest.mark.parametrize(
    ("address", "gateways"),
    [("10.1.0.254", ("10.1.0.254",)), ("10.1.0.1", ()), ("", ())],
    ids=["another one", "the usual one", "none"],
)
def test_a_gateway_is_noted_unless_it_is_the_usual_one(address: str, gateways: tuple[str, ...]) -> None:
    found = stack({"a": {"image": "x", "networks": {"n": None}}}, **with_gateway(address))
    assert found.networks["n"].gateways == gateways


def of_pool(**more: Any) -> dict[str, Any]:
    return {"networks": {"n": {"ipam": {"config": [{"subnet": "10.1.0.0/24", **more}]}}}}


def test_what_may_be_given_out_of_a_subnet() -> None:
    top = of_pool(ip_range="10.1.0.128/25", aux_addresses={"router": "10.1.0.130", "printer": "10.1.0.9"})
    network = stack({"a": {"image": "x", "networks": {"n": None}}}, **top).networks["n"]
    assert (network.ranges, network.reserved) == (("10.1.0.128/25",), ("10.1.0.130", "10.1.0.9"))


def test_an_address_of_a_service() -> None:
    top: dict[str, Any] = {
        "networks": {"n": {"ipam": {"config": [{"subnet": "10.1.0.0/24"}, {"subnet": "fd09::/64"}]}}}
    }
    asked = {"n": {"ipv4_address": "10.1.0.9", "ipv6_address": "FD09:0::9"}}
    [attachment] = service({"networks": asked}, **top).networks
    assert attachment.addresses == ("10.1.0.9", "fd09::9")


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("10.1.0", "no IPv4 address"),
        ("fd00::1", "no IPv4 address"),
        ("10.2.0.9", "is in no subnet"),
        ("10.1.0.1", "not an address of one container"),
        ("10.1.0.255", "not an address of one container"),
        ("10.1.0.77", "kept free"),
    ],
)
def test_addresses_that_no_service_can_have(asked: str, told: str) -> None:
    top = of_pool(aux_addresses={"printer": "10.1.0.77"})
    error = refused({"networks": {"n": {"ipv4_address": asked}}}, **top)
    assert error.field == "services.a.networks.n.ipv4_address" and told in error.reason


@pytest.mark.parametrize(
    ("top", "field"),
    [
        (of_pool(ip_range="10.2.0.0/25"), "networks.n.ipam.config.0.ip_range"),
        (of_pool(ip_range="10.0.0.0/8"), "networks.n.ipam.config.0.ip_range"),
        (of_pool(ip_range="10.1.0.0/31"), "networks.n.ipam.config.0.ip_range"),
        (of_pool(ip_range="some"), "networks.n.ipam.config.0.ip_range"),
        (of_pool(aux_addresses={"a": "10.2.0.1"}), "networks.n.ipam.config.0.aux_addresses.a"),
        ({"networks": {"n": {"name": "a b"}}}, "networks.n.name"),
        ({"networks": {"n": {"ipam": {"config": [{"subnet": "10.0.0.1/24"}]}}}}, "networks.n.ipam.config.0.subnet"),
        ({"networks": {"n": {"ipam": {"config": [{}]}}}}, "networks.n.ipam.config.0"),
        ({"networks": {"n": {"enable_ipv6": False, "ipam": {"config": [{"subnet": "fd09::/64"}]}}}},
         "networks.n.enable_ipv6"),
        ({"networks": {"n": {"enable_ipv6": True, "driver_opts": {"com.docker.network.driver.mtu": "1279"}}}},
         "networks.n.driver_opts.com.docker.network.driver.mtu"),
        (with_gateway("10.1.0.300"), "networks.n.ipam.config.0.gateway"),
        (with_gateway("10.2.0.1"), "networks.n.ipam.config.0.gateway"),
        (with_gateway("10.1.0.0"), "networks.n.ipam.config.0.gateway"),
        (with_gateway("10.1.0.255"), "networks.n.ipam.config.0.gateway"),
        ({"networks": {"n": {"driver_opts": {"com.docker.network.driver.mtu": "1"}}}},
         "networks.n.driver_opts.com.docker.network.driver.mtu"),
        ({"volumes": {"-v": {}}}, "volumes.-v"),
        ({"volumes": {"v": {"labels": {"com.stackyard.x": "y"}}}}, "volumes.v.labels.com.stackyard.x"),
    ],
    ids=str,
)  # fmt: skip
def test_definitions_that_cannot_be(top: dict[str, Any], field: str) -> None:
    assert refused({}, **top).field == field


def test_a_volume_may_be_called_after_its_task() -> None:
    mount = {"type": "volume", "source": "v", "target": "/v"}
    found = stack({"a": {"image": "x", "volumes": [mount]}}, volumes={"v": {"name": "data-{{.Task.Slot}}"}})
    assert found.volumes["v"].name == found.services["a"].container.mounts[0].source == "data-{{.Task.Slot}}"
