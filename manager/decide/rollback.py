"""Going back by itself: the revision that undoes a failed update, of one service or of all that a deploy changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from cluster.model.stack import Stack, StackRevision
from cluster.model.update import UpdateStatus
from manager.decide.revisions import revised, with_services_of
from manager.decide.slots import ServicePicture

AUTHOR = "stackyard"


class Undo(NamedTuple):
    """What is written to go back: a new revision, and the stack that points at it."""

    revision: StackRevision
    stack: Stack


def undo(picture: ServicePicture, update: UpdateStatus, why: str) -> Undo | str:
    """Give the revision that undoes an update, or tell why there is none."""
    head, service = picture.head, picture.service
    stack = picture.state.stacks[service.stack]
    known = picture.state.revisions[stack.uid]
    began = known.get(update.revision)
    if began is not None and began.atomic:
        source = max((n for n in known if n < began.n), default=0)
    else:
        source = _last_at(picture, known, update.previous)
    if source not in known:
        return "there is no revision to go back to"
    then = known[source]
    atomic = began is not None and began.atomic
    names = _changed(then, began, head) if atomic and began is not None else {service.name}
    spec = then.spec if atomic and head is began else with_services_of(head.spec, then.spec, names)
    n = head.n + 1
    revision = revised(head, known, spec, stack.uid, n, lambda name: _uid(stack.uid, n, name), back=names, source=then)
    if spec == head.spec and revision.image_digests == head.image_digests:
        return f"revision {source} is no other"
    revision = replace(
        revision,
        author=AUTHOR,
        reason=f"back to revision {source}, as the update of {service.name} failed: {why}",
        created_at=picture.now,
        operation=f"{stack.uid}/{n}/{service.uid}",
    )
    return Undo(revision, replace(stack, head=n, operation=revision.operation))


def _last_at(picture: ServicePicture, known: Mapping[int, StackRevision], version: int) -> int:
    """Give the newest revision in which the service was at a version: with what was scaled or labelled since."""
    name, uid = picture.service.name, picture.service.uid
    had = {n: revision.services[name] for n, revision in known.items() if name in revision.services}
    return max((n for n, one in had.items() if (one.uid, one.version) == (uid, version)), default=version)


def _changed(before: StackRevision, after: StackRevision, head: StackRevision) -> set[str]:
    """Name the services that one deploy changed, but for those that were changed again since."""
    names = {*before.services, *after.services}
    changed = {name for name in names if before.services.get(name) != after.services.get(name)}
    return {name for name in changed if head.services.get(name) == after.services.get(name)}


def _uid(stack_uid: str, n: int, name: str) -> str:
    return hashlib.blake2b(f"{stack_uid}/{n}/{name}".encode(), digest_size=12).hexdigest()
