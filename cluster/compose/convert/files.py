"""How a service mounts secrets and configs: by default readable for all, owned by root, under their keys."""

from __future__ import annotations

import posixpath
import re

from cluster.compose.convert.field import Field
from cluster.model.container import FileReference

SECRETS = "/run/secrets"
"""Where a secret goes whose target is not an absolute path; a config goes to /."""

_OWNER = re.compile(r"[0-9]{1,10}")
_MODE = re.compile(r"[0-7]{1,5}")


def convert(field: Field, folder: str, known: frozenset[str]) -> tuple[FileReference, ...]:
    """Read references, sorted by source and target."""
    kind = "secret" if folder == SECRETS else "config"
    found: dict[str, FileReference] = {}
    for item in field.items():
        source = item["source"].text()
        if source not in known:
            raise item.error(f"there is no {kind} {source[:60]!r}", hint=f"Add it under the top-level {kind}s.")
        target = posixpath.normpath(posixpath.join(folder, item["target"].text() or source))
        if target == "/" or not target.startswith("/"):
            raise item["target"].error(f"{target[:60]!r} is no file")
        if target in found:
            raise item.error(f"two {kind}s are to be the file {target[:80]}", hint="Give one another target.")
        found[target] = FileReference(
            source=source, target=target, uid=_owner(item["uid"]), gid=_owner(item["gid"]), mode=_mode(item["mode"])
        )
    return tuple(sorted(found.values(), key=lambda one: (one.source, one.target)))


def _owner(field: Field) -> str:
    written = field.text() or "0"
    if not _OWNER.fullmatch(written):
        raise field.error(f"{written[:40]!r} is not a number", hint='Users and groups go by number, like "1000".')
    return written


def _mode(field: Field) -> int:
    if isinstance(field.value, int) and not isinstance(field.value, bool) and 0 <= field.value <= 0o7777:
        return field.value
    written = field.text() or "0444"
    if not _MODE.fullmatch(written) or int(written, 8) > 0o7777:
        raise field.error(f"{written[:40]!r} is not a file mode", hint="Write it like 0440.")
    return int(written, 8)
