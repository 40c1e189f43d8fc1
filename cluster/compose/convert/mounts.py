"""Volumes, binds and file systems in memory."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from cluster.compose.convert.field import Field
from cluster.model.container import Mount

_PROPAGATION = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_TYPES = ("volume", "bind", "tmpfs")
_SIZE = re.compile(r"([0-9]{1,16})([kmgt]?)b?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_ANY = {"selinux"}
"""Of a bind, and for named volumes too: `data:/data:z`."""
_USUAL = ("rw", "nosuid", "nodev", "noexec")
_OPTION = re.compile(
    r"(?:exec|suid|dev|(?:no)?(?:a|dir|rel)time|sync|async|(?:uid|gid|nr_inodes|nr_blocks)=[0-9]{1,16}k?)"
)


def convert(service: Field, volumes: Mapping[str, str]) -> tuple[Mount, ...]:
    """Read `volumes` and `tmpfs`, sorted by target; `volumes` has the full names of the declared ones by key."""
    found: dict[str, Mount] = {}
    for item in service["volumes"].items():
        mount = _mount(item)
        if mount.type == "volume" and mount.source:
            if mount.source not in volumes:
                raise item.error(
                    f"there is no volume {mount.source[:60]!r}",
                    hint="Add it under the top-level volumes; a path of the node begins with / or ./",
                )
            mount = replace(mount, source=volumes[mount.source])
        found[mount.target] = mount
    for item in service["tmpfs"].items():
        mount = _short_tmpfs(item)
        found[mount.target] = mount
    return tuple(found[target] for target in sorted(found))


def _mount(item: Field) -> Mount:
    kind = item["type"].one_of("", *_TYPES)
    for other in _TYPES:
        if other != kind and set(item[other].value or ()) - (_ANY if kind == "volume" else set()):
            raise item[other].error(f"these are options of a {other}, and the mount is a {kind}")
    target = _target(item["target"])
    read_only = item["read_only"].boolean()
    source = item["source"]
    label = item["bind"]["selinux"].one_of("", "", "z", "Z")
    selinux: Literal["", "z", "Z"] = "z" if label == "z" else "Z" if label == "Z" else ""
    if kind == "tmpfs":
        if source.text():
            raise source.error("a tmpfs has no source")
        options = item["tmpfs"]
        return Mount(
            type="tmpfs",
            target=target,
            read_only=read_only,
            tmpfs_size=options["size"].integer(least=0) or None,
            tmpfs_mode=options["mode"].integer(least=0, most=0o7777),
        )
    if kind == "volume":
        volume = item["volume"]
        return Mount(
            type="volume",
            target=target,
            source=source.template(),
            read_only=read_only,
            nocopy=volume["nocopy"].boolean(),
            subpath=_subpath(volume["subpath"]),
            selinux=selinux,
        )
    if not posixpath.isabs(source.text()):
        raise (source if source.given else item).error(
            "the bind has no absolute source", hint="source is a path on the node that runs the task."
        )
    bind = item["bind"]
    return Mount(
        type="bind",
        target=target,
        source=posixpath.normpath(source.template()),
        read_only=read_only,
        propagation=bind["propagation"].one_of("", "", *_PROPAGATION),
        create_host_path=bind["create_host_path"].boolean(),
        selinux=selinux,
    )


def _target(field: Field) -> str:
    target = posixpath.normpath(field.template())
    if not target.startswith("/") or target in ("/", "//"):
        raise field.error(f"{field.text()[:60]!r} is not an absolute path in the container")
    return target


def _subpath(field: Field) -> str:
    path = field.text()
    if path.startswith("/") or ".." in path.split("/"):
        raise field.error(f"{path[:60]!r} leads out of the volume")
    return path


def _short_tmpfs(item: Field) -> Mount:
    """Read `/run` or `/run:size=64m,mode=1777,exec`."""
    path, _, options = item.text().partition(":")
    target = posixpath.normpath(path)
    if not target.startswith("/") or target in ("/", "//"):
        raise item.error(f"{path[:60]!r} is not an absolute path in the container")
    mount = Mount("tmpfs", target)
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size" and (found := _SIZE.fullmatch(value)):
            mount = replace(mount, tmpfs_size=int(found[1]) * 1024 ** _POWERS[found[2].lower()])
        elif name == "mode" and re.fullmatch(r"[0-7]{1,5}", value) and int(value, 8) <= 0o7777:
            mount = replace(mount, tmpfs_mode=int(value, 8))
        elif option == "ro":
            mount = replace(mount, read_only=True)
        elif _OPTION.fullmatch(option) and name not in ("size", "mode"):
            mount = replace(mount, tmpfs_options=(*mount.tmpfs_options, option))
        elif option not in _USUAL:
            raise item.error(f"{option[:40]!r} is no option of a tmpfs", hint="size=64m, mode=1777, exec, ro are.")
    return mount
