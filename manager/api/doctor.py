"""Routes of `stack doctor`: every node is examined, with the ways between them, and what is wrong is said."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Annotated

import aiohttp
import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.examination import Diagnosis, ExaminationRequest, Finding, Target
from cluster.model.node import Manager, SessionState
from cluster.protocol import Examined
from manager.api.bodies import answer, body, takes
from manager.api.core import Core, ReadyCore
from manager.api.rules import Permitted
from manager.decide.diagnosis import diagnose, shared_addresses
from manager.sessions.examinations import WITHIN

router = APIRouter(prefix="/v1", tags=["members"])

_FROM_OTHERS = aiohttp.ClientTimeout(total=WITHIN + 10.0)


@router.post("/doctor", response_model=Diagnosis)
async def doctor(caller: Permitted, core: ReadyCore) -> Response:
    """Examine all nodes, and twice where something is wrong: what a moment brought about is not told."""
    found = await _examine_all(core)
    if any(not finding.mended for finding in found.findings):
        again = await _examine_all(core)
        before = {(finding.kind, finding.about) for finding in found.findings}
        mended = [finding for finding in found.findings if finding.mended]
        kept = [f for f in again.findings if not f.mended and (f.kind, f.about) in before]
        found = replace(again, findings=(*kept, *mended))
    return answer(found)


@router.post("/examinations", response_model=None, openapi_extra=takes(ExaminationRequest))
async def examinations(
    caller: Permitted, core: ReadyCore, asked: Annotated[ExaminationRequest, Depends(body(ExaminationRequest))]
) -> Response:
    """Have the nodes examined that are in session with this manager."""
    return answer(await core.sessions.examine(asked.targets))


async def _examine_all(core: Core) -> Diagnosis:
    targets = [
        Target(ident, session.description.address)
        for ident, session in core.state.sessions.items()
        if ident in core.state.nodes and session.state is SessionState.OPEN
    ]
    others = [one for one in core.state.managers.values() if one.id != core.presence.manager.id]
    own, *theirs = await asyncio.gather(
        core.sessions.examine(targets), *(_by_another(core, manager, targets) for manager in others)
    )
    found = diagnose(core.state, {node: told for each in (*theirs, own) for node, told in each.items()})
    shared: list[Finding] = []
    for network in tuple(core.state.networks):
        if network in core.state.networks:
            shared += shared_addresses(core.state, network)
        await asyncio.sleep(0)
    return replace(found, findings=(*found.findings, *shared))


async def _by_another(core: Core, manager: Manager, targets: list[Target]) -> dict[str, Examined]:
    """Have another manager's nodes examined; none where it does not answer, and so they count as not examined."""
    try:
        url = f"{manager.url}/v1/examinations"
        data = msgspec.json.encode(ExaminationRequest(tuple(targets)))
        async with core.others.post(url, data=data, timeout=_FROM_OTHERS) as reply:
            told = await reply.read()
            return msgspec.json.decode(told, type=dict[str, Examined]) if reply.status == 200 else {}
    except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError):
        return {}
