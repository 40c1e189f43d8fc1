"""Routes about moving tasks for a better spread: asking for it, what it would do, how far it is."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.codec import key_of
from cluster.errors import UserError
from cluster.model.rebalance import RebalanceWish
from cluster.views import MoveView, RebalanceRequest, RebalanceView
from manager import audit
from manager.api.bodies import answer, body, takes
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.decide.rebalance import is_under_way, moves
from manager.picture import ClusterState

router = APIRouter(prefix="/v1", tags=["members"])


@router.get("/rebalance", response_model=RebalanceView)
async def progress(caller: Permitted, core: ReadyCore) -> Response:
    """Tell how far the newest rebalance is, and what one would move now."""
    return answer(await _view(core, include_single=False))


@router.post("/rebalance", response_model=RebalanceView, openapi_extra=takes(RebalanceRequest))
async def rebalance(
    caller: Permitted, core: ReadyCore, request: Annotated[RebalanceRequest, Depends(body(RebalanceRequest))]
) -> Response:
    """Move tasks for a better spread, or only tell which; the same operation again changes nothing."""
    if request.max_unavailable < 1:
        raise UserError("max_unavailable: at least one task has to be on its way at a time")
    if not request.dry_run:
        await _ask(core, request)
    return answer(await _view(core, include_single=request.include_single))


async def _ask(core: Core, request: RebalanceRequest) -> None:
    for _ in range(TRIES):
        before = core.state.rebalance_wish
        after = RebalanceWish(request.operation, core.clock(), request.include_single, request.max_unavailable)
        if request.automatic is not None:
            # A setting, and no wish to begin now: the leader goes by the id.
            after = before or RebalanceWish("", core.clock())
            cool_down = None if request.automatic == "off" else request.automatic
            after = dataclasses.replace(after, automatic_after=cool_down)
        elif before is not None:
            if before.id == request.operation:
                return
            after = dataclasses.replace(after, automatic_after=before.automatic_after)
        key = key_of(after)
        audit.note(before="" if before is None else str(before), after=str(after))
        if await core.write([after], {key: core.state.revision_of(key)}):
            return
    raise busy("the wish to rebalance")


async def _view(core: Core, *, include_single: bool) -> RebalanceView:
    state = core.state
    wish, progress = state.rebalance_wish, state.rebalance
    pending = wish is not None and wish.id != "" and (progress is None or progress.wish != wish.id)
    return RebalanceView(
        active=pending or (progress is not None and progress.active),
        moved=0 if progress is None or pending else progress.moved,
        under_way=sum(is_under_way(state, state.tasks[ident]) for ident in state.moving),
        moves=await _foretold(state, core.clock(), include_single=include_single),
        automatic_after=None if wish is None else wish.automatic_after,
        ended_at=0.0 if progress is None else progress.ended_at,
    )


async def _foretold(state: ClusterState, now: float, *, include_single: bool) -> tuple[MoveView, ...]:
    """Tell which tasks would be moved as things stand, giving others their turn between services."""
    loads = Counter[str]()
    found = []
    for uid in sorted(state.services):
        service = state.services.get(uid)
        if service is None:
            continue
        for move in moves(state, service, now, include_single=include_single, loads=loads):
            here, there = state.nodes.get(move.task.node or ""), state.nodes.get(move.node)
            if here is not None and there is not None:
                found.append(MoveView(f"{service.full_name}.{move.task.slot}", move.task.id, here.name, there.name))
        await asyncio.sleep(0)
    return tuple(found)
