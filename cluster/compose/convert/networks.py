"""Networks as they are declared, what a service joins, and the names by which it is found there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from cluster.compose import names
from cluster.compose.convert import ipam
from cluster.compose.convert.field import Field
from cluster.compose.convert.naming import labels as read_labels
from cluster.compose.convert.naming import naming
from cluster.compose.convert.verdicts import ENCRYPTED, MTU
from cluster.model.network import NetworkSpec
from cluster.model.service import NetworkAttachment, ServiceSpec

DEFAULT = "default"

NetworkMode = Literal["", "none", "host"]

_LEAST_MTU, _MOST_MTU = 576, 65535
_LEAST_IPV6_MTU = 1280


def definitions(field: Field, stack: str) -> dict[str, NetworkSpec]:
    """Read the top-level networks; the stack's default one is always there."""
    found = {key: _definition(network, stack) for key, network in field.entries()}
    found.setdefault(DEFAULT, NetworkSpec(DEFAULT, f"{stack}_{DEFAULT}"))
    return found


def _definition(field: Field, stack: str) -> NetworkSpec:
    called = naming(field, stack, "network")
    pools = [ipam.pool(entry) for entry in field["ipam"]["config"].items()]
    ipv6 = any(pool.subnet.version == 6 for pool in pools)
    if ipv6 and not field["enable_ipv6"].boolean(default=True):
        raise field["enable_ipv6"].error("the network has an IPv6 subnet", hint="Take the subnet out, or this.")
    ipv6 = ipv6 or field["enable_ipv6"].boolean()
    mtu = field["driver_opts"][MTU]
    return NetworkSpec(
        key=str(field.path[-1]),
        name=called.name,
        external=called.external,
        internal=field["internal"].boolean(),
        mtu=mtu.integer(least=_LEAST_IPV6_MTU if ipv6 else _LEAST_MTU, most=_MOST_MTU),
        subnets=tuple(str(pool.subnet) for pool in pools),
        labels=read_labels(field["labels"]),
        encrypted=_encrypted(field["driver_opts"]["encrypted"]),
        gateways=tuple(pool.gateway for pool in pools if pool.gateway),
        ipv6=ipv6,
        attachable=field["attachable"].boolean(),
        ranges=tuple(pool.range for pool in pools if pool.range),
        reserved=tuple(address for pool in pools for address in pool.reserved),
    )


def _encrypted(field: Field) -> bool:
    """Tell whether a network is to be encrypted. What cannot be understood is an error: it must not mean clear text."""
    if not field.given:
        return False
    wanted = ENCRYPTED.get(field.text())
    if wanted is None:
        raise field.error(f"{field.text()[:40]!r} is neither true nor false")
    return wanted


def attachments(
    service: Field, declared: Mapping[str, NetworkSpec]
) -> tuple[tuple[NetworkAttachment, ...], NetworkMode]:
    """Give the networks of a service, or that it has the node's own or none: of those it joins no other.

    An external network that is called `host` or `none` is the node's, as in a swarm; `bridge` is the default one.
    """
    key = str(service.path[-1])
    mode_field = service["network_mode"]
    if (mode := mode_field.one_of("", "", "none", "host", "bridge", "default")) in ("none", "host"):
        return (), "host" if mode == "host" else "none"
    found: list[NetworkAttachment] = []
    own: list[tuple[Field, NetworkMode]] = []
    for name, field in service["networks"].entries():
        network = declared.get(name)
        if network is None:
            raise field.error(f"there is no network {name[:60]!r}", hint="Add it under the top-level networks.")
        if network.external and network.name in ("host", "none"):
            own.append((field, "host" if network.name == "host" else "none"))
            continue
        network_key = DEFAULT if network.external and network.name == "bridge" else name
        aliases = [names.check_alias(a.text(), a.source.where(*a.path)) for a in field["aliases"].items()]
        addresses = ipam.addresses(field, declared[network_key])
        found.append(NetworkAttachment(network_key, tuple(dict.fromkeys((key, *aliases))), addresses))
    if own and (found or len(own) > 1):
        raise own[0][0].error(f"a container with the network {own[0][1]!r} of its node joins no other")
    if own:
        return (), own[0][1]
    return tuple(sorted(found, key=lambda one: one.network)) or (NetworkAttachment(DEFAULT, (key,)),), ""


def named(services: Mapping[str, ServiceSpec], declared: Mapping[str, Field]) -> dict[str, ServiceSpec]:
    """Add the names that links and `container_name` give: everybody on the network finds the service by them."""
    extra: dict[tuple[str, str], list[str]] = {}
    for key, field in declared.items():
        name = field["container_name"]
        if name.given and name.text() not in services:
            alias = names.check_alias(name.text(), name.source.where(*name.path))
            for attachment in services[key].networks:
                extra.setdefault((key, attachment.network), []).append(alias)
        for link in field["links"].items():
            other, _, alias = link.text().partition(":")
            if other not in services:
                raise link.error(f"there is no service {other[:60]!r}")
            if not alias or alias == other:
                continue
            names.check_alias(alias, link.source.where(*link.path))
            if alias in services:
                raise link.error(f"{alias!r} is the name of another service")
            shared = {a.network for a in services[key].networks} & {a.network for a in services[other].networks}
            if not shared:
                raise link.error(f"there is no network that {key} and {other} share", hint="Put both on one.")
            for network in shared:
                extra.setdefault((other, network), []).append(alias)
    return {
        key: replace(
            spec,
            networks=tuple(
                replace(a, aliases=tuple(dict.fromkeys((*a.aliases, *extra.get((key, a.network), ())))))
                for a in spec.networks
            ),
        )
        for key, spec in services.items()
    }
