"""The short form of a mount: `[SOURCE:]TARGET[:OPTIONS]`, read without regard to the host's own system."""

from __future__ import annotations

from cluster.compose.tree import Map, Wrong

_PROPAGATIONS = ("rprivate", "private", "rshared", "shared", "rslave", "slave")
_SELINUX = ("z", "Z")


def parse_mount(text: str) -> Map:
    """Give the long form. Raises Wrong. A single letter before a colon is a Windows drive, as in `c:\\\\data:/data`."""
    if not text:
        raise Wrong("the mount is empty")
    if len(text) <= 2:
        return Map([("type", "volume"), ("target", text)])
    parts = _split(text)
    if not all(parts):
        raise Wrong(f"{text[:60]!r} has an empty part between colons")
    if len(parts) > 3:
        raise Wrong(f"{text[:60]!r} has too many colons")
    source = parts[0] if len(parts) > 1 else ""
    mount = Map([("type", "bind" if is_path(source) else "volume")])
    if source:
        mount["source"] = source
    mount["target"] = parts[1] if len(parts) > 1 else parts[0]
    bind, volume = Map(), Map()
    for option in parts[2].split(",") if len(parts) > 2 else ():
        if option in ("ro", "rw"):
            mount["read_only"] = option == "ro"
        elif option == "nocopy":
            volume["nocopy"] = True
        elif option in _PROPAGATIONS:
            bind["propagation"] = option
        elif option in _SELINUX:
            bind["selinux"] = option
    if mount["type"] == "bind":
        bind["create_host_path"] = True
    if bind:
        mount["bind"] = bind
    if volume or mount["type"] == "volume":
        mount["volume"] = volume
    return mount


def _split(text: str) -> list[str]:
    parts = [""]
    for character in text:
        if character == ":" and not (len(parts[-1]) == 1 and parts[-1].isalpha()):
            parts.append("")
        else:
            parts[-1] += character
    return parts


def is_path(source: str) -> bool:
    """Whether a source is a path on the host, and not a volume's name."""
    return (
        source.startswith((".", "/", "~")) or source.startswith("\\\\") or (source[1:2] == ":" and source[0].isalpha())
    )
