"""What the services of a new revision are known by, and which of them get new tasks. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from cluster.model.service import ServiceSpec
from cluster.model.stack import ServiceVersion, StackRevision, StackSpec


def versions(
    head: StackRevision | None, spec: StackSpec, n: int, forced: Collection[str], new_uid: Callable[[], str]
) -> dict[str, ServiceVersion]:
    """Give each service its uid, which it keeps, and its version: the revision that last needed new tasks.

    Besides those whose spec needs it, services that are `forced` get new tasks, and those that are to be restarted with
    one that they depend on when that gets new ones. Another mode makes another service of it, as Swarm would refuse it.
    """
    found = {name: _version(head, service, n, name in forced, new_uid) for name, service in spec.services.items()}
    known = set() if head is None else {version.uid for version in head.services.values()}
    updated = {name for name, version in found.items() if version.version == n and version.uid in known}
    while updated:
        following = (name for name, service in spec.services.items() if _follows(service, updated))
        updated = {name for name in following if found[name].version != n}
        found |= {name: replace(found[name], version=n) for name in updated}
    return found


def _version(
    head: StackRevision | None, spec: ServiceSpec, n: int, forced: bool, new_uid: Callable[[], str]
) -> ServiceVersion:
    before = None if head is None else head.services.get(spec.name)
    if head is None or before is None or head.spec.services[spec.name].mode is not spec.mode:
        return ServiceVersion(new_uid(), n)
    if forced or spec.needs_new_tasks(head.spec.services[spec.name]):
        return ServiceVersion(before.uid, n)
    return before


def _follows(service: ServiceSpec, updated: set[str]) -> bool:
    return any(dependency.restart and name in updated for name, dependency in service.depends_on.items())


def cycle(spec: StackSpec) -> list[str]:
    """Give services that wait for each other in a circle, in that order; [] when there are none."""
    over: set[str] = set()
    for start in sorted(spec.services):
        path = [start]
        while path:
            ahead = sorted(spec.services[path[-1]].depends_on.keys() & (spec.services.keys() - over))
            if not ahead:
                over.add(path.pop())
            elif ahead[0] in path:
                return [*path[path.index(ahead[0]) :], ahead[0]]
            else:
                path.append(ahead[0])
    return []
