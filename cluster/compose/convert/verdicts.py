"""What happens with each key of a Compose file: the one table, for the loader's users and for the README.

A key is honoured, translated into something else that serves its purpose, or refused with the reason and what to write
instead. Some verdicts hang on the value, or on what stands beside it. A mapping that has no place in the table holds
names of the user's own. `x-*` is allowed everywhere and left alone.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Honoured:
    """It does what the Compose Specification says; `note` tells what may not be obvious."""

    note: str = ""


@dataclass(frozen=True, slots=True)
class Translated:
    """It becomes something else: `to`."""

    to: str


@dataclass(frozen=True, slots=True)
class Refused:
    """It cannot be done. `accept` is the name by which a file accepts that, if not the key's own."""

    why: str
    instead: str = ""
    accept: str = ""


Verdict = Honoured | Translated | Refused
Siblings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Depends:
    """A verdict that hangs on the value and what stands beside it; `told` says in the README on what.

    `whole` judges the item that holds the key even where the key itself is missing.
    """

    told: str
    judge: Callable[[Any, Siblings], Verdict]
    whole: bool = False


Rule = Verdict | Depends

YES = Honoured()
OTHER = "*"
"""As a key of the table: every key that is not there by name."""

MTU = "com.docker.network.driver.mtu"
ENCRYPTED = {"": True, "true": True, "1": True, "false": False, "0": False}
"""What is understood as the value of `encrypted`; the bare option means yes."""

_LATER = "this version does not have it yet"
_WINDOWS = "it is for Windows containers"
_ADDRESSES = "the cluster gives the addresses"
_HOOKS = Refused(_LATER, "Do it in the image's entrypoint.")
_PULLED = "The nodes pull images; build and push it first (`stack lab build` does, on a lab)."


def _honoured(*keys: str) -> dict[str, Rule]:
    return dict.fromkeys(keys, YES)


def _all(rule: Rule, *keys: str) -> dict[str, Rule]:
    return dict.fromkeys(keys, rule)


def _build(value: Any, beside: Siblings) -> Verdict:
    if beside.get("image"):
        return Translated("an image that the nodes pull; `stack lab build` builds and pushes it")
    return Refused("build alone names no image that the nodes could pull", f"Add image: NAME beside it. {_PULLED}")


def _network_mode(value: Any, beside: Siblings) -> Verdict:
    mode = str(value)
    if mode in ("", "none", "host"):
        return YES
    if mode in ("bridge", "default"):
        return Translated("the stack's default network")
    if mode.startswith(("service:", "container:")):
        return Refused(
            "two tasks cannot share a network namespace yet",
            "Put both on one network: they reach each other by the names of their services.",
        )
    return Refused(f"there is no network mode {mode[:40]!r}", "Name networks under networks.")


def _shared(kind: str) -> Callable[[Any, Siblings], Verdict]:
    def judge(value: Any, beside: Siblings) -> Verdict:
        if str(value).startswith(("service:", "container:")):
            return Refused(f"the {kind} namespace of another container may be on another host")
        return YES

    return judge


def _pull_policy(value: Any, beside: Siblings) -> Verdict:
    word = str(value)
    if word in ("", "always", "never", "missing"):
        return YES
    if word == "if_not_present":
        return Translated("missing")
    if word == "build":
        return Refused("the nodes build no images", _PULLED)
    return Refused(
        "images are not pulled again after a time", "Write always; each new task then looks for a newer one."
    )


def _security_opt(value: Any, beside: Siblings) -> Verdict:
    for option in value if isinstance(value, list) else ():
        name, _, profile = str(option).replace(":", "=", 1).partition("=")
        if name == "seccomp" and profile not in ("unconfined", "builtin") and not profile.startswith("{"):
            return Refused(
                f"the profile {profile[:60]} is a file of this machine",
                "Write the profile's JSON itself, seccomp=unconfined, or take it out.",
            )
    return YES


def _isolation(value: Any, beside: Siblings) -> Verdict:
    return YES if value in ("", "default") else Refused(_WINDOWS, "Take the key out.")


def _port(value: Any, beside: Siblings) -> Verdict:
    if value or beside.get("mode", "ingress") == "ingress":
        return YES
    target = beside.get("target")
    return Refused(
        f"port {target} is published on the task's own node without saying as what",
        f'Write "8080:{target}", or take it out: within a network every port can be reached.',
    )


def _protocol(value: Any, beside: Siblings) -> Verdict:
    return YES if str(value).lower() in ("tcp", "udp") else Refused(f"{str(value)[:20]} is neither tcp nor udp")


def _host_ip(value: Any, beside: Siblings) -> Verdict:
    written = str(value)
    if beside.get("mode") == "host" or not written:
        return YES
    try:
        if ipaddress.ip_address(written).is_unspecified:
            return YES
    except ValueError:
        return YES  # the conversion says that it is no address
    return Refused(
        f"a published port answers on every node and cannot be bound to {written[:60]}",
        "Take the address out, or write the long form with mode: host to publish on the task's own node only.",
    )


def _mount_type(value: Any, beside: Siblings) -> Verdict:
    if value in ("volume", "bind", "tmpfs"):
        return YES
    return Refused(f"mounts of the type {str(value)[:20]} are not supported", "volume, bind and tmpfs are.")


def _network_driver(value: Any, beside: Siblings) -> Verdict:
    if value in ("", "overlay", "default") or beside.get("external"):
        return YES
    if value == "bridge":
        return Translated("an overlay network: it spans all nodes")
    return Refused(
        f"networks of the driver {str(value)[:20]} are not supported", "Take the line out: a network spans all nodes."
    )


def _external(value: Any, beside: Siblings) -> Verdict:
    return Translated("the stack's default network") if value and beside.get("name") == "bridge" else YES


def _ipam_driver(value: Any, beside: Siblings) -> Verdict:
    return YES if value in ("", "default") else Refused(_ADDRESSES, "Take the key out.")


def _ipv4(value: Any, beside: Siblings) -> Verdict:
    return YES if value else Refused("every network has IPv4 addresses", "Take the key out.")


def _encrypted(value: Any, beside: Siblings) -> Verdict:
    return YES if value in ENCRYPTED else Refused("it is neither true nor false", "Write true, or false.")


def _template(value: Any, beside: Siblings) -> Verdict:
    return YES if value in ("", "golang") else Refused(f"there is no template driver {str(value)[:40]!r}", "golang is.")


TABLE: dict[str, dict[str, Rule]] = {
    "": {
        **_honoured("name", "services", "networks", "volumes", "secrets", "configs", "include"),
        "version": Honoured("it has had no effect since Compose 2"),
        "models": Refused(_LATER, "Run the model as a service of its own."),
        "x-stackyard": Honoured("`accept` lists refused keys that are to have no effect"),
    },
    "services.*": {
        **_honoured("image", "command", "entrypoint", "environment", "env_file", "label_file", "labels", "user"),
        **_honoured("working_dir", "hostname", "domainname", "init", "tty", "stdin_open", "read_only", "cap_add"),
        **_honoured("cap_drop", "sysctls", "ulimits", "extra_hosts", "dns", "dns_search", "dns_opt", "logging"),
        **_honoured("stop_signal", "stop_grace_period", "healthcheck", "networks", "ports", "volumes", "tmpfs"),
        **_honoured("secrets", "configs", "profiles", "extends", "annotations", "devices", "device_cgroup_rules"),
        **_honoured("group_add", "privileged", "runtime", "gpus", "shm_size", "storage_opt", "platform"),
        **_honoured("cpu_shares", "cpu_period", "cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpuset", "deploy"),
        **_honoured("memswap_limit", "mem_swappiness", "oom_kill_disable", "oom_score_adj", "uts", "userns_mode"),
        **_honoured("cgroup", "cgroup_parent", "blkio_config"),
        "depends_on": Honoured("on every host, and on updates"),
        "restart": Honoured("as deploy.restart_policy, which goes before it"),
        "cpus": Honoured("as deploy.resources.limits.cpus"),
        "mem_limit": Honoured("as deploy.resources.limits.memory"),
        "pids_limit": Honoured("as deploy.resources.limits.pids"),
        "mem_reservation": Honoured("as deploy.resources.reservations.memory"),
        "scale": Honoured("as deploy.replicas"),
        "x-on-disconnect": Honoured("`replace_after`, `replace` and `stop_after` for a node that falls silent"),
        "x-max-concurrent": Honoured("how many tasks of a job run at a time, if not all"),
        "x-ingress": Honoured("`local-first`: a host leads published ports to its own ready tasks, if it has some"),
        "x-sticky": Honoured("`client-ip`: the virtual address leads a client to the same task each time"),
        "x-managers": Honoured("`api`: its tasks reach the API of the managers, which asks them for a token"),
        "build": Depends("translated beside `image`: the nodes pull it; refused alone", _build),
        "container_name": Translated("a name on the service's networks; containers are called after their task"),
        "expose": Translated("nothing to do: within a network every port can be reached"),
        "links": Translated("names on the networks that both services share"),
        "develop": Translated("nothing to do: it is for `docker compose watch`"),
        "attach": Translated("nothing to do: it is for the output of `docker compose up`"),
        "network_mode": Depends("`none` and `host` honoured, `bridge` translated, others refused", _network_mode),
        "pid": Depends("of another container: refused", _shared("process")),
        "ipc": Depends("of another container: refused", _shared("IPC")),
        "pull_policy": Depends("`always`, `missing`, `never` honoured, others refused", _pull_policy),
        "security_opt": Depends("honoured, but for seccomp profiles in files", _security_opt),
        "isolation": Depends("only `default`", _isolation),
        "mac_address": Honoured("of one replica: in the first network of the service"),
        "external_links": Refused(
            "containers outside of the cluster have no name in it",
            "Put the other service on a network that is external here; its name is found there.",
        ),
        "volumes_from": Refused("the other container may be on another host", "Name the volume in both services."),
        "models": Refused(_LATER, "Run the model as a service of its own."),
        "provider": Refused("what a provider does on this machine serves no other host", "Run it as a service."),
        **_all(_HOOKS, "post_start", "pre_stop"),
        **_all(Refused(_WINDOWS, "Take the key out."), "credential_spec", "cpu_count", "cpu_percent"),
        "pull_refresh_after": Refused("images are not pulled again after a time", "Write pull_policy: always."),
        "use_api_socket": Refused(
            "it would give the container the whole node, and your registry's passwords",
            "Mount the socket of the engine as a volume, if it has to be.",
        ),
    },
    "services.*.extends": _honoured("file", "service"),
    "services.*.env_file.[]": _honoured("path", "required", "format"),
    "services.*.depends_on.*": _honoured("condition", "required", "restart"),
    "services.*.networks.*": {
        **_honoured("aliases"),
        **_all(
            Honoured("of one replica: its task's own; the service's name leads to its virtual address, as ever"),
            *("ipv4_address", "ipv6_address"),
        ),
        "link_local_ips": Refused(_ADDRESSES, "Use the name of the service."),
        "mac_address": Refused("it follows from the IP address", "Take the key out."),
        **_all(Refused(_LATER), "driver_opts", "interface_name"),
        **_all(
            Translated("nothing to do: the default route is by the first network that is not internal"),
            *("gw_priority", "priority"),
        ),
    },
    "services.*.ports.[]": {
        **_honoured("target", "mode"),
        "published": Depends("has to be given with `mode: host`; else one of 30000-32767 is", _port, whole=True),
        "protocol": Depends("`tcp` and `udp`", _protocol),
        "host_ip": Depends("with `mode: host`; otherwise only addresses that mean all", _host_ip),
        **_all(Translated("nothing to do: it is a remark"), "name", "app_protocol"),
    },
    "services.*.volumes.[]": {
        **_honoured("source", "target", "read_only", "bind", "volume", "tmpfs", "image"),
        "type": Depends("`volume`, `bind` and `tmpfs`", _mount_type),
        "consistency": Translated("nothing to do: it has no effect on Linux"),
    },
    "services.*.volumes.[].bind": {
        **_honoured("propagation", "create_host_path", "selinux"),
        "recursive": Refused(_LATER),
    },
    "services.*.volumes.[].volume": {
        **_honoured("nocopy", "subpath"),
        "labels": Refused("labels belong to the volume, not to a mount", "Write them under the top-level volumes."),
    },
    "services.*.volumes.[].tmpfs": _honoured("size", "mode"),
    "services.*.secrets.[]": _honoured("source", "target", "uid", "gid", "mode"),
    "services.*.configs.[]": _honoured("source", "target", "uid", "gid", "mode"),
    "services.*.devices.[]": _honoured("source", "target", "permissions"),
    "services.*.gpus.[]": _honoured("driver", "count", "device_ids", "capabilities", "options"),
    "services.*.healthcheck": _honoured(
        "test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"
    ),
    "services.*.ulimits.*": _honoured("soft", "hard"),
    "services.*.logging": _honoured("driver", "options"),
    "services.*.deploy": _honoured(
        "mode", "replicas", "labels", "endpoint_mode", "resources", "restart_policy", "placement", "update_config",
        "rollback_config",
    ),
    "services.*.deploy.resources": _honoured("limits", "reservations"),
    "services.*.deploy.resources.limits": _honoured("cpus", "memory", "pids"),
    "services.*.deploy.resources.reservations": _honoured("cpus", "memory", "generic_resources", "devices"),
    "services.*.deploy.resources.reservations.generic_resources.[]": _honoured("discrete_resource_spec"),
    "services.*.deploy.resources.reservations.generic_resources.[].discrete_resource_spec": _honoured("kind", "value"),
    "services.*.deploy.resources.reservations.devices.[]": _honoured(
        "driver", "count", "device_ids", "capabilities", "options"
    ),
    "services.*.deploy.restart_policy": _honoured("condition", "delay", "max_attempts", "window"),
    "services.*.deploy.placement": _honoured("constraints", "preferences", "max_replicas_per_node"),
    "services.*.deploy.placement.preferences.[]": _honoured("spread"),
    "services.*.deploy.update_config": _honoured(
        "parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"
    ),
    "services.*.deploy.rollback_config": _honoured(
        "parallelism", "delay", "failure_action", "monitor", "max_failure_ratio", "order"
    ),
    "networks.*": {
        **_honoured("name", "internal", "driver_opts", "ipam", "labels", "enable_ipv6"),
        "attachable": Honoured("for `stack network attach`; services of other stacks join as ever"),
        "external": Depends("`host` and `none` are the node's own, `bridge` is translated", _external),
        "driver": Depends("`overlay` and `default`; `bridge` translated, others refused", _network_driver),
        "enable_ipv4": Depends("only `true`", _ipv4),
    },
    "networks.*.driver_opts": {
        MTU: YES,
        "encrypted": Depends("`true`, `false`, and nothing, which is true", _encrypted),
        OTHER: Refused("it is an option of another driver", f"Take it out; {MTU} is known.", "networks.driver_opts"),
    },
    "networks.*.ipam": {
        **_honoured("config"),
        "driver": Depends("only `default`", _ipam_driver),
        "options": Refused(_ADDRESSES, "Take the key out."),
    },
    "networks.*.ipam.config.[]": {
        **_honoured("subnet", "gateway", "ip_range", "aux_addresses"),
    },
    "volumes.*": _honoured("name", "external", "driver", "driver_opts", "labels"),
    "secrets.*": {
        **_honoured("file", "environment", "name", "external", "labels"),
        "template_driver": Depends("only `golang`", _template),
        **_all(Refused("secrets are kept by the cluster", "Take the key out."), "driver", "driver_opts"),
    },
    "configs.*": {
        **_honoured("file", "environment", "content", "name", "external", "labels"),
        "template_driver": Depends("only `golang`", _template),
    },
}  # fmt: skip


WHOLE = frozenset(
    {
        "include",
        "models",
        "services.*.blkio_config",
        "services.*.build",
        "services.*.credential_spec",
        "services.*.develop",
        "services.*.models",
        "services.*.networks.*.driver_opts",
        "services.*.post_start",
        "services.*.pre_stop",
        "services.*.provider",
        "services.*.volumes.[].image",
        "services.*.volumes.[].volume.labels",
        "networks.*.external",
        "networks.*.ipam.options",
        "networks.*.ipam.config.[].aux_addresses",
        "volumes.*.external",
        "secrets.*.external",
        "secrets.*.driver_opts",
        "configs.*.external",
    }
)
"""What stands below these has no verdict of its own: it goes with the key."""


def accept_name(pattern: str, key: str) -> str:
    """Give the name by which a file accepts a refused key: `deploy.update_config` for one of services.*.deploy."""
    parts = [part for part in (*pattern.split("."), key) if part not in ("", "*", "[]")]
    return ".".join(parts[1:] if parts[0] == "services" and len(parts) > 1 else parts)


def acceptable() -> frozenset[str]:
    """Give every name that a file may accept."""
    return frozenset(
        (rule.accept if isinstance(rule, Refused) else "") or accept_name(pattern, key)
        for pattern, rules in TABLE.items()
        for key, rule in rules.items()
    )
