"""The volumes of a service that lie on one node's disk, and how they are called for each of its tasks.

A volume's name may be a template, which each task expands for itself: `data-{{.Task.Slot}}` is a volume for each slot,
`data-{{.Node.Hostname}}` one for each node. A name that is the same for the next task of a slot, wherever that runs,
ties the slot to the node where the volume is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from cluster.model.node import Node
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackRevision, StackSpec
from cluster.model.task import Task
from cluster.model.volume import VolumeSpec
from cluster.templates import Place, TemplateError, Value, is_template, render, task_values
from manager.picture import ClusterState

SHARED_FILE_SYSTEMS = frozenset({"nfs", "nfs4", "cifs"})


@dataclass(frozen=True, slots=True)
class VolumeNames:
    """`written` are the names as the stack has them, templates among them."""

    written: tuple[str, ...] = ()
    service: str = ""
    full_name: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def of_slot(self, slot: int) -> tuple[str, ...]:
        """Name the volumes that every task of a slot has, wherever it runs."""
        if not any(map(is_template, self.written)):
            return self.written
        values = self._values("", slot, Place("", ""))
        del values["Node"]
        return self._expanded({**values, "Task": {"Slot": str(slot)}})

    def of_task(self, state: ClusterState, task: Task, node: Node) -> tuple[str, ...]:
        """Name the volumes of a task on a node."""
        if not any(map(is_template, self.written)):
            return self.written
        session = state.sessions.get(node.id)
        place = Place(node.id, node.name)
        if session is not None:
            place = Place(node.id, node.name, session.description.os, session.description.architecture)
        return self._expanded(self._values(task.id, task.slot, place))

    def _values(self, task: str, slot: int, place: Place) -> dict[str, Value]:
        return task_values(
            service=self.service, name=self.full_name, labels=self.labels, task=task, slot=str(slot), place=place
        )

    def _expanded(self, values: Mapping[str, Value]) -> tuple[str, ...]:
        """Leave out what has no value: the node will say so of a task, and an empty name is no volume of a name."""
        found = set()
        for text in self.written:
            try:
                found.add(render(text, values))
            except TemplateError:
                continue
        return tuple(sorted(found - {""}))


def names_of(state: ClusterState, head: StackRevision, spec: ServiceSpec, version: int) -> VolumeNames:
    """Give the names of the volumes of a service's tasks of one version, which have the labels of then."""
    written = local_volumes(head.spec, spec)
    if not any(map(is_template, written)):
        return VolumeNames(written)
    then = state.revisions.get(head.stack_uid, {}).get(version, head).spec.services.get(spec.name, spec)
    return VolumeNames(written, head.services[spec.name].uid, f"{head.spec.name}_{spec.name}", then.labels)


def volumes_of(state: ClusterState, task: Task) -> tuple[str, ...]:
    """Name the volumes of one node's disk that a task has which was given its node."""
    spec, revision = state.spec_of(task), state.revisions.get(task.stack_uid, {}).get(task.version)
    node = state.nodes.get(task.node or "")
    if spec is None or revision is None or node is None:
        return ()
    return names_of(state, revision, spec, task.version).of_task(state, task, node)


def volumes_named(state: ClusterState, revision: StackRevision, service: ServiceSpec) -> set[str]:
    """Give the volumes that a service means, those by templates as far as its tasks have them."""
    names = set(service.volume_names)
    if any(map(is_template, names)):
        names.update(*(volumes_of(state, task) for task in state.all_of(revision.services[service.name].uid)))
    return names


def local_volumes(stack: StackSpec, spec: ServiceSpec) -> tuple[str, ...]:
    """Give the full names, as written, of the volumes of a service that lie on one node's disk.

    A global service has its own of them on each node.
    """
    if spec.mode.is_global:
        return ()
    by_name = {volume.name: volume for volume in stack.volumes.values()}
    return tuple(sorted({name for name in spec.volume_names if _is_local(by_name.get(name))}))


def may_be_called(written: str, name: str) -> bool:
    """Tell whether a name as written may be this one for some task."""
    if not is_template(written):
        return written == name
    parts = re.split(r"\{\{.*?\}\}", written)
    if re.search(r"\{\{-?\s*if\b", written):
        parts = [parts[0], ""]  # of what is between, some may be left out
    return re.fullmatch(".*".join(map(re.escape, parts)), name) is not None


def _is_local(volume: VolumeSpec | None) -> bool:
    if volume is None:
        return True
    return volume.driver in ("", "local") and volume.driver_options.get("type") not in SHARED_FILE_SYSTEMS
