"""The images of a deploy: which are looked up in registries, and what is said of those that nobody knows. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from cluster.model.stack import StackRevision
from cluster.protocol import ImagesResolved
from cluster.views import DeployRequest, RevisionReply
from manager.decide.revisions import Resolved
from manager.picture import ClusterState


def services_to_resolve(head: StackRevision | None, request: DeployRequest) -> Iterator[tuple[str, str]]:
    """Give the services whose images are to be looked up, with those.

    Not those that say by digest what they mean, nor those of which only what a node has already may run.
    """
    if request.resolve_image == "never":
        return
    for name, service in request.spec.services.items():
        image = service.container.image
        if "@" in image or image.startswith("sha256:") or service.container.pull_policy == "never":
            continue
        before = None if head is None else head.spec.services.get(name)
        if request.resolve_image == "changed" and before is not None and before.container.image == image:
            continue
        yield name, image


def images_to_resolve(state: ClusterState, request: DeployRequest) -> tuple[str, ...]:
    """Name the images that a deploy wants looked up, each once."""
    stack = state.stacks.get(request.spec.name)
    head = None if stack is None else state.revisions[stack.uid][stack.head]
    return tuple(sorted({image for _, image in services_to_resolve(head, request)}))


def resolved(answer: ImagesResolved) -> dict[str, Resolved]:
    """Give what is known now, by image."""
    return {image: Resolved(digest, answer.platforms.get(image, ())) for image, digest in answer.digests.items()}


def unresolved(state: ClusterState, reply: RevisionReply, problems: Mapping[str, str]) -> tuple[str, ...]:
    """Say, in one note or none, which images are not known by digest and what their services run."""
    revision = state.revisions.get(reply.uid, {}).get(reply.revision)
    if revision is None or not problems:
        return ()
    concerned = [
        name for name, service in sorted(revision.spec.services.items()) if service.container.image in problems
    ]
    kept = [name for name in concerned if name in revision.image_digests]
    tagged = [name for name in concerned if name not in revision.image_digests]
    ends = []
    if tagged:
        ends.append(f"{', '.join(tagged)}: what the tag means on each node runs")
    if kept:
        ends.append(f"{', '.join(kept)}: the digest of before stays")
    image, why = min(problems.items())
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return (f"image {image}{more} could not be looked up ({why}); {'; '.join(ends)}",)
