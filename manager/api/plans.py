"""Routes that show before anything is done, or after: what a deploy would do, and how two revisions differ."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from cluster.errors import NotFound
from cluster.model.secret import Content, stack_owner
from cluster.model.service import ServiceState
from cluster.model.stack import StackRevision
from cluster.plans import DiffView, ItemChange, PlanView, TaskStep
from cluster.protocol import ImagesResolved
from cluster.views import DeployRequest, RevisionReply, Trouble
from manager.api import revise, show
from manager.api.bodies import answer, body, takes
from manager.api.core import ReadyCore
from manager.api.differences import differences
from manager.api.images import resolved, unresolved
from manager.api.rules import Permitted
from manager.api.stacks import LARGEST_DEPLOY, new_uid, prepared
from manager.decide.rehearsal import Act, rehearse, write
from manager.picture import ClusterState, Snapshot

router = APIRouter(prefix="/v1/stacks", tags=["stacks"])


@router.post("/{name}/plan", response_model=PlanView, openapi_extra=takes(DeployRequest))
async def plan_deploy(
    caller: Permitted,
    core: ReadyCore,
    name: str,
    request: Annotated[DeployRequest, Depends(body(DeployRequest, LARGEST_DEPLOY))],
) -> Response:
    """Tell what a deploy of the same body would do as things stand; refused as that would be. Nothing is written."""
    given, found = await prepared(core, caller, name, request, only_named=True)
    # The picture of a large cluster takes a while to copy, and its deciding to live through.
    told = await asyncio.to_thread(plan, core.state.snapshot(), given, core.clock(), new_uid, found)
    return answer(told)


@router.get("/{name}/diff", response_model=DiffView)
async def diff(
    caller: Permitted,
    core: ReadyCore,
    name: str,
    base: Annotated[int | None, Query(ge=1)] = None,
    revision: Annotated[int | None, Query(ge=1)] = None,
) -> Response:
    """Tell how a revision (the newest, if none is given) differs from `base` (the one before it)."""
    stack = show.find_stack(core.state, name)
    known = core.state.revisions[stack.uid]
    after = _kept(known, name, stack.head if revision is None else revision)
    if base is None:
        base = max((n for n in known if n < after.n), default=0)
    before = _kept(known, name, base) if base else None
    return answer(DiffView(name, base, after.n, tuple(differences(before, after))))


@router.get("/{name}/revisions/{n}", response_model=StackRevision)
async def revision(caller: Permitted, core: ReadyCore, name: str, n: int | Literal["head"]) -> Response:
    """Give a whole revision, as it was converted; secrets and configs are digests in it."""
    stack = show.find_stack(core.state, name)
    return answer(_kept(core.state.revisions[stack.uid], name, stack.head if n == "head" else n))


def _kept(known: Mapping[int, StackRevision], name: str, n: int) -> StackRevision:
    if n not in known:
        raise NotFound(f"the stack {name} has no revision {n} that is kept", hint=f"`stack history {name}` lists them.")
    return known[n]


# What a deploy would do. Pure.


def plan(
    snapshot: Snapshot,
    request: DeployRequest,
    now: float,
    make_uid: Callable[[], str],
    found: ImagesResolved,
) -> PlanView:
    """Carry a deploy out on a picture of one's own. Raises what the deploy would."""
    state = ClusterState.of(snapshot)
    name = request.spec.name
    stack = state.stacks.get(name)
    head = None if stack is None else state.revisions[stack.uid][stack.head]
    base = 0 if head is None else head.n
    there = state.contents.get(stack_owner(name), {})
    missing = sorted(request.spec.digests() - there.keys())
    write(state, [Content(stack_owner(name), digest, 0, "", now) for digest in missing])
    outcome = revise.deploy(state, name, request, "", now, make_uid, resolved(found))
    if isinstance(outcome, RevisionReply):
        return PlanView(name, base, changed=False, notes=unresolved(state, outcome, found.problems))
    write(state, outcome.records)
    uid, n = outcome.reply.uid, outcome.reply.revision
    after = state.revisions[uid][n]
    services = dict(state.services)  # those that go are not there any more at the end
    acts, whole = rehearse(state, uid, now)
    notes = unresolved(state, outcome.reply, found.problems)
    if not whole:
        notes = (
            *notes,
            "it takes long: only its beginning was looked at, and more tasks than are told follow likewise",
        )
    services |= state.services
    changes = tuple(_with_effect(state, change, head, after, acts) for change in differences(head, after))
    return PlanView(
        stack=name,
        base=base,
        changed=True,
        changes=changes,
        tasks=tuple(_step(state, services, act) for act in acts),
        waiting=tuple(_waiting(state, uid)),
        notes=notes,
    )


def _step(state: ClusterState, services: Mapping[str, ServiceState], act: Act) -> TaskStep:
    node = state.nodes.get(act.task.node or "")
    name = f"{services[act.task.service_uid].full_name}.{act.task.slot}"
    return TaskStep(act.step, act.verb, name, act.task.node or "" if node is None else node.name)


def _with_effect(
    state: ClusterState, change: ItemChange, before: StackRevision | None, after: StackRevision, acts: tuple[Act, ...]
) -> ItemChange:
    match change.kind, change.action:
        case "service", _:
            old = None if before is None else before.services.get(change.name)
            new = after.services.get(change.name)
            uids = {version.uid for version in (old, new) if version is not None}
            done = Counter(act.verb for act in acts if act.task.service_uid in uids)
            words = [_counted(done[verb], verb) for verb in ("stop", "start") if done[verb]]
            if old is not None and new is not None and old.uid != new.uid:
                words.append("another service takes its place, since its mode is another")
            nothing = "no task is touched" if change.action == "change" else ""
            return replace(change, effect=", ".join(words) or nothing)
        case "volume", "remove":
            return replace(change, effect="its data stays")
        case _:
            return change


def _counted(count: int, verb: str) -> str:
    return f"1 task {verb}s" if count == 1 else f"{count} tasks {verb}"


def _waiting(state: ClusterState, stack_uid: str) -> Iterator[Trouble]:
    services = (state.services[uid] for uid in state.services_of.get(stack_uid, set()) - state.oneoffs.keys())
    for service in sorted(services, key=lambda service: service.name):
        if service.problem:
            yield Trouble(service.full_name, service.problem)
        for task in sorted(state.all_of(service.uid), key=lambda task: task.slot):
            if state.is_live(task) and task.node is None:
                yield Trouble(f"{service.full_name}.{task.slot}", task.reason)
