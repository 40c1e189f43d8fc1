"""What happens with each key of a Compose file: the one table of verdicts, and the walk that holds a tree to it.

A key is honoured, or refused with the reason and what to write instead. A refused key stops the load unless the file
lists it under `x-stackyard: {accept: [...]}` (`depends_on`, `deploy.update_config`); then it is taken out and told as a
note. A key that is not in the table is a mistake. `x-*` is allowed everywhere and left alone.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

from cluster.compose import values
from cluster.compose.tree import Mapping, Node, Sequence, Where


@dataclass(frozen=True, slots=True)
class Refused:
    why: str
    instead: str = ""


Verdict = Refused | None
"""None is honoured."""

ACCEPT = "x-stackyard"


def _honoured(*keys: str) -> dict[str, Verdict]:
    return dict.fromkeys(keys)


def _refused(why: str, *keys: str, instead: str = "") -> dict[str, Verdict]:
    return dict.fromkeys(keys, Refused(why, instead))


_LATER = "this version does not have it yet"
_ONE_HOST = "it only makes sense where all containers are on one host"
_LIMITS = "Write it under deploy.resources.limits."

TABLE: dict[str, dict[str, Verdict]] = {
    "": {
        **_honoured("name", "version", "services", "networks", "volumes"),
        **_refused(_LATER, "secrets", "configs", "include", "models"),
    },
    "services.*": {
        **_honoured("image", "build", "command", "entrypoint", "environment", "env_file", "networks", "ports"),
        **_honoured("volumes", "tmpfs", "healthcheck", "labels", "user", "working_dir", "hostname", "init", "tty"),
        **_honoured("stdin_open", "read_only", "cap_add", "cap_drop", "sysctls", "ulimits", "extra_hosts", "dns"),
        **_honoured("dns_search", "dns_opt", "logging", "stop_signal", "stop_grace_period", "deploy", "restart"),
        **_refused(
            "services start in no given order",
            "depends_on",
            instead="Let the program retry its connections, and take the key out or accept that it has no effect.",
        ),
        **_refused(
            "containers are named after their task",
            "container_name",
            instead="Other containers find this one by the name of its service.",
        ),
        **_refused(
            "it has no effect: within a network every port can be reached", "expose", instead="Take the key out."
        ),
        **_refused(_LATER, "secrets", "configs", "profiles", "extends", "annotations", "label_file", "develop", "gpus"),
        **_refused(_LATER, "provider", "models", "post_start", "pre_stop", "pre_start", "credential_spec", "attach"),
        **_refused(_LATER, "cgroup", "cgroup_parent", "blkio_config", "cpu_rt_period", "cpu_rt_runtime", "cpuset"),
        **_refused(_LATER, "device_cgroup_rules", "devices", "domainname", "group_add", "ipc", "isolation"),
        **_refused(_LATER, "mac_address", "memswap_limit", "mem_swappiness", "oom_kill_disable", "oom_score_adj"),
        **_refused(_LATER, "network_mode", "platform", "privileged", "pull_policy", "pull_refresh_after", "runtime"),
        **_refused(_LATER, "security_opt", "shm_size", "storage_opt", "userns_mode", "use_api_socket", "uts", "pid"),
        **_refused(_LATER, "cpu_count", "cpu_percent", "cpu_shares", "cpu_quota", "cpu_period", "volume_driver"),
        **_refused("it would have two places", "cpus", "mem_limit", "pids_limit", instead=_LIMITS),
        **_refused("it would have two places", "mem_reservation", instead="Write it under deploy.resources."),
        **_refused("it would have two places", "scale", instead="Write deploy.replicas."),
        **_refused(_ONE_HOST, "links", "external_links", instead="Services find each other by name within a network."),
        **_refused(_ONE_HOST, "volumes_from", instead="Name the volume in both services."),
    },
    "services.*.build": {
        **_honoured("context", "dockerfile", "args", "target"),
        **_refused(_LATER, "additional_contexts", "cache_from", "cache_to", "dockerfile_inline", "entitlements"),
        **_refused(_LATER, "extra_hosts", "isolation", "labels", "network", "no_cache", "platforms", "privileged"),
        **_refused(_LATER, "provenance", "pull", "sbom", "secrets", "shm_size", "ssh", "tags", "ulimits"),
    },
    "services.*.env_file.[]": _honoured("path", "required", "format"),
    "services.*.networks.*": {
        **_honoured("aliases"),
        **_refused("addresses are given by the cluster", "ipv4_address", "ipv6_address", "link_local_ips"),
        **_refused("MAC addresses follow from IP addresses", "mac_address"),
        **_refused(_LATER, "driver_opts", "gw_priority", "interface_name", "priority"),
    },
    "services.*.ports.[]": {
        **_honoured("target", "published", "protocol", "mode", "host_ip"),
        **_refused("it has no effect", "name", "app_protocol", instead="Take the key out."),
    },
    "services.*.volumes.[]": {
        **_honoured("type", "source", "target", "read_only", "bind", "volume", "tmpfs"),
        **_refused("it has no effect on Linux", "consistency", instead="Take the key out."),
        **_refused(_LATER, "image"),
    },
    "services.*.volumes.[].bind": {
        **_honoured("propagation", "create_host_path"),
        **_refused(_LATER, "recursive", "selinux"),
    },
    "services.*.volumes.[].volume": {**_honoured("nocopy"), **_refused(_LATER, "labels", "subpath")},
    "services.*.volumes.[].tmpfs": _honoured("size", "mode"),
    "services.*.healthcheck": _honoured(
        "test", "interval", "timeout", "retries", "start_period", "start_interval", "disable"
    ),
    "services.*.ulimits.*": _honoured("soft", "hard"),
    "services.*.logging": _honoured("driver", "options"),
    "services.*.deploy": {
        **_honoured("mode", "replicas", "labels", "resources", "restart_policy", "placement", "endpoint_mode"),
        **_refused(_LATER, "update_config", "rollback_config"),
    },
    "services.*.deploy.resources": {**_honoured("limits"), **_refused(_LATER, "reservations")},
    "services.*.deploy.resources.limits": {
        **_honoured("cpus", "memory", "pids"),
        **_refused(_LATER, "devices", "generic_resources"),
    },
    "services.*.deploy.restart_policy": _honoured("condition", "delay", "max_attempts", "window"),
    "services.*.deploy.placement": {
        **_honoured("constraints"),
        **_refused(_LATER, "preferences", "max_replicas_per_node"),
    },
    "networks.*": {
        **_honoured("name", "external", "internal", "driver", "driver_opts", "ipam", "labels"),
        **_refused(_LATER, "enable_ipv4", "enable_ipv6"),
        **_refused("only tasks of a stack join its networks", "attachable"),
    },
    "networks.*.ipam": {**_honoured("config"), **_refused("the cluster gives the addresses", "driver", "options")},
    "networks.*.ipam.config.[]": {
        **_honoured("subnet"),
        **_refused("the cluster gives the addresses", "gateway", "ip_range", "aux_addresses"),
    },
    "volumes.*": _honoured("name", "external", "driver", "driver_opts", "labels"),
}


def accept_name(pattern: str, key: str) -> str:
    """Give the name by which a file accepts a refused key: `deploy.update_config` for one of services.*.deploy."""
    parts = [part for part in f"{pattern}.{key}".split(".") if part not in ("", "*", "[]")]
    return ".".join(parts[1:] if parts[0] == "services" and len(parts) > 1 else parts)


_ACCEPTABLE = {accept_name(pattern, key) for pattern, verdicts in TABLE.items() for key in verdicts}


def accepted(root: Mapping) -> frozenset[str]:
    """Read which refused keys a file accepts to have no effect."""
    names: set[str] = set()
    ours = values.mapping(root.get(ACCEPT))
    for key, node in ours.entries.items():
        if key != "accept":
            raise node.where.error("the key is unknown", hint=f"{ACCEPT} takes accept: [KEY, ...].")
        for item in values.items(node):
            name = values.text(item)
            if name not in _ACCEPTABLE:
                raise item.where.error(f"{name!r} is no key of a Compose file", hint=_suggest(name, _ACCEPTABLE))
            names.add(name)
    return frozenset(names)


def check(root: Mapping, accept: frozenset[str], note: Callable[[str, Where], None]) -> Mapping:
    """Hold a normalised tree to the table; give it without the refused keys that the file accepts."""
    return _mapping(root, "", accept, note)


def _check(node: Node, pattern: str, accept: frozenset[str], note: Callable[[str, Where], None]) -> Node:
    if isinstance(node, Mapping):
        return _mapping(node, pattern, accept, note)
    if isinstance(node, Sequence):
        return replace(node, items=tuple(_check(item, f"{pattern}.[]", accept, note) for item in node.items))
    return node


def _mapping(node: Mapping, pattern: str, accept: frozenset[str], note: Callable[[str, Where], None]) -> Mapping:
    verdicts = TABLE.get(pattern)
    kept: dict[str, Node] = {}
    for key, value in node.entries.items():
        if verdicts is None:  # names of the user's own: services, variables, labels
            inner = f"{pattern}.*"
        elif key in verdicts:
            inner = f"{pattern}.{key}".lstrip(".")
            verdict = verdicts[key]
            if verdict is not None:
                name = accept_name(pattern, key)
                if name not in accept:
                    hint = verdict.instead or f"To run without it, list {name} under {ACCEPT}: {{accept: [{name}]}}."
                    raise value.where.error(f"the key is not supported: {verdict.why}", hint=hint)
                note(f"has no effect ({verdict.why}), as {ACCEPT} accepts", value.where)
                continue
        elif key.startswith("x-"):
            continue
        else:
            raise value.where.error("the key is unknown", hint=_suggest(key, set(verdicts)))
        kept[key] = _check(value, inner, accept, note)
    return node.with_entries(kept)


def _suggest(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name[:60], sorted(known), n=1)
    return f"Did you mean {close[0]}?" if close else "See the Compose Specification; keys of your own begin with x-."
