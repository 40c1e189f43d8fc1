"""The next revision of a stack, for whoever makes one: the API for people, the leader when an update fails. Pure.

A service keeps the version that it has while its tasks can stay, and gets back one that it had if that is still known:
tasks that run it already then stay too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple, TypeVar

from cluster.model.service import ServiceSpec
from cluster.model.stack import ServiceVersion, StackRevision, StackSpec

T = TypeVar("T")


class Resolved(NamedTuple):
    """What a registry says of an image's name: the digest, and the platforms that it is made for (none: not known)."""

    digest: str
    platforms: tuple[str, ...] = ()


def revised(
    head: StackRevision | None,
    known: Mapping[int, StackRevision],
    spec: StackSpec,
    stack_uid: str,
    n: int,
    new_uid: Callable[[str], str],
    *,
    forced: Collection[str] = (),
    back: Collection[str] = (),
    source: StackRevision | None = None,
    resolved: Mapping[str, Resolved] | None = None,
) -> StackRevision:
    """Make revision `n` of a stack, but for who made it, when and why; `known` are those before it.

    Services in `forced` get new tasks in any case, those in `back` are on their way back to what they were in `source`.
    `resolved` has the images that were looked up, by service; other services keep what is known with their image.
    A service that is to be restarted with one that it depends on gets new tasks when that one does.
    """
    images = _images(head, spec, back, source, resolved or {})
    digests = {name: image.digest for name, image in images.items()}
    platforms = {name: image.platforms for name, image in images.items() if image.platforms}
    services = {
        name: _version(known, head, spec, digests, name, n, new_uid, forced=name in forced, back=name in back)
        for name in spec.services
    }
    updated = {name for name, version in services.items() if _is_updated(head, name, version)}
    while updated:
        following = (name for name, service in spec.services.items() if _follows(service, updated))
        updated = {name for name in following if not _is_updated(head, name, services[name])}
        updated -= {name for name in updated if head is None or name not in head.services}
        services |= {name: replace(services[name], version=n, rollback=name in back) for name in updated}
    secrets, configs = spec.file_digests()
    return StackRevision(
        stack_uid, n, spec, services, "", "", 0.0, "", digests, secrets, configs, image_platforms=platforms
    )


def _images(
    head: StackRevision | None,
    spec: StackSpec,
    back: Collection[str],
    source: StackRevision | None,
    resolved: Mapping[str, Resolved],
) -> dict[str, Resolved]:
    found = {}
    for name, service in spec.services.items():
        before = source if name in back and source is not None else head
        had = None if before is None else before.spec.services.get(name)
        if service.container.pull_policy == "never":
            continue  # what the nodes have may be known to no registry
        if name in resolved:
            found[name] = resolved[name]
        elif before is not None and had is not None and had.container.image == service.container.image:
            found[name] = Resolved(before.image_digests.get(name, ""), before.image_platforms.get(name, ()))
    return {name: image for name, image in found.items() if image.digest}


def _is_updated(head: StackRevision | None, name: str, version: ServiceVersion) -> bool:
    """Tell whether a service that there was gets other tasks."""
    before = None if head is None else head.services.get(name)
    return before is not None and before.uid == version.uid and before.version != version.version


def _follows(service: ServiceSpec, updated: set[str]) -> bool:
    return any(dependency.restart and name in updated for name, dependency in service.depends_on.items())


def _version(
    known: Mapping[int, StackRevision],
    head: StackRevision | None,
    spec: StackSpec,
    digests: Mapping[str, str],
    name: str,
    n: int,
    new_uid: Callable[[str], str],
    *,
    forced: bool,
    back: bool,
) -> ServiceVersion:
    before = None if head is None else head.services.get(name)
    if head is None or before is None or head.spec.services[name].mode is not spec.services[name].mode:
        return ServiceVersion(new_uid(name), n)  # another mode makes another service of it; Swarm would refuse it
    if forced:
        return ServiceVersion(before.uid, n, rollback=back)
    if not _needs_new_tasks(spec, digests, head, name):
        return before
    if not spec.services[name].mode.is_job:
        for _, revision in sorted(known.items(), reverse=True):
            had = revision.services.get(name)
            if had is None or had.uid != before.uid or had.version != revision.n:
                continue
            if not _needs_new_tasks(spec, digests, revision, name):
                return ServiceVersion(before.uid, had.version, rollback=back)
    return ServiceVersion(before.uid, n, rollback=back)


def _needs_new_tasks(spec: StackSpec, digests: Mapping[str, str], before: StackRevision, name: str) -> bool:
    other_image = digests.get(name) != before.image_digests.get(name)
    return other_image or spec.services[name].needs_new_tasks(before.spec.services[name])


def with_services_of(spec: StackSpec, source: StackSpec, names: Iterable[str]) -> StackSpec:
    """Give `spec` with some services as they are in `source`, or without those that it has not.

    What such a service refers to comes along unless another service uses it too: that one has a say in it as it is now.
    """
    names = set(names)
    services = {name: service for name, service in spec.services.items() if name not in names}
    others = tuple(services.values())
    taken = {name: source.services[name] for name in sorted(names) if name in source.services}
    own = tuple(taken.values())
    return replace(
        spec,
        services=dict(sorted((services | taken).items())),
        networks=_merged(spec.networks, source.networks, own, others, _networks),
        volumes=_merged(spec.volumes, source.volumes, own, others, lambda s: _volumes(s, source)),
        secrets=_merged(spec.secrets, source.secrets, own, others, _secrets),
        configs=_merged(spec.configs, source.configs, own, others, _configs),
    )


def _merged(
    now: Mapping[str, T],
    then: Mapping[str, T],
    own: Iterable[ServiceSpec],
    others: Iterable[ServiceSpec],
    keys: Callable[[ServiceSpec], Iterable[str]],
) -> dict[str, T]:
    shared = {key for service in others for key in keys(service)}
    wanted = {key for service in own for key in keys(service)}
    return {
        **now,
        **{key: then[key] for key in sorted(wanted) if key in then and (key not in now or key not in shared)},
    }


def _networks(service: ServiceSpec) -> Iterator[str]:
    return (attachment.network for attachment in service.networks)


def _volumes(service: ServiceSpec, stack: StackSpec) -> Iterator[str]:
    return (key for key, volume in stack.volumes.items() if volume.name in service.volume_names)


def _secrets(service: ServiceSpec) -> Iterator[str]:
    return (file.source for file in service.container.secrets)


def _configs(service: ServiceSpec) -> Iterator[str]:
    return (file.source for file in service.container.configs)
