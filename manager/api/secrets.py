"""Routes about secrets and configs; nobody but an agent is ever given a content."""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.codec import key_for, key_of, sealed_key
from cluster.errors import Conflict, Forbidden, NotFound, Unavailable, UserError
from cluster.model.secret import Content, External, FileKind, stack_owner
from cluster.model.stack import StackSpec
from cluster.model.user import names_stack
from cluster.views import ExternalRequest, ExternalView, SealingView
from manager import audit, people
from manager.api.bodies import answer, body, takes
from manager.api.callers import Caller
from manager.api.contents import read, store
from manager.api.core import TRIES, AnyCore, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.etcd import delete
from manager.key_file import Keys
from manager.picture import ClusterState

router = APIRouter(prefix="/v1", tags=["secrets"])

_NAME = re.compile(r"[a-zA-Z0-9]([a-zA-Z0-9._-]{0,62}[a-zA-Z0-9])?")


@router.get("/secrets", response_model=list[ExternalView])
async def secrets(caller: Permitted, core: ReadyCore) -> Response:
    """List the secrets of stacks, and those made apart from them, without their contents."""
    return answer(_views(core.state, "secret", caller))


@router.get("/configs", response_model=list[ExternalView])
async def configs(caller: Permitted, core: ReadyCore) -> Response:
    """List the configs of stacks, and those made apart from them, without their contents."""
    return answer(_views(core.state, "config", caller))


@router.get("/secrets/{name}", response_model=ExternalView)
async def secret(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Show a secret, without its content."""
    return answer(_one(core.state, "secret", name, caller))


@router.get("/configs/{name}", response_model=ExternalView)
async def config(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Show a config, without its content."""
    return answer(_one(core.state, "config", name, caller))


@router.put("/secrets/{name}", response_model=ExternalView, openapi_extra=takes(ExternalRequest))
async def create_secret(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[ExternalRequest, Depends(body(ExternalRequest))]
) -> Response:
    """Make a secret. The same name with the same content again is fine; another content is not."""
    return answer(await _create(core, "secret", name, request, caller))


@router.put("/configs/{name}", response_model=ExternalView, openapi_extra=takes(ExternalRequest))
async def create_config(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[ExternalRequest, Depends(body(ExternalRequest))]
) -> Response:
    """Make a config. The same name with the same content again is fine; another content is not."""
    return answer(await _create(core, "config", name, request, caller))


@router.delete("/secrets/{name}", status_code=204)
async def remove_secret(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Remove a secret that no stack uses."""
    return await _remove(core, "secret", name, caller)


@router.delete("/configs/{name}", status_code=204)
async def remove_config(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Remove a config that no stack uses."""
    return await _remove(core, "config", name, caller)


async def _create(core: Core, kind: FileKind, name: str, request: ExternalRequest, caller: Caller) -> ExternalView:
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} is no name for a {kind}", hint="Use up to 64 letters, digits, dots, - and _.")
    people.check_patterns(request.stacks)
    data = read(f"{kind} {name}", request.data)
    keys = await core.vault.keys()
    owner, digest = f"{kind}.{name}", core.vault.digest(data, keys)
    for _ in range(TRIES):
        known = core.state.externals.get(owner)
        if known is not None:
            if (known.digest, known.labels, known.stacks) == (digest, request.labels, request.stacks):
                return _view(core.state, known, caller)
            raise Conflict(
                f"there is a {kind} {name} already, with another content, other labels or for other stacks",
                hint="Make one of another name and have the stacks use that, or remove this one first.",
            )
        await store(core, owner, data, keys)
        made = External(kind, name, digest, len(data), core.clock(), caller.author, request.labels, request.stacks)
        content = key_for(Content, f"{owner}/{digest}")
        audit.note(about=name, after=f"{len(data)} bytes, digest {digest[:12]}")
        if await core.write([made], {key_of(made): 0, content: core.state.revision_of(content)}):
            return _view(core.state, made, caller)
    raise busy(f"the {kind} {name}")


async def _remove(core: Core, kind: FileKind, name: str, caller: Caller) -> Response:
    """Remove one that no stack uses. What tasks still have of it is their stack's own copy."""
    for _ in range(TRIES):
        external = _found(core.state, kind, name, caller)
        if users := used_by(core.state, external):
            raise Conflict(
                f"the {kind} {name} is used by {', '.join(users)}", hint="Change or remove these services first."
            )
        contents = core.state.contents.get(external.owner, {}).values()
        audit.note(about=name, before=f"{external.size} bytes, digest {external.digest[:12]}", after="removed")
        keys = [key_of(external), *map(key_of, contents), *(sealed_key(c.owner, c.digest) for c in contents)]
        guards = {key: core.state.revision_of(key) for key in keys if core.state.revision_of(key)}
        if await core.write([], guards, [delete(key) for key in keys]):
            return Response(status_code=204)
    raise busy(f"the {kind} {name}")


def used_by(state: ClusterState, external: External) -> list[str]:
    """Name the services whose stack's newest revision uses it."""
    found: list[str] = []
    for stack in state.stacks.values():
        head = state.head(stack.uid)
        if head is None or stack.removing:
            continue
        specs = head.spec.secrets if external.kind == "secret" else head.spec.configs
        keys = {key for key, said in specs.items() if said.external and said.name == external.name}
        found += _users(head.spec, stack.name, external.kind, keys)
    return sorted(found)


def _users(spec: StackSpec, stack: str, kind: FileKind, keys: Set[str]) -> Iterator[str]:
    for name, service in sorted(spec.services.items()):
        files = service.container.secrets if kind == "secret" else service.container.configs
        if keys & {file.source for file in files}:
            yield f"{stack}_{name}"


def _found(state: ClusterState, kind: FileKind, name: str, caller: Caller) -> External:
    external = state.externals.get(f"{kind}.{name}")
    if external is None or not _sees(state, external, caller):
        if own := next((one for one in _of_stacks(state, kind, caller) if one.name == name), None):
            raise Conflict(
                f"the {kind} {name} is in the file of the stack {own.stack}",
                hint="Take it out of that file, and deploy it.",
            )
        raise _absent(kind, name)
    return external


def _absent(kind: FileKind, name: str) -> NotFound:
    return NotFound(f"there is no {kind} {name}", hint=f"`stack {kind} ls` lists those that there are.")


def _sees(state: ClusterState, external: External, caller: Caller) -> bool:
    """Tell whether one is for a stack of the caller's, or used by one."""
    theirs = (name for name in state.stacks if caller.sees(name))
    return (
        not caller.is_kept
        or bool(set(external.stacks) & set(caller.stacks))
        or any(names_stack(external.stacks, name) for name in theirs)
        or any(_of(user, caller) for user in used_by(state, external))
    )


def _of(user: str, caller: Caller) -> bool:
    """Tell whether a service (`stack_service`) may be told of."""
    return not caller.is_kept or any(caller.sees(user[:at]) for at, letter in enumerate(user) if letter == "_")


def _view(state: ClusterState, external: External, caller: Caller) -> ExternalView:
    return ExternalView(
        kind=external.kind,
        name=external.name,
        digest=external.digest,
        size=external.size,
        created_at=external.created_at,
        author=external.author,
        labels=external.labels,
        used_by=tuple(user for user in used_by(state, external) if _of(user, caller)),
        stacks=external.stacks,
    )


def _views(state: ClusterState, kind: FileKind, caller: Caller) -> list[ExternalView]:
    found = (one for one in state.externals.values() if one.kind == kind and _sees(state, one, caller))
    views = (*(_view(state, one, caller) for one in found), *_of_stacks(state, kind, caller))
    return sorted(views, key=lambda one: (one.name, one.stack))


def _one(state: ClusterState, kind: FileKind, name: str, caller: Caller) -> ExternalView:
    """Find one by its name: what was made apart from stacks goes before what a stack has."""
    found = [one for one in _views(state, kind, caller) if one.name == name]
    if not found:
        raise _absent(kind, name)
    return found[0]


def _of_stacks(state: ClusterState, kind: FileKind, caller: Caller) -> Iterator[ExternalView]:
    """Tell of those that the files of stacks have."""
    for stack in state.stacks.values():
        head = state.head(stack.uid)
        if head is None or stack.removing or not caller.sees(stack.name):
            continue
        is_secret = kind == "secret"
        specs = head.spec.secrets if is_secret else head.spec.configs
        digests = head.secret_digests if is_secret else head.config_digests
        contents = state.contents.get(stack_owner(stack.name), {})
        for key, spec in specs.items():
            content = contents.get(digests.get(key, ""))
            if spec.external or content is None:
                continue
            yield ExternalView(
                kind=kind,
                name=spec.name,
                digest=content.digest,
                size=content.size,
                created_at=content.stored_at,
                author="",
                labels=spec.labels,
                used_by=tuple(_users(head.spec, stack.name, kind, {key})),
                stack=stack.name,
            )


# For agents and other managers


@router.get("/agent/contents/{stack}/{digest}", include_in_schema=False)
async def content(caller: Permitted, core: ReadyCore, stack: str, digest: str) -> Response:
    """Give a content to a node that runs a task which uses it."""
    if not uses(core.state, caller.name, stack, digest):
        raise Forbidden(f"no task of this node uses the content {digest} of the stack {stack}")
    data = await core.vault.open(stack_owner(stack), digest)
    return Response(data, media_type="application/octet-stream", headers={"Cache-Control": "no-store"})


def uses(state: ClusterState, node: str, stack: str, digest: str) -> bool:
    """Tell whether a task on a node, that has not ended, uses a content of its stack.

    A node that was taken out has none, though what ran on it may not be replaced yet.
    """
    for ident in state.tasks_on.get(node, ()) if node in state.nodes else ():
        task = state.tasks[ident]
        spec = state.spec_of(task)
        if spec is None or state.has_ended(task) or state.stack_names.get(task.stack_uid) != stack:
            continue
        if any(file.digest == digest for file in (*spec.container.secrets, *spec.container.configs)):
            return True
    return False


@router.post("/secrets-key/rotate", response_model=SealingView)
async def rotate_key(caller: Permitted, core: ReadyCore) -> Response:
    """Seal all secrets and configs with a new key. Tasks notice nothing, for the digests stay."""
    before = (await core.vault.keys()).current
    audit.note(before=f"key {before}", after="a new one")
    keys = await core.vault.rotate({one.key for one in _contents(core.state)})
    again = [one for one in _contents(core.state) if one.key != keys.current]
    for content in again:
        await _seal_again(core, content, keys)
    return answer(SealingView(keys.current, len(again)))


async def _seal_again(core: Core, content: Content, keys: Keys) -> None:
    for _ in range(TRIES):
        known = core.state.contents.get(content.owner, {}).get(content.digest)
        if known is None or known.key == keys.current:
            return
        data = await core.vault.open(known.owner, known.digest)
        made, sealed = core.vault.seal(known.owner, data, known.stored_at, keys)
        if await core.write([made], {key_of(known): core.state.revision_of(key_of(known))}, [sealed]):
            return
    raise busy(f"a content of {content.owner}")


def _contents(state: ClusterState) -> list[Content]:
    return [content for digests in state.contents.values() for content in digests.values()]


@router.post("/sealing-keys/{ident}", include_in_schema=False, status_code=204)
async def get_sealing_key(caller: Permitted, core: AnyCore, ident: str) -> Response:
    """Get the key of that id from the manager that has made it."""
    await core.vault.look(ident)
    return Response(status_code=204)


@router.get("/sealing-keys", include_in_schema=False)
async def sealing_keys(caller: Permitted, core: ReadyCore) -> Response:
    """Give the keys that contents are sealed with to another manager, which keeps them in a file as this one does."""
    keys = core.vault.held()
    if keys is None:
        raise Unavailable("this manager does not have them")
    return answer(keys)
