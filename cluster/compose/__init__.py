"""The Compose loader: text of Compose files in, the model that `docker compose config` prints or a ComposeError out.

It reads files through a given reader and variables from a given mapping; it opens nothing and knows no clock, no
network and no cluster. For any content it raises ComposeError, with file, line and field, or nothing.

    from pathlib import Path
    from cluster import compose

    def reader(path: str) -> bytes:
        return Path(path).read_bytes()

    project = compose.read(["/srv/shop/compose.yml"], {"TAG": "1.4"}, reader, profiles=["debug"])
    project.model["services"]["web"]["image"]       # 'shop/web:1.4'
    project.where("services", "web", "image")       # Where('/srv/shop/compose.yml', 3, 'services.web.image')
    project.notes                                   # unset variables
    project.config("yaml")                          # as `docker compose config` prints it
    project.stack()                                 # what the cluster runs, by `convert`

The rooms, one step a file: `parse` (bytes to a `tree` with places), `interpolate` and `dotenv`, `extends`, `include`,
`merge` and `unique`, the table of all keys (`fields`, of `kinds`, which also makes the model), `longforms`, `paths`,
`validate`, all strung together in `layers`; then, for the whole project, `implicit`, `consistency`, `environment`,
`selection` and `output`, in `project`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from cluster.compose.layers import Reader
from cluster.compose.project import Note, Project, read

if TYPE_CHECKING:
    from cluster.model.stack import StackSpec

__all__ = ["Note", "Project", "Reader", "load", "read"]


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
