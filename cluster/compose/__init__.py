"""The Compose loader: text of Compose files in, a StackSpec or a ComposeError with file, line and field out.

It reads files through a given reader and variables from a given mapping; it opens nothing and knows no clock, no
network and no cluster. One step a file: parse (scalars), interpolate, normalise (ports, mounts), keys, merge, then
convert (stack, service, deploy, placement). For any content it raises ComposeError or nothing.

    from pathlib import Path
    from cluster import compose

    def reader(path: str) -> bytes:
        return Path(path).read_bytes()

    spec = compose.load(["/srv/shop/compose.yml"], environment={"TAG": "1.4"}, reader=reader)
    print(spec.name, list(spec.services))          # shop ['web', 'db']

`read` gives the Project in between: `.notes` (unset variables, accepted keys), `.builds()` and `.stack()`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from cluster.compose.project import Build, Note, Project, Reader, read
from cluster.model.stack import StackSpec

__all__ = ["Build", "Note", "Project", "Reader", "load", "read"]


def load(
    files: Iterable[str],
    environment: Mapping[str, str],
    reader: Reader,
    *,
    project_name: str | None = None,
    directory: str | None = None,
) -> StackSpec:
    """Load Compose files into a stack, as `read` does and then `Project.stack`. Raises ComposeError."""
    return read(files, environment, reader, name=project_name, directory=directory).stack()
