"""One normalised, merged service to a ServiceSpec."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from cluster.compose import mounts, names, ports, units, values
from cluster.compose.deploy import labels, replicas, resources, restart_policy
from cluster.compose.placement import constraints
from cluster.compose.tree import Mapping, Node, Scalar
from cluster.model.container import ContainerSpec, Healthcheck, Logging, Mount, Ulimit
from cluster.model.service import NetworkAttachment, PortSpec, ServiceSpec

DEFAULT_NETWORK = "default"
DEFAULT_GRACE = 10.0

_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]*|[0-9]{1,2}")
_CAPABILITY = re.compile(r"[A-Z][A-Z_]*")
_USER = re.compile(r"[^\s:]+(?::[^\s:]+)?")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a service needs to know of its project. `read_env` gives the variables of one entry of `env_file`."""

    stack: str
    directory: str
    variables: Callable[[str], str | None]
    read_env: Callable[[Mapping], dict[str, str | None]]
    volume_names: dict[str, str]
    """Full names of the declared volumes by key."""


def convert(key: str, node: Node, around: Surroundings) -> ServiceSpec:
    """Read a service; networks are checked by the caller, who knows those declared."""
    names.check_service(around.stack, key, node.where)
    service = values.mapping(node)
    deploy = values.mapping(service.get("deploy"))
    return ServiceSpec(
        name=key,
        container=_container(service, around),
        networks=_networks(key, service),
        ports=_ports(service),
        replicas=replicas(deploy),
        resources=resources(deploy),
        restart=restart_policy(deploy, service.get("restart")),
        constraints=constraints(deploy),
        labels=labels(deploy.get("labels")),
    )


def _container(service: Mapping, around: Surroundings) -> ContainerSpec:
    image = service.get("image")
    if image is None:
        if (build := service.get("build")) is not None:
            raise build.where.error(
                "build alone names no image that the nodes could pull",
                hint="Add image: NAME beside it; the image is built and pushed under that name before the deploy.",
            )
        raise service.where.error("the service has no image", hint="Add image: NAME.")
    return ContainerSpec(
        image=names.check_image(values.text(image), image.where),
        command=_command(service.get("command")),
        entrypoint=_command(service.get("entrypoint")),
        environment=_environment(service, around),
        labels=labels(service.get("labels")),
        hostname=_hostname(service.get("hostname")),
        user=_user(service.get("user")),
        working_dir=_working_dir(service.get("working_dir")),
        mounts=_mounts(service, around),
        healthcheck=_healthcheck(service.get("healthcheck")),
        stop_signal=_signal(service.get("stop_signal")),
        stop_grace_period=units.duration(grace) if (grace := service.get("stop_grace_period")) else DEFAULT_GRACE,
        init=_flag(service, "init"),
        tty=_flag(service, "tty"),
        stdin_open=_flag(service, "stdin_open"),
        read_only=_flag(service, "read_only"),
        cap_add=_capabilities(service.get("cap_add")),
        cap_drop=_capabilities(service.get("cap_drop")),
        sysctls=values.pairs(service.get("sysctls")),
        ulimits={name: _ulimit(limit) for name, limit in values.mapping(service.get("ulimits")).entries.items()},
        extra_hosts=tuple(_extra_host(host) for host in values.items(service.get("extra_hosts"))),
        dns=tuple(_address(server) for server in values.items(service.get("dns"))),
        dns_search=values.texts(service.get("dns_search")),
        dns_options=values.texts(service.get("dns_opt")),
        logging=_logging(service.get("logging")),
    )


def _flag(service: Mapping, key: str) -> bool:
    node = service.get(key)
    return values.boolean(node) if node else False


def _command(node: Node | None) -> tuple[str, ...] | None:
    return None if node is None else values.texts(node)


def _environment(service: Mapping, around: Surroundings) -> dict[str, str]:
    """Join env_file and environment; the latter wins, and a name without a value takes it from outside or is unset."""
    environment: dict[str, str | None] = {}
    for entry in values.items(service.get("env_file")):
        environment |= around.read_env(values.mapping(entry))
    for name, value in values.mapping(service.get("environment")).entries.items():
        if not name or "=" in name or "\0" in name:
            raise value.where.error(f"{name[:60]!r} cannot be the name of a variable")
        environment[name] = (
            around.variables(name) if isinstance(value, Scalar) and value.value is None else values.loose_text(value)
        )
    return {name: value for name, value in environment.items() if value is not None}


def _hostname(node: Node | None) -> str:
    return names.check_alias(values.text(node), node.where) if node else ""


def _user(node: Node | None) -> str:
    user = values.text(node) if node else ""
    if node and not _USER.fullmatch(user):
        raise node.where.error(f"{user[:60]!r} is not a user", hint='Write it like app, "1000" or "1000:1000".')
    return user


def _working_dir(node: Node | None) -> str:
    path = values.text(node) if node else ""
    if node and not path.startswith("/"):
        raise node.where.error(f"{path[:60]!r} is not an absolute path in the container")
    return path


def _signal(node: Node | None) -> str:
    signal = (values.loose_text(node) or "").upper() if node else ""
    if node and not _SIGNAL.fullmatch(signal):
        raise node.where.error(f"{signal[:20]!r} is not a signal", hint="Write it like SIGINT or SIGTERM.")
    return signal


def _capabilities(node: Node | None) -> tuple[str, ...]:
    found: list[str] = []
    for item in values.items(node):
        name = values.text(item).upper().removeprefix("CAP_")
        if not _CAPABILITY.fullmatch(name):
            raise item.where.error(f"{name[:40]!r} is not a capability", hint="Write it like NET_ADMIN.")
        found.append(name if name == "ALL" else f"CAP_{name}")
    return tuple(sorted(set(found))) if "ALL" not in found else ("ALL",)


def _ulimit(node: Node) -> Ulimit:
    limit = values.mapping(node)
    both = []
    for key in ("soft", "hard"):
        value = limit.get(key)
        if value is None:
            raise node.where.error(f"the limit has no {key}", hint="Write one number, or both soft and hard.")
        both.append(values.integer(value, least=-1))
    soft, hard = both
    if hard != -1 and (soft == -1 or soft > hard):
        raise node.where.error(f"the soft limit {soft} is above the hard limit {hard}")
    return Ulimit(soft, hard)


def _extra_host(node: Node) -> tuple[str, str]:
    name, _, address = values.text(node).partition("=")
    names.check_alias(name, node.where)
    if address != "host-gateway":
        _check_address(address, node)
    return name, address


def _address(node: Node) -> str:
    return _check_address(values.text(node), node)


def _check_address(written: str, node: Node) -> str:
    try:
        return str(ipaddress.ip_address(written))
    except ValueError:
        raise node.where.error(f"{written[:60]!r} is not an IP address") from None


def _logging(node: Node | None) -> Logging | None:
    if node is None:
        return None
    logging = values.mapping(node)
    driver = logging.get("driver")
    return Logging(values.text(driver) if driver else "", values.pairs(logging.get("options")))


def _healthcheck(node: Node | None) -> Healthcheck | None:
    if node is None:
        return None
    check = values.mapping(node)
    test_node = check.get("test")
    test = values.texts(test_node)
    if _flag(check, "disable"):
        if test and test != ("NONE",):
            raise check.entries["disable"].where.error("a health check with a test cannot be disabled as well")
        return Healthcheck(("NONE",))
    if test_node is not None and (not test or test[0] not in ("NONE", "CMD", "CMD-SHELL")):
        raise test_node.where.error(
            "a test that is a list begins with CMD, CMD-SHELL or NONE", hint="Or write the test as one text."
        )
    if test_node is not None and test[0] != "NONE" and (len(test) == 1 or (test[0] == "CMD-SHELL" and len(test) > 2)):
        raise test_node.where.error("CMD takes a program and its arguments, CMD-SHELL one text")

    def seconds(key: str) -> float | None:
        value = check.get(key)
        return units.duration(value) if value else None

    retries = check.get("retries")
    return Healthcheck(
        test=test,
        interval=seconds("interval"),
        timeout=seconds("timeout"),
        start_period=seconds("start_period"),
        start_interval=seconds("start_interval"),
        retries=values.integer(retries, least=0) if retries else None,
    )


def _networks(key: str, service: Mapping) -> tuple[NetworkAttachment, ...]:
    attached = service.entries.get("networks")
    networks = values.mapping(attached)
    if not networks.entries:
        return (NetworkAttachment(DEFAULT_NETWORK, (key,)),)
    attachments = []
    for name, node in networks.entries.items():
        given = values.items(values.mapping(node).get("aliases"))
        aliases = [names.check_alias(values.text(alias), alias.where) for alias in given]
        attachments.append(NetworkAttachment(name, tuple(dict.fromkeys((key, *aliases)))))
    return tuple(sorted(attachments, key=lambda attachment: attachment.network))


def _ports(service: Mapping) -> tuple[PortSpec, ...]:
    taken: dict[tuple[object, ...], PortSpec] = {}
    for node in values.items(service.get("ports")):
        port = ports.convert(node)
        slot = (port.published, port.protocol, port.mode, port.host_ip)
        if taken.setdefault(slot, port) != port:
            raise node.where.error(
                f"port {port.published}/{port.protocol} is published twice, to {taken[slot].target} and {port.target}"
            )
    return tuple(sorted(taken.values(), key=lambda p: (p.protocol, p.mode, p.published, p.target, p.host_ip)))


def _mounts(service: Mapping, around: Surroundings) -> tuple[Mount, ...]:
    by_target: dict[str, Mount] = {}
    home = around.variables("HOME")
    for node in (*values.items(service.get("volumes")), *values.items(service.get("tmpfs"))):
        mount = mounts.convert(node, directory=around.directory, home=home)
        if mount.type == "volume" and mount.source:
            full = around.volume_names.get(mount.source)
            if full is None:
                raise node.where.error(
                    f"there is no volume {mount.source[:60]!r}",
                    hint="Add it under the top-level volumes; a path of the node begins with / or ./",
                )
            mount = replace(mount, source=full)
        by_target[mount.target] = mount
    return tuple(by_target[target] for target in sorted(by_target))
