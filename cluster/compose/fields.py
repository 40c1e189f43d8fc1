"""All keys of the Compose Specification with the kinds of their values, in the order in which Docker prints them."""

from __future__ import annotations

from typing import Any

from cluster.compose import quantities, shellwords
from cluster.compose.kinds import OMITTED, Array, Either, Kind, Made, Object, Scalar, Table, plain_tree, wanted
from cluster.compose.scalars import write
from cluster.compose.tree import Wrong

NAME = r"^[a-zA-Z0-9._-]+$"
_TEXT_TYPES = ("string", "number", "boolean", "null")


# What the model holds for a single value


def _text(value: Any) -> str:
    if isinstance(value, bool | float):
        raise wanted(value, ("string",))
    return str(value)


def _loose(value: Any) -> str:
    """Any single value as text; nothing is empty text."""
    if isinstance(value, dict | list):
        raise wanted(value, ("string",))
    return "" if value is None else value if isinstance(value, str) else write(value)


def _or_null(value: Any) -> str | None:
    return None if value is None else _loose(value)


def _whole(value: Any) -> int:
    if isinstance(value, str):
        return quantities.integer(value)
    if not -(2**63) <= value < 2**63:
        raise Wrong(f"{value:g} is too large a number")
    return int(value)


def _only_whole(value: Any) -> int:
    if isinstance(value, str):
        raise wanted(value, ("integer",))
    return _whole(value)


def _count(value: Any) -> int:
    whole = _whole(value)
    if whole < 0:
        raise Wrong(f"{whole} is less than nothing")
    return whole


def _number(value: Any) -> float | int:
    return quantities.plain(quantities.number(value) if isinstance(value, str) else value)


def _single(value: Any) -> float | int:
    return quantities.single(quantities.number(value) if isinstance(value, str) else value)


def _truth(value: Any) -> bool:
    return quantities.boolean(value) if isinstance(value, str) else bool(value)


def _size(value: Any) -> str | int:
    size = quantities.size(value) if isinstance(value, str) else _whole(value)
    return str(size) if size else 0


def _mode(value: Any) -> str:
    if isinstance(value, float):
        raise Wrong("a file mode is a whole number", hint='Write it in octal: "0440".')
    return quantities.mode(value) if isinstance(value, str) else quantities.write_mode(value)


def _devices(value: Any) -> int:
    if isinstance(value, str):
        return -1 if value.lower() == "all" else quantities.integer(value)
    return _whole(value)


def _tmpfs_mode(value: Any) -> int:
    return int(quantities.mode(value), 8) if isinstance(value, str) else _whole(value)


TEXT = Scalar(("string",), _text)
SOME_TEXT = Scalar(("string",), _text, keep_empty=True)
LOOSE_TEXT = Scalar(("string", "number"), _text, keep_empty=True)
FLAG = Scalar(("boolean", "string"), _truth, cast=quantities.boolean)
CHOICE = Scalar(("boolean", "string"), _truth, cast=quantities.boolean, keep_empty=True)
LATE_FLAG = Scalar(("boolean", "string"), _truth)
TRUE_FLAG = Scalar(("boolean",), _truth)
SETTING = Scalar(("string", "boolean"), lambda value: value if isinstance(value, str) else write(value))
INTEGER = Scalar(("integer", "string"), _whole, cast=quantities.integer)
GIVEN_INTEGER = Scalar(("integer", "string"), _whole, cast=quantities.integer, keep_empty=True)
COUNT = Scalar(("integer", "string"), _count, cast=quantities.integer, keep_empty=True)
LATE_INTEGER = Scalar(("integer", "string"), _whole)
NUMERIC = Scalar(("number", "string"), _whole, cast=quantities.integer)
RATIO = Scalar(("number", "string"), _single, cast=quantities.number)
CPUS = Scalar(("number", "string"), _single)
PRIORITY = Scalar(("number",), _whole)
SIZE = Scalar(("integer", "string"), _size)
ANY_SIZE = Scalar(("number", "string"), _size)
DURATION = Scalar(("string",), quantities.duration, keep_empty=True)
TEXTS = Array(TEXT)
UNIQUE_TEXTS = Array(SOME_TEXT, unique=True)


def _list(value: Any) -> Any:
    return [_text(item) for item in (value if isinstance(value, list) else [value])] or OMITTED


TEXT_OR_LIST = Made(Either((Scalar(("string",)), UNIQUE_TEXTS)), _list)


def _entry(text: Any) -> tuple[str, str | None]:
    name, equals, value = _text(text).partition("=")
    return name, value if equals else None


def _pairs(value: Any) -> dict[str, str | None]:
    """A list of NAME=value, or a mapping, to a mapping."""
    if isinstance(value, list):
        found = [_entry(item) for item in value]
    else:
        found = [(name, _or_null(inner)) for name, inner in (value or {}).items()]
    return dict(sorted(found, key=lambda pair: pair[0]))


def _variables(value: Any) -> Any:
    return _pairs(value) or OMITTED


def _given_variables(value: Any) -> Any:
    return {name: text for name, text in _pairs(value).items() if text is not None} or OMITTED


def _labels(value: Any) -> Any:
    return {name: text or "" for name, text in _pairs(value).items()} or OMITTED


def _ssh(value: Any) -> Any:
    return [name if not path else f"{name}={path}" for name, path in _pairs(value).items()] or OMITTED


_LIST_OR_DICT = Either(
    (Table(Scalar(_TEXT_TYPES), names=".", closed=True), Array(Scalar(("string",), _text), unique=True))
)
VARIABLES = Made(_LIST_OR_DICT, _variables)
ARGUMENTS = Made(_LIST_OR_DICT, _given_variables)
LABELS = Made(_LIST_OR_DICT, _labels)


def _command(value: Any) -> Any:
    if value is None:
        return OMITTED
    return [_text(item) for item in value] if isinstance(value, list) else shellwords.split(value)


COMMAND = Made(Either((Scalar(("null",)), Scalar(("string",)), Array(Scalar(("string",))))), _command)


def _hosts(value: Any) -> Any:
    """Any form to a sorted list of name=address."""
    hosts: dict[str, list[str]] = {}
    if isinstance(value, dict):
        for name, addresses in value.items():
            hosts[name] = [_text(a) for a in addresses] if isinstance(addresses, list) else [_text(addresses)]
    else:
        for n, item in enumerate(value or ()):
            name, separator, addresses = _split_host(_text(item))
            if not separator or not name:
                hint = 'Write it like "name=10.0.0.1".'
                raise Wrong(f"{item[:60]!r} has no {'name' if separator else 'address'}", hint=hint).within(n)
            hosts.setdefault(name, []).extend(addresses.split(","))
    # Docker sorts the written entries, in which "=" stands before what a longer name has there
    return sorted(f"{name}={_bare(a)}" for name, addresses in hosts.items() for a in addresses) or OMITTED


def _split_host(text: str) -> tuple[str, str, str]:
    return text.partition("=") if "=" in text else text.partition(":")


def _bare(address: str) -> str:
    return address[1:-1] if address.startswith("[") and address.endswith("]") else address


HOSTS = Made(
    Either(
        (Table(Either((SOME_TEXT, Array(SOME_TEXT))), names=".", closed=True), Array(Scalar(("string",)), unique=True))
    ),
    _hosts,
)


def _limit(value: Any) -> Any:
    if not isinstance(value, dict):
        return _whole(value) or {}
    soft, hard = _whole(value.get("soft", 0)), _whole(value.get("hard", 0))
    return {name: limit for name, limit in (("soft", soft), ("hard", hard)) if limit}


ULIMITS = Table(
    Made(Either((LATE_INTEGER, Object({"soft": INTEGER, "hard": INTEGER}, required=("soft", "hard")))), _limit),
    names="^[a-z]+$",
)
OPTIONS = Table(Scalar(("string", "number"), _loose, keep_empty=True), names=".")


def _test(value: Any) -> Any:
    if isinstance(value, str):
        return ["CMD-SHELL", value]
    return [_text(item) for item in value] or OMITTED


HEALTHCHECK = Object(
    {
        "test": Made(Either((Scalar(("string",)), Array(Scalar(("string",))))), _test),
        "timeout": DURATION,
        "interval": DURATION,
        "retries": Scalar(("number", "string"), _count, cast=quantities.integer, keep_empty=True),
        "start_period": DURATION,
        "start_interval": DURATION,
        "disable": FLAG,
    }
)
HOOK = Object(
    {"command": COMMAND, "user": TEXT, "privileged": LATE_FLAG, "working_dir": TEXT, "environment": VARIABLES},
    required=("command",),
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
                    "mode": Scalar(("number", "string"), _mode, keep_empty=True),
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
        "ssh": Made(_LIST_OR_DICT, _ssh),
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
            ("string",), _text, choices=("rebuild", "sync", "restart", "sync+restart", "sync+exec"), keep_empty=True
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
_WEIGHT = Scalar(("integer", "string"), _only_whole)
_RATE = Scalar(("integer", "string"), _size)


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
    "count": Scalar(("string", "integer"), _devices),
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
        "order": Scalar(("string",), _text, choices=("start-first", "stop-first")),
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
                "limits": Object({"cpus": CPUS, "memory": Scalar(("string",), _size), "pids": LATE_INTEGER}),
                "reservations": Object(
                    {
                        "cpus": CPUS,
                        "memory": Scalar(("string",), _size),
                        "devices": Array(Object(_DEVICE_FIELDS, required=("capabilities",))),
                        "generic_resources": Array(
                            Object(
                                {
                                    "discrete_resource_spec": Object(
                                        {"kind": TEXT, "value": Scalar(("number", "string"), _whole)}
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
        "type": Scalar(("string",), _text, choices=("bind", "volume", "tmpfs", "cluster", "npipe", "image")),
        "source": TEXT,
        "target": TEXT,
        "read_only": FLAG,
        "consistency": TEXT,
        "bind": Object(
            {
                "selinux": Scalar(("string",), _text, choices=("z", "Z")),
                "propagation": TEXT,
                "create_host_path": LATE_FLAG,
                "recursive": Scalar(("string",), _text, choices=("enabled", "disabled", "writable", "readonly")),
            }
        ),
        "volume": Object({"labels": LABELS, "nocopy": FLAG, "subpath": TEXT}),
        "tmpfs": Object(
            {
                "size": Either((Scalar(("integer",), _size, least=0), Scalar(("string",), _size))),
                "mode": Scalar(("number", "string"), _tmpfs_mode),
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
        "published": Scalar(("string", "integer"), _text),
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
    return [_loose(item) for item in value] if isinstance(value, list) else [_loose(value)]


_SINGLES = Scalar(("string", "number", "boolean"))
_NOTHING = Scalar(("null",))
_DEPENDENCY = Object(
    {
        "condition": Scalar(
            ("string",), _text, choices=("service_started", "service_healthy", "service_completed_successfully")
        ),
        "restart": FLAG,
        "required": Scalar(("boolean",), _truth, cast=quantities.boolean, keep_empty=True),
    },
    required=("condition",),
)
_MODEL_USE = Object({"endpoint_var": TEXT, "model_var": TEXT}, null=True)

SERVICE = Object(
    {
        "profiles": UNIQUE_TEXTS,
        "annotations": LABELS,
        "attach": Scalar(("boolean", "string"), _truth, keep_empty=True),
        "build": Either((TEXT, BUILD)),
        "develop": Object({"watch": Array(WATCH)}, null=True),
        "blkio_config": BLKIO,
        "cap_add": UNIQUE_TEXTS,
        "cap_drop": UNIQUE_TEXTS,
        "cgroup_parent": TEXT,
        "cgroup": Scalar(("string",), _text, choices=("host", "private")),
        "cpu_count": Either(
            (Scalar(("string",), _whole, cast=quantities.integer), Scalar(("integer",), _whole, least=0))
        ),
        "cpu_percent": Either(
            (Scalar(("string",), _single, cast=quantities.number), Scalar(("integer",), _single, least=0, most=100))
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
        "container_name": Scalar(("string",), _text, pattern="[a-zA-Z0-9][a-zA-Z0-9_.-]+"),
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
            {"driver": TEXT, "options": Table(Scalar(("string", "number", "null"), _loose, keep_empty=True), names=".")}
        ),
        "mem_limit": ANY_SIZE,
        "mem_reservation": SIZE,
        "memswap_limit": ANY_SIZE,
        "mem_swappiness": Scalar(("integer", "string"), _size),
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
            (Scalar(("string",), _whole, cast=quantities.integer), Scalar(("integer",), _whole, least=-1000, most=1000))
        ),
        "pid": Scalar(("string", "null"), _text),
        "pids_limit": NUMERIC,
        "platform": TEXT,
        "ports": Array(Either((Scalar(("number",)), TEXT, PORT)), unique=True),
        "privileged": FLAG,
        "pull_policy": Scalar(
            ("string",),
            _text,
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
        "storage_opt": Table(Scalar(("string", "number", "boolean", "null"), _loose, keep_empty=True)),
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

_TEXT_TABLE = Table(SOME_TEXT, names=".", closed=True)


def _external(closed: bool) -> Kind:
    return Either((FLAG, Object({"name": TEXT}, closed=closed)))


NETWORK = Object(
    {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "ipam": Object(
            {
                "driver": TEXT,
                "config": Array(
                    Object({"subnet": TEXT, "gateway": TEXT, "ip_range": TEXT, "aux_addresses": _TEXT_TABLE})
                ),
                "options": Made(_TEXT_TABLE, lambda value: OMITTED),  # read, and never printed
            }
        ),
        "external": _external(True),
        "internal": FLAG,
        "attachable": FLAG,
        "labels": LABELS,
        "enable_ipv4": CHOICE,
        "enable_ipv6": CHOICE,
    },
    null=True,
    always={"ipam": {}},
)
VOLUME = Object(
    {"name": TEXT, "driver": TEXT, "driver_opts": OPTIONS, "external": _external(True), "labels": LABELS}, null=True
)
SECRET = Object(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "external": _external(False),
        "labels": LABELS,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "template_driver": TEXT,
    }
)
CONFIG = Object(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "content": TEXT,
        "external": _external(False),
        "labels": LABELS,
        "template_driver": TEXT,
    }
)
MODEL = Object(
    {
        "name": TEXT,
        "model": TEXT,
        "context_size": Scalar(("integer",), _whole),
        "runtime_flags": TEXTS,
    },
    required=("model",),
)
INCLUDE = Either(
    (
        TEXT,
        Object({"path": TEXT_OR_LIST, "env_file": TEXT_OR_LIST, "project_directory": TEXT}, extensions=False),
    )
)

ROOT = Object(
    {
        "version": TEXT,
        "name": TEXT,
        "include": Array(INCLUDE),
        "services": Table(SERVICE, names=NAME, closed=True, keep_empty=True),
        "networks": Table(NETWORK, names=NAME),
        "volumes": Table(VOLUME, names=NAME, closed=True),
        "secrets": Table(SECRET, names=NAME, closed=True),
        "configs": Table(CONFIG, names=NAME, closed=True),
        "models": Table(MODEL, names=NAME),
    }
)


def bind(root: Any) -> dict[str, Any]:
    """Give the model of a whole tree in long forms. Raises Wrong."""
    model: dict[str, Any] = ROOT.bind(root)
    model.update((key, plain_tree(value)) for key, value in root.items() if key.startswith("x-"))
    return model
