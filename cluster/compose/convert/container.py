"""The container of a service: what the engine is asked to create."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Literal

from cluster.compose import names
from cluster.compose.convert import block_io, devices, files, health, mounts
from cluster.compose.convert.field import Field
from cluster.compose.convert.naming import labels
from cluster.compose.convert.networks import NetworkMode
from cluster.model.container import ContainerSpec, Logging, Ulimit
from cluster.templates import is_template

DEFAULT_GRACE = 10.0

_SIGNAL = re.compile(r"(?:SIG)?[A-Z][A-Z0-9+-]*|[0-9]{1,2}")
_CAPABILITY = re.compile(r"[A-Z][A-Z_]*")
_USER = re.compile(r"[^\s:]+(?::[^\s:]+)?")


def convert(
    service: Field,
    volumes: Mapping[str, str],
    secrets: frozenset[str],
    configs: frozenset[str],
    network_mode: NetworkMode,
) -> ContainerSpec:
    """Read it; `volumes` has full names by key, `secrets` and `configs` are the declared keys."""
    return ContainerSpec(
        image=_image(service),
        command=_command(service["command"]),
        entrypoint=_command(service["entrypoint"]),
        environment=_environment(service["environment"]),
        unset_environment=tuple(name for name, value in service["environment"].entries() if not value.given),
        labels=labels(service["labels"]),
        hostname=_hostname(service["hostname"]),
        domainname=_name(service["domainname"]),
        user=_user(service["user"]),
        working_dir=_working_dir(service["working_dir"]),
        mounts=mounts.convert(service, volumes),
        healthcheck=health.convert(service["healthcheck"]),
        stop_signal=_signal(service["stop_signal"]),
        stop_grace_period=_grace(service["stop_grace_period"]),
        init=service["init"].boolean(),
        tty=service["tty"].boolean(),
        stdin_open=service["stdin_open"].boolean(),
        read_only=service["read_only"].boolean(),
        privileged=service["privileged"].boolean(),
        cap_add=_capabilities(service["cap_add"]),
        cap_drop=_capabilities(service["cap_drop"]),
        security_opt=service["security_opt"].texts(),
        sysctls=service["sysctls"].pairs(),
        ulimits={name: _ulimit(limit) for name, limit in service["ulimits"].entries()},
        extra_hosts=tuple(host for item in service["extra_hosts"].items() for host in _extra_hosts(item)),
        dns=tuple(_address(item.text(), item) for item in service["dns"].items()),
        dns_search=service["dns_search"].texts(),
        dns_options=service["dns_opt"].texts(),
        logging=_logging(service["logging"]),
        secrets=files.convert(service["secrets"], files.SECRETS, secrets),
        configs=files.convert(service["configs"], "/", configs),
        annotations=service["annotations"].pairs(),
        group_add=service["group_add"].texts(),
        devices=devices.mappings(service["devices"]),
        device_cgroup_rules=service["device_cgroup_rules"].texts(),
        device_requests=devices.requests(service),
        runtime=service["runtime"].text(),
        network_mode=network_mode,
        pid=service["pid"].text(),
        ipc=service["ipc"].text(),
        uts=service["uts"].one_of("", "", "host"),
        userns_mode=service["userns_mode"].text(),
        cgroup=service["cgroup"].one_of("", "", "host", "private"),
        cgroup_parent=service["cgroup_parent"].text(),
        block_io=block_io.convert(service["blkio_config"]),
        mac_address=service["mac_address"].text().lower().replace("-", ":"),
        shm_size=service["shm_size"].integer(least=0) or None,
        storage_opt=service["storage_opt"].pairs(),
        cpuset=service["cpuset"].text(),
        platform=service["platform"].text(),
        pull_policy=_pull_policy(service["pull_policy"]),
        cpu_shares=service["cpu_shares"].integer(least=0),
        cpu_period=service["cpu_period"].integer(least=0),
        cpu_quota=service["cpu_quota"].integer(least=-1),
        cpu_rt_period=service["cpu_rt_period"].integer(least=0),
        cpu_rt_runtime=service["cpu_rt_runtime"].integer(least=0),
        memswap_limit=service["memswap_limit"].integer(least=-1),
        mem_swappiness=service["mem_swappiness"].integer(least=-1, most=100),
        oom_kill_disable=service["oom_kill_disable"].boolean(),
        oom_score_adj=service["oom_score_adj"].integer(least=-1000, most=1000),
    )


def _image(service: Field) -> str:
    field = service["image"]
    if not field.text():
        raise service.error("the service has no image", hint="Add image: NAME.")
    return names.check_image(field.text(), field.source.where(*field.path))


def _command(field: Field) -> tuple[str, ...] | None:
    return field.texts() if field.given else None


def _environment(field: Field) -> dict[str, str]:
    """A name without a value is one that the container is not to have."""
    for name, value in field.entries():
        if not name or "=" in name or "\0" in name:
            raise value.error(f"{name[:60]!r} cannot be the name of a variable")
    return {name: value.template() for name, value in field.entries() if value.given}


def _hostname(field: Field) -> str:
    return field.template() if is_template(field.text()) else _name(field)


def _name(field: Field) -> str:
    return names.check_alias(field.text(), field.source.where(*field.path)) if field.text() else ""


def _user(field: Field) -> str:
    if field.text() and not _USER.fullmatch(field.text()):
        raise field.error(f"{field.text()[:60]!r} is not a user", hint='Write it like app, "1000" or "1000:1000".')
    return field.text()


def _working_dir(field: Field) -> str:
    if field.text() and not field.text().startswith("/"):
        raise field.error(f"{field.text()[:60]!r} is not an absolute path in the container")
    return field.text()


def _signal(field: Field) -> str:
    signal = field.text().upper()
    if signal and not _SIGNAL.fullmatch(signal):
        raise field.error(f"{signal[:20]!r} is not a signal", hint="Write it like SIGINT or SIGTERM.")
    return signal


def _grace(field: Field) -> float:
    told = field.seconds()
    return DEFAULT_GRACE if told is None else told


def _capabilities(field: Field) -> tuple[str, ...]:
    found: list[str] = []
    for item in field.items():
        name = item.text().upper().removeprefix("CAP_")
        if not _CAPABILITY.fullmatch(name):
            raise item.error(f"{name[:40]!r} is not a capability", hint="Write it like NET_ADMIN.")
        found.append(name if name == "ALL" else f"CAP_{name}")
    return tuple(sorted(set(found))) if "ALL" not in found else ("ALL",)


def _ulimit(field: Field) -> Ulimit:
    if not isinstance(field.value, dict):
        both = field.integer(least=-1)
        if both is None:
            raise field.error("the limit has no value", hint="Write one number, or both soft and hard.")
        return Ulimit(both, both)
    soft, hard = field["soft"].integer(least=-1), field["hard"].integer(least=-1)
    if soft is None or hard is None:
        raise field.error("the limit has no soft or no hard value", hint="Write one number, or both.")
    if hard != -1 and (soft == -1 or soft > hard):
        raise field.error(f"the soft limit {soft} is above the hard limit {hard}")
    return Ulimit(soft, hard)


def _extra_hosts(field: Field) -> list[tuple[str, str]]:
    name, equals, addresses = field.text().partition("=")
    names.check_alias(name, field.source.where(*field.path))
    if not equals:
        raise field.error(f"{name[:60]!r} has no address", hint='Write it like "name=10.0.0.1".')
    return [
        (name, address if address == "host-gateway" else _address(address.strip("[]"), field))
        for address in addresses.split(",")
    ]


def _address(written: str, field: Field) -> str:
    try:
        return str(ipaddress.ip_address(written))
    except ValueError:
        raise field.error(f"{written[:60]!r} is not an IP address") from None


def _logging(field: Field) -> Logging | None:
    return Logging(field["driver"].text(), field["options"].pairs()) if field.given else None


def _pull_policy(field: Field) -> Literal["", "always", "missing", "never"]:
    match field.one_of("", "", "always", "missing", "if_not_present", "never"):
        case "always":
            return "always"
        case "never":
            return "never"
        case "missing" | "if_not_present":
            return "missing"
        case _:
            return ""
