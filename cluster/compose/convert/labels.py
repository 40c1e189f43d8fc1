"""Labels by which programs beside the cluster find services: those that would come to nothing there.

Docker takes any label, and so does a deploy here: what is told are doubts.
"""

from __future__ import annotations

from collections.abc import Iterator

from cluster.compose.convert.field import Field, Source, root
from cluster.compose.project import Note
from cluster.scraping import PORT, port_of
from cluster.traefik import ENABLE, enabled, read


def doubts(project: Source) -> Iterator[Note]:
    """Give what is worth knowing of the labels of all services."""
    for _, service in root(project)["services"].entries():
        yield from _of_traefik(service)
        labels = service["deploy"]["labels"]
        if PORT in (told := labels.pairs()) and port_of(told) is None:
            yield _note(labels[PORT], f"{told[PORT][:40]!r} is no port, so Prometheus does not find the tasks")


def _of_traefik(service: Field) -> Iterator[Note]:
    labels = service["deploy"]["labels"]
    told = labels.pairs()
    _, faults = read(told)
    for fault in faults:
        if enabled(told) or fault.label.lower() == ENABLE:
            spoilt = fault.element
            left_out = f"; Traefik is told nothing of its {spoilt[1][:-1]} {spoilt[2]}" if spoilt else ""
            hint = f" {fault.hint}" if fault.hint else ""
            yield _note(labels[fault.label], f"{fault.why}{left_out}.{hint}")
    if enabled(service["labels"].pairs()) and not told.keys() & service["labels"].pairs().keys():
        field = next(field for name, field in service["labels"].entries() if name.lower() == ENABLE)
        yield _note(field, "it is the containers' here; Traefik is told of what stands under deploy.labels.")


def _note(field: Field, text: str) -> Note:
    return Note(text, field.source.where(*field.path))
