"""One service to a ServiceSpec."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cluster.compose import names
from cluster.compose.convert import container, deploy, extensions, networks, placement, ports
from cluster.compose.convert.field import LARGEST, Field
from cluster.compose.convert.naming import labels
from cluster.model.network import NetworkSpec
from cluster.model.service import Dependency, ServiceSpec


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service needs to know of its stack. `volumes` are the full names of the declared ones by key."""

    stack: str
    networks: Mapping[str, NetworkSpec]
    volumes: Mapping[str, str]
    secrets: frozenset[str]
    configs: frozenset[str]


def convert(key: str, field: Field, written: Field, around: Surroundings) -> ServiceSpec:
    """Read a service; `written` has its keys of one's own.

    What it shares with other services is checked by the caller, who knows them.
    """
    names.check_service(around.stack, key, field.source.where(*field.path))
    told = field["deploy"]
    attachments, network_mode = networks.attachments(field, around.networks)
    published = ports.convert(field["ports"])
    if published and network_mode:
        raise field["ports"].error(
            f"a container with the network {network_mode!r} publishes no ports",
            hint="Its own ports are those of its node." if network_mode == "host" else "",
        )
    endpoint_mode = deploy.endpoint_mode(told)
    if endpoint_mode == "dnsrr" and any(port.mode == "ingress" for port in published):
        raise told["endpoint_mode"].error(
            "a service without a virtual address cannot answer on every node",
            hint="Publish its ports with mode: host, or take endpoint_mode out.",
        )
    limits = deploy.resources(field)
    made = container.convert(field, around.volumes, around.secrets, around.configs, network_mode)
    if limits.nano_cpus and (made.cpu_period or made.cpu_quota):
        raise field["cpu_quota" if made.cpu_quota else "cpu_period"].error("it excludes a limit of cpus")
    if made.memswap_limit and made.memswap_limit > 0 and made.memswap_limit < (limits.memory or LARGEST):
        raise field["memswap_limit"].error(
            "it holds memory and swap, and must be at least the limit of memory",
            hint="" if limits.memory else "Limit memory too, with deploy.resources.limits.memory.",
        )
    return ServiceSpec(
        name=key,
        container=made,
        networks=attachments,
        ports=published,
        replicas=deploy.replicas(field),
        resources=limits,
        restart=deploy.restart_policy(field),
        constraints=placement.constraints(told["placement"]["constraints"]),
        labels=labels(told["labels"]) | extensions.routing(written),
        mode=deploy.mode(told),
        update=deploy.update_config(told["update_config"]),
        rollback=deploy.update_config(told["rollback_config"]),
        reservations=deploy.reservations(field),
        spread=placement.spread(told["placement"]["preferences"]),
        max_replicas_per_node=told["placement"]["max_replicas_per_node"].integer(least=0) or 0,
        endpoint_mode=endpoint_mode,
        on_disconnect=extensions.on_disconnect(written),
        max_concurrent=extensions.max_concurrent(written),
        depends_on={other: _dependency(one) for other, one in field["depends_on"].entries()},
    )


def _dependency(field: Field) -> Dependency:
    restart, required = field["restart"].boolean(), field["required"].boolean(True)
    match field["condition"].one_of(
        "service_started", "service_started", "service_healthy", "service_completed_successfully"
    ):
        case "service_healthy":
            return Dependency("service_healthy", restart, required)
        case "service_completed_successfully":
            return Dependency("service_completed_successfully", restart, required)
        case _:
            return Dependency("service_started", restart, required)
