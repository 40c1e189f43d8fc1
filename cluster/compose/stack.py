"""A merged project to a StackSpec, named as `docker stack deploy` names things; what must fit together is checked."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass

from cluster.compose import names, service, values
from cluster.compose.service import DEFAULT_NETWORK, Surroundings
from cluster.compose.tree import Mapping, Node
from cluster.model.network import NetworkSpec
from cluster.model.service import PortSpec, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.volume import VolumeSpec

_MTU = "com.docker.network.driver.mtu"
_LEAST_MTU, _MOST_MTU = 576, 65535


def convert(
    stack: str,
    root: Mapping,
    *,
    directory: str,
    variables: Callable[[str], str | None],
    read_env: Callable[[Mapping], dict[str, str | None]],
) -> StackSpec:
    """Convert a whole tree. Networks and volumes that no service names are left out."""
    declared = values.mapping(root.get("services"))
    if not declared.entries:
        raise root.where.error("there are no services", hint="Add one under services.")
    volumes = {key: _volume(stack, key, node) for key, node in values.mapping(root.get("volumes")).entries.items()}
    networks = {key: _network(stack, key, node) for key, node in values.mapping(root.get("networks")).entries.items()}
    networks.setdefault(DEFAULT_NETWORK, NetworkSpec(DEFAULT_NETWORK, f"{stack}_{DEFAULT_NETWORK}"))
    around = Surroundings(stack, directory, variables, read_env, {key: v.name for key, v in volumes.items()})
    services = {key: service.convert(key, node, around) for key, node in declared.entries.items()}
    _check_networks(services, declared, networks)
    _check_ports(services, declared)
    used_networks = {attachment.network for s in services.values() for attachment in s.networks}
    used_volumes = {name for s in services.values() for name in s.volume_names}
    return StackSpec(
        name=stack,
        services=services,
        networks={key: networks[key] for key in sorted(used_networks)},
        volumes={key: volume for key, volume in sorted(volumes.items()) if volume.name in used_volumes},
    )


@dataclass(frozen=True, slots=True)
class _Naming:
    name: str
    external: bool


def _naming(stack: str, key: str, kind: str, node: Node, fields: Mapping) -> _Naming:
    """An explicit name is used as it is, an external thing without one is called by its key."""
    names.check_key(key, kind, node.where)
    name_node, external_node = fields.get("name"), fields.get("external")
    name = values.filled_text(name_node) if name_node else ""
    if name_node:
        names.check_key(name, kind, name_node.where)
    external = False
    if isinstance(external_node, Mapping):  # the old form: external: {name: NAME}
        inner = external_node.get("name")
        if inner is None or len(external_node.entries) > 1:
            raise external_node.where.error("external is true or false", hint="Write external: true and name: NAME.")
        if name:
            raise external_node.where.error("the name is there twice", hint="Write external: true.")
        name, external = names.check_key(values.filled_text(inner), kind, inner.where), True
    elif external_node is not None:
        external = values.boolean(external_node)
    if external and (others := [k for k in fields.entries if k not in ("name", "external")]):
        raise fields.entries[others[0]].where.error(f"an external {kind} is not made here and takes no {others[0]}")
    return _Naming(name or (key if external else f"{stack}_{key}"), external)


def _volume(stack: str, key: str, node: Node) -> VolumeSpec:
    fields = values.mapping(node)
    naming = _naming(stack, key, "volume", node, fields)
    driver = values.text(driver_node) if (driver_node := fields.get("driver")) else ""
    return VolumeSpec(
        key=key,
        name=naming.name,
        external=naming.external,
        driver="" if driver == "local" else driver,
        driver_options=values.pairs(fields.get("driver_opts")),
        labels=values.pairs(fields.get("labels")),
    )


def _network(stack: str, key: str, node: Node) -> NetworkSpec:
    fields = values.mapping(node)
    naming = _naming(stack, key, "network", node, fields)
    driver = fields.get("driver")
    if driver is not None and (word := values.text(driver)) not in ("overlay", "default"):
        raise driver.where.error(
            f"networks of the driver {word[:20]!r} are not supported",
            hint="Take the line out: a network spans all nodes.",
        )
    mtu = None
    for option, value in values.mapping(fields.get("driver_opts")).entries.items():
        if option != _MTU:
            raise value.where.error("the option is not supported", hint=f"{_MTU} is.")
        mtu = values.integer(value, least=_LEAST_MTU, most=_MOST_MTU)
    internal = fields.get("internal")
    return NetworkSpec(
        key=key,
        name=naming.name,
        external=naming.external,
        internal=values.boolean(internal) if internal else False,
        mtu=mtu,
        subnets=_subnets(values.mapping(fields.get("ipam"))),
        labels=values.pairs(fields.get("labels")),
    )


def _subnets(ipam: Mapping) -> tuple[str, ...]:
    found: list[str] = []
    for entry in values.items(ipam.get("config")):
        node = values.mapping(entry).get("subnet")
        if node is None:
            raise entry.where.error("the entry has no subnet")
        try:
            found.append(str(ipaddress.ip_network(values.text(node))))
        except ValueError:
            raise node.where.error(f"{values.text(node)[:60]!r} is not a subnet", hint="Like 10.5.0.0/24.") from None
    return tuple(found)


def _check_networks(services: dict[str, ServiceSpec], declared: Mapping, networks: dict[str, NetworkSpec]) -> None:
    for key, spec in services.items():
        for attachment in spec.networks:
            if attachment.network not in networks:
                attached = values.mapping(values.mapping(declared.entries[key]).get("networks"))
                raise attached.entries[attachment.network].where.error(
                    f"there is no network {attachment.network[:60]!r}", hint="Add it under the top-level networks."
                )


def _check_ports(services: dict[str, ServiceSpec], declared: Mapping) -> None:
    """A port that is published on every node can lead to one service only."""
    taken: dict[tuple[int, str], tuple[str, PortSpec]] = {}
    for key, spec in services.items():
        for port in spec.ports:
            slot = (port.published, port.protocol)
            other, its_port = taken.setdefault(slot, (key, port))
            if other != key and "ingress" in (port.mode, its_port.mode):
                where = values.mapping(declared.entries[key]).entries["ports"].where
                raise where.error(f"port {port.published}/{port.protocol} is published by the service {other} too")
