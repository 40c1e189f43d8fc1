"""All keys of a service with the kinds of their values, in the order in which Docker prints them."""

from __future__ import annotations

from typing import Any

from cluster.compose import quantities
from cluster.compose.forms import (
    ANY_SIZE,
    ARGUMENTS,
    CHOICE,
    COMMAND,
    COUNT,
    CPUS,
    DURATION,
    FLAG,
    GIVEN_INTEGER,
    HOSTS,
    INTEGER,
    LABELS,
    LATE_FLAG,
    LATE_INTEGER,
    LIST_OR_DICT,
    LOOSE_TEXT,
    NAME,
    NUMERIC,
    OPTIONS,
    PRIORITY,
    RATIO,
    SETTING,
    SIZE,
    TEXT,
    TEXT_OR_LIST,
    TEXTS,
    TRUE_FLAG,
    ULIMITS,
    UNIQUE_TEXTS,
    VARIABLES,
    to_count,
    to_devices,
    to_loose,
    to_mode,
    to_only_whole,
    to_single,
    to_size,
    to_ssh,
    to_text,
    to_tmpfs_mode,
    to_truth,
    to_whole,
)
from cluster.compose.kinds import OMITTED, Array, Either, Kind, Made, Object, Scalar, Table


def _test(value: Any) -> Any:
    if isinstance(value, str):
        return ["CMD-SHELL", value]
    return [to_text(item) for item in value] or OMITTED


HEALTHCHECK = Object(
    {
        "test": Made(Either((Scalar(("string",)), Array(Scalar(("string",))))), _test),
        "timeout": DURATION,
        "interval": DURATION,
        "retries": Scalar(("number", "string"), to_count, cast=quantities.integer, keep_empty=True),
        "start_period": DURATION,
        "start_interval": DURATION,
        "disable": FLAG,
    }
)
HOOK = Object(
    {"command": COMMAND, "user": TEXT, "privileged": LATE_FLAG, "working_dir": TEXT, "environment": VARIABLES},
    required=("command",),
    always={"command": None},
)
GRANTS = Array(
    Either(
        (
            TEXT,
            Object(
                {
                    "source": TEXT,
                    "target": TEXT,
                    "uid": TEXT,
                    "gid": TEXT,
                    "mode": Scalar(("number", "string"), to_mode, keep_empty=True),
                }
            ),
        )
    )
)
BUILD = Object(
    {
        "context": TEXT,
        "dockerfile": TEXT,
        "dockerfile_inline": TEXT,
        "entitlements": TEXTS,
        "args": ARGUMENTS,
        "provenance": SETTING,
        "sbom": SETTING,
        "ssh": Made(LIST_OR_DICT, to_ssh),
        "labels": LABELS,
        "cache_from": TEXTS,
        "cache_to": TEXTS,
        "no_cache": LATE_FLAG,
        "additional_contexts": LABELS,
        "pull": LATE_FLAG,
        "extra_hosts": HOSTS,
        "isolation": TEXT,
        "network": TEXT,
        "target": TEXT,
        "secrets": GRANTS,
        "shm_size": SIZE,
        "tags": TEXTS,
        "ulimits": ULIMITS,
        "platforms": TEXTS,
        "privileged": LATE_FLAG,
    }
)
WATCH = Object(
    {
        "path": TEXT,
        "action": Scalar(
            ("string",), to_text, choices=("rebuild", "sync", "restart", "sync+restart", "sync+exec"), keep_empty=True
        ),
        "target": TEXT,
        "exec": HOOK,
        "include": TEXT_OR_LIST,
        "ignore": TEXT_OR_LIST,
        "initial_sync": TRUE_FLAG,
    },
    required=("path", "action"),
    always={"exec": {"command": None}},
)
_WEIGHT = Scalar(("integer", "string"), to_only_whole)
_RATE = Scalar(("integer", "string"), to_size)


def _titled(value: Any) -> Any:
    """Docker prints the keys of these with capital letters."""
    return [{key.title(): made for key, made in _DEVICE_AMOUNT.bind(one).items()} for one in value] or OMITTED


_DEVICE_AMOUNT = Object({"path": TEXT, "rate": _RATE, "weight": _WEIGHT}, extensions=False)
_RATES = Made(Array(Object({"path": TEXT, "rate": _RATE}, extensions=False)), _titled)
BLKIO = Object(
    {
        "weight": _WEIGHT,
        "weight_device": Made(Array(Object({"path": TEXT, "weight": _WEIGHT}, extensions=False)), _titled),
        "device_read_bps": _RATES,
        "device_read_iops": _RATES,
        "device_write_bps": _RATES,
        "device_write_iops": _RATES,
    },
    extensions=False,
)
_DEVICE_FIELDS: dict[str, Kind] = {
    "capabilities": UNIQUE_TEXTS,
    "driver": TEXT,
    "count": Scalar(("string", "integer"), to_devices),
    "device_ids": UNIQUE_TEXTS,
    "options": LABELS,
}
ROLLOUT = Object(
    {
        "parallelism": COUNT,
        "delay": DURATION,
        "failure_action": TEXT,
        "monitor": DURATION,
        "max_failure_ratio": RATIO,
        "order": Scalar(("string",), to_text, choices=("start-first", "stop-first")),
    }
)
DEPLOY = Object(
    {
        "mode": TEXT,
        "replicas": GIVEN_INTEGER,
        "labels": LABELS,
        "update_config": ROLLOUT,
        "rollback_config": ROLLOUT,
        "resources": Object(
            {
                "limits": Object({"cpus": CPUS, "memory": Scalar(("string",), to_size), "pids": LATE_INTEGER}),
                "reservations": Object(
                    {
                        "cpus": CPUS,
                        "memory": Scalar(("string",), to_size),
                        "devices": Array(Object(_DEVICE_FIELDS, required=("capabilities",))),
                        "generic_resources": Array(
                            Object(
                                {
                                    "discrete_resource_spec": Object(
                                        {"kind": TEXT, "value": Scalar(("number", "string"), to_whole)}
                                    )
                                }
                            )
                        ),
                    }
                ),
            }
        ),
        "restart_policy": Object({"condition": TEXT, "delay": DURATION, "max_attempts": COUNT, "window": DURATION}),
        "placement": Object(
            {
                "constraints": TEXTS,
                "preferences": Array(Object({"spread": TEXT})),
                "max_replicas_per_node": INTEGER,
            }
        ),
        "endpoint_mode": TEXT,
    },
    null=True,
    always={"resources": {}, "placement": {}},
)
MOUNT = Object(
    {
        "type": Scalar(("string",), to_text, choices=("bind", "volume", "tmpfs", "cluster", "npipe", "image")),
        "source": TEXT,
        "target": TEXT,
        "read_only": FLAG,
        "consistency": TEXT,
        "bind": Object(
            {
                "selinux": Scalar(("string",), to_text, choices=("z", "Z")),
                "propagation": TEXT,
                "create_host_path": LATE_FLAG,
                "recursive": Scalar(("string",), to_text, choices=("enabled", "disabled", "writable", "readonly")),
            }
        ),
        "volume": Object({"labels": LABELS, "nocopy": FLAG, "subpath": TEXT}),
        "tmpfs": Object(
            {
                "size": Either((Scalar(("integer",), to_size, least=0), Scalar(("string",), to_size))),
                "mode": Scalar(("number", "string"), to_tmpfs_mode),
            }
        ),
        "image": Object({"subpath": TEXT}),
    },
    required=("type",),
)
PORT = Object(
    {
        "name": TEXT,
        "mode": TEXT,
        "host_ip": TEXT,
        "target": INTEGER,
        "published": Scalar(("string", "integer"), to_text),
        "protocol": TEXT,
        "app_protocol": TEXT,
    }
)
ATTACHMENT = Object(
    {
        "aliases": UNIQUE_TEXTS,
        "driver_opts": OPTIONS,
        "gw_priority": PRIORITY,
        "interface_name": TEXT,
        "ipv4_address": TEXT,
        "ipv6_address": TEXT,
        "link_local_ips": UNIQUE_TEXTS,
        "mac_address": TEXT,
        "priority": PRIORITY,
    }
)


def _attachment(value: Any) -> Any:
    bound = ATTACHMENT.bind(value)
    return None if bound is OMITTED else bound


def _provided(value: Any) -> Any:
    return [to_loose(item) for item in value] if isinstance(value, list) else [to_loose(value)]


_SINGLES = Scalar(("string", "number", "boolean"))
_NOTHING = Scalar(("null",))
_DEPENDENCY = Object(
    {
        "condition": Scalar(
            ("string",), to_text, choices=("service_started", "service_healthy", "service_completed_successfully")
        ),
        "restart": FLAG,
        "required": Scalar(("boolean",), to_truth, cast=quantities.boolean, keep_empty=True),
    },
    required=("condition",),
)
_MODEL_USE = Object({"endpoint_var": TEXT, "model_var": TEXT}, null=True)

SERVICE = Object(
    {
        "profiles": UNIQUE_TEXTS,
        "annotations": LABELS,
        "attach": Scalar(("boolean", "string"), to_truth, keep_empty=True),
        "build": Either((TEXT, BUILD)),
        "develop": Object({"watch": Array(WATCH)}, null=True),
        "blkio_config": BLKIO,
        "cap_add": UNIQUE_TEXTS,
        "cap_drop": UNIQUE_TEXTS,
        "cgroup_parent": TEXT,
        "cgroup": Scalar(("string",), to_text, choices=("host", "private")),
        "cpu_count": Either(
            (Scalar(("string",), to_whole, cast=quantities.integer), Scalar(("integer",), to_whole, least=0))
        ),
        "cpu_percent": Either(
            (Scalar(("string",), to_single, cast=quantities.number), Scalar(("integer",), to_single, least=0, most=100))
        ),
        "cpu_period": NUMERIC,
        "cpu_quota": NUMERIC,
        "cpu_rt_period": NUMERIC,
        "cpu_rt_runtime": NUMERIC,
        "cpus": RATIO,
        "cpuset": TEXT,
        "cpu_shares": NUMERIC,
        "command": COMMAND,
        "configs": GRANTS,
        "container_name": Scalar(("string",), to_text, pattern="[a-zA-Z0-9][a-zA-Z0-9_.-]+"),
        "credential_spec": Object({"config": TEXT, "file": TEXT, "registry": TEXT}),
        "depends_on": Either((UNIQUE_TEXTS, Table(_DEPENDENCY, names=NAME, closed=True))),
        "deploy": DEPLOY,
        "device_cgroup_rules": UNIQUE_TEXTS,
        "devices": Array(
            Either((TEXT, Object({"source": TEXT, "target": TEXT, "permissions": TEXT}, required=("source",))))
        ),
        "dns": TEXT_OR_LIST,
        "dns_opt": UNIQUE_TEXTS,
        "dns_search": TEXT_OR_LIST,
        "domainname": TEXT,
        "entrypoint": COMMAND,
        "provider": Object(
            {"type": TEXT, "options": Table(Made(Either((_SINGLES, Array(_SINGLES))), _provided), names=".")},
            required=("type",),
        ),
        "environment": VARIABLES,
        "env_file": Either(
            (
                TEXT,
                Array(
                    Either(
                        (
                            TEXT,
                            Object(
                                {"path": TEXT, "required": CHOICE, "format": TEXT}, required=("path",), extensions=False
                            ),
                        )
                    )
                ),
            )
        ),
        "expose": Array(LOOSE_TEXT, unique=True),
        "extends": Either((TEXT, Object({"service": TEXT, "file": TEXT}, required=("service",), extensions=False))),
        "external_links": UNIQUE_TEXTS,
        "extra_hosts": HOSTS,
        "group_add": Array(LOOSE_TEXT, unique=True),
        "gpus": Either((Scalar(("string",), choices=("all",)), Array(Object(_DEVICE_FIELDS, closed=False)))),
        "hostname": TEXT,
        "healthcheck": HEALTHCHECK,
        "image": TEXT,
        "init": CHOICE,
        "ipc": TEXT,
        "isolation": TEXT,
        "labels": LABELS,
        "label_file": Either((TEXT, TEXTS)),
        "links": UNIQUE_TEXTS,
        "logging": Object(
            {
                "driver": TEXT,
                "options": Table(Scalar(("string", "number", "null"), to_loose, keep_empty=True), names="."),
            }
        ),
        "mem_limit": ANY_SIZE,
        "mem_reservation": SIZE,
        "memswap_limit": ANY_SIZE,
        "mem_swappiness": Scalar(("integer", "string"), to_size),
        "mac_address": TEXT,
        "models": Either((UNIQUE_TEXTS, Table(_MODEL_USE, names=NAME))),
        "network_mode": TEXT,
        "networks": Either(
            (
                UNIQUE_TEXTS,
                Table(Made(Either((ATTACHMENT, _NOTHING)), _attachment), names=NAME, closed=True),
            )
        ),
        "oom_kill_disable": FLAG,
        "oom_score_adj": Either(
            (
                Scalar(("string",), to_whole, cast=quantities.integer),
                Scalar(("integer",), to_whole, least=-1000, most=1000),
            )
        ),
        "pid": Scalar(("string", "null"), to_text),
        "pids_limit": NUMERIC,
        "platform": TEXT,
        "ports": Array(Either((Scalar(("number",)), TEXT, PORT)), unique=True),
        "privileged": FLAG,
        "pull_policy": Scalar(
            ("string",),
            to_text,
            pattern="always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+",
        ),
        "pull_refresh_after": TEXT,
        "read_only": FLAG,
        "restart": TEXT,
        "runtime": TEXT,
        "scale": GIVEN_INTEGER,
        "secrets": GRANTS,
        "security_opt": UNIQUE_TEXTS,
        "shm_size": ANY_SIZE,
        "stdin_open": FLAG,
        "stop_grace_period": DURATION,
        "stop_signal": TEXT,
        "storage_opt": Table(Scalar(("string", "number", "boolean", "null"), to_loose, keep_empty=True)),
        "sysctls": LABELS,
        "tmpfs": TEXT_OR_LIST,
        "tty": FLAG,
        "ulimits": ULIMITS,
        "use_api_socket": TRUE_FLAG,
        "user": TEXT,
        "userns_mode": TEXT,
        "uts": TEXT,
        "volumes": Array(Either((TEXT, MOUNT)), unique=True),
        "volumes_from": UNIQUE_TEXTS,
        "working_dir": TEXT,
        "post_start": Array(HOOK),
        "pre_stop": Array(HOOK),
    },
    always={"command": None, "entrypoint": None},
)
