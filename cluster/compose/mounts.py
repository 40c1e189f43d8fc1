"""Volumes, binds and tmpfs: `data:/var/lib/data:ro`, `./conf:/etc/app`, and the long form."""

from __future__ import annotations

import posixpath

from cluster.compose import units, values
from cluster.compose.tree import Mapping, Node, Scalar, ScalarValue, Where
from cluster.model.container import Mount

_PROPAGATION = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_CONSISTENCY = ("cached", "delegated", "consistent")
_TYPES = ("bind", "volume", "tmpfs")


def expand(item: Node) -> Mapping:
    """Give the long form of one entry of `volumes`."""
    if isinstance(item, Mapping):
        return item
    written = values.text(item)
    where = item.where
    parts = written.split(":")
    if len(parts) > 3 or not all(part.strip() for part in parts):
        raise where.error(
            f"{written[:60]!r} is not a volume", hint="Write it like data:/path, ./folder:/path or data:/path:ro."
        )
    if len(parts) == 1:
        return _long({"type": "volume", "target": parts[0]}, where)
    source, target = parts[0], parts[1]
    if len(source) == 1 and source.isalpha():
        raise where.error(
            f"Docker reads {source}: as the letter of a drive",
            hint="Give the volume a longer name, or write the long form with type, source and target.",
        )
    kind = "bind" if source[0] in "./~" else "volume"
    fields: dict[str, ScalarValue] = {"type": kind, "source": source, "target": target}
    options: dict[str, ScalarValue] = {}
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw"):
            fields["read_only"] = option == "ro"
        elif option == "nocopy" and kind == "volume":
            options["nocopy"] = True
        elif option in _PROPAGATION and kind == "bind":
            options["propagation"] = option
        elif option in _CONSISTENCY:
            raise where.error(f"the option {option} has no effect on Linux", hint="Take it out.")
        elif option in ("z", "Z"):
            raise where.error(f"the option {option} (SELinux labels) is not supported")
        else:
            raise where.error(f"{option[:20]!r} is no option of a {kind} mount", hint="ro and rw are, for instance.")
    long = _long(fields, where)
    return long.with_entries({**long.entries, kind: _long(options, where)}) if options else long


def expand_tmpfs(item: Node) -> Mapping:
    """Give the long form of one entry of `tmpfs`, such as `/run` or `/run:size=64m,mode=1777`."""
    target, _, options = values.filled_text(item).partition(":")
    given: dict[str, ScalarValue] = {}
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size":
            given[name] = value
        elif name == "mode":
            given[name] = f"0o{value.removeprefix('0o')}"
        else:
            raise item.where.error(f"{name[:20]!r} is no option of a tmpfs here", hint="size and mode are.")
    long = _long({"type": "tmpfs", "target": target}, item.where)
    return long.with_entries({**long.entries, "tmpfs": _long(given, item.where)}) if given else long


def _long(fields: dict[str, ScalarValue], where: Where) -> Mapping:
    return Mapping({key: Scalar(value, where) for key, value in fields.items()}, where)


def identity(mount: Mapping) -> object:
    """Tell entries apart by where they are mounted: a later one in the same place replaces."""
    target = mount.entries.get("target")
    if isinstance(target, Scalar) and isinstance(target.value, str):
        return posixpath.normpath(target.value)
    return mount.where


def convert(node: Node, *, directory: str, home: str | None) -> Mount:
    """Read a long form; `source` of a volume is still its key. Relative binds are taken from `directory`."""
    mount = values.mapping(node)
    kind_node = mount.get("type")
    if kind_node is None:
        raise node.where.error("the volume has no type", hint="type is volume, bind or tmpfs.")
    kind = values.text(kind_node)
    if kind not in _TYPES:
        raise kind_node.where.error(f"the type {kind[:20]!r} is not supported", hint="volume, bind and tmpfs are.")
    for other in _TYPES:
        if other != kind and (options := mount.get(other)) is not None:
            raise options.where.error(f"these are options of a {other}, and the mount is a {kind}")
    target_node = mount.get("target")
    if target_node is None:
        raise node.where.error("the volume has no target", hint="target is the path in the container.")
    target = posixpath.normpath(values.filled_text(target_node))
    if not target.startswith("/") or target in ("/", "//"):
        raise target_node.where.error(f"{target[:60]!r} is not an absolute path in the container")
    read_only = values.boolean(flag) if (flag := mount.get("read_only")) else False
    source_node = mount.get("source")
    options = values.mapping(mount.get(kind))
    if kind == "tmpfs":
        if source_node is not None:
            raise source_node.where.error("a tmpfs has no source")
        return _tmpfs(options, target, read_only)
    source = values.filled_text(source_node) if source_node else ""
    if kind == "volume":
        nocopy = values.boolean(flag) if (flag := options.get("nocopy")) else False
        return Mount("volume", target, source, read_only, nocopy=nocopy)
    if source_node is None:
        raise node.where.error("the bind has no source", hint="source is a path on the node that runs the task.")
    propagation = options.get("propagation")
    create = options.get("create_host_path")
    return Mount(
        type="bind",
        target=target,
        source=_absolute(source, source_node.where, directory, home),
        read_only=read_only,
        propagation=values.one_of(propagation, *_PROPAGATION) if propagation else "",
        create_host_path=values.boolean(create) if create else False,
    )


def _tmpfs(options: Mapping, target: str, read_only: bool) -> Mount:
    size, mode = options.get("size"), options.get("mode")
    return Mount(
        type="tmpfs",
        target=target,
        read_only=read_only,
        tmpfs_size=units.size(size) if size else None,
        tmpfs_mode=values.integer(mode, least=0, most=0o7777) if mode else None,
    )


def _absolute(path: str, where: Where, directory: str, home: str | None) -> str:
    if path == "~" or path.startswith("~/"):
        if not home:
            raise where.error(f"{path[:60]!r} needs HOME, which is not set")
        path = home + path[1:]
    joined = posixpath.normpath(posixpath.join(directory, path))
    if not joined.startswith("/"):
        raise where.error(f"{path[:60]!r} is relative and the folder of the first file is not known")
    return joined
