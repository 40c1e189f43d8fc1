"""What is worth knowing of files that are in order: labels that come to nothing, folders that are not where one thinks.

Docker takes any label and any path, and so does a deploy here: what is told are doubts.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cluster.compose.convert.field import Field, Source, root
from cluster.compose.project import Note
from cluster.scraping import PORT, port_of
from cluster.traefik import ENABLE, enabled, faults


def doubts(project: Source, directory: str) -> Iterator[Note]:
    """Tell of all services of a project that lies in this directory."""
    for _, service in root(project)["services"].entries():
        yield from _of_traefik(service)
        yield from _of_binds(service, directory)
        labels = service["deploy"]["labels"]
        if PORT in (told := labels.pairs()) and port_of(told) is None:
            yield _note(labels[PORT], f"{told[PORT][:40]!r} is no port, so Prometheus does not find the tasks")


def _of_traefik(service: Field) -> Iterator[Note]:
    labels = service["deploy"]["labels"]
    told = labels.pairs()
    for fault in faults(told):
        yield _note(labels[fault.label], f"{fault.what}. {fault.hint}".rstrip())
    if enabled(service["labels"].pairs()) and not told.keys() & service["labels"].pairs().keys():
        field = next(field for name, field in service["labels"].entries() if name.lower() == ENABLE)
        yield _note(field, "it is the containers' here; Traefik is told of what stands under deploy.labels.")


def _of_binds(service: Field, directory: str) -> Iterator[Note]:
    for mount in service["volumes"].items():
        source = mount["source"].text()
        if mount["type"].text() == "bind" and posixpath.normpath(source).startswith(f"{directory}/"):
            yield _note(
                mount, f"it is {source} of the node that runs the task; nothing is copied there from here. Files "
                "that go with the stack are `configs`, data that stays is a named volume.",
            )  # fmt: skip


def _note(field: Field, text: str) -> Note:
    return Note(text, field.source.where(*field.path))
