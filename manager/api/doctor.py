"""Routes of `stack doctor`: every node is examined, with the ways between them, and what is wrong is said."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated

import aiohttp
import msgspec
from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.examination import Diagnosis, ExaminationRequest, Finding, Target
from cluster.fingerprint import fingerprint
from cluster.model.node import Manager, SessionState
from cluster.protocol import EXAMINES, Examined
from manager.api.bodies import answer, body, takes
from manager.api.core import Core, ReadyCore
from manager.api.rules import Permitted
from manager.decide.diagnosis import diagnose, shared_addresses
from manager.sessions.assignments import shared
from manager.sessions.examinations import WITHIN

router = APIRouter(prefix="/v1", tags=["members"])

MOST_LOOKS = 3

_FROM_OTHERS = aiohttp.ClientTimeout(total=WITHIN + 10.0)


@router.post("/doctor", response_model=Diagnosis)
async def doctor(caller: Permitted, core: ReadyCore) -> Response:
    """Examine all nodes, and again where something is wrong: what a moment brought about is not told.

    Where only other things are wrong then, as with a node that has just followed the MTU of its link, there is a third
    look.
    """
    found, answers = await _examine_all(core)
    mended = {finding for finding in found.findings if finding.mended}
    kept: tuple[Finding, ...] = ()
    for _ in range(MOST_LOOKS - 1):
        before = {(finding.kind, finding.about) for finding in found.findings if not finding.mended}
        if kept or not before:
            break
        found, answers = await _examine_all(core, answers)
        mended |= {finding for finding in found.findings if finding.mended}
        kept = tuple(f for f in found.findings if not f.mended and (f.kind, f.about) in before)
    return answer(replace(found, findings=(*kept, *sorted(mended, key=lambda f: (f.kind, f.about)))))


@router.post("/examinations", response_model=None, openapi_extra=takes(ExaminationRequest))
async def examinations(
    caller: Permitted, core: ReadyCore, asked: Annotated[ExaminationRequest, Depends(body(ExaminationRequest))]
) -> Response:
    """Have the nodes examined that are in session with this manager."""
    return answer(await core.sessions.examine(asked.targets))


async def _examine_all(
    core: Core, before: Mapping[str, Examined] = MappingProxyType({})
) -> tuple[Diagnosis, dict[str, Examined]]:
    targets = [
        Target(ident, session.description.address)
        for ident, session in core.state.sessions.items()
        if ident in core.state.nodes and session.state is SessionState.OPEN and session.version >= EXAMINES
    ]
    others = [one for one in core.state.managers.values() if one.id != core.presence.manager.id]
    own, *theirs = await asyncio.gather(
        core.sessions.examine(targets), *(_by_another(core, manager, targets) for manager in others)
    )
    answers = {node: told for each in (*theirs, own) for node, told in each.items()}
    found = diagnose(core.state, answers, await _behind(core, answers, before))
    twice: list[Finding] = []
    for network in tuple(core.state.networks):
        if network in core.state.networks:
            twice += shared_addresses(core.state, network)
        await asyncio.sleep(0)
    return replace(found, findings=(*found.findings, *twice, *core.upkeep.findings())), answers


async def _behind(core: Core, answers: Mapping[str, Examined], before: Mapping[str, Examined]) -> dict[str, list[str]]:
    """Name, by node, the networks of which a node knows something else than is so, and does not get on."""
    digests: dict[str, str] = {}
    found: dict[str, list[str]] = {}
    for node, told in answers.items():
        for network, digest in ({} if told.report is None else told.report.networks).items():
            if network not in core.state.networks:
                continue
            if network not in digests:
                digests[network] = fingerprint(shared(core.state, network))
                await asyncio.sleep(0)
            last = before[node].report if node in before else None
            stands = last is None or last.networks.get(network) == digest
            if digest != digests[network] and stands:
                found.setdefault(node, []).append(network)
    return found


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
