"""Short forms to long ones, so that everything after this meets one form of each key.

Done on the tree of each file before files are merged: only then can `ports` of one file replace those of another.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable

from cluster.compose import mounts, ports, values
from cluster.compose.tree import Mapping, Node, Scalar, Sequence, Where, is_null

Step = Callable[[Node], Node]


def normalise(root: Node) -> Mapping:
    """Give one file's tree in long forms."""
    top = values.mapping(root)
    entries = dict(top.entries)
    for section, step in (("services", _service), ("networks", _labelled), ("volumes", _labelled)):
        if (node := top.get(section)) is not None:
            named = values.mapping(node)
            entries[section] = named.with_entries({k: step(values.mapping(v)) for k, v in named.entries.items()})
    return top.with_entries(entries)


def _labelled(fields: Mapping) -> Mapping:
    labels = fields.get("labels")
    return fields.with_entries({**fields.entries, "labels": _pairs(labels)}) if labels else fields


def _service(service: Mapping) -> Mapping:
    return service.with_entries({key: _long(key, node) for key, node in service.entries.items()})


def _long(key: str, node: Node) -> Node:
    step = _STEPS.get(key)
    return node if step is None or is_null(node) else step(node)


def _words(node: Node) -> Node:
    """A command as text is split like a shell does, without running one."""
    if isinstance(node, Sequence):
        return node
    try:
        words = shlex.split(values.text(node))
    except ValueError:
        raise node.where.error("a quote or backslash in the command is not closed") from None
    return Sequence(tuple(Scalar(word, node.where) for word in words), node.where)


def _list(node: Node) -> Node:
    return node if isinstance(node, Sequence) else Sequence((node,), node.where)


def _pairs(node: Node) -> Node:
    """`[A=1, B]` to `{A: 1, B: null}`."""
    if isinstance(node, Mapping):
        return node
    entries: dict[str, Node] = {}
    for item in values.items(node):
        name, equals, value = values.text(item).partition("=")
        if not name:
            raise item.where.error("an entry without a name", hint="Write NAME=value.")
        entries[name] = Scalar(value if equals else None, item.where)
    return Mapping(entries, node.where)


def _env_files(node: Node) -> Node:
    entries = values.items(_list(node))
    return Sequence(tuple(e if isinstance(e, Mapping) else Mapping({"path": e}, e.where) for e in entries), node.where)


def _networks(node: Node) -> Node:
    if isinstance(node, Sequence):
        return Mapping({values.text(item): Scalar(None, item.where) for item in node.items}, node.where)
    return node


def _ports(node: Node) -> Node:
    return Sequence(tuple(long for item in values.items(node) for long in ports.expand(item)), node.where)


def _volumes(node: Node) -> Node:
    return Sequence(tuple(mounts.expand(item) for item in values.items(node)), node.where)


def _tmpfs(node: Node) -> Node:
    return Sequence(tuple(mounts.expand_tmpfs(item) for item in values.items(_list(node))), node.where)


def _healthcheck(node: Node) -> Node:
    check = values.mapping(node)
    test = check.get("test")
    if test is None or isinstance(test, Sequence):
        return check
    words = (Scalar("CMD-SHELL", test.where), Scalar(values.text(test), test.where))
    return check.with_entries({**check.entries, "test": Sequence(words, test.where)})


def _build(node: Node) -> Node:
    build = node if isinstance(node, Mapping) else Mapping({"context": node}, node.where)
    args = build.get("args")
    return build.with_entries({**build.entries, "args": _pairs(args)}) if args else build


def _ulimits(node: Node) -> Node:
    limits = values.mapping(node)
    return limits.with_entries(
        {
            name: limit if isinstance(limit, Mapping) else Mapping({"soft": limit, "hard": limit}, limit.where)
            for name, limit in limits.entries.items()
        }
    )


def _extra_hosts(node: Node) -> Node:
    """To a list of `name=address`, as a name may have several addresses."""
    if not isinstance(node, Mapping):
        return Sequence(tuple(_host(values.text(item), item.where) for item in values.items(node)), node.where)
    return Sequence(
        tuple(
            _host(f"{name}={values.text(address)}", address.where)
            for name, addresses in node.entries.items()
            for address in values.items(_list(addresses))
        ),
        node.where,
    )


def _host(written: str, where: Where) -> Node:
    name, separator, address = written.partition("=" if "=" in written else ":")
    if not separator or not name.strip():
        raise where.error(f"{written[:60]!r} is not a host", hint='Write it like "name=10.0.0.1".')
    return Scalar(f"{name.strip()}={address.strip().strip('[]')}", where)


def _deploy(node: Node) -> Node:
    return _labelled(values.mapping(node))


_STEPS: dict[str, Step] = {
    "build": _build,
    "command": _words,
    "deploy": _deploy,
    "dns": _list,
    "dns_search": _list,
    "entrypoint": _words,
    "env_file": _env_files,
    "environment": _pairs,
    "extra_hosts": _extra_hosts,
    "healthcheck": _healthcheck,
    "labels": _pairs,
    "networks": _networks,
    "ports": _ports,
    "sysctls": _pairs,
    "tmpfs": _tmpfs,
    "ulimits": _ulimits,
    "volumes": _volumes,
}
