"""The route that shows the audit log."""

from __future__ import annotations

from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from cluster.people import AuditEntry
from manager.api.bodies import answer
from manager.api.callers import Caller
from manager.api.core import ReadyCore
from manager.api.rules import Permitted

router = APIRouter(prefix="/v1", tags=["people"])

MOST = 5_000


@router.get("/audit", response_model=list[AuditEntry])
async def entries(
    caller: Permitted,
    core: ReadyCore,
    since: float = 0.0,
    user: str | None = None,
    stack: str | None = None,
    limit: Annotated[int, Query(ge=1, le=MOST)] = 200,
) -> Response:
    """The newest entries of the audit log that match, oldest first. Deployers are shown those of their stacks."""
    found: list[AuditEntry] = []
    async with aclosing(core.audit.newest(since)) as newest:
        async for entry in newest:
            if user in (None, entry.who) and stack in (None, entry.stack) and _may_see(caller, entry):
                found.append(entry)
            if len(found) == limit:
                break
    return answer(found[::-1])


def _may_see(caller: Caller, entry: AuditEntry) -> bool:
    return not caller.is_kept or (entry.stack != "" and caller.sees(entry.stack))
